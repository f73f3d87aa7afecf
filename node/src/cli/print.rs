//! What every command about agreed things has in common: whom it asks, how it prints.

use clap::Args;
use serde_json::Value;

use super::access::Access;
use super::output::{Output, yaml};
use super::{Exit, say};

/// Whom to ask, and how to print the answer.
#[derive(Args)]
pub(super) struct Asking {
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(super) output: Output,
    #[command(flatten)]
    pub(super) access: Access,
}

/// The same for a change.
#[derive(Args)]
pub(super) struct Changing {
    /// Why; kept in the audit.
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,
    #[command(flatten)]
    pub(super) asking: Asking,
}

impl Asking {
    /// Prints an answer on the standard output, for people as `human` has it.
    pub(super) fn print(&self, document: &Value, human: impl FnOnce(&Value) -> String) -> anyhow::Result<Exit> {
        self.output.print(document, human)
    }
}

impl Output {
    /// Prints a document on the standard output, for people as `human` has it.
    pub(super) fn print(self, document: &Value, human: impl FnOnce(&Value) -> String) -> anyhow::Result<Exit> {
        let text = match self {
            Self::Table => human(document),
            Self::Json => serde_json::to_string_pretty(document)? + "\n",
            Self::Yaml => yaml(document),
        };
        say(&mut std::io::stdout().lock(), &text);
        Ok(Exit::Ok)
    }
}

/// Talk goes to the standard error, so that the standard output holds data only.
pub(super) fn talk(text: &str) {
    say(&mut std::io::stderr().lock(), &format!("{text}\n"));
}

/// A text of an answer; `-` where there is none.
pub(super) fn text(document: &Value, name: &str) -> String {
    match document.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => "-".to_owned(),
        Some(Value::Array(items)) => {
            let words: Vec<String> =
                items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned)).collect();
            words.join(",")
        }
        Some(other) => other.to_string(),
    }
}

/// The items of a list.
pub(super) fn items(document: &Value) -> &[Value] {
    document.get("items").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
