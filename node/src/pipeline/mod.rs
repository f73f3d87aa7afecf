//! One request's straight line, one file a stage.
//!
//! ```text
//! identify -> decode -> admit -> route -> attempt -> relay          any error -> refusal
//!                                  `- walk -'  (late) `-> visit: one record, however it ends
//! ```
//! The key comes before the body: nobody fills this node's memory without one.

mod admit;
mod attempt;
mod controls;
mod decode;
mod explain;
mod failure;
mod identify;
mod late;
mod models;
mod pick;
mod prepare;
mod refusal;
mod relay;
mod resume;
mod route;
mod source;
mod visit;
mod walk;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::response::Parts;
use http::{HeaderMap, HeaderName, Response};
use hyper::body::Incoming;
use troupe_dialect::Operation;
use troupe_dialect::resume::Heard;
use troupe_proto::failure::{ErrorCode, Fault};
use troupe_proto::id::RequestId;

pub(crate) use explain::explain;
pub(crate) use models::models;
pub(crate) use refusal::Refusal;
pub(crate) use visit::Visit;

use crate::agreement::LookedAgain;
use crate::clock;
use crate::ingress::ReplyBody;
use crate::telemetry::record::client_text;
use crate::telemetry::trace::TraceParent;
use crate::view::{Key, Pool, View};
use attempt::{Opened, Served};
use controls::Controls;
use decode::Call;
use resume::Resume;
use route::Plan;
use source::{Batch, Source};

/// A call as it came in.
pub(crate) struct Inbound {
    pub(crate) operation: Operation,
    pub(crate) headers: HeaderMap,
    pub(crate) query: Option<String>,
    pub(crate) body: Incoming,
    pub(crate) trace: TraceParent,
    pub(crate) request_id: RequestId,
}

/// A refused client may try again after this.
const OVERLOADED_FOR: Duration = Duration::from_secs(1);
/// And one whose node is out of touch after this: by then a balancer has found another.
const STALE_FOR: Duration = Duration::from_secs(2);

/// Serves a call.
///
/// # Errors
/// What the client is told instead; the visit comes back with it, to be ended with the answer.
pub(crate) async fn run(inbound: Inbound, mut visit: Box<Visit>) -> Result<Response<ReplyBody>, (Refusal, Box<Visit>)> {
    let mut routed = match routed(inbound, &mut visit).await {
        Ok(routed) => routed,
        Err(refusal) => return Err((refusal, visit)),
    };
    if routed.call.peeked.stream && prepare::streams(routed.call.operation) {
        return late::open(routed, visit).await;
    }
    match routed.walk(&mut visit).await {
        Ok((opened, served)) => Ok(routed.finish(opened, served, visit)),
        Err(refusal) => Err((refusal, visit)),
    }
}

/// A call that knows where it can go, and how long it may take.
struct Routed {
    call: Arc<Call>,
    /// What its client has read already of a stream that broke.
    heard: Option<Heard>,
    headers: HeaderMap,
    query: Option<String>,
    trace: TraceParent,
    plan: Plan,
    /// When the whole call has to be over.
    total: Instant,
    /// The longest silence its client bears.
    patience: Duration,
    request_id: RequestId,
}

impl Routed {
    /// Whether a stream of this call may go on elsewhere when it breaks.
    fn goes_on(&self) -> bool {
        self.plan.pool().continues && resume::is_resumable(self.call.operation)
    }

    /// Hands on what the target answered.
    fn finish(self: Box<Self>, opened: Opened, served: Served, visit: Box<Visit>) -> Response<ReplyBody> {
        match opened {
            Opened::Whole { head, body, facts } => relay::whole(&head, body, facts, &served, visit),
            Opened::Large { head, read, rest } => relay::large(&head, read, rest, &served, visit),
            Opened::Stream { head, source, begun } => relay::stream(self.stream(head, source, begun, served), visit),
        }
    }

    /// What is known of a stream that has begun.
    fn stream(self: Box<Self>, head: Parts, source: Box<Source>, begun: Batch, served: Served) -> relay::Stream {
        let operation = self.call.operation;
        let request_id = self.request_id.to_string();
        let resume = self.goes_on().then(|| Box::new(Resume::new(self)));
        relay::Stream { operation, head, source, begun, served, request_id, resume }
    }
}

async fn routed(inbound: Inbound, visit: &mut Visit) -> Result<Box<Routed>, Refusal> {
    let Inbound { operation, headers, query, body, trace, request_id } = inbound;
    let thread = visit.thread.clone();
    let house = &thread.house;
    let (view, key) = match enter(&headers, visit).await {
        Ok(entered) => entered,
        Err(refusal) => {
            turn_away(body, &headers, visit).await;
            return Err(refusal);
        }
    };
    let call = decode::decode(operation, &headers, body, &house.limits).await?;
    visit.note(|record| {
        record.bytes_in = u64::try_from(call.body.len()).unwrap_or(u64::MAX);
        record.stream = call.peeked.stream;
        record.model_asked = Some(client_text(&call.peeked.model));
    });
    if let Some(on_call) = &house.seams.on_call {
        on_call(&call.peeked.model);
    }
    let pool = admit::admit(&view, &key, &call.peeked.model)?;
    visit.note(|record| record.model = Some(pool.id.clone()));
    let controls = Controls::read(&headers, &key)?;
    pool.cell.called(thread.lane);
    let (total, patience) = bounds(&pool, controls.deadline, patience(&headers), call.peeked.stream, visit.began());
    let prefix = pool.is_sticky.then(|| pick::prefix(&call.body)).flatten();
    let plan = Plan::new(view, key, pool, &call.peeked.model, controls, prefix)?;
    let call = Arc::new(call);
    Ok(Box::new(Routed { call, heard: None, headers, query, trace, plan, total, patience, request_id }))
}

/// When a call has to be over, and the longest silence in it: as the spec says, and no longer than its client is going to
/// wait.
fn bounds(
    pool: &Pool,
    deadline: Option<Duration>,
    patience: Option<Duration>,
    is_stream: bool,
    began: Instant,
) -> (Instant, Duration) {
    let mut total = pool.total;
    let mut silence = Duration::MAX;
    if let Some(patience) = patience {
        // It bounds one read of the client's: all of a whole reply, but only the silence before a stream.
        silence = patience;
        if !is_stream {
            total = total.min(patience);
        }
    }
    total = deadline.map_or(total, |deadline| total.min(deadline));
    (began.checked_add(total).unwrap_or(began), silence)
}

fn room(visit: &Visit) -> Result<(), Refusal> {
    if visit.has_place() {
        return Ok(());
    }
    Err(Refusal::new(ErrorCode::Overloaded, "this gateway node has as many requests as it may").after(OVERLOADED_FOR))
}

/// Lets a client that is not served say all it has to say, for as long as that is no burden: it takes nobody's place.
pub(crate) async fn turn_away(body: Incoming, headers: &HeaderMap, visit: &mut Visit) {
    visit.give_way();
    decode::discard(body, headers, &visit.thread.house.limits).await;
}

/// Identifies the caller by what all agreed on, and notes who it is even if it may not enter.
pub(crate) async fn enter(headers: &HeaderMap, visit: &mut Visit) -> Result<(Arc<View>, Arc<Key>), Refusal> {
    room(visit)?;
    let thread = visit.thread.clone();
    let house = &thread.house;
    let stale = |message: &str| Refusal::new(ErrorCode::Stale, message).after(STALE_FOR);
    if !house.agreement.freshness().is_fresh(visit.began()) {
        return Err(stale("this gateway node has had no word from the others for too long"));
    }
    let mut view = house.view.read();
    let mut identified = identify::identify(&view, headers, clock::unix_seconds());
    if matches!(&identified, Err(refusal) if refusal.code == ErrorCode::KeyUnknown) {
        // It may have been made at another node a moment ago. Boxed, because hardly any call comes here.
        match Box::pin(house.agreement.look_again()).await {
            LookedAgain::Alone => {}
            LookedAgain::Seen => {
                view = house.view.read();
                identified = identify::identify(&view, headers, clock::unix_seconds());
            }
            // A valid key is not called unknown because of our own trouble (KEY-2).
            LookedAgain::Unseen => return Err(stale("this gateway node could not ask the others about the API key")),
        }
    }
    let key = identified?;
    visit.note(|record| record.key = Some(key.id.clone()));
    Ok((view, key))
}

/// How long the client itself is going to wait, where its SDK says so (in seconds).
fn patience(headers: &HeaderMap) -> Option<Duration> {
    const READ_TIMEOUT: HeaderName = HeaderName::from_static("x-stainless-read-timeout");
    const TIMEOUT: HeaderName = HeaderName::from_static("x-stainless-timeout");
    let said = headers.get(READ_TIMEOUT).or_else(|| headers.get(TIMEOUT))?;
    let seconds: f64 = said.to_str().ok()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok().filter(|patience| !patience.is_zero())
}

/// Work that is too long for a data thread, done elsewhere.
///
/// # Errors
/// `internal` when the work panicked.
async fn offload<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Refusal::new(ErrorCode::Internal, "a fault of the gateway").with_fault(Fault::Ours))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::footprint::{assert_within, future_bytes};
    use crate::upstream::{Client, Endpoint};

    #[test]
    fn a_request_that_waits_for_its_target_is_no_larger_than_it_was_made() {
        type V = &'static mut Visit;
        type Attempt =
            (&'static Call, prepare::Prepared, &'static Served, &'static Arc<Client>, &'static visit::Progress);
        type Send = (
            &'static Arc<Client>,
            &'static troupe_proto::id::ProviderId,
            &'static Arc<Endpoint>,
            Box<http::Request<http_body_util::Full<bytes::Bytes>>>,
            Duration,
        );
        let routed_bytes = future_bytes(&|(inbound, visit): (Inbound, V)| routed(inbound, visit));
        let decode_bytes =
            future_bytes(&|(operation, headers, body, limits): (_, &'static HeaderMap, _, &'static _)| {
                decode::decode(operation, headers, body, limits)
            });
        let walk_bytes = future_bytes(&|(routed, visit): (&'static mut Routed, V)| routed.walk(visit));
        let attempt_bytes = future_bytes(&|(call, prepared, served, client, progress): Attempt| {
            attempt::attempt(call, prepared, served, client, progress)
        });
        let send_bytes = future_bytes(&|(client, provider, endpoint, request, limit): Send| {
            client.send(provider, endpoint, request, limit)
        });

        assert_within(&[
            ("a visit", size_of::<Visit>(), 950),
            ("a routed call", size_of::<Routed>(), 600),
            ("what a target answered", size_of::<Opened>(), 380),
            ("a refusal", size_of::<Refusal>(), 132),
            ("the whole", future_bytes(&|(inbound, visit)| run(inbound, visit)), 4400),
            ("reading and routing", routed_bytes, 1480),
            ("reading", decode_bytes, 800),
            ("a stream's head in time", future_bytes(&|(routed, visit)| late::open(routed, visit)), 230),
            ("all attempts", walk_bytes, 4100),
            ("an attempt", attempt_bytes, 1710),
            ("sending", send_bytes, 840),
        ]);
    }
}
