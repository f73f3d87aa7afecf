//! A stream whose provider keeps the client waiting: the commit point by the clock.
//!
//! Until content comes, an error can still become a status of its own. But a client, and every balancer between, takes a
//! connection that says nothing for dead. So after a while the head goes out as 200, keep-alives follow, and whatever
//! becomes of the call is told in-band. It does not matter whether the provider has sent its own head by then.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use tokio::time::sleep;
use troupe_dialect::{Operation, sse};
use troupe_proto::id::RequestId;

use super::attempt::{Opened, Served};
use super::refusal::Refusal;
use super::relay::{KEEP_ALIVE, LAST_WORDS};
use super::visit::Visit;
use super::{Routed, failure, relay};
use crate::ingress::{Broken, Feed, ReplyBody};
use crate::telemetry::record::Outcome;

/// A client that has heard nothing for this long gets its head.
pub(super) const COMMIT_AFTER: Duration = Duration::from_secs(10);

/// What the head of a late stream needs from the call that is still under way, and the other way round.
#[derive(Default)]
pub(super) struct Prelude {
    /// Whether the head has gone out.
    pub(super) is_sent: AtomicBool,
    /// What the request lost in translation, as a header's value.
    pub(super) lost: OnceLock<HeaderValue>,
}

type Done = Result<(Box<Routed>, Opened, Served, Box<Visit>), (Refusal, Box<Visit>)>;
type Work = Pin<Box<dyn Future<Output = Done> + Send>>;

/// Makes a call whose reply is to be a stream.
///
/// # Errors
/// What the client is told instead, if that is known before the head has to go out.
pub(super) async fn open(
    mut routed: Box<Routed>,
    mut visit: Box<Visit>,
) -> Result<Response<ReplyBody>, (Refusal, Box<Visit>)> {
    let (operation, request_id, goes_on) = (routed.call.operation, routed.request_id, routed.goes_on());
    let prelude = Arc::new(Prelude::default());
    visit.has_prelude(prelude.clone());
    let mut work: Work = Box::pin(async move {
        match routed.walk(&mut visit).await {
            Ok((opened, served)) => Ok((routed, opened, served, visit)),
            Err(refusal) => Err((refusal, visit)),
        }
    });
    tokio::select! {
        biased;
        done = &mut work => return done.map(|(routed, opened, served, visit)| routed.finish(opened, served, visit)),
        () = sleep(COMMIT_AFTER) => {}
    }
    prelude.is_sent.store(true, Ordering::Relaxed);
    let mut response = Response::new(ReplyBody::fed(|feed| wait(work, feed, operation, request_id)));
    relay::write_stream_headers(response.headers_mut());
    if goes_on {
        relay::say_it_goes_on(response.headers_mut());
    }
    if let Some(lost) = prelude.lost.get() {
        response.headers_mut().insert(relay::X_TROUPE_LOST, lost.clone());
    }
    Ok(response)
}

/// Keeps the client company until the call has begun or failed, and goes on from there.
async fn wait(mut work: Work, feed: Feed, operation: Operation, request_id: RequestId) -> Result<(), Broken> {
    let done = loop {
        feed.send(Bytes::from_static(sse::keep_alive(operation))).await;
        tokio::select! {
            biased;
            done = &mut work => break done,
            () = sleep(KEEP_ALIVE) => {}
        }
    };
    let (refusal, mut visit) = match done {
        Ok((routed, Opened::Stream { head, source, begun }, served, mut visit)) => {
            visit.answered(StatusCode::OK.as_u16());
            let stream = routed.stream(head, source, begun, served);
            return relay::run(stream, feed, visit).await;
        }
        // A reply that is no stream is an error by then.
        Ok((_, Opened::Whole { .. } | Opened::Large { .. }, _, visit)) => {
            (failure::invalid("a stream was asked for and something else came"), visit)
        }
        Err(told) => told,
    };
    visit.answered(StatusCode::OK.as_u16());
    visit.note(|record| record.error = Some(refusal.code));
    visit.end(Outcome::Failed);
    feed.send(refusal.event(operation, &request_id.to_string(), 0)).await;
    sleep(LAST_WORDS).await;
    Err(Broken)
}
