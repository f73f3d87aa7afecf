use bincode::{Decode, Encode};

use super::Rules;
use crate::id::{ModelId, ProviderId};

/// A name clients ask for, and the pool of targets behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Model {
    /// Where its calls can go.
    pub targets: Vec<Target>,
    /// Other models, tried in order when none of the targets can serve.
    pub fallbacks: Vec<ModelId>,
    /// Rules of its own.
    pub rules: Rules,
}

/// One way to serve a model. Together with each key of the provider it makes the pool's targets.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Target {
    /// The provider to call.
    pub provider: ProviderId,
    /// The model's name there; `None` passes on the name that was asked for.
    pub model: Option<String>,
    /// Its share among the targets of the same priority.
    pub weight: u32,
    /// Lower goes first; a higher one is used only when no lower one can serve.
    pub priority: u32,
}

/// A model name, or the beginning of some: `gpt-4o`, `claude-*`, `*`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Pattern {
    prefix: String,
    is_open: bool,
}

impl Pattern {
    /// Reads a pattern; `*` may stand at its end only.
    pub fn parse(text: &str) -> Option<Self> {
        let (prefix, is_open) = match text.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (text, false),
        };
        let is_name = !prefix.contains('*') && (is_open || !prefix.is_empty());
        is_name.then(|| Self { prefix: prefix.to_owned(), is_open })
    }

    /// Whether `name` is meant.
    pub fn matches(&self, name: &str) -> bool {
        if self.is_open { name.starts_with(&self.prefix) } else { name == self.prefix }
    }

    /// The beginning that a name must have, if this pattern ends in `*`.
    pub fn open_prefix(&self) -> Option<&str> {
        self.is_open.then_some(self.prefix.as_str())
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.prefix)?;
        if self.is_open { f.write_str("*") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn a_star_stands_for_any_ending_and_nowhere_else() {
        let open = Pattern::parse("claude-*").unwrap();

        assert!(open.matches("claude-sonnet"));
        assert!(!open.matches("gpt-4o"));
        assert!(Pattern::parse("*").unwrap().matches("anything"));
        assert_eq!(Pattern::parse("a*b"), None);
        assert_eq!(Pattern::parse(""), None);
    }
}
