//! OpenAI's embeddings: unit vectors that depend on the input alone.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::Value;

use super::ask::{self, Bad};

/// Numbers of a vector when the request names none; the size most programs expect.
const DIMENSIONS: u64 = 1536;
const DIMENSIONS_MAX: u64 = 3072;
/// Most inputs of one request.
const INPUTS_MAX: usize = 2048;

#[derive(Serialize)]
pub(super) struct List {
    object: &'static str,
    data: Vec<Entry>,
    model: String,
    usage: Usage,
}

#[derive(Serialize)]
struct Entry {
    object: &'static str,
    index: usize,
    embedding: Embedding,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Embedding {
    Floats(Vec<f32>),
    Base64(String),
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: u64,
    total_tokens: u64,
}

/// Embeds each input.
///
/// # Errors
/// When a member is missing or unfit.
pub(super) fn embed(body: &Value) -> Result<List, Bad> {
    let model = body.get("model").and_then(Value::as_str).filter(|model| !model.is_empty());
    let model = model.ok_or_else(|| Bad::field("model", "'model' must be a string that is not empty"))?.to_owned();
    let inputs = inputs(body.get("input"))?;
    let dimensions = match body.get("dimensions") {
        None | Some(Value::Null) => DIMENSIONS,
        Some(wanted) => wanted.as_u64().filter(|wanted| (1..=DIMENSIONS_MAX).contains(wanted)).ok_or_else(|| {
            Bad::field("dimensions", format!("'dimensions' must be a whole number from 1 to {DIMENSIONS_MAX}"))
        })?,
    };
    let dimensions = usize::try_from(dimensions).unwrap_or(0);
    let encode = match body.get("encoding_format").and_then(Value::as_str) {
        None | Some("float") => Embedding::Floats,
        Some("base64") => base64,
        Some(_) => return Err(Bad::field("encoding_format", "'encoding_format' must be float or base64")),
    };
    let entry = |(index, seed): (usize, &u64)| {
        let embedding = encode(vector(*seed, dimensions));
        Entry { object: "embedding", index, embedding }
    };
    let data = inputs.iter().enumerate().map(entry).collect();
    let tokens = ask::prompt_tokens(body);
    Ok(List { object: "list", data, model, usage: Usage { prompt_tokens: tokens, total_tokens: tokens } })
}

/// A seed for each input: a text, or a list of token numbers.
fn inputs(input: Option<&Value>) -> Result<Vec<u64>, Bad> {
    let is_tokens = |list: &[Value]| !list.is_empty() && list.iter().all(Value::is_u64);
    let one = |input: &Value| match input {
        Value::String(text) if !text.is_empty() => Some(ask::hash(text.as_bytes())),
        Value::Array(list) if is_tokens(list) => Some(ask::hash(input.to_string().as_bytes())),
        _ => None,
    };
    let seeds = match input {
        Some(Value::Array(list)) if !is_tokens(list) && list.len() <= INPUTS_MAX => list.iter().map(one).collect(),
        Some(input) => one(input).map(|seed| vec![seed]),
        None => None,
    };
    seeds.filter(|seeds: &Vec<u64>| !seeds.is_empty()).ok_or_else(|| {
        Bad::field("input", format!("'input' must be a text, a list of tokens, or up to {INPUTS_MAX} of either"))
    })
}

/// A vector of length one, drawn from `seed`.
fn vector(seed: u64, dimensions: usize) -> Vec<f32> {
    let mut state = seed;
    let mut numbers = Vec::with_capacity(dimensions + 3);
    while numbers.len() < dimensions {
        for pair in splitmix(&mut state).to_le_bytes().chunks_exact(2) {
            if let [low, high] = pair {
                // Half a step beside the whole numbers, so that no vector is all zeros.
                numbers.push(f32::from(i16::from_le_bytes([*low, *high])) + 0.5);
            }
        }
    }
    numbers.truncate(dimensions);
    let length = numbers.iter().map(|number| number * number).sum::<f32>().sqrt();
    numbers.iter_mut().for_each(|number| *number /= length);
    numbers
}

/// The next number of a sequence that looks random and is not.
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn base64(numbers: Vec<f32>) -> Embedding {
    Embedding::Base64(STANDARD.encode(numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>()))
}
