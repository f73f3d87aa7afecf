//! A run as a TOML file: what is asked for, of whom, how hard and for how long.
//!
//! [`Plan::parse`] reads the text, refuses what it does not know by line and
//! field, and gives a plan in which every bound is set.

mod file;

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use super::streams::Wire;
use super::units::Size;
use file::{File, LoadFile, ModeName, ModelFile, RequestFile, TargetFile};

/// A checked plan.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Shown in reports.
    pub name: String,
    /// Who is asked.
    pub target: Target,
    /// What is asked for.
    pub ask: Ask,
    /// How hard.
    pub load: Load,
}

/// Who is asked.
#[derive(Debug, Clone)]
pub struct Target {
    /// As the wire's own SDK takes it: with `/v1` for OpenAI, without for Anthropic.
    pub base_url: Uri,
    /// Whose requests are sent.
    pub wire: Wire,
    /// Sent as Bearer.
    pub key: Option<String>,
    /// More headers of every request.
    pub headers: HeaderMap,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Content events of a stream; none asks for whole replies.
    pub events: Option<u64>,
    /// Bytes that every request body has at least.
    pub body_bytes: u64,
    /// Models with their weights, at least one.
    pub models: Vec<(String, u32)>,
}

/// How hard and for how long; at least one of `time` and `requests` is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// The kind of loop.
    pub mode: Mode,
    /// Connections, each with one request at a time.
    pub connections: u32,
    /// Requests that may wait for a connection in an open loop; more are not sent, which is an error.
    pub backlog: u32,
    /// The begin of the run whose numbers do not count; its errors do.
    pub warm_up: Duration,
    /// Length of the run behind the warm-up; in mode `sustained`, of each step.
    pub time: Option<Duration>,
    /// Requests of the run, the warm-up's included.
    pub requests: Option<u64>,
    /// Longest a request may take, from the time it was due.
    pub timeout: Duration,
}

/// The kind of loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A fixed rate, whatever the replies do.
    Open {
        /// Requests a second.
        rate: u64,
    },
    /// Every connection sends its next request when its last reply is over.
    Closed,
    /// Open loops at rates found by bisection.
    Sustained {
        /// A rate holds while the 99th percentile is below this and nothing fails.
        p99_max: Duration,
        /// The first rate tried.
        rate_min: u64,
        /// The largest rate tried.
        rate_max: u64,
        /// The search ends when the gap is this share of the rate.
        precision_percent: u64,
    },
}

/// What the command line says in place of the file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// In place of `target.base_url`.
    pub base_url: Option<Uri>,
    /// In place of `target.key`.
    pub key: Option<String>,
}

/// Why a text is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// It is no TOML, or a field is unknown, missing or of the wrong kind; the message shows the line.
    #[error("{0}")]
    Text(#[from] toml::de::Error),
    /// A field cannot stand as it does.
    #[error("`{field}` {why}")]
    Field {
        /// Its path.
        field: String,
        /// What is wrong with it.
        why: String,
    },
}

const CONNECTIONS: u32 = 64;
const CONNECTIONS_MAX: u32 = 20_000;
const BACKLOG: u32 = 10_000;
const TIMEOUT: Duration = Duration::from_secs(10);
/// No run is longer than this: every load ends by itself.
const TIME_MAX: Duration = Duration::from_secs(3600);
const RATE_MAX: u64 = 1_000_000;
const WEIGHT_MAX: u32 = 1000;
const BODY_BYTES_MAX: u64 = 16 << 20;

impl Plan {
    /// Reads and checks a plan.
    ///
    /// # Errors
    /// [`PlanError::Text`] with line and field, or [`PlanError::Field`] for a value that is out of its range, missing
    /// for the mode, or unused by it.
    pub fn parse(text: &str, overrides: &Overrides) -> Result<Self, PlanError> {
        let file: File = toml::from_str(text)?;
        Ok(Self {
            name: file.name.unwrap_or_else(|| "run".to_owned()),
            target: target(file.target, overrides)?,
            ask: ask(&file.request)?,
            load: load(&file.load)?,
        })
    }
}

fn wrong<T>(field: &str, why: impl Into<String>) -> Result<T, PlanError> {
    Err(PlanError::Field { field: field.to_owned(), why: why.into() })
}

fn target(file: TargetFile, overrides: &Overrides) -> Result<Target, PlanError> {
    let base_url = match (&overrides.base_url, &file.base_url) {
        (Some(uri), _) => uri.clone(),
        (None, Some(text)) => match text.parse::<Uri>() {
            Ok(uri) => uri,
            Err(error) => return wrong("target.base_url", format!("is no URL: {error}")),
        },
        (None, None) => return wrong("target.base_url", "is missing: write it in the plan or say --base-url"),
    };
    if base_url.scheme_str() != Some("http") || base_url.authority().is_none() {
        return wrong("target.base_url", "must be http://HOST:PORT/...");
    }
    let mut headers = HeaderMap::new();
    for (name, value) in &file.headers {
        let field = format!("target.headers.{name}");
        let Ok(header) = HeaderName::try_from(name) else { return wrong(&field, "is no header name") };
        let Ok(value) = HeaderValue::try_from(value) else { return wrong(&field, "is no header value") };
        headers.insert(header, value);
    }
    let key = overrides.key.clone().or(file.key);
    Ok(Target { base_url, wire: file.wire.into(), key, headers })
}

fn ask(file: &RequestFile) -> Result<Ask, PlanError> {
    let events = match (file.stream, file.events) {
        (true, Some(events)) if events > 0 => Some(events),
        (true, _) => return wrong("request.events", "is needed where `stream` is true: content events of a stream"),
        (false, None) => None,
        (false, Some(_)) => return wrong("request.events", "has no use where `stream` is false"),
    };
    let Size(body_bytes) = file.body_bytes;
    if body_bytes > BODY_BYTES_MAX {
        return wrong("request.body_bytes", "must be at most 16MiB");
    }
    let models = match (&file.model, &file.models) {
        (Some(model), None) => vec![(model.clone(), 1)],
        (None, Some(models)) if !models.is_empty() => {
            models.iter().map(|ModelFile { name, weight }| (name.clone(), *weight)).collect()
        }
        (None, _) => return wrong("request.model", "is missing: write `model` or [[request.models]]"),
        (Some(_), Some(_)) => return wrong("request.models", "cannot stand beside `model`"),
    };
    if models.iter().any(|(_, weight)| !(1..=WEIGHT_MAX).contains(weight)) {
        return wrong("request.models.weight", "must be 1 to 1000");
    }
    Ok(Ask { events, body_bytes, models })
}

fn load(file: &LoadFile) -> Result<Load, PlanError> {
    let in_range = |field: &str, value: u64, max: u64| match value {
        value if (1..=max).contains(&value) => Ok(value),
        _ => wrong(&format!("load.{field}"), format!("must be 1 to {max}")),
    };
    let needed = |field: &str, value: Option<u64>, mode: &str| match value {
        Some(rate) => in_range(field, rate, RATE_MAX),
        None => wrong(&format!("load.{field}"), format!("is needed in mode `{mode}`")),
    };
    let mode = match file.mode {
        ModeName::Open => Mode::Open { rate: needed("rate", file.rate, "open")? },
        ModeName::Closed => Mode::Closed,
        ModeName::Sustained => {
            let Some(p99_max) = file.p99_max else { return wrong("load.p99_max", "is needed in mode `sustained`") };
            let rate_min = in_range("rate_min", file.rate_min.unwrap_or(100), RATE_MAX)?;
            let rate_max = in_range("rate_max", file.rate_max.unwrap_or(100_000), RATE_MAX)?;
            if rate_min > rate_max {
                return wrong("load.rate_min", "must not be above `rate_max`");
            }
            let precision_percent = in_range("precision_percent", file.precision_percent.unwrap_or(5), 100)?;
            Mode::Sustained { p99_max: p99_max.0, rate_min, rate_max, precision_percent }
        }
    };
    refuse_unused(file)?;
    if file.time.is_none() && file.requests.is_none() {
        return wrong("load.time", "is missing: every run has an end, `time` or `requests`");
    }
    if let Some(time) = file.time.filter(|time| time.0.is_zero() || time.0 > TIME_MAX) {
        return wrong("load.time", format!("must be above 0 and at most 60m, not {:?}", time.0));
    }
    if file.warm_up.is_some_and(|time| time.0 > TIME_MAX) {
        return wrong("load.warm_up", "must be at most 60m");
    }
    let count = |field: &str, value: Option<u32>, default: u32, max: u32| match value.unwrap_or(default) {
        value if (1..=max).contains(&value) => Ok(value),
        _ => wrong(&format!("load.{field}"), format!("must be 1 to {max}")),
    };
    Ok(Load {
        mode,
        connections: count("connections", file.connections, CONNECTIONS, CONNECTIONS_MAX)?,
        backlog: count("backlog", file.backlog, BACKLOG, 1_000_000)?,
        warm_up: file.warm_up.map_or(Duration::ZERO, |time| time.0),
        time: file.time.map(|time| time.0),
        requests: file.requests.map(|requests| in_range("requests", requests, 1_000_000_000)).transpose()?,
        timeout: file.timeout.map_or(TIMEOUT, |time| time.0),
    })
}

/// A field that the mode does not read would be believed in vain.
fn refuse_unused(file: &LoadFile) -> Result<(), PlanError> {
    let sustained = [
        ("p99_max", file.p99_max.is_some()),
        ("rate_min", file.rate_min.is_some()),
        ("rate_max", file.rate_max.is_some()),
        ("precision_percent", file.precision_percent.is_some()),
    ];
    let (name, unused): (&str, Vec<(&str, bool)>) = match file.mode {
        ModeName::Open => ("open", sustained.to_vec()),
        ModeName::Closed => {
            let open = [("rate", file.rate.is_some()), ("backlog", file.backlog.is_some())];
            ("closed", sustained.into_iter().chain(open).collect())
        }
        ModeName::Sustained => ("sustained", vec![("rate", file.rate.is_some())]),
    };
    match unused.iter().find(|(_, is_set)| *is_set) {
        Some((field, _)) => wrong(&format!("load.{field}"), format!("has no use in mode `{name}`")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
