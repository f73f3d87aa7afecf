//! What the API shows and changes, a file for each noun.

pub(super) mod audit;
pub(super) mod breaker;
pub(super) mod cluster;
pub(super) mod defaults;
pub(super) mod features;
pub(super) mod key;
pub(super) mod model;
pub(super) mod node;
pub(super) mod policies;
pub(super) mod provider;
pub(super) mod token;

use http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};
use troupe_proto::id::Revision;
use troupe_proto::spec::{Spec, Table};

use super::call::Call;
use super::failure::Failure;
use super::reply::{self, Reply};
use crate::config::source::{Entry, Node, Place, Value as Said, parse_json};
use crate::config::spec_file::{Parts, Rest, read_parts};

/// Fields that answers have and bodies may repeat: what was read can be sent back.
const ANSWERS_ONLY: [&str; 4] = ["name", "revision", "hash_prefix", "state"];

/// A thing as it is answered: its name and the revision, then what its section has.
fn described(name: &str, revision: Revision, section: Value) -> Map<String, Value> {
    let mut document = Map::new();
    document.insert("name".to_owned(), name.into());
    document.insert("revision".to_owned(), revision.0.into());
    if let Value::Object(mut section) = section {
        document.append(&mut section);
    }
    document
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Names that are told at most.
const NAMES_MAX: usize = 10;

/// The names of models, as a part of a sentence.
fn several(names: &[&str]) -> String {
    let told: Vec<String> = names.iter().take(NAMES_MAX).map(|name| format!("{name:?}")).collect();
    let noun = if names.len() == 1 { "model" } else { "models" };
    match names.len().saturating_sub(NAMES_MAX) {
        0 => format!("{noun} {}", told.join(", ")),
        more => format!("{noun} {} and {more} more", told.join(", ")),
    }
}

fn show(status: StatusCode, revision: Revision, document: Map<String, Value>) -> Reply {
    reply::json_at(status, revision, &Value::Object(document))
}

/// The answer to a removal.
fn removed(name: &str, revision: Revision) -> Reply {
    show(StatusCode::OK, revision, described(name, revision, Value::Null))
}

#[derive(Serialize)]
struct Page {
    revision: u64,
    items: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// One page of things that are in the order of their names.
fn page<'s, I, T>(
    call: &Call<'_>,
    revision: Revision,
    things: &'s Table<I, T>,
    describe: impl Fn(&str, &'s T) -> Map<String, Value>,
) -> Result<Reply, Failure>
where
    I: Ord + std::borrow::Borrow<str>,
{
    use std::ops::Bound;

    let limit = call.limit()?;
    let after = call.query("after").map_or(Bound::Unbounded, Bound::Excluded);
    let mut rest = things.range::<_, str>((after, Bound::Unbounded));
    let mut next = None;
    let mut items = Vec::new();
    for (name, thing) in rest.by_ref().take(limit) {
        items.push(Value::Object(describe(name.borrow(), thing)));
        next = Some(name.borrow().to_owned());
    }
    let next = next.filter(|_| rest.next().is_some());
    Ok(reply::json_at(StatusCode::OK, revision, &Page { revision: revision.0, items, next }))
}

/// The body as a document, without the fields that only answers have, and the name it gives itself.
fn own_fields(body: &[u8]) -> Result<(Node, Option<String>), Failure> {
    let mut root = parse_json("body", if body.is_empty() { b"{}" } else { body })?;
    let mut name = None;
    if let Said::Table(entries) = &mut root.value {
        for entry in entries.iter() {
            if let ("name", Said::Text(text)) = (entry.name.as_str(), &entry.node.value) {
                name = Some(text.clone());
            }
        }
        entries.retain(|entry| !ANSWERS_ONLY.contains(&entry.name.as_str()));
    }
    Ok((root, name))
}

/// Reads one thing as if it stood alone in a spec file, at `path`: `["models", "gpt-4o"]`.
fn read_one(thing: &Node, path: &[&str], in_force: &Spec) -> Result<Parts, Failure> {
    let mut root = thing.clone();
    for name in path.iter().rev() {
        let entry = Entry { name: (*name).to_owned(), at: Place::default(), node: root };
        root = Node { at: Place::default(), value: Said::Table(vec![entry]) };
    }
    Ok(read_parts("body", &root, in_force, Rest::Stays)?)
}

/// The body of `PUT .../{name}`.
fn body_for(call: &Call<'_>) -> Result<Node, Failure> {
    let (root, name) = own_fields(&call.body)?;
    match name {
        Some(name) if name != call.name() => Err(Failure::new(
            troupe_proto::failure::ErrorCode::InvalidField,
            format!("name: the path names {:?}, the body {name:?}", call.name()),
        )),
        Some(_) | None => Ok(root),
    }
}
