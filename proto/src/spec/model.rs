use bincode::{Decode, Encode};

use super::Rules;
use crate::id::{ModelId, ProviderId};
use crate::unit::{PerMille, Wait};

/// A name clients ask for, and the pool of targets behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Model {
    /// Where its calls can go.
    pub targets: Vec<Target>,
    /// Other models, tried in order when none of the targets can serve.
    pub fallbacks: Vec<ModelId>,
    /// Rules of its own.
    pub rules: Rules,
    /// Whether a stream that is slow to start is begun a second time; `None`: never.
    pub hedge: Option<Hedge>,
    /// Whether calls that begin alike go to the same target.
    pub affinity: Affinity,
    /// What happens to a stream that breaks after its first content.
    pub on_break: OnBreak,
}

/// When a stream that has not begun is begun at a second target too. The first to speak is taken, the other cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Hedge {
    /// How long the first target may stay silent.
    pub after: Wait,
    /// Second starts as a share of the pool's calls.
    pub budget: PerMille,
}

impl Hedge {
    /// What holds where a hedge is asked for and no number is given.
    pub const fn built_in() -> Self {
        Self { after: Wait::from_secs(2), budget: PerMille::new(50) }
    }
}

/// Whether calls that begin alike go to the same target, so that a provider's prompt cache stays warm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum Affinity {
    /// Each call is routed for itself.
    #[default]
    Off,
    /// The beginning of the prompt draws the call to a target, while that one is not busier than the others.
    Prefix,
}

/// What happens to a stream that breaks after its first content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum OnBreak {
    /// It ends with an error event.
    #[default]
    Error,
    /// Another target continues from the text so far, where its wire can.
    Continue,
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
