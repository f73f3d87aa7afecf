//! `troupe config validate`: everything wrong with both files, at once.

use std::path::Path;

use serde::Serialize;

use super::boot::{Boot, Flags};
use super::env::SharedEnv;
use super::secrets::Literals;
use super::source::{ConfigError, Problem};
use super::spec_file::{Sources, load};

/// What was found in the files. Its JSON is a contract of the CLI: fields are added, never renamed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether a node would start with them.
    pub is_valid: bool,
    /// What is wrong.
    pub problems: Vec<Finding>,
    /// What is right, but worth knowing.
    pub notes: Vec<String>,
    /// How many providers, models and keys the spec declares.
    pub counts: Option<Counts>,
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file.
    pub file: String,
    /// The line from 1, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The column from 1, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// The field's path; empty for the whole file.
    pub field: String,
    /// What is wrong and what would be right.
    pub message: String,
    /// All of it as one line.
    #[serde(skip)]
    pub text: String,
}

/// The size of a spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Providers declared.
    pub providers: usize,
    /// Models declared.
    pub models: usize,
    /// Virtual keys declared.
    pub keys: usize,
}

impl From<Problem> for Finding {
    fn from(problem: Problem) -> Self {
        let text = problem.to_string();
        let known = |n: u32| (n > 0).then_some(n);
        let (line, column) = (known(problem.at.line), known(problem.at.column));
        Self { file: problem.source, line, column, field: problem.field, message: problem.message, text }
    }
}

/// Checks the files that are given, with the process's variables as `env` has them. Writes nothing.
pub fn validate(node_file: Option<&Path>, spec_file: Option<&Path>, env: SharedEnv) -> Report {
    let mut report = Report::default();
    let mut refuse = |error: ConfigError| report.problems.extend(error.problems.into_iter().map(Finding::from));
    let mut notes = Vec::new();
    if let Some(path) = node_file {
        let flags = Flags::default().or("config", &path.display().to_string());
        if let Err(error) = Boot::load(&flags, &*env) {
            refuse(error);
        }
    }
    if let Some(path) = spec_file {
        match load(path, &Sources { env, literals: Literals::Refused, data_dir: None }) {
            Ok(loaded) => {
                notes.extend(loaded.notes);
                let spec = &loaded.spec;
                let counts =
                    Counts { providers: spec.providers.len(), models: spec.models.len(), keys: spec.keys.len() };
                report.counts = Some(counts);
            }
            Err(error) => refuse(error),
        }
    }
    report.notes = notes;
    report.is_valid = report.problems.is_empty();
    report
}

#[cfg(test)]
mod tests;
