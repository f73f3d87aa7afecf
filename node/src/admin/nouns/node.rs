//! The node itself: metrics, status, and where calls would go.

use http::StatusCode;
use serde::Serialize;
use serde_json::json;
use troupe_proto::failure::ErrorCode;

use crate::admin::call::Call;
use crate::admin::explain::Question;
use crate::admin::failure::{Code, Failure};
use crate::admin::reply::{self, Reply};
use crate::clock;
use crate::rotation::Then;
use crate::telemetry::metrics;

#[derive(Serialize)]
struct Status<'a> {
    node: &'a str,
    version: &'static str,
    phase: &'static str,
    uptime_seconds: u64,
    revision: u64,
    in_flight: u64,
    models: usize,
    providers: usize,
    keys: usize,
}

pub(in crate::admin) async fn metrics(call: &Call<'_>) -> Result<Reply, Failure> {
    let page = call.state.metrics.render(&(call.state.learned)());
    Ok(reply::body(StatusCode::OK, metrics::CONTENT_TYPE, page))
}

pub(in crate::admin) async fn status(call: &Call<'_>) -> Result<Reply, Failure> {
    let state = call.state;
    let agreed = state.cluster.state();
    let spec = agreed.spec();
    Ok(reply::json(&Status {
        node: &state.node,
        version: env!("CARGO_PKG_VERSION"),
        phase: state.health.phase().as_str(),
        uptime_seconds: state.metrics.uptime_seconds(),
        revision: agreed.revision().0,
        in_flight: state.metrics.in_flight(),
        models: spec.models.len(),
        providers: spec.providers.len(),
        keys: spec.keys.len(),
    }))
}

/// Who this node is, and whether it takes traffic.
fn told(call: &Call<'_>) -> Reply {
    let (state, process) = (call.state, call.state.cluster.process());
    let (_, ready) = state.health.readyz(false);
    reply::json(&json!({
        "name": state.node,
        "node": process.node.to_string(),
        "incarnation": process.incarnation,
        "version": env!("CARGO_PKG_VERSION"),
        "phase": state.health.phase().as_str(),
        "ready": ready.trim_end(),
        "uptime_seconds": state.metrics.uptime_seconds(),
        "time_ms": clock::unix_millis(),
        "in_flight": state.metrics.in_flight(),
        "connections": state.rotation.elders(),
        "drained": state.rotation.is_drained(),
        "problems": state.health.troubles().all(),
    }))
}

pub(in crate::admin) async fn show(call: &Call<'_>) -> Result<Reply, Failure> {
    Ok(told(call))
}

pub(in crate::admin) async fn drain(call: &Call<'_>) -> Result<Reply, Failure> {
    call.state.rotation.leave(if call.flag("stop")? { Then::Stop } else { Then::Stay });
    // Whoever drains a node means to do something to it; the others need not wait until they miss it.
    (call.state.hand_over)().await;
    Ok(told(call))
}

pub(in crate::admin) async fn undrain(call: &Call<'_>) -> Result<Reply, Failure> {
    if call.state.health.is_ending() {
        return Err(Failure::new(Code::Conflict, "this node's process is ending: it comes back when it is started"));
    }
    call.state.rotation.come_back();
    Ok(told(call))
}

pub(in crate::admin) async fn explain(call: &Call<'_>) -> Result<Reply, Failure> {
    let text = |name: &str| match call.query(name) {
        Some("") => Err(Failure::new(ErrorCode::InvalidField, format!("{name:?} is empty"))),
        value => Ok(value.map(str::to_owned)),
    };
    let missing = || Failure::new(ErrorCode::InvalidField, "name a model: ?model=NAME");
    let question = Question { model: text("model")?.ok_or_else(missing)?, key: text("key")?, target: text("target")? };
    match (call.state.explain)(&question) {
        Ok(report) => Ok(reply::json(&report)),
        Err((code, problem)) => Err(Failure::new(code, problem)),
    }
}

pub(in crate::admin) async fn openapi(_: &Call<'_>) -> Result<Reply, Failure> {
    Ok(reply::json(&crate::admin::openapi::document()))
}
