//! What is known of models by name: how much they read and write, whether they take sampling parameters, and whether
//! they write on from an answer that was begun.
//!
//! From `node/data/models.tsv`; `node/data/SOURCE.md` says where that comes from. A dated or versioned name that is not
//! listed (`claude-sonnet-4-5-20261101`) is taken for the one it begins with (`claude-sonnet-4-5`).

use std::sync::OnceLock;

/// The most tokens a model writes in one reply; `None` where nobody knows.
pub fn max_output_tokens(model: &str) -> Option<u64> {
    look_up(model)?.output
}

/// The most tokens a model reads; `None` where nobody knows.
pub fn context_tokens(model: &str) -> Option<u64> {
    look_up(model)?.context
}

/// Whether a model takes `temperature`, `top_p` and `top_k`. True of models that nobody knows.
pub fn takes_sampling(model: &str) -> bool {
    look_up(model).is_none_or(|entry| entry.takes_sampling)
}

/// Whether a model that is called in Anthropic's dialect writes on from an answer that stands last in the request. Not
/// true of models that nobody knows: those after Claude 4.5 refuse it.
pub fn can_prefill(model: &str) -> bool {
    look_up(model).is_some_and(|entry| entry.can_prefill)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    name: &'static str,
    context: Option<u64>,
    output: Option<u64>,
    takes_sampling: bool,
    can_prefill: bool,
}

/// The file's lines in its order, which is that of the names' bytes.
fn entries() -> &'static [Entry] {
    static ENTRIES: OnceLock<Vec<Entry>> = OnceLock::new();
    ENTRIES.get_or_init(|| include_str!("../../data/models.tsv").lines().filter_map(read).collect())
}

fn read(line: &'static str) -> Option<Entry> {
    let mut columns = line.split('\t');
    let (name, context, output) = (columns.next()?, columns.next()?, columns.next()?);
    Some(Entry {
        name,
        context: context.parse().ok(),
        output: output.parse().ok(),
        takes_sampling: columns.next()? == "yes",
        can_prefill: columns.next()? == "yes",
    })
}

fn look_up(model: &str) -> Option<Entry> {
    let tail = model.rsplit('/').next().filter(|tail| tail.len() < model.len());
    exact(model).or_else(|| tail.and_then(exact)).or_else(|| undated(model)).or_else(|| tail.and_then(undated))
}

fn exact(name: &str) -> Option<Entry> {
    let entries = entries();
    let index = entries.binary_search_by(|entry| entry.name.as_bytes().cmp(name.as_bytes())).ok()?;
    entries.get(index).copied()
}

/// Cuts dates and versions off the end of a name until what is left is known. Words are not cut: `gpt-4-turbo` says
/// nothing of `gpt-4`.
fn undated(name: &str) -> Option<Entry> {
    let mut name = name;
    loop {
        let (rest, suffix) = name.rsplit_once(['-', '@', ':'])?;
        let is_version = suffix.strip_prefix('v').unwrap_or(suffix).bytes().all(|b| b.is_ascii_digit());
        if !(is_version || matches!(suffix, "latest" | "preview" | "default")) {
            return None;
        }
        name = rest;
        if let Some(entry) = exact(name) {
            return Some(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_data_is_read_and_in_order() {
        let lines = include_str!("../../data/models.tsv").lines().count();

        assert!(lines > 1000);
        assert_eq!(entries().len(), lines);
        assert!(entries().is_sorted_by(|a, b| a.name.as_bytes() < b.name.as_bytes()));
        for entry in entries() {
            assert!(entry.context.is_some() || entry.output.is_some(), "{}", entry.name);
        }
    }

    #[test]
    fn a_dated_name_is_known_by_what_it_begins_with() {
        assert_eq!(max_output_tokens("claude-sonnet-4-5"), Some(64_000));
        assert_eq!(max_output_tokens("claude-sonnet-4-5-20991231"), Some(64_000));
        assert_eq!(max_output_tokens("claude-sonnet-4-5-latest"), Some(64_000));
        assert_eq!(max_output_tokens("vendor/claude-sonnet-4-5@20991231"), Some(64_000));
    }

    #[test]
    fn what_a_model_reads_is_known_for_each_family() {
        assert_eq!(context_tokens("gpt-4o"), Some(128_000));
        assert_eq!(context_tokens("gpt-4o-mini-2024-07-18"), Some(128_000));
        assert_eq!(context_tokens("claude-opus-4-6"), Some(1_000_000));
        assert_eq!(context_tokens("gemini-2.5-pro"), Some(1_048_576));
        assert!(context_tokens("gpt-4.1") > context_tokens("gpt-4o"));
        assert_eq!(context_tokens("nobody-knows"), None);
    }

    #[test]
    fn another_model_of_the_family_is_not_mistaken_for_it() {
        assert_eq!(max_output_tokens("gpt-4o-colossal"), None);
        assert_eq!(max_output_tokens("nobody-knows"), None);
        assert_eq!(max_output_tokens(""), None);
        assert_eq!(max_output_tokens("-1"), None);
    }

    #[test]
    fn newer_claude_models_take_no_sampling_parameters() {
        assert!(takes_sampling("claude-sonnet-4-5"));
        assert!(!takes_sampling("claude-opus-4-7"));
        assert!(!takes_sampling("claude-opus-4-7-20991231"));
        assert!(takes_sampling("nobody-knows"));
    }

    #[test]
    fn only_claude_models_before_4_6_write_on_from_a_prefill() {
        assert!(can_prefill("claude-sonnet-4-5"));
        assert!(can_prefill("claude-haiku-4-5-20251001"));
        assert!(can_prefill("anthropic.claude-3-7-sonnet-20250219-v1:0"));
        for model in ["claude-opus-4-6", "claude-sonnet-5", "mistral-large-latest", "deepseek-chat", "nobody-knows"] {
            assert!(!can_prefill(model), "{model}");
        }
    }
}
