//! The whole spec at once: put in force, or given out.

use std::sync::Arc;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use troupe_proto::command::Change;
use troupe_proto::spec::Spec;

use super::call::{Call, Done, Now, Plan};
use super::delta::{Delta, Op, delta};
use super::failure::{Code, Failure};
use super::reply::{self, Reply};
use super::table::Member;
use crate::config::source::{Node, parse_json};
use crate::config::spec_file::{Hashes, Rest, read_parts, write_spec};

/// The most things of an answer that are told one by one; beyond them, they are counted.
const TOLD_MAX: usize = 1000;

/// What applying a spec came to. Its JSON is a contract: fields are added, never renamed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The revision in force afterwards; before, for a dry run.
    pub revision: u64,
    /// Whether nothing was changed because nothing was to be.
    pub dry_run: bool,
    /// How many things come.
    pub added: usize,
    /// How many are other afterwards.
    pub changed: usize,
    /// How many go.
    pub removed: usize,
    /// What changes, removals first; at most 1,000 of them.
    pub changes: Vec<Delta>,
    /// How many more there are.
    pub untold: usize,
    /// Virtual keys whose secrets were made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub made: Vec<Made>,
    /// What an operator should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A virtual key whose secret was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// The key.
    pub name: String,
    /// Its secret, shown this once; absent in a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// [`Applied`] as the reference describes it.
pub(super) const ANSWER: &[Member] = &[
    Member { name: "revision", takes: "whole", doc: "The revision in force afterwards." },
    Member { name: "dry_run", takes: "yes or no", doc: "Whether nothing was changed because nothing was to be." },
    Member { name: "added", takes: "whole", doc: "How many things come." },
    Member { name: "changed", takes: "whole", doc: "How many are other afterwards." },
    Member { name: "removed", takes: "whole", doc: "How many go." },
    Member {
        name: "changes",
        takes: "list",
        doc: "What changes, at most 1,000 things: `op` (`add`, `change`, `remove`), `kind`, `name`, and for a change its `fields`, each with `field`, `before` and `after`.",
    },
    Member { name: "untold", takes: "whole", doc: "How many more things change." },
    Member {
        name: "made",
        takes: "list",
        doc: "Virtual keys that were given a secret: `name`, and `secret`, shown this once.",
    },
    Member { name: "notes", takes: "list", doc: "What is right, but worth knowing." },
];

/// Whether a spec that declares nothing may take everything away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Emptying {
    /// It is far more often a wrong file than a wish.
    Refused,
    Asked,
}

pub(super) async fn apply(call: &Call<'_>) -> Result<Reply, Failure> {
    let rest = if call.flag("prune")? { Rest::Goes } else { Rest::Stays };
    let emptying = if call.flag("allow_empty")? { Emptying::Asked } else { Emptying::Refused };
    let body = call.body.clone();
    // A hundred thousand keys take a while to read.
    let read = tokio::task::spawn_blocking(move || parse_json("body", if body.is_empty() { b"{}" } else { &body }));
    let root =
        read.await.map_err(|_| Failure::new(troupe_proto::failure::ErrorCode::Internal, "reading was stopped"))??;
    if call.flag("dry_run")? {
        let now = call.agreed().await?;
        let (root, spec) = (root, Arc::clone(&now.spec));
        let planned = tokio::task::spawn_blocking(move || plan(&root, &spec, rest, emptying)).await;
        let stopped = |_| Failure::new(troupe_proto::failure::ErrorCode::Internal, "reading was stopped");
        let mut applied = planned.map_err(stopped)??.with;
        applied.revision = now.revision.0;
        applied.dry_run = true;
        applied.made.iter_mut().for_each(|made| made.secret = None);
        return Ok(reply::json_at(StatusCode::OK, now.revision, &applied));
    }
    let done = call.change(move |now: &Now| plan(&root, &now.spec, rest, emptying)).await?;
    let Done { revision, is_repeated, with: mut applied } = done;
    applied.revision = revision.0;
    if is_repeated {
        applied.made.clear();
    }
    Ok(reply::json_at(StatusCode::OK, revision, &applied))
}

fn plan(root: &Node, spec: &Spec, rest: Rest, emptying: Emptying) -> Result<Plan<Applied>, Failure> {
    let parts = read_parts("body", root, spec, rest)?;
    let says_nothing = parts.providers.is_empty() && parts.models.is_empty() && parts.keys.is_empty();
    let held = spec.providers.len() + spec.models.len() + spec.keys.len();
    if rest == Rest::Goes && emptying == Emptying::Refused && says_nothing && held > 0 {
        let detail = format!(
            "the spec has no provider, model or key, so all {held} in force would be taken away: to do that on purpose, \
             say allow_empty=true (troupe apply --prune --allow-empty)"
        );
        return Err(Failure::new(Code::WouldEmpty, detail));
    }
    let changes = parts.changes(spec, rest);
    let made =
        parts.made.iter().map(|(id, secret)| Made { name: id.to_string(), secret: Some(secret.expose().clone()) });
    let applied = Applied { made: made.collect(), notes: parts.notes, ..told(&changes, spec) };
    // A spec is always in force, be it an empty one.
    Ok(Plan { changes, was_there: true, with: applied })
}

/// What changes do to a spec.
pub(super) fn told(changes: &[Change], spec: &Spec) -> Applied {
    let mut deltas: Vec<Delta> = changes.iter().map(|change| delta(change, spec)).collect();
    let count = |op| deltas.iter().filter(|delta| delta.op == op).count();
    let (added, changed, removed) = (count(Op::Add), count(Op::Change), count(Op::Remove));
    // What goes is what an operator must not miss.
    deltas.sort_by_key(|delta| match delta.op {
        Op::Remove => 0,
        Op::Change => 1,
        Op::Add => 2,
    });
    let untold = deltas.len().saturating_sub(TOLD_MAX);
    deltas.truncate(TOLD_MAX);
    Applied {
        revision: 0,
        dry_run: false,
        added,
        changed,
        removed,
        changes: deltas,
        untold,
        made: Vec::new(),
        notes: Vec::new(),
    }
}

pub(super) async fn export(call: &Call<'_>) -> Result<Reply, Failure> {
    let hashes = if call.flag("hashes")? { Hashes::Written } else { Hashes::Omitted };
    let now = call.agreed().await?;
    Ok(reply::json_at(StatusCode::OK, now.revision, &write_spec(&now.spec, hashes)))
}
