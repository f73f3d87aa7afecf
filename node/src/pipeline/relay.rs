//! Hands a reply on: from the commit point to the end, however it ends.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use troupe_dialect::translate::{Loss, header_value};
use troupe_dialect::{Dialect, Operation, headers as allowed, sse};
use troupe_proto::failure::ErrorCode;
use troupe_proto::outcome::Usage;

use super::attempt::{Deadlines, Facts, Served};
use super::failure;
use super::refusal::Refusal;
use super::resume::Resume;
use super::source::{Batch, Break, Source};
use super::visit::Visit;
use crate::clock;
use crate::ingress::{Broken, Feed, ReplyBody};
use crate::telemetry::record::Outcome;
use crate::upstream::UpstreamBody;

/// Balancers and clients take a connection that is silent for longer (often 60 s) for dead.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// What a provider may take to close a reply whose end was seen; then its connection is not kept.
const REST: Duration = Duration::from_millis(100);
/// Between the event that tells of a break and the cut, so that the event is not lost with the connection.
pub(super) const LAST_WORDS: Duration = Duration::from_millis(20);

/// A whole reply.
pub(super) fn whole(
    head: &Parts,
    body: Bytes,
    facts: Facts,
    served: &Served,
    mut visit: Box<Visit>,
) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::whole(body.clone()));
    *response.status_mut() = head.status;
    write_headers(response.headers_mut(), &head.headers, served.dialect(), facts.is_translated, &served.lost);
    visit.write_headers(response.headers_mut());
    visit.attempt_finished();
    visit.answered(head.status.as_u16());
    visit.note(|record| {
        record.usage = facts.usage;
        record.finish = facts.finish.map(Into::into);
        record.bytes_out = u64::try_from(body.len()).unwrap_or(u64::MAX);
        note_lost(&mut record.lost.reply, &facts.lost);
    });
    visit.first_content();
    visit.end(Outcome::Finished);
    response
}

/// A whole reply too large to be checked first: it is handed on as it comes, and a break cuts the connection.
pub(super) fn large(
    head: &Parts,
    read: Bytes,
    mut rest: UpstreamBody,
    served: &Served,
    mut visit: Box<Visit>,
) -> Response<ReplyBody> {
    let mut headers = HeaderMap::new();
    write_headers(&mut headers, &head.headers, served.dialect(), false, &[]);
    visit.write_headers(&mut headers);
    visit.answered(head.status.as_u16());
    visit.first_content();
    let deadlines = served.deadlines;
    let work = async move |feed: Feed| {
        let mut sent = u64::try_from(read.len()).unwrap_or(u64::MAX);
        feed.send(read).await;
        loop {
            let chunk = match timeout_at(deadlines.step(deadlines.limits.idle), rest.chunk()).await {
                Ok(None) => break,
                Ok(Some(Ok(chunk))) if clock::now() < deadlines.total => chunk,
                Ok(Some(_)) | Err(_) => {
                    visit.attempt_broke(&failure::of_break(Break::Short));
                    visit.note(|record| record.error = Some(ErrorCode::StreamInterrupted));
                    visit.end(Outcome::Interrupted);
                    return Err(Broken);
                }
            };
            sent = sent.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
            visit.note(|record| record.bytes_out = sent);
            feed.send(chunk).await;
        }
        visit.attempt_finished();
        visit.end(Outcome::Finished);
        Ok(())
    };
    let mut response = Response::new(ReplyBody::fed(work));
    *response.status_mut() = head.status;
    *response.headers_mut() = headers;
    response
}

/// What is known of a stream when its head goes out.
pub(super) struct Stream {
    pub(super) operation: Operation,
    pub(super) head: Parts,
    pub(super) source: Box<Source>,
    pub(super) begun: Batch,
    pub(super) served: Served,
    pub(super) request_id: String,
    /// What it takes to go on elsewhere, where that is wanted.
    pub(super) resume: Option<Box<Resume>>,
}

/// A stream.
pub(super) fn stream(stream: Stream, mut visit: Box<Visit>) -> Response<ReplyBody> {
    visit.answered(StatusCode::OK.as_u16());
    let mut headers = HeaderMap::new();
    let (provider, lost) = (stream.served.dialect(), &stream.served.lost);
    let is_translated = provider != stream.operation.dialect();
    write_headers(&mut headers, &stream.head.headers, provider, is_translated, lost);
    visit.write_headers(&mut headers);
    write_stream_headers(&mut headers);
    if stream.resume.is_some() {
        say_it_goes_on(&mut headers);
    }
    let mut response = Response::new(ReplyBody::fed(|feed| run(stream, feed, visit)));
    *response.headers_mut() = headers;
    response
}

/// Relays a stream to its end, over as many legs as it takes.
pub(super) async fn run(stream: Stream, feed: Feed, mut visit: Box<Visit>) -> Result<(), Broken> {
    let Stream { operation, mut source, mut begun, mut served, request_id, mut resume, head: _ } = stream;
    let mut relayed = Relayed::default();
    // Also one whose client goes away is over then: this future is dropped.
    let _open = visit.stream_began();
    loop {
        let leg = Leg { operation, source: &mut source, begun, deadlines: served.deadlines };
        let broken = leg.relay(&mut relayed, &feed, &mut visit, resume.as_deref_mut()).await;
        note_end(&source, &mut relayed, &mut visit);
        let Some(Told { refusal, words, is_end }) = broken else {
            visit.attempt_finished();
            if resume.as_ref().is_some_and(|resume| resume.seams() > 0) {
                visit.leg_used(source.usage());
            }
            visit.end(Outcome::Finished);
            if !source.is_over() {
                read_rest(source);
            }
            return Ok(());
        };
        visit.attempt_broke(&refusal);
        if resume.is_some() {
            visit.leg_used(source.usage());
        }
        let next_sequence = source.next_sequence();
        // The upstream call is over, one way or the other: its connection goes before the client is told.
        drop(source);
        let next = match resume.as_deref_mut().filter(|_| relayed.has_content && !is_end) {
            Some(resume) => keep_alive(resume.go_on(&refusal, &served, &mut visit), &feed, operation).await,
            None => Err("it is not asked for"),
        };
        match next {
            Ok(leg) => {
                visit.opened_leg(resume.as_ref().map_or(0, |resume| resume.seams()));
                feed.send(leg.seam).await;
                (source, begun, served) = (leg.source, leg.begun, leg.served);
            }
            Err(why) => {
                tracing::debug!(why, "a broken stream does not go on");
                visit.note(|record| record.error = Some(refusal.code));
                feed.send(words.unwrap_or_else(|| refusal.event(operation, &request_id, next_sequence))).await;
                visit.end(Outcome::Interrupted);
                if is_end {
                    return Ok(());
                }
                tokio::time::sleep(LAST_WORDS).await;
                return Err(Broken);
            }
        }
    }
}

/// Keeps the client company while something takes its time.
async fn keep_alive<T>(work: impl Future<Output = T>, feed: &Feed, operation: Operation) -> T {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = tokio::time::sleep(KEEP_ALIVE) => feed.send(Bytes::from_static(sse::keep_alive(operation))).await,
        }
    }
}

/// What went out so far, of all legs.
#[derive(Default)]
struct Relayed {
    bytes: usize,
    has_content: bool,
    /// What the legs that are over used.
    usage: Option<Usage>,
}

impl Relayed {
    /// The usage of all legs, `this` one's included.
    fn usage(&self, this: Option<Usage>) -> Option<Usage> {
        match (self.usage, this) {
            (Some(before), Some(this)) => Some(before.plus(this)),
            (before, this) => before.or(this),
        }
    }
}

/// Notes what a leg came to.
fn note_end(source: &Source, relayed: &mut Relayed, visit: &mut Visit) {
    relayed.usage = relayed.usage(source.usage());
    visit.note(|record| {
        record.usage = relayed.usage;
        record.finish = source.finish_reason().map(Into::into);
        note_lost(&mut record.lost.reply, source.lost());
    });
}

/// One provider's part of a stream.
struct Leg<'a> {
    operation: Operation,
    source: &'a mut Source,
    begun: Batch,
    deadlines: Deadlines,
}

impl Leg<'_> {
    /// Relays it to its end; what the client is to be told if that is none.
    async fn relay(
        self,
        relayed: &mut Relayed,
        feed: &Feed,
        visit: &mut Visit,
        mut resume: Option<&mut Resume>,
    ) -> Option<Told> {
        let Self { operation, source, begun, deadlines } = self;
        let mut pace = Pace::new(&deadlines);
        // One timer a leg, set again only when it fires: setting it at every event would cost more than the event.
        let mut timer = pin!(sleep_until(pace.next()));
        let mut next = Some(begun);
        loop {
            let step = match next.take() {
                Some(begun) => Step::Read(Ok(Some(begun))),
                None => tokio::select! {
                    biased;
                    batch = source.batch() => Step::Read(batch),
                    () = &mut timer => Step::Timer,
                },
            };
            match step {
                Step::Read(Ok(Some(mut batch))) => {
                    let passed = resume.as_deref_mut().map_or(Ok(()), |resume| resume.pass(&mut batch));
                    if batch.has_content && !relayed.has_content {
                        relayed.has_content = true;
                        visit.first_content();
                    }
                    relayed.bytes += batch.bytes.len();
                    // Noted at once, because a client that leaves ends this future where it stands.
                    let (bytes, usage) = (relayed.bytes, relayed.usage(source.usage()));
                    visit.note(|record| {
                        record.bytes_out = u64::try_from(bytes).unwrap_or(u64::MAX);
                        record.usage = usage;
                    });
                    if !batch.bytes.is_empty() {
                        feed.send(batch.bytes).await;
                    }
                    if let Err(what) = passed {
                        // It answered well, only not with the rest of what another began.
                        let mut no_joint = failure::invalid(&what);
                        no_joint.is_innocent = true;
                        return Some(Told::ours(no_joint));
                    }
                    if batch.is_end {
                        return None;
                    }
                    pace.read(clock::now());
                    // A stream that always has more never lets the timer speak.
                    if pace.is_late() {
                        return Some(Told::ours(late()));
                    }
                }
                Step::Read(Ok(None)) => return None,
                Step::Read(Err(broken)) => return Some(told(broken)),
                Step::Timer => match pace.due(clock::now()) {
                    Due::Nothing => timer.as_mut().reset(pace.next()),
                    Due::KeepAlive => {
                        feed.send(Bytes::from_static(sse::keep_alive(operation))).await;
                        pace.kept_alive(clock::now());
                        timer.as_mut().reset(pace.next());
                    }
                    Due::TimeIsOver => return Some(Told::ours(late())),
                    Due::Timeout(what) => return Some(Told::ours(failure::timeout(what))),
                },
            }
        }
    }
}

/// Reads a reply behind its wire's end, so that its connection can serve another call. Most providers have ended it by
/// now; a client need not wait for one that has not.
fn read_rest(mut source: Box<Source>) {
    if source.rest().now_or_never().is_none() {
        tokio::spawn(async move {
            if timeout(REST, source.rest()).await.is_err() {
                tracing::debug!("a provider left its stream open behind the end");
            }
        });
    }
}

/// What the client is told of a break.
struct Told {
    refusal: Refusal,
    /// The provider's own words, where the client may read them.
    words: Option<Bytes>,
    /// Whether those words are the wire's proper end: then nothing needs to be cut.
    is_end: bool,
}

impl Told {
    const fn ours(refusal: Refusal) -> Self {
        Self { refusal, words: None, is_end: false }
    }
}

/// The time of the whole is over. A stream that is long does not speak against its target.
fn late() -> Refusal {
    let mut late = failure::timeout("did not finish its stream");
    late.is_innocent = true;
    late
}

enum Step {
    Read(Result<Option<Batch>, Break>),
    Timer,
}

fn told(broken: Break) -> Told {
    match broken {
        Break::Told { error, words, is_end } => {
            let refusal = failure::of_break(Break::Told { error, words: None, is_end });
            Told { refusal, words, is_end }
        }
        other @ (Break::Lost(_) | Break::Short | Break::Invalid(_)) => Told::ours(failure::of_break(other)),
    }
}

/// When a stream is due for something.
struct Pace {
    idle: Duration,
    total: std::time::Instant,
    last_read: std::time::Instant,
    last_sent: std::time::Instant,
}

#[derive(Debug, PartialEq, Eq)]
enum Due {
    Nothing,
    KeepAlive,
    /// The call has taken as long as it may.
    TimeIsOver,
    Timeout(&'static str),
}

impl Pace {
    fn new(deadlines: &Deadlines) -> Self {
        let now = clock::now();
        Self { idle: deadlines.limits.idle, total: deadlines.total, last_read: now, last_sent: now }
    }

    const fn read(&mut self, now: std::time::Instant) {
        self.last_read = now;
        self.last_sent = now;
    }

    /// Whether the last read came behind the deadline of the whole.
    fn is_late(&self) -> bool {
        self.last_read >= self.total
    }

    const fn kept_alive(&mut self, now: std::time::Instant) {
        self.last_sent = now;
    }

    fn due(&self, now: std::time::Instant) -> Due {
        if now >= self.total {
            Due::TimeIsOver
        } else if now.saturating_duration_since(self.last_read) >= self.idle {
            Due::Timeout("sent nothing more")
        } else if now.saturating_duration_since(self.last_sent) >= KEEP_ALIVE {
            Due::KeepAlive
        } else {
            Due::Nothing
        }
    }

    /// The next moment at which something can be due.
    fn next(&self) -> Instant {
        let idle = self.last_read.checked_add(self.idle).unwrap_or(self.total);
        Instant::from_std((self.last_sent + KEEP_ALIVE).min(idle).min(self.total))
    }
}

/// Room for what most replies have, with the headers of our own that follow: growing a map means filling it anew.
const RESPONSE_HEADERS: usize = 12;

/// Only what is listed comes back: a provider's cookies, quota and organisation stay behind.
fn write_headers(to: &mut HeaderMap, from: &HeaderMap, provider: Dialect, is_translated: bool, lost: &[Loss]) {
    if is_translated {
        to.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    } else {
        to.reserve(RESPONSE_HEADERS);
        for (name, value) in from {
            if allowed::returns_response(provider, name.as_str()) && !to.contains_key(name) {
                to.insert(name.clone(), value.clone());
            }
        }
    }
    failure::note_upstream_id(from, to);
    if !lost.is_empty()
        && let Ok(value) = HeaderValue::from_str(&header_value(lost))
    {
        to.insert(X_TROUPE_LOST, value);
    }
}

/// Says that a stream which breaks may go on at another target, and that a comment marks the seam then.
pub(super) fn say_it_goes_on(to: &mut HeaderMap) {
    to.insert(X_TROUPE_ON_BREAK, HeaderValue::from_static("continue"));
}

/// What every stream says of itself.
pub(super) fn write_stream_headers(to: &mut HeaderMap) {
    to.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    to.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    to.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
}

fn note_lost(to: &mut Vec<std::borrow::Cow<'static, str>>, lost: &[Loss]) {
    to.extend(lost.iter().map(|loss| loss.field.clone()));
}

/// What the request lost in translation.
pub(super) const X_TROUPE_LOST: HeaderName = HeaderName::from_static("x-troupe-lost");
const X_TROUPE_ON_BREAK: HeaderName = HeaderName::from_static("x-troupe-on-break");
/// nginx in front of us would hold events back.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::CallLimits;

    fn pace(idle: u64, total: u64) -> (Pace, std::time::Instant) {
        let second = Duration::from_secs;
        let limits = CallLimits { connect: second(1), first_byte: second(1), idle: second(idle), total: second(total) };
        let total = clock::now() + second(total);
        let deadlines = Deadlines { limits, head: total, begin: total, total };
        let pace = Pace::new(&deadlines);
        let start = pace.last_read;
        (pace, start)
    }

    #[test]
    fn silence_is_kept_alive_until_it_lasts_too_long() {
        let (mut pace, start) = pace(25, 600);
        let at = |seconds: u64| start + Duration::from_secs(seconds);

        assert_eq!(pace.due(at(9)), Due::Nothing);
        assert_eq!(pace.due(at(10)), Due::KeepAlive);
        pace.kept_alive(at(10));
        assert_eq!(pace.due(at(19)), Due::Nothing);
        assert_eq!(pace.due(at(25)), Due::Timeout("sent nothing more"));
    }

    #[test]
    fn a_stream_that_never_rests_still_ends_at_its_deadline() {
        let (mut pace, start) = pace(25, 60);
        pace.read(start + Duration::from_secs(59));

        assert_eq!(pace.due(start + Duration::from_secs(61)), Due::TimeIsOver);
    }
}
