//! spec.toml: what the whole cluster agrees on, as a person writes it, and as a checked [`Spec`].

mod key;
mod model;
mod parts;
mod policies;
mod provider;
mod restore;
mod rules;
mod sections;
mod sending;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use troupe_proto::id::KeyId;
use troupe_proto::secret::{KeyHash, Secret};
use troupe_proto::spec::Spec;

pub(super) use key::Declared;
pub use parts::{Parts, Rest, changes_between, read_parts};
pub use restore::{Lost, Restored, restore};
pub(super) use rules::within;
pub use sections::SECTIONS;
pub use sending::{read_for_sending, read_one_for_sending};
pub use write::{Hashes, time_text, write_key, write_model, write_policies, write_provider, write_rules, write_spec};

use super::env::SharedEnv;
use super::file::{Files, Text, read_text};
use super::made;
use super::secrets::{Literals, Secrets};
use super::source::{ConfigError, Found, Problems, Section};

/// The section that the reference names so: `keys.NAME`.
pub fn section(name: &str) -> Option<&'static Section> {
    SECTIONS.iter().find(|section| section.name == name).copied()
}

/// Where the values that a spec file names come from.
#[derive(Clone)]
pub struct Sources {
    /// The variables that `env:` means.
    pub env: SharedEnv,
    /// Whether secrets may be written down.
    pub literals: Literals,
    /// Where the hashes of made keys are kept; `None` makes new ones and forgets them, for checks.
    pub data_dir: Option<PathBuf>,
}

impl Sources {
    /// Variables of this process, no literals, and made keys kept in `data_dir`.
    pub fn of_process(data_dir: Option<PathBuf>) -> Self {
        Self { env: Arc::new(super::env::variable), literals: Literals::Refused, data_dir }
    }
}

/// A spec file that was read and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// What it declares.
    pub spec: Spec,
    /// Keys that were made just now, to be shown once. Their hashes are in `spec`, but not yet on disk.
    pub made: Vec<(KeyId, Secret<String>)>,
    /// The hash of each key whose secret was made here, now or earlier.
    pub made_hashes: BTreeMap<KeyId, KeyHash>,
    /// What an operator should know about it, one sentence each.
    pub notes: Vec<String>,
    /// The spec file and those that its secrets come from, as they were when they were read.
    pub files: Files,
}

/// Reads and checks a spec file. Writes nothing.
///
/// # Errors
/// Every problem found, in the order of the file.
pub fn load(path: &Path, sources: &Sources) -> Result<Loaded, ConfigError> {
    let mut files = Files::default();
    files.note(path);
    check(&read_text(path)?, sources, files)
}

/// Checks a spec given as text, in the format of `format`; errors name it `source`. For specs that a program writes.
///
/// # Errors
/// As [`load`].
pub fn load_text(
    source: &str,
    format: super::source::Format,
    text: &str,
    sources: &Sources,
) -> Result<Loaded, ConfigError> {
    let root = super::source::parse(source, format, text)?;
    check(&Text { source: source.to_owned(), root }, sources, Files::default())
}

fn check(text: &Text, sources: &Sources, files: Files) -> Result<Loaded, ConfigError> {
    let problems = Problems::default();
    let env = |name: &str| (sources.env)(name);
    let secrets = Secrets::new(&env, sources.literals, files);
    let mut notes = Vec::new();
    let root = Found::new(&text.root, String::new(), &text.source, &problems);
    let mut spec = Spec::default();
    let mut keys = BTreeMap::new();
    if let Some(root) = root.table(&sections::ROOT) {
        spec.providers = root.get("providers").map(|found| provider::read_all(&found, &secrets)).unwrap_or_default();
        let models = root.get("models").map(|found| model::read_all(&found, &spec.providers, &Default::default()));
        spec.models = models.unwrap_or_default();
        keys = root.get("keys").map(|found| key::read_all(&found, &secrets)).unwrap_or_default();
        let defaults = root.get("defaults").and_then(|found| found.table(&sections::DEFAULTS));
        spec.defaults = defaults.map(|table| rules::read(&table)).unwrap_or_default();
        let policies = root.get("policies").and_then(|found| found.table(&sections::POLICIES));
        spec.policies = policies.map(|table| policies::read(&table)).unwrap_or_default();
    }
    problems.into_result()?;
    notes.extend(key::unserved_patterns(&keys, &spec.models));
    let made::Filled { keys, made, made_hashes } = made::fill(keys, sources.data_dir.as_deref())?;
    spec.keys = keys;
    Ok(Loaded { spec, made, made_hashes, notes, files: secrets.into_files() })
}

#[cfg(test)]
mod tests;
