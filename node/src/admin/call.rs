//! One call of the API on its way to an answer: what it names, what it brings, and how it changes what is agreed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tokio::time::timeout;
use troupe_cluster::consensus::{ReadError, Role};
use troupe_cluster::{ProposeError, State};
use troupe_proto::command::{Change, Command, Note, Refusal, Reply as Applied};
use troupe_proto::failure::ErrorCode;
use troupe_proto::id::Revision;
use troupe_proto::spec::Spec;

use super::AdminState;
use super::asker::Asker;
use super::condition::{Condition, changed};
use super::failure::{Code, Failure};
use super::nouns::features::{Standing, too_new};
use crate::clock;
use crate::troubles::Trouble;

/// Why the caller asks for a change; kept in the audit.
pub(crate) const REASON: HeaderName = HeaderName::from_static("x-troupe-reason");
/// Names one change: asked for again under the same name, it takes effect once.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The longest reason.
const REASON_BYTES: usize = 1024;
/// How long a change is computed anew because others were faster.
const CHANGE_MAX: Duration = Duration::from_secs(5);
/// Items of a page unless the caller says how many.
const PAGE: usize = 100;
/// The most items of a page.
const PAGE_MAX: usize = 1000;

/// One call, authorized.
pub(super) struct Call<'a> {
    /// What it is answered from.
    pub(super) state: &'a AdminState,
    /// Who asks.
    pub(super) asker: &'a Asker,
    /// What stands at each `{...}` of the path.
    pub(super) names: Vec<String>,
    /// What stands behind the `?`: only what the route knows.
    pub(super) query: BTreeMap<String, String>,
    /// Its headers.
    pub(super) headers: &'a HeaderMap,
    /// `POST /admin/v1/keys`.
    pub(super) what: String,
    /// Its body.
    pub(super) body: Bytes,
}

/// The agreed spec at one revision.
#[derive(Clone)]
pub(super) struct Agreed {
    pub(super) revision: Revision,
    pub(super) spec: Arc<Spec>,
    /// All of the state that the spec is of.
    pub(super) state: Arc<State>,
}

/// What a change is worked out from.
pub(super) struct Now {
    pub(super) spec: Arc<Spec>,
    /// All of the state that the spec is of.
    pub(super) state: Arc<State>,
    /// The same call was answered before: whatever it changed is in force already.
    pub(super) is_repeated: bool,
}

/// What is to change, and what the answer needs to know about it.
pub(super) struct Plan<T> {
    pub(super) changes: Vec<Change>,
    /// Whether what the call names is there before the change: what `If-Match: *` and `If-None-Match: *` ask about.
    pub(super) was_there: bool,
    pub(super) with: T,
}

/// A plan that is in force.
pub(super) struct Done<T> {
    pub(super) revision: Revision,
    /// Whether it was in force already, by an earlier call with the same `Idempotency-Key`.
    pub(super) is_repeated: bool,
    pub(super) with: T,
}

impl Call<'_> {
    /// What the path names.
    pub(super) fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// A value behind the `?`.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// Whether `?name`, `?name=1` or `?name=true` stands there.
    ///
    /// # Errors
    /// It is neither yes nor no.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Failure> {
        match self.query(name) {
            None | Some("false" | "0") => Ok(false),
            Some("" | "true" | "1") => Ok(true),
            Some(_) => Err(Failure::new(ErrorCode::InvalidField, format!("{name:?} is true or false"))),
        }
    }

    /// A number behind the `?`.
    ///
    /// # Errors
    /// It is no number.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Failure> {
        let wrong = |_| Failure::new(ErrorCode::InvalidField, format!("{name:?} is a whole number"));
        self.query(name).map(str::parse).transpose().map_err(wrong)
    }

    /// How many items a page has.
    ///
    /// # Errors
    /// The number is none, or out of range.
    pub(super) fn limit(&self) -> Result<usize, Failure> {
        let limit = self.number("limit")?.map_or(PAGE, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        if (1..=PAGE_MAX).contains(&limit) {
            return Ok(limit);
        }
        Err(Failure::new(ErrorCode::InvalidField, format!("\"limit\" is from 1 to {PAGE_MAX}")))
    }

    /// The body as a document of one's own; an empty one reads as `{}`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let body: &[u8] = if self.body.is_empty() { b"{}" } else { &self.body };
        serde_json::from_slice(body).map_err(|error| Failure::new(ErrorCode::InvalidField, format!("body: {error}")))
    }

    /// The spec in force, and nothing older than what was in force anywhere when the call came. With `?stale` it is what
    /// this node holds, whether it hears from the others or not.
    ///
    /// # Errors
    /// There is no leader to ask.
    pub(super) async fn agreed(&self) -> Result<Agreed, Failure> {
        let handle = &self.state.cluster;
        if !self.flag("stale")? {
            self.synchronised().await?;
        }
        let state = handle.state();
        let spec = handle.open(&state).map_err(|error| Failure::new(Code::Unsealed, error.to_string()))?;
        Ok(Agreed { revision: state.revision(), spec, state })
    }

    /// Waits until this node holds everything that was acknowledged anywhere before.
    ///
    /// # Errors
    /// There is no leader to ask.
    pub(super) async fn synchronised(&self) -> Result<(), Failure> {
        self.state.cluster.read_index().await.map_err(|error| self.unconfirmed(error))
    }

    /// Nobody said whether this node holds all there is.
    fn unconfirmed(&self, error: ReadError) -> Failure {
        let code = match error {
            ReadError::Stopped => Code::ConsensusStopped,
            ReadError::NoLeader => Code::NoLeader,
        };
        let why = match self.state.cluster.vitals().role {
            // It goes on believing so until somebody tells it otherwise.
            Role::Leader => "this node believes that it leads, and no quorum confirms it".to_owned(),
            Role::Follower | Role::Candidate | Role::Learner | Role::Stopped => error.to_string(),
        };
        let then = match self.what.starts_with("GET ") {
            true => "what is in force is not known here; ?stale shows what this node holds",
            false => "nothing was changed; try again, or ask another node",
        };
        Failure::new(code, format!("{why}: {then}"))
    }

    /// Refuses conditions: what the call does depends on more than a revision or a name.
    ///
    /// # Errors
    /// There is one.
    pub(super) fn check_unconditional(&self) -> Result<(), Failure> {
        if Condition::read(self.headers)?.is_empty() {
            return Ok(());
        }
        Err(Failure::new(ErrorCode::InvalidField, "If-Match and If-None-Match mean nothing here: leave them out"))
    }

    /// What the audit keeps of this call.
    pub(super) fn note(&self) -> Result<Note, Failure> {
        let text = |name: &HeaderName| self.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let reason = text(&REASON).unwrap_or_default().into_owned();
        if reason.len() > REASON_BYTES {
            return Err(Failure::new(ErrorCode::InvalidField, format!("{REASON} has at most {REASON_BYTES} bytes")));
        }
        // A node's own token is another name at each node; a call that is tried again at the next one is the same call.
        let asker = self.asker.name.split_once(':').map_or(self.asker.name.as_str(), |(kind, _)| kind);
        let named = text(&IDEMPOTENCY_KEY);
        if named.as_ref().is_some_and(|key| key.trim().is_empty()) {
            let detail = "Idempotency-Key is empty: give each change a name of its own, or leave it out";
            return Err(Failure::new(ErrorCode::InvalidField, detail));
        }
        let idempotency = named.map(|key| {
            let mut hash = Sha256::new();
            for part in [asker.as_bytes(), self.what.as_bytes(), key.as_bytes(), &self.body] {
                hash.update(part.len().to_le_bytes());
                hash.update(part);
            }
            hash.finalize().into()
        });
        Ok(Note { actor: self.asker.name.clone(), reason, at: clock::unix_millis(), idempotency })
    }

    /// Refuses on a node that follows a file.
    pub(super) fn check_writable(&self) -> Result<(), Failure> {
        if let Some(why) = self.state.health.troubles().get(Trouble::Stopped) {
            return Err(Failure::new(Code::ConsensusStopped, format!("nothing was changed, ask another node: {why}")));
        }
        let Some(file) = &self.state.follows else { return Ok(()) };
        Err(Failure::new(Code::ReadOnly, format!("this node follows the spec file {}: change that", file.display())))
    }

    /// Changes what is agreed: `plan` says how, given what is in force, and is asked again when somebody else was
    /// faster, unless the caller named the revision. It runs where it may block.
    ///
    /// # Errors
    /// Those of `plan`; the state's refusal; no leader; no answer in time.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        plan: impl Fn(&Now) -> Result<Plan<T>, Failure> + Send + Sync + 'static,
    ) -> Result<Done<T>, Failure> {
        self.change_for("", plan).await
    }

    /// The same for a reason of the call's own, which stands before the asker's in the audit.
    ///
    /// # Errors
    /// As [`Self::change`].
    pub(super) async fn change_for<T: Send + 'static>(
        &self,
        own: &str,
        plan: impl Fn(&Now) -> Result<Plan<T>, Failure> + Send + Sync + 'static,
    ) -> Result<Done<T>, Failure> {
        self.check_writable()?;
        let condition = Condition::read(self.headers)?;
        let mut note = self.note()?;
        if !own.is_empty() {
            let separator = if note.reason.is_empty() { "" } else { ": " };
            note.reason = format!("{own}{separator}{}", note.reason);
        }
        let plan = Arc::new(plan);
        let give_up = clock::now() + CHANGE_MAX;
        // One at a time: changes that are worked out side by side are all of the same revision, and all but one of them
        // are refused, each at the price of an entry. Whoever waits for too long tries its luck.
        let _turn = timeout(CHANGE_MAX / 2, self.state.turn.lock()).await;
        loop {
            let Agreed { revision, spec, state } = self.agreed().await?;
            let repeated = note.idempotency.and_then(|key| state.repeated(&key));
            let is_repeated = repeated.is_some();
            if !is_repeated {
                condition.check_revision(revision)?;
            }
            let work = Arc::clone(&plan);
            let now = Now { spec, state: Arc::clone(&state), is_repeated };
            let made = tokio::task::spawn_blocking(move || work(&now)).await;
            let Plan { changes, was_there, with } =
                made.map_err(|_| Failure::new(ErrorCode::Internal, "the change could not be worked out"))??;
            if let Some(revision) = repeated {
                return Ok(Done { revision, is_repeated, with });
            }
            // Behind the refusals of the plan: a condition counts only where the call would be carried out without it.
            condition.check_there(was_there)?;
            if changes.is_empty() {
                return Ok(Done { revision, is_repeated, with });
            }
            match self.propose(&note, Command::Change { base: revision, changes }).await? {
                // Looked at again, what is in force tells what to answer.
                Applied::Repeated(_) if clock::now() < give_up => {}
                Applied::Repeated(revision) => return Ok(Done { revision, is_repeated: true, with }),
                Applied::Applied(revision) => {
                    return Ok(Done { revision, is_repeated: false, with });
                }
                Applied::Refused(Refusal::Conflict { current, .. }) => match condition.revision {
                    Some(expected) => return Err(changed(expected, current)),
                    None if clock::now() >= give_up => {
                        let detail = "others change the state faster than this change can be made: try again";
                        return Err(Failure::new(Code::Conflict, detail));
                    }
                    None => {}
                },
                Applied::Refused(refusal) => return Err(self.refused(&refusal)),
            }
        }
    }

    /// What a caller reads of a refusal. Of one by a version it reads who is behind: that is where there is something to do.
    fn refused(&self, refusal: &Refusal) -> Failure {
        let detail = match refusal {
            Refusal::TooNew { needs, version } => {
                let handle = &self.state.cluster;
                too_new(*needs, *version, &Standing::of(&handle.state(), &handle.vitals()))
            }
            other => other.to_string(),
        };
        Failure::new(Code::Conflict, detail)
    }

    /// Whether the same call was answered before.
    ///
    /// # Errors
    /// Its headers cannot be read.
    pub(super) fn is_repeated(&self) -> Result<bool, Failure> {
        let note = self.note()?;
        Ok(note.idempotency.is_some_and(|key| self.state.cluster.state().repeated(&key).is_some()))
    }

    /// Has one command applied that does not change the spec, on something that was there before or was not. Gives the
    /// revision, and whether it was applied before.
    ///
    /// # Errors
    /// A condition that does not hold; the state's refusal; no leader; no answer in time.
    pub(super) async fn command(&self, command: Command, was_there: bool) -> Result<(Revision, bool), Failure> {
        self.check_writable()?;
        let condition = Condition::read(self.headers)?.without_revision()?;
        if !self.is_repeated()? {
            condition.check_there(was_there)?;
        }
        match self.propose(&self.note()?, command).await? {
            Applied::Applied(revision) => Ok((revision, false)),
            Applied::Repeated(revision) => Ok((revision, true)),
            Applied::Refused(refusal) => Err(self.refused(&refusal)),
        }
    }

    /// Has one command applied.
    ///
    /// # Errors
    /// It was not, or nobody knows.
    pub(super) async fn propose(&self, note: &Note, command: Command) -> Result<Applied, Failure> {
        self.state.cluster.propose(note.clone(), command).await.map_err(|error| {
            let (code, detail) = match error {
                ProposeError::Unencodable(_) | ProposeError::Unreadable(_) => {
                    (ErrorCode::BodyTooLarge.into(), format!("{error}: {}", cause(&error)))
                }
                ProposeError::Unsealed => (Code::Unsealed, error.to_string()),
                ProposeError::NoLeader => {
                    (Code::NoLeader, "no leader can be reached from here: nothing was changed".to_owned())
                }
                ProposeError::Unknown | ProposeError::Stopped => {
                    (Code::OutcomeUnknown, "no answer in time: whether the change is made is not known".to_owned())
                }
            };
            Failure::new(code, detail)
        })
    }
}

fn cause(error: &dyn std::error::Error) -> String {
    error.source().map(ToString::to_string).unwrap_or_default()
}
