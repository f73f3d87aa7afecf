use std::collections::BTreeMap;

use troupe_proto::id::{KeyId, ModelId};
use troupe_proto::secret::KeyHash;
use troupe_proto::spec::{self, Key, Model, Pattern};

use super::sections::KEY;
use crate::config::names::{check_model_name, check_name};
use crate::config::secrets::Secrets;
use crate::config::source::{Found, Table};

/// More words than this belong into a database.
const METADATA_MAX: usize = 64;

/// The longest word of metadata.
const METADATA_BYTES: usize = 1024;

/// A virtual key whose secret may still have to be made.
#[derive(Clone, Debug)]
pub(in crate::config) struct Declared {
    /// `None`: to be made.
    pub(in crate::config) hash: Option<KeyHash>,
    pub(in crate::config) models: Option<Vec<Pattern>>,
    pub(in crate::config) expires: Option<i64>,
    pub(in crate::config) metadata: BTreeMap<String, String>,
    pub(in crate::config) pin: bool,
}

impl Declared {
    /// The key, known by this hash.
    pub(in crate::config) fn with(self, hash: KeyHash) -> Key {
        let Self { hash: _, models, expires, metadata, pin } = self;
        Key { hash, models, expires, metadata, pin }
    }
}

pub(super) fn read_all(found: &Found<'_>, secrets: &Secrets<'_>) -> BTreeMap<KeyId, Declared> {
    let mut keys = BTreeMap::new();
    let mut owners: BTreeMap<KeyHash, &str> = BTreeMap::new();
    for (name, found) in found.entries() {
        if let Err(error) = check_name(name) {
            found.problem(error);
        }
        let Some(key) = found.table(&KEY).and_then(|table| read(&table, secrets)) else { continue };
        if let Some(other) = key.hash.and_then(|hash| owners.insert(hash, name)) {
            found.problem(format_args!("it has the same secret as key {other:?}"));
        }
        keys.insert(KeyId::new(name), key);
    }
    keys
}

fn read(table: &Table<'_>, secrets: &Secrets<'_>) -> Option<Declared> {
    let hash = match (table.get("secret"), table.get("hash")) {
        (Some(secret), None) => {
            secrets.header_value(&secret).map(|secret| Some(KeyHash::of(secret.expose().as_bytes())))
        }
        (None, Some(hash)) => read_hash(&hash).map(Some),
        (None, None) => Some(None),
        (Some(_), Some(hash)) => {
            hash.problem("give `secret` or `hash`, not both");
            None
        }
    };
    let models = table.get("models").map(|found| read_models(&found));
    let expires = table.get("expires").map(|found| read_time(&found));
    let metadata = table.get("metadata").map(|found| read_metadata(&found)).unwrap_or_default();
    let pin = table.get("pin").map_or(Some(false), |found| found.yes_or_no());
    let expires = expires.map_or(Some(None), |time| time.map(Some));
    Some(Declared { hash: hash?, models, expires: expires?, metadata, pin: pin? })
}

fn read_hash(found: &Found<'_>) -> Option<KeyHash> {
    let hash = KeyHash::from_hex(found.text()?);
    if hash.is_none() {
        found.problem("expected a SHA-256 as 64 hexadecimal digits, with or without \"sha256:\" before them");
    }
    hash
}

fn read_models(found: &Found<'_>) -> Vec<Pattern> {
    let mut patterns = Vec::new();
    for item in found.items() {
        let Some(text) = item.text() else { continue };
        match check_model_name(text) {
            Ok(()) => patterns.extend(Pattern::parse(text)),
            Err(error) => item.problem(error),
        }
    }
    patterns
}

fn read_time(found: &Found<'_>) -> Option<i64> {
    let text = found.time_text()?;
    let time: Option<jiff::Timestamp> = text.parse().ok();
    if time.is_none() {
        found.problem(format_args!("{text:?} is not a time with its zone, such as 2027-01-01T00:00:00Z"));
    }
    time.map(jiff::Timestamp::as_second)
}

fn read_metadata(found: &Found<'_>) -> BTreeMap<String, String> {
    let entries = found.entries();
    if entries.len() > METADATA_MAX {
        found.problem(format_args!("at most {METADATA_MAX} words"));
    }
    let mut metadata = BTreeMap::new();
    for (name, found) in entries {
        let Some(text) = found.text() else { continue };
        if name.len() > METADATA_BYTES || text.len() > METADATA_BYTES {
            found.problem(format_args!("at most {METADATA_BYTES} bytes"));
        }
        metadata.insert(name.to_owned(), text.to_owned());
    }
    metadata
}

/// More of one kind of note than this is noise.
const NOTES_MAX: usize = 20;

/// Says which patterns of keys no model can match: most likely a slip of the pen, but one that harms nobody.
pub(super) fn unserved_patterns(keys: &BTreeMap<KeyId, Declared>, models: &spec::Table<ModelId, Model>) -> Vec<String> {
    let served: Vec<Pattern> = models.keys().filter_map(|id| Pattern::parse(id.as_str())).collect();
    let mut notes = Vec::new();
    for (id, key) in keys {
        if notes.len() >= NOTES_MAX {
            break;
        }
        let unserved = key.models.iter().flatten().filter(|allowed| !served.iter().any(|model| meets(allowed, model)));
        notes.extend(unserved.map(|pattern| {
            format!("key {id} may use {pattern:?}, which no model serves", pattern = pattern.to_string())
        }));
    }
    notes
}

/// Whether there is a name that both patterns mean.
fn meets(a: &Pattern, b: &Pattern) -> bool {
    match (a.open_prefix(), b.open_prefix()) {
        (Some(a), Some(b)) => a.starts_with(b) || b.starts_with(a),
        (None, _) => b.matches(&a.to_string()),
        (_, None) => a.matches(&b.to_string()),
    }
}
