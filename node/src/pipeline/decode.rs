//! Reads a request's body within its bounds, and peeks at what the gateway must know of it.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use troupe_dialect::Operation;
use troupe_dialect::peek::{Peeked, peek};
use troupe_proto::failure::ErrorCode;
use troupe_proto::unit;

use super::offload;
use super::refusal::Refusal;
use crate::clock;
use crate::house::Limits;

/// What is still read, and thrown away, of a body that is too large: clients that send all before they read would see a
/// reset in place of the answer.
const DRAIN_BYTES: usize = 256 << 20;
const DRAIN_FOR: Duration = Duration::from_secs(10);
/// What a body must come at on average once it has taken as long as a pause may: else a byte now and then would hold a
/// place for hours.
const BYTES_PER_SECOND_MIN: usize = 8 << 10;
/// Reading larger bodies takes longer than a data thread may be held up.
const PEEK_INLINE_BYTES: usize = 256 << 10;

/// A request whose body was read and understood as far as needed.
pub(crate) struct Call {
    pub(crate) operation: Operation,
    pub(crate) body: Bytes,
    pub(crate) peeked: Peeked,
}

/// Reads and peeks.
///
/// # Errors
/// `body_too_large`, `request_timeout`, `client_closed`, and what [`peek`] refuses.
pub(crate) async fn decode(
    operation: Operation,
    headers: &HeaderMap,
    body: Incoming,
    limits: &Limits,
) -> Result<Call, Refusal> {
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING).filter(|e| e.as_bytes() != b"identity") {
        let message = format!("content-encoding {encoding:?} is not supported: send the body as it is");
        discard(body, headers, limits).await;
        return Err(Refusal::new(ErrorCode::InvalidJson, message));
    }
    let body = read(body, headers, limits).await?;
    let peeked = if body.len() <= PEEK_INLINE_BYTES {
        peek(operation, &body)
    } else {
        let body = body.clone();
        offload(move || peek(operation, &body)).await?
    };
    let peeked = peeked.map_err(|bad| Refusal::new(bad.code, bad.message).with_param(bad.param))?;
    Ok(Call { operation, body, peeked })
}

async fn read(mut body: Incoming, headers: &HeaderMap, limits: &Limits) -> Result<Bytes, Refusal> {
    let announced = body.size_hint().exact().and_then(|n| usize::try_from(n).ok());
    if announced.is_some_and(|n| n > limits.body_bytes) {
        if !waits(headers) {
            drain(body, DRAIN_BYTES).await;
        }
        return Err(too_large(limits));
    }
    let began = clock::now();
    let deadline = |received: usize| {
        let seconds = u64::try_from(received / BYTES_PER_SECOND_MIN).unwrap_or(u64::MAX);
        let now = clock::now();
        let whole = Duration::from_secs(seconds).saturating_add(limits.body_timeout);
        let left = whole.saturating_sub(now.saturating_duration_since(began));
        tokio::time::Instant::from_std(now) + left.min(limits.body_timeout)
    };
    let Some(first) = piece(&mut body, deadline(0)).await? else { return Ok(Bytes::new()) };
    let mut whole = if body.is_end_stream() || announced == Some(first.len()) {
        return Ok(first);
    } else {
        // Room for what has come, not for what was announced: announcing costs nothing.
        let expected = announced.unwrap_or(0).min(ROOM_AT_ONCE);
        let mut whole = BytesMut::with_capacity(expected.max(first.len().saturating_mul(2)));
        whole.extend_from_slice(&first);
        whole
    };
    while let Some(next) = piece(&mut body, deadline(whole.len())).await? {
        if whole.len() + next.len() > limits.body_bytes {
            drop(whole);
            drain(body, DRAIN_BYTES).await;
            return Err(too_large(limits));
        }
        whole.extend_from_slice(&next);
    }
    Ok(whole.freeze())
}

/// The next piece of a body; an error when it does not come in time or the client goes away.
async fn piece(body: &mut Incoming, deadline: tokio::time::Instant) -> Result<Option<Bytes>, Refusal> {
    loop {
        let frame = tokio::time::timeout_at(deadline, body.frame()).await.map_err(|_| {
            Refusal::new(ErrorCode::RequestTimeout, "the request's body stopped coming, or came too slowly")
        })?;
        match frame {
            None => return Ok(None),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Ok(Some(data)),
                // Trailers mean nothing here.
                Err(_trailers) => {}
            },
            Some(Err(error)) => {
                return Err(broken(&error));
            }
        }
    }
}

/// The most room made for a body before it has come.
const ROOM_AT_ONCE: usize = 256 << 10;

/// A body that cannot be read on: its client has gone, or frames it as nobody can read.
fn broken(error: &hyper::Error) -> Refusal {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    let is_malformed = cause.is_some_and(|cause| {
        matches!(cause.kind(), std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData)
    });
    if is_malformed {
        Refusal::new(ErrorCode::InvalidJson, "the request's body cannot be read: its chunks are not well formed")
    } else {
        Refusal::new(ErrorCode::ClientClosed, format!("the request's body broke off: {error}"))
    }
}

fn too_large(limits: &Limits) -> Refusal {
    let limit = unit::Bytes::new(u64::try_from(limits.body_bytes).unwrap_or(u64::MAX));
    Refusal::new(ErrorCode::BodyTooLarge, format!("the request's body is larger than {limit}"))
}

/// Reads and forgets the body of a request that is refused for something else: a client that sends all before it reads
/// would see a reset in place of the answer. One that could be served is read whole, beyond that the client's socket is
/// its own affair.
pub(super) async fn discard(body: Incoming, headers: &HeaderMap, limits: &Limits) {
    if !body.is_end_stream() && !waits(headers) {
        drain(body, limits.body_bytes).await;
    }
}

/// Whether the client waits for `100 Continue`: it has sent nothing yet, and is spared the trouble.
fn waits(headers: &HeaderMap) -> bool {
    headers.contains_key(header::EXPECT)
}

/// Reads on and forgets, within bounds.
async fn drain(mut body: Incoming, limit: usize) {
    let all = async {
        let mut left = limit;
        while let Some(Ok(frame)) = body.frame().await {
            let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { return };
            left = rest;
        }
    };
    // Either end will do: the answer is the same.
    if tokio::time::timeout(DRAIN_FOR, all).await.is_err() {
        tracing::debug!("gave up draining the body of a refused request");
    }
}
