//! What was in force at an earlier entry: shown, compared, and put in force again as one change.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use troupe_cluster::state::past::past;
use troupe_cluster::{Handle, State};
use troupe_proto::command::Change;
use troupe_proto::failure::ErrorCode;
use troupe_proto::spec::Spec;

use super::apply::{Applied, told};
use super::call::{Agreed, Call, Done, Now, Plan};
use super::failure::{Code, Failure};
use super::reply::{self, Reply};
use super::table::Member;
use crate::config::spec_file::{Hashes, Lost, Restored, changes_between, restore, write_spec};

/// What was in force at an entry. Its JSON is a contract: fields are added, never renamed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Was {
    /// The entry.
    pub index: u64,
    /// The spec behind it, as `export` gives one.
    pub spec: Value,
    /// What of it cannot be told.
    pub notes: Vec<String>,
}

/// What changed between two entries. Its JSON is a contract: fields are added, never renamed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// The earlier entry, as it was named.
    pub from: u64,
    /// The later one.
    pub to: u64,
    /// What changed.
    #[serde(flatten)]
    pub applied: Applied,
}

/// [`Was`] as the reference describes it.
pub(super) const WAS: &[Member] = &[
    Member { name: "index", takes: "whole", doc: "The entry." },
    Member { name: "spec", takes: "object", doc: "The spec behind it, as `export` gives one." },
    Member { name: "notes", takes: "list", doc: "Which secrets of that time are not those in force." },
];

/// What was in force at an entry, given what is in force.
fn was(handle: &Handle, state: &State, spec: &Spec, index: u64, lost: Lost) -> Result<Restored, Failure> {
    let newest = handle.vitals().applied.max(state.audit().lines().next_back().map_or(0, |line| line.index));
    if index > newest {
        let detail = format!("there is no entry {index} yet: the newest is {newest}");
        return Err(Failure::new(Code::AuditTooShort, detail));
    }
    let internal = |error: troupe_cluster::audit::AuditError| Failure::new(ErrorCode::Internal, error.to_string());
    let history = handle.history(state, index).map_err(internal)?;
    let past = past(state.spec(), &history.lines, history.is_whole, index)
        .map_err(|error| Failure::new(Code::AuditTooShort, error.to_string()))?;
    let unreadable = |error: crate::config::ConfigError| {
        let detail = format!("what was in force at entry {index} cannot be put together: {error}");
        Failure::new(Code::Conflict, detail)
    };
    restore(spec, &past, lost).map_err(unreadable)
}

fn required(call: &Call<'_>, name: &str) -> Result<u64, Failure> {
    let missing = || Failure::new(ErrorCode::InvalidField, format!("{name:?} is missing: the index of an entry"));
    call.number(name)?.ok_or_else(missing)
}

/// Runs what reads files and makes specs where it may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    let stopped = |_| Failure::new(ErrorCode::Internal, "reading was stopped");
    tokio::task::spawn_blocking(work).await.map_err(stopped)?
}

pub(super) async fn as_of(call: &Call<'_>) -> Result<Reply, Failure> {
    let index = required(call, "index")?;
    let Agreed { revision, spec, state } = call.agreed().await?;
    let handle = call.state.cluster.clone();
    let was = blocking(move || {
        let Restored { spec, gone: _, notes } = was(&handle, &state, &spec, index, Lost::MarkIsPut)?;
        Ok(Was { index, spec: write_spec(&spec, Hashes::Omitted), notes })
    });
    Ok(reply::json_at(StatusCode::OK, revision, &was.await?))
}

pub(super) async fn diff(call: &Call<'_>) -> Result<Reply, Failure> {
    let (from, to) = (required(call, "from")?, call.number("to")?);
    let Agreed { revision, spec, state } = call.agreed().await?;
    let handle = call.state.cluster.clone();
    let compared = blocking(move || {
        let newest = handle.vitals().applied;
        let before = was(&handle, &state, &spec, from, Lost::MarkIsPut)?.spec;
        let after = match to {
            Some(to) => was(&handle, &state, &spec, to, Lost::MarkIsPut)?.spec,
            None => Spec::clone(&spec),
        };
        let applied =
            Applied { revision: revision.0, dry_run: true, ..told(&changes_between(&before, &after), &before) };
        Ok(Compared { from, to: to.unwrap_or(newest), applied })
    });
    Ok(reply::json_at(StatusCode::OK, revision, &compared.await?))
}

/// Whether what cannot be restored may stay as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gone {
    Refused,
    Left,
}

pub(super) async fn rollback(call: &Call<'_>) -> Result<Reply, Failure> {
    let to = required(call, "to")?;
    let gone = if call.flag("leave_gone")? { Gone::Left } else { Gone::Refused };
    let handle = call.state.cluster.clone();
    if call.flag("dry_run")? {
        let Agreed { revision, spec, state } = call.agreed().await?;
        let planned = blocking(move || plan(&handle, &Now { spec, state, is_repeated: false }, to, gone)).await?;
        let applied = Applied { revision: revision.0, dry_run: true, ..planned.with };
        return Ok(reply::json_at(StatusCode::OK, revision, &applied));
    }
    let done =
        call.change_for(&format!("rollback to entry {to}"), move |now: &Now| plan(&handle, now, to, gone)).await?;
    let Done { revision, is_repeated: _, with } = done;
    Ok(reply::json_at(StatusCode::OK, revision, &Applied { revision: revision.0, ..with }))
}

fn plan(handle: &Handle, now: &Now, to: u64, gone: Gone) -> Result<Plan<Applied>, Failure> {
    let spec = &*now.spec;
    if now.is_repeated {
        // It was made by an earlier call: whatever came after it is not its business.
        return Ok(Plan { changes: Vec::new(), was_there: true, with: told(&[], spec) });
    }
    let Restored { spec: then, gone: lost, mut notes } = was(handle, &now.state, spec, to, Lost::PresentStays)?;
    if !lost.is_empty() && gone == Gone::Refused {
        return Err(refused(&lost, to));
    }
    notes.extend(lost.iter().map(|what| format!("{what}: its secret is gone: it stays as it is now")));
    let changes = changes_between(spec, &then);
    notes.extend(changes.iter().filter_map(lost_with));
    let with = Applied { notes, ..told(&changes, spec) };
    Ok(Plan { changes, was_there: true, with })
}

/// What a change takes away for good.
fn lost_with(change: &Change) -> Option<String> {
    let what = match change {
        Change::RemoveKey(id) => format!("key {id}"),
        Change::RemoveProvider(id) => format!("provider {id}"),
        Change::PutProvider(..)
        | Change::PutModel(..)
        | Change::RemoveModel(_)
        | Change::PutKey(..)
        | Change::PutDefaults(_)
        | Change::PutPolicies(_)
        | Change::SwitchProvider(..) => return None,
    };
    Some(format!(
        "{what}: it was made since and is taken away; its secret goes with it, and no rollback brings that back"
    ))
}

/// The most things that a refusal names.
const NAMED_MAX: usize = 100;

fn refused(lost: &[String], to: u64) -> Failure {
    let (first, count) = (lost.first().map_or("", String::as_str), lost.len());
    let more = if count > 1 { format!(" (and {} more)", count - 1) } else { String::new() };
    let detail = format!(
        "entry {to} cannot be gone back to as a whole: the secret of {first}{more} is gone. Put it in force again first, or \
         leave what has lost its secret as it is now: leave_gone=true (troupe rollback --leave-gone)"
    );
    let way_out =
        "its secret is gone: put it in force again first, or leave it as it is now (leave_gone, --leave-gone)";
    let problems = lost.iter().take(NAMED_MAX).map(|what| (what.clone(), way_out.to_owned())).collect();
    Failure { code: Code::SecretGone, detail, problems }
}
