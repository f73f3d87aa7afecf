//! Tool call ids and tool names that are legal on both wires.
//!
//! Nothing is remembered between requests, so the mapping is a pure function of the id:
//! - legal and not too long: unchanged;
//! - else, if it fits: `tr64_` and the id in URL-safe base64, which the way back undoes;
//! - else `trh_` and half a SHA-256 in hex: call and result still meet, the way back leaves it as it is.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

/// Bedrock's limit, kept for every target so that a conversation can move between providers.
const ANTHROPIC_ID_BYTES_MAX: usize = 64;
/// OpenAI refuses longer ids.
const OPENAI_ID_BYTES_MAX: usize = 40;
/// OpenAI refuses longer names of functions.
const OPENAI_NAME_BYTES_MAX: usize = 64;

const ENCODED: &str = "tr64_";
const HASHED: &str = "trh_";

fn is_legal(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

fn digest(text: &str, bytes: usize) -> String {
    Sha256::digest(text.as_bytes()).iter().take(bytes).map(|byte| format!("{byte:02x}")).collect()
}

/// An id as Anthropic's wire takes it.
pub(super) fn for_anthropic(id: &str) -> String {
    if is_legal(id) && id.len() <= ANTHROPIC_ID_BYTES_MAX {
        return id.to_owned();
    }
    let encoded = format!("{ENCODED}{}", URL_SAFE_NO_PAD.encode(id));
    if encoded.len() <= ANTHROPIC_ID_BYTES_MAX { encoded } else { format!("{HASHED}{}", digest(id, 16)) }
}

/// An id as OpenAI's wire takes it; undoes what [`for_anthropic`] encoded.
pub(super) fn for_openai(id: &str) -> String {
    let original = id
        .strip_prefix(ENCODED)
        .and_then(|encoded| URL_SAFE_NO_PAD.decode(encoded).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .filter(|original| for_anthropic(original) == id);
    let id = original.unwrap_or_else(|| id.to_owned());
    if id.len() <= OPENAI_ID_BYTES_MAX { id } else { format!("{HASHED}{}", digest(&id, 16)) }
}

/// A tool's name as OpenAI's wire takes it: a long one keeps its beginning and ends in a hash.
pub(super) fn name_for_openai(name: &str) -> String {
    if name.len() <= OPENAI_NAME_BYTES_MAX {
        return name.to_owned();
    }
    let room = OPENAI_NAME_BYTES_MAX - 17;
    let kept = name.char_indices().take_while(|(at, letter)| at + letter.len_utf8() <= room);
    format!("{}_{}", kept.map(|(_, letter)| letter).collect::<String>(), digest(name, 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_legal_id_is_left_alone() {
        assert_eq!(for_anthropic("toolu_01-A"), "toolu_01-A");
        assert_eq!(for_openai("toolu_01-A"), "toolu_01-A");
    }

    #[test]
    fn an_illegal_id_comes_back_as_it_was() {
        for id in ["functions.weather:0", "", "call 1", "привет"] {
            let mapped = for_anthropic(id);
            assert!(is_legal(&mapped) && mapped.len() <= ANTHROPIC_ID_BYTES_MAX, "{mapped}");
            assert_eq!(for_openai(&mapped), id);
        }
    }

    #[test]
    fn a_long_id_maps_to_one_that_fits_and_stays_the_same() {
        let long = "x".repeat(500);

        assert!(for_anthropic(&long).len() <= ANTHROPIC_ID_BYTES_MAX);
        assert!(for_openai(&long).len() <= OPENAI_ID_BYTES_MAX);
        assert_eq!(for_anthropic(&long), for_anthropic(&long));
        assert_ne!(for_anthropic(&long), for_anthropic(&"x".repeat(501)));
        assert_eq!(for_openai(&for_anthropic(&long)), for_anthropic(&long));
    }

    #[test]
    fn a_long_tool_name_keeps_its_beginning_and_fits() {
        let long = format!("mcp__{}é", "server_".repeat(20));

        let mapped = name_for_openai(&long);

        assert!(mapped.len() <= OPENAI_NAME_BYTES_MAX && mapped.starts_with("mcp__server_"), "{mapped}");
    }
}
