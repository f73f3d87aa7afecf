//! The spec file, watched: a change goes diff -> command -> apply, all or nothing.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tracing::{error, info, warn};
use troupe_cluster::{Handle, ProposeError, SealError};
use troupe_proto::command::{Command, Note, Refusal, Reply};
use troupe_proto::id::{KeyId, Revision};
use troupe_proto::secret::Secret;
use troupe_proto::spec::Spec;

use super::diff::diff;
use super::file::Files;
use super::made;
use super::source::ConfigError;
use super::spec_file::{Loaded, Sources, load};
use crate::clock;
use crate::telemetry::metrics::{Metrics, Reload};
use crate::view::{BuildError, Draft, View};

/// How often the files are looked at. A change counts once it was seen twice alike, so a file is not read while an
/// editor is still writing it.
const POLL: Duration = Duration::from_millis(500);

/// How often a change is computed anew because somebody else was faster.
const TRIES: u32 = 3;

/// What the audit calls the node when it follows its file.
const ACTOR: &str = "spec file";

/// What applying a file came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// How many things changed; 0 when the file says what is in force.
    pub changes: usize,
    /// The revision now in force.
    pub revision: Revision,
    /// Keys that were made, to be shown once.
    pub made: Vec<(KeyId, Secret<String>)>,
    /// What an operator should know, one sentence each.
    pub notes: Vec<String>,
    /// The spec file and those that its secrets come from, as they were when they were read.
    pub files: Files,
}

/// Why a file was not applied. What was in force stays in force.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The file is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The file is well formed, and this node could not serve what it says.
    #[error(transparent)]
    Unservable(#[from] BuildError),
    /// The cluster refused what it says.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// What is in force has secrets that this node cannot open, so it cannot be compared.
    #[error(transparent)]
    Sealed(#[from] SealError),
    /// The cluster could not be asked.
    #[error("cannot be proposed")]
    Propose(#[from] ProposeError),
    /// The hashes of made keys cannot be kept; nothing was proposed.
    #[error("the data directory cannot keep the hashes of made keys: {0}")]
    Keep(#[source] std::io::Error),
    /// The reading task was stopped.
    #[error("reading was stopped")]
    Stopped,
}

/// Reads a spec file and makes it the state in force.
///
/// # Errors
/// [`ReloadError`]; nothing changed then.
pub async fn apply_file(handle: &Handle, path: &Path, sources: &Sources) -> Result<Applied, ReloadError> {
    let (path, reader) = (path.to_owned(), sources.clone());
    let read = tokio::task::spawn_blocking(move || {
        let loaded = load(&path, &reader)?;
        // What this node could not serve is refused before anybody agrees on it.
        Draft::of(&loaded.spec, Revision::default(), &View::default())?;
        let prepared = match &reader.data_dir {
            Some(data_dir) => made::prepare(data_dir, &loaded.made_hashes).map_err(ReloadError::Keep)?,
            None => None,
        };
        Ok::<_, ReloadError>((loaded, prepared))
    });
    let (loaded, prepared) = read.await.map_err(|_| ReloadError::Stopped)??;
    let note = Note { actor: ACTOR.to_owned(), reason: String::new(), at: clock::unix_millis(), idempotency: None };
    let (changes, revision) = apply_spec(handle, &loaded.spec, &note).await?;
    let Loaded { made, mut notes, files, .. } = loaded;
    // The keys are in force now, so their secrets must be shown whatever happens to the file.
    if let Some(Err(error)) = prepared.map(made::Prepared::commit) {
        notes.push(format!("the hashes of made keys cannot be kept, a restart will make them anew: {error}"));
    }
    Ok(Applied { changes, revision, made, notes, files })
}

/// Makes a spec, its secrets open, the one in force. Gives the number of changes it took and the revision.
///
/// # Errors
/// [`ReloadError::Sealed`], [`ReloadError::Refused`] or [`ReloadError::Propose`]; nothing changed then.
pub async fn apply_spec(handle: &Handle, spec: &Spec, note: &Note) -> Result<(usize, Revision), ReloadError> {
    let mut tries = 1;
    loop {
        let state = handle.state();
        let changes = diff(&*handle.open(&state)?, spec);
        let count = changes.len();
        if count == 0 {
            return Ok((0, state.revision()));
        }
        match handle.propose(note.clone(), Command::Change { base: state.revision(), changes }).await? {
            Reply::Applied(revision) | Reply::Repeated(revision) => return Ok((count, revision)),
            Reply::Refused(Refusal::Conflict { .. }) if tries < TRIES => tries += 1,
            Reply::Refused(refusal) => return Err(refusal.into()),
        }
    }
}

/// How reloads went.
#[derive(Debug, Default)]
pub struct ReloadCounters {
    ok: AtomicU64,
    failed: AtomicU64,
    last_error: Mutex<Option<String>>,
}

impl ReloadCounters {
    /// Files applied, the first one not counted.
    pub fn ok(&self) -> u64 {
        self.ok.load(Ordering::Relaxed)
    }

    /// Files refused.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Why the last file was refused; `None` when it was applied.
    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self, error: Option<String>) {
        let counter = if error.is_none() { &self.ok } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }
}

/// Shows a made key to the operator, once. It must not log it.
pub type ShowKey = dyn Fn(&KeyId, &Secret<String>) + Send + Sync;

/// The task that watches a spec file and the files its secrets come from.
pub struct Watch {
    /// What to change.
    pub handle: Handle,
    /// The spec file.
    pub path: PathBuf,
    /// Where its values come from.
    pub sources: Sources,
    /// What to watch, as it was when it was applied: [`Applied::files`].
    pub files: Files,
    /// Reads the file at once when notified, changed or not: for SIGHUP.
    pub trigger: Arc<Notify>,
    /// Where reloads are counted, and the last error is kept.
    pub counters: Arc<ReloadCounters>,
    /// The metrics that show the counts.
    pub metrics: Arc<Metrics>,
    /// Shows made keys.
    pub show: Arc<ShowKey>,
}

impl Watch {
    /// Watches until it is dropped.
    pub async fn run(mut self) {
        let mut before = self.files.clone();
        loop {
            let is_asked = tokio::select! {
                () = self.trigger.notified() => true,
                () = tokio::time::sleep(POLL) => false,
            };
            let seen = self.files.again();
            let is_settled = seen == before;
            before = seen.clone();
            if is_asked || (is_settled && seen != self.files) {
                self.reload(seen).await;
                before = self.files.clone();
            }
        }
    }

    /// `seen` is how the files looked before: one that is refused is not tried again until it looks otherwise.
    async fn reload(&mut self, seen: Files) {
        match apply_file(&self.handle, &self.path, &self.sources).await {
            Ok(applied) => {
                self.counters.count(None);
                self.metrics.reloaded(if applied.changes == 0 { Reload::Unchanged } else { Reload::Applied });
                info!(file = %self.path.display(), changes = applied.changes, revision = applied.revision.0, "spec applied");
                for note in &applied.notes {
                    warn!(file = %self.path.display(), "{note}");
                }
                for (id, secret) in &applied.made {
                    (self.show)(id, secret);
                }
                self.files = applied.files;
            }
            Err(error) => {
                error!(file = %self.path.display(), %error, "spec not applied, what was in force stays");
                self.counters.count(Some(error.to_string()));
                self.metrics.reloaded(Reload::Refused);
                self.files = seen;
            }
        }
    }
}

#[cfg(test)]
mod tests;
