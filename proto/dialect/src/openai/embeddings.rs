//! Embeddings: request and reply, as floats or as base64 of little-endian 32-bit floats.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::call::Extra;

/// The request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EmbeddingsRequest {
    /// The model's name.
    pub model: String,
    /// What to embed.
    pub input: Input,
    /// How the numbers are to be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding_format: Option<EncodingFormat>,
    /// How many numbers each embedding shall have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<u64>,
    /// The rest.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What to embed: one text or many, as text or as token numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Input {
    /// One text.
    Text(String),
    /// Many texts.
    Texts(Vec<String>),
    /// One text as tokens.
    Tokens(Vec<u64>),
    /// Many texts as tokens.
    TokenLists(Vec<Vec<u64>>),
}

/// How the numbers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EncodingFormat {
    /// A list of numbers.
    Float,
    /// Base64 of little-endian 32-bit floats.
    Base64,
}

/// The reply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EmbeddingsReply {
    /// One embedding for each input.
    pub data: Vec<Embedding>,
    /// The model, as the provider names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The rest, `object` and `usage` included.
    #[serde(flatten)]
    pub extra: Extra,
}

/// One embedding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Embedding {
    /// The input it belongs to.
    pub index: u64,
    /// Its numbers.
    pub embedding: Vector,
    /// The rest.
    #[serde(flatten)]
    pub extra: Extra,
}

/// The numbers of one embedding as they were written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Vector {
    /// Base64 of little-endian 32-bit floats.
    Base64(String),
    /// Numbers as they stood.
    Numbers(Vec<serde_json::Number>),
}

impl Vector {
    /// Packs numbers the way the official SDKs ask for by default.
    pub fn pack(numbers: &[f32]) -> Self {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        Self::Base64(STANDARD.encode(bytes))
    }

    /// The numbers; `None` when the base64 is broken or not of whole numbers, or a number does not fit.
    pub fn unpack(&self) -> Option<Vec<f32>> {
        match self {
            Self::Base64(text) => {
                let bytes = STANDARD.decode(text).ok()?;
                let (numbers, rest) = bytes.as_chunks::<4>();
                rest.is_empty().then(|| numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
            }
            Self::Numbers(numbers) => {
                // Through text: the nearest 32-bit float, without a narrowing cast.
                numbers.iter().map(|number| number.to_string().parse().ok()).collect()
            }
        }
    }
}

/// Reads a request.
///
/// # Errors
/// Says what is missing or of the wrong type.
pub fn decode_request(body: &[u8]) -> Result<EmbeddingsRequest, serde_json::Error> {
    serde_json::from_slice(body)
}

/// Reads a reply.
///
/// # Errors
/// Says what is missing or of the wrong type.
pub fn decode_reply(body: Value) -> Result<EmbeddingsReply, serde_json::Error> {
    serde_json::from_value(body)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn packed_numbers_unpack_to_themselves() {
        let numbers = [0.0, -1.5, f32::MIN_POSITIVE, 3.4e38];

        assert_eq!(Vector::pack(&numbers).unpack().as_deref(), Some(numbers.as_slice()));
        assert_eq!(Vector::Base64("AACAPw==".to_owned()).unpack(), Some(vec![1.0]));
        assert_eq!(Vector::Base64("AACA".to_owned()).unpack(), None);
        assert_eq!(Vector::Base64("?".to_owned()).unpack(), None);
    }

    #[test]
    fn requests_and_replies_are_written_as_they_came() {
        let inputs = [json!("a"), json!(["a", "b"]), json!([1, 2]), json!([[1], [2, 3]])];
        for input in inputs {
            let body = json!({"model": "m", "input": input, "encoding_format": "base64", "user": "u"});
            let read = decode_request(body.to_string().as_bytes()).unwrap();
            assert_eq!(serde_json::to_value(read).unwrap(), body);
        }
        let reply = json!({
            "object": "list", "model": "m", "usage": {"prompt_tokens": 1, "total_tokens": 1},
            "data": [
                {"object": "embedding", "index": 0, "embedding": [0.25, -1.0]},
                {"object": "embedding", "index": 1, "embedding": "AACAPw=="},
            ],
        });
        let read = decode_reply(reply.clone()).unwrap();
        assert_eq!(read.data[0].embedding.unpack(), Some(vec![0.25, -1.0]));
        assert_eq!(serde_json::to_value(read).unwrap(), reply);
    }
}
