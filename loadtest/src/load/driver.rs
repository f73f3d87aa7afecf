//! A closed loop: so many connections, each sending its next request when the last reply is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::clock;

/// What one run of the loop does.
#[derive(Debug, Clone)]
pub struct Plan {
    /// `HOST:PORT` that is driven.
    pub authority: String,
    /// Path of every request.
    pub path: String,
    /// Sent as Bearer.
    pub key: Option<String>,
    /// Body of every request.
    pub body: Bytes,
    /// Connections, each with one request at a time.
    pub connections: u32,
    /// Requests in all.
    pub requests: u64,
    /// The run ends with an error after this.
    pub time_max: Duration,
}

/// What one run brought.
#[derive(Debug)]
pub struct Outcome {
    /// Replies of status 200 that were read to their end.
    pub done: u64,
    /// Everything else.
    pub failed: u64,
    /// The first thing that went wrong, in words.
    pub first_failure: Option<String>,
    /// From the first request to the last byte.
    pub elapsed: Duration,
    /// Microseconds from sending a request to the last byte of its reply.
    pub latency: Histogram<u64>,
    /// Bytes of all bodies read.
    pub bytes: u64,
}

/// Why a run could not be made or finished.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The run's time was over before its requests were.
    #[error("{done} of {wanted} requests were done after {after:?}")]
    TooSlow {
        /// Requests taken up so far.
        done: u64,
        /// Requests planned.
        wanted: u64,
        /// The limit.
        after: Duration,
    },
    /// The histogram refused its own settings.
    #[error("the histogram cannot be made")]
    Histogram(#[from] hdrhistogram::CreationError),
    /// A worker of ours broke down.
    #[error("a worker broke down")]
    Worker(#[from] tokio::task::JoinError),
}

/// Latencies above this count as this.
const LATENCY_MAX_US: u64 = 600_000_000;
/// Failures after which a connection gives up: the run has failed anyway.
const FAILURES_MAX: u64 = 100;

/// Drives the loop once.
///
/// # Errors
/// [`DriveError::TooSlow`] when the time is over; failed requests are no error but a number of the outcome.
pub async fn closed_loop(plan: &Plan) -> Result<Outcome, DriveError> {
    let (plan, begun) = (Arc::new(plan.clone()), clock::now());
    let taken = Arc::new(AtomicU64::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..plan.connections {
        let latency = histogram()?;
        workers.spawn(work(Arc::clone(&plan), Arc::clone(&taken), latency));
    }
    let mut all = Tally::new(histogram()?);
    let gathered = tokio::time::timeout(plan.time_max, async {
        while let Some(tally) = workers.join_next().await {
            all.add(tally?);
        }
        Ok::<_, DriveError>(())
    });
    match gathered.await {
        Ok(gathered) => gathered?,
        Err(_) => {
            let done = taken.load(Ordering::Relaxed).min(plan.requests);
            return Err(DriveError::TooSlow { done, wanted: plan.requests, after: plan.time_max });
        }
    }
    Ok(Outcome {
        done: all.done,
        failed: all.failed,
        first_failure: all.first_failure,
        elapsed: clock::now() - begun,
        latency: all.latency,
        bytes: all.bytes,
    })
}

fn histogram() -> Result<Histogram<u64>, hdrhistogram::CreationError> {
    Histogram::new_with_bounds(1, LATENCY_MAX_US, 3)
}

struct Tally {
    done: u64,
    failed: u64,
    first_failure: Option<String>,
    latency: Histogram<u64>,
    bytes: u64,
}

impl Tally {
    fn new(latency: Histogram<u64>) -> Self {
        Self { done: 0, failed: 0, first_failure: None, latency, bytes: 0 }
    }

    fn add(&mut self, other: Self) {
        self.done += other.done;
        self.failed += other.failed;
        self.bytes += other.bytes;
        self.first_failure = self.first_failure.take().or(other.first_failure);
        let added = self.latency.add(other.latency);
        debug_assert!(added.is_ok(), "both have the same bounds");
    }

    fn fail(&mut self, why: String) {
        self.failed += 1;
        self.first_failure.get_or_insert(why);
    }
}

async fn work(plan: Arc<Plan>, taken: Arc<AtomicU64>, latency: Histogram<u64>) -> Tally {
    let mut tally = Tally::new(latency);
    let mut sender = None;
    while tally.failed < FAILURES_MAX && taken.fetch_add(1, Ordering::Relaxed) < plan.requests {
        match once(&plan, &mut sender).await {
            Ok((took, bytes)) => {
                tally.done += 1;
                tally.bytes += bytes;
                let took = u64::try_from(took.as_micros()).unwrap_or(LATENCY_MAX_US);
                tally.latency.saturating_record(took.clamp(1, LATENCY_MAX_US));
            }
            Err(why) => {
                sender = None;
                tally.fail(why);
            }
        }
    }
    tally
}

type Sender = SendRequest<Full<Bytes>>;

async fn once(plan: &Plan, held: &mut Option<Sender>) -> Result<(Duration, u64), String> {
    let mut sender = match held.take().filter(|sender| !sender.is_closed()) {
        Some(sender) => sender,
        None => connect(&plan.authority).await?,
    };
    let begun = clock::now();
    sender.ready().await.map_err(|error| format!("connection: {error}"))?;
    let request = request(plan).map_err(|error| format!("request: {error}"))?;
    let response = sender.send_request(request).await.map_err(|error| format!("no reply: {error}"))?;
    let status = response.status();
    let mut body = response.into_body();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("the body broke: {error}"))?;
        bytes += frame.data_ref().map_or(0, |data| u64::try_from(data.len()).unwrap_or(u64::MAX));
    }
    if status != http::StatusCode::OK {
        return Err(format!("status {status}"));
    }
    *held = Some(sender);
    Ok((clock::now() - begun, bytes))
}

async fn connect(authority: &str) -> Result<Sender, String> {
    let opened = async {
        let socket = TcpStream::connect(authority).await?;
        socket.set_nodelay(true)?;
        http1::handshake(TokioIo::new(socket)).await.map_err(std::io::Error::other)
    };
    let (sender, connection) = opened.await.map_err(|error| format!("connect: {error}"))?;
    // The reply's reader hears of every error that this task could tell.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

fn request(plan: &Plan) -> Result<Request<Full<Bytes>>, http::Error> {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(plan.path.as_str())
        .header(header::HOST, plan.authority.as_str())
        .header(header::CONTENT_TYPE, "application/json");
    if let Some(key) = &plan.key {
        request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
    }
    request.body(Full::new(plan.body.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::{Mock, MockOptions};

    fn plan(mock: &crate::mock::MockHandle, model: &str) -> Plan {
        let body = serde_json::json!({"model": model, "messages": [{"role": "user", "content": "x"}]});
        Plan {
            authority: mock.addr.to_string(),
            path: "/v1/chat/completions".to_owned(),
            key: Some("k".to_owned()),
            body: Bytes::from(body.to_string()),
            connections: 4,
            requests: 50,
            time_max: Duration::from_secs(20),
        }
    }

    #[tokio::test]
    async fn every_planned_request_is_made_once_over_the_planned_connections() {
        let mock = Mock::start(MockOptions::default()).unwrap();

        let outcome = closed_loop(&plan(&mock, "mock")).await.unwrap();

        assert_eq!((outcome.done, outcome.failed, outcome.latency.len()), (50, 0, 50));
        assert_eq!((mock.counts().requests, mock.counts().connections), (50, 4));
    }

    #[tokio::test]
    async fn refusals_are_failures_and_are_told() {
        let mock = Mock::start(MockOptions::default()).unwrap();

        let outcome = closed_loop(&plan(&mock, "mock+status=503")).await.unwrap();

        assert_eq!((outcome.done, outcome.failed), (0, 50));
        assert!(outcome.first_failure.unwrap().contains("503"));
    }

    #[tokio::test]
    async fn a_hanging_gateway_ends_the_run() {
        let mock = Mock::start(MockOptions::default()).unwrap();
        let plan = Plan { time_max: Duration::from_millis(50), ..plan(&mock, "mock+hang") };

        let error = closed_loop(&plan).await.unwrap_err();

        assert!(matches!(error, DriveError::TooSlow { wanted: 50, .. }), "{error}");
    }
}
