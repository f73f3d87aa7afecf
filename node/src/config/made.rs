//! Secrets that the node makes itself: virtual keys without one, and the operators' token. Of each only the hash is kept.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use troupe_proto::id::KeyId;
use troupe_proto::secret::{KeyHash, Secret};
use troupe_proto::spec::{Key, Table};

use super::file;
use super::source::ConfigError;
use super::spec_file::Declared;
use crate::clock;

/// In the data directory: the hashes of made keys, by name. Never a secret.
const KEYS_FILE: &str = "made-keys.json";

/// In the data directory: the hash of what operators show.
const TOKEN_FILE: &str = "admin-token";

/// How a hash begins when it is written.
const HASH_MARK: &str = "sha256:";

const FILE_BYTES: u64 = 64 << 20;

/// Keys, each with its hash.
pub(super) struct Filled {
    pub(super) keys: Table<KeyId, Key>,
    pub(super) made: Vec<(KeyId, Secret<String>)>,
    pub(super) made_hashes: BTreeMap<KeyId, KeyHash>,
}

/// Gives each key without a secret the one that was made for it earlier, or makes one. Writes nothing.
pub(super) fn fill(declared: BTreeMap<KeyId, Declared>, data_dir: Option<&Path>) -> Result<Filled, ConfigError> {
    let is_needed = declared.values().any(|key| key.hash.is_none());
    let known = match data_dir {
        Some(data_dir) if is_needed => read_hashes(&data_dir.join(KEYS_FILE))?,
        Some(_) | None => BTreeMap::new(),
    };
    let mut filled = Filled { keys: Table::new(), made: Vec::new(), made_hashes: BTreeMap::new() };
    for (id, key) in declared {
        let Declared { hash, models, expires, metadata, pin } = key;
        let hash = match (hash, known.get(id.as_str())) {
            (Some(hash), _) => hash,
            (None, Some(hash)) => {
                filled.made_hashes.insert(id.clone(), *hash);
                *hash
            }
            (None, None) => {
                let secret = new_key_secret()
                    .map_err(|error| ConfigError::whole("keys", format!("no key can be made: {error}")))?;
                let hash = KeyHash::of(secret.expose().as_bytes());
                filled.made_hashes.insert(id.clone(), hash);
                filled.made.push((id.clone(), secret));
                hash
            }
        };
        filled.keys.insert(id, Key { hash, models, expires, metadata, pin });
    }
    Ok(filled)
}

fn read_hashes(path: &Path) -> Result<BTreeMap<String, KeyHash>, ConfigError> {
    let source = path.display().to_string();
    let fail = |message: String| ConfigError::whole(&source, message);
    match path.try_exists() {
        Ok(true) => {}
        Ok(false) => return Ok(BTreeMap::new()),
        Err(error) => return Err(fail(format!("cannot be read: {error}"))),
    }
    let text = file::read(path, FILE_BYTES).map_err(|error| fail(error.to_string()))?;
    let hashes: BTreeMap<String, String> = serde_json::from_str(&text).map_err(|error| fail(error.to_string()))?;
    let read = |(name, hash): (String, String)| match KeyHash::from_hex(&hash) {
        Some(hash) => Ok((name, hash)),
        None => Err(fail(format!("the hash of key {name:?} is damaged"))),
    };
    hashes.into_iter().map(read).collect()
}

/// Writes down the hashes of made keys, to be put in place of those kept before once the keys are in force. `None` when
/// they are what is kept already.
///
/// A key that left the spec is forgotten with it: should its name come back, it gets a new secret.
///
/// # Errors
/// When nothing can be written there; what was kept before is untouched.
pub(super) fn prepare(data_dir: &Path, hashes: &BTreeMap<KeyId, KeyHash>) -> std::io::Result<Option<Prepared>> {
    let path = data_dir.join(KEYS_FILE);
    if hashes.is_empty() && !path.try_exists()? {
        return Ok(None);
    }
    let named: BTreeMap<&str, String> = hashes.iter().map(|(id, hash)| (id.as_str(), hash.to_string())).collect();
    let mut text = serde_json::to_vec_pretty(&named).map_err(std::io::Error::other)?;
    text.push(b'\n');
    if file::read(&path, FILE_BYTES).is_ok_and(|kept| kept.as_bytes() == text) {
        return Ok(None);
    }
    Prepared::write(path, &text).map(Some)
}

/// A file that only this user reads, written beside the place it will take: a crash leaves the old one or the new one.
#[derive(Debug)]
#[must_use = "the file takes its place when it is committed"]
pub(super) struct Prepared {
    temporary: PathBuf,
    path: PathBuf,
}

impl Prepared {
    fn write(path: PathBuf, bytes: &[u8]) -> std::io::Result<Self> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let temporary = path.with_extension("new");
        // One left behind by a crash would keep its permissions.
        match std::fs::remove_file(&temporary) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(Self { temporary, path })
    }

    /// Puts the file in its place.
    pub(super) fn commit(self) -> std::io::Result<()> {
        std::fs::rename(&self.temporary, &self.path)?;
        match self.path.parent() {
            Some(directory) if !directory.as_os_str().is_empty() => std::fs::File::open(directory)?.sync_all(),
            Some(_) | None => Ok(()),
        }
    }
}

/// A secret for a virtual key: `sk-troupe-` and 43 letters and digits, 256 random bits.
///
/// # Errors
/// When the system has no randomness to give.
pub fn new_key_secret() -> Result<Secret<String>, getrandom::Error> {
    random_text("sk-troupe-")
}

/// A new secret for a token of an operator.
///
/// # Errors
/// When the system has no random bytes to give.
pub fn new_admin_token() -> Result<Secret<String>, getrandom::Error> {
    random_text("troupe-admin-")
}

/// A new secret for a node that is to join.
///
/// # Errors
/// When the system has no random bytes to give.
pub fn new_join_token() -> Result<Secret<String>, getrandom::Error> {
    random_text("troupe-join-")
}

/// 62^43 is more than 2^256, so 43 digits hold all of the bytes.
const DIGITS: usize = 43;

fn random_text(prefix: &str) -> Result<Secret<String>, getrandom::Error> {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut number: [u8; 32] = clock::secret_bytes()?;
    let mut text = String::with_capacity(prefix.len() + DIGITS);
    text.push_str(prefix);
    for _ in 0..DIGITS {
        let mut rest = 0_u16;
        for byte in &mut number {
            let value = rest * 256 + u16::from(*byte);
            *byte = u8::try_from(value / 62).unwrap_or(u8::MAX);
            rest = value % 62;
        }
        text.push(ALPHABET.get(usize::from(rest)).copied().map_or('0', char::from));
    }
    Ok(Secret::new(text))
}

/// What operators must show at one node, whatever its cluster says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnToken {
    /// The token's hash.
    pub hash: KeyHash,
    /// The token itself, where it was made just now: to be shown, once.
    pub made: Option<Secret<String>>,
}

impl OwnToken {
    fn kept(token: &str) -> Self {
        Self { hash: KeyHash::of(token.as_bytes()), made: None }
    }
}

/// A node's own token: the configured one, else the one whose hash is in the data directory, else one that is made now if
/// `is_needed`, because there is no cluster that has tokens.
///
/// # Errors
/// When the file can neither be read nor written, or holds no token.
pub fn own_token(
    configured: Option<&Secret<String>>,
    data_dir: &Path,
    is_needed: bool,
) -> std::io::Result<Option<OwnToken>> {
    let path = data_dir.join(TOKEN_FILE);
    // First of all, whatever is configured now: what an earlier program kept in clear does not stay so.
    let kept = kept_token(&path)?;
    if let Some(token) = configured {
        return Ok(Some(OwnToken::kept(token.expose())));
    }
    if kept.is_none() && is_needed {
        let token = new_admin_token().map_err(std::io::Error::other)?;
        let hash = KeyHash::of(token.expose().as_bytes());
        keep_token(&path, &hash)?;
        return Ok(Some(OwnToken { hash, made: Some(token) }));
    }
    Ok(kept)
}

fn keep_token(path: &Path, hash: &KeyHash) -> std::io::Result<()> {
    Prepared::write(path.to_owned(), format!("{hash}\n").as_bytes())?.commit()
}

/// The token whose hash is in the file. Earlier programs kept the token itself: it stays good, and its hash takes its place.
fn kept_token(path: &Path) -> std::io::Result<Option<OwnToken>> {
    if !path.try_exists()? {
        return Ok(None);
    }
    let text =
        file::read(path, FILE_BYTES).map_err(|error| std::io::Error::other(format!("{}: {error}", path.display())))?;
    let text = Secret::new(text);
    let text = text.expose().trim_end();
    if let Some(hash) = text.strip_prefix(HASH_MARK).and_then(KeyHash::from_hex) {
        return Ok(Some(OwnToken { hash, made: None }));
    }
    if text.is_empty() || text.starts_with(HASH_MARK) || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(std::io::Error::other(format!("{} holds no token: remove it and one is made", path.display())));
    }
    let own = OwnToken::kept(text);
    keep_token(path, &own.hash)?;
    Ok(Some(own))
}

#[cfg(test)]
mod tests;
