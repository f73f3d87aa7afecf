//! Who changed what, and why.

use http::StatusCode;
use serde_json::{Value, json};
use troupe_cluster::audit::{Hole, Point, Told};
use troupe_proto::failure::ErrorCode;

use super::hex;
use crate::admin::call::Call;
use crate::admin::failure::Failure;
use crate::admin::reply::{self, Reply};

/// A place in the log, or a time.
fn point(call: &Call<'_>, name: &str) -> Result<Option<Point>, Failure> {
    let Some(text) = call.query(name) else { return Ok(None) };
    if let Ok(index) = text.parse() {
        return Ok(Some(Point::Index(index)));
    }
    let time: Result<jiff::Timestamp, _> = text.parse();
    let wrong = |_| {
        let detail = format!("{name:?} is the index of an entry, or a time such as 2027-01-01T00:00:00Z");
        Failure::new(ErrorCode::InvalidField, detail)
    };
    time.map(|time| Some(Point::At(time.as_millisecond()))).map_err(wrong)
}

pub(in crate::admin) async fn list(call: &Call<'_>) -> Result<Reply, Failure> {
    let (from, to, limit) = (point(call, "from")?, point(call, "to")?, call.limit()?);
    if !call.flag("stale")? {
        call.synchronised().await?;
    }
    let revision = call.state.cluster.state().revision();
    let told = call.state.cluster.audit(from, to, limit).await;
    let Told { lines, holes } = told.map_err(|error| Failure::new(ErrorCode::Internal, error.to_string()))?;
    let next = lines.last().filter(|_| from.is_some() && lines.len() == limit).map(|line| line.index.saturating_add(1));
    let items: Vec<Value> = lines
        .iter()
        .map(|line| {
            let mut item: Value = serde_json::from_str(&line.body).unwrap_or_else(|_| json!({ "index": line.index }));
            item["hash"] = hex(&line.hash).into();
            item
        })
        .collect();
    let mut page = json!({ "revision": revision.0, "items": items, "gaps": holes.iter().map(gap).collect::<Vec<_>>() });
    if let Some(next) = next {
        page["next"] = next.to_string().into();
    }
    Ok(reply::json_at(StatusCode::OK, revision, &page))
}

/// What this node does not have.
fn gap(hole: &Hole) -> Value {
    match hole.after {
        Some(after) => json!({ "after": after, "before": hole.before }),
        None => json!({ "before": hole.before }),
    }
}
