//! What a thing may be called.

/// Why a text is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameError {
    /// It is empty or longer than the limit.
    #[error("a name has 1 to {max} characters")]
    Length {
        /// The limit.
        max: usize,
    },
    /// A character that names do not have.
    #[error("{0:?} cannot stand in a name: use a-z 0-9 . _ -")]
    NameChar(char),
    /// A character that model names do not have.
    #[error("{0:?} cannot stand in a model name: use letters, digits and . _ - : / @, and * at the end only")]
    ModelChar(char),
}

/// The longest name of a provider, key, credential, node or zone.
const NAME_MAX: usize = 128;

/// The longest name of a model.
const MODEL_MAX: usize = 256;

/// Whether a character may stand in the name of a provider, a key, a credential, a node or a zone.
pub(super) fn is_name_char(c: char) -> bool {
    matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-')
}

/// Whether a character may stand in a model's name. Vendors use upper case, slashes and colons
/// (`Qwen/Qwen3-32B`, `llama3.3:70b`, `text@001`), and clients send these names as they are.
fn is_model_char(c: char) -> bool {
    is_name_char(c) || matches!(c, 'A'..='Z' | ':' | '/' | '@')
}

/// Checks the name of a provider, a key, a credential, a node or a zone.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_name(text: &str) -> Result<(), NameError> {
    check_length(text, NAME_MAX)?;
    text.chars().find(|c| !is_name_char(*c)).map_or(Ok(()), |c| Err(NameError::NameChar(c)))
}

/// Checks a model's name, which may end in `*`.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check_model_name(text: &str) -> Result<(), NameError> {
    check_length(text, MODEL_MAX)?;
    let name = text.strip_suffix('*').unwrap_or(text);
    name.chars().find(|c| !is_model_char(*c)).map_or(Ok(()), |c| Err(NameError::ModelChar(c)))
}

fn check_length(text: &str, max: usize) -> Result<(), NameError> {
    if (1..=max).contains(&text.len()) { Ok(()) } else { Err(NameError::Length { max }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_names_are_those_that_vendors_use() {
        for name in ["gpt-4o", "claude-*", "*", "Qwen/Qwen3-32B", "llama3.3:70b", "text@001"] {
            assert_eq!(check_model_name(name), Ok(()), "{name}");
        }
        assert_eq!(check_model_name("a*b"), Err(NameError::ModelChar('*')));
        assert_eq!(check_model_name("gpt 4"), Err(NameError::ModelChar(' ')));
        assert_eq!(check_model_name(""), Err(NameError::Length { max: 256 }));
    }

    #[test]
    fn other_names_are_lower_case_and_plain() {
        assert_eq!(check_name("search-team_1.a"), Ok(()));
        assert_eq!(check_name("Search"), Err(NameError::NameChar('S')));
        assert_eq!(check_name(&"a".repeat(129)), Err(NameError::Length { max: 128 }));
    }
}
