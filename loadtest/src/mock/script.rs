//! Knobs: what a model name tells the mock to do.
//!
//! A name is a base and any number of knobs behind it, `base+knob=value+knob`.
//! The base is free, so every test can have a name of its own in the counts.

use std::time::Duration;

use http::StatusCode;

use super::quota::Quota;

/// What one model name asks the mock to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Knobs {
    /// Words of a text answer; one word is one content event of a stream.
    pub words: usize,
    /// Bytes the text answer is padded to, shared evenly by its words.
    pub size: Option<usize>,
    /// Wait before the head of the reply.
    pub delay: Option<Duration>,
    /// Wait before every event of a stream but the first.
    pub drip: Option<Duration>,
    /// Whether the body leaves in small pieces that ignore event borders.
    pub slow_bytes: bool,
    /// Whether a comment line stands before every event of a stream.
    pub comments: bool,
    /// Whether the lines of a stream end in CRLF.
    pub crlf: bool,
    /// Whether every word ends in letters of two, three and four bytes.
    pub unicode: bool,
    /// Whether a request for a stream is answered whole.
    pub unstreamed: bool,
    /// What happens instead of a good reply.
    pub fault: Fault,
    /// How many calls of this model name the faults strike before it recovers; `None`: all.
    pub fail: Option<u64>,
    /// Calls that a credential has in each window; 429 beyond them.
    pub quota: Option<Quota>,
    /// Whether a conversation that ends with the assistant is refused.
    pub no_prefill: bool,
    /// `retry-after`, sent as it stands.
    pub retry_after: Option<String>,
    /// `retry-after-ms`, sent as it stands.
    pub retry_after_ms: Option<String>,
    /// Whether it says that trying again is of no use.
    pub no_retry: bool,
    /// `code` of an error body.
    pub code: Option<String>,
    /// How a stream ends.
    pub ending: Ending,
    /// Whether and how tools are called when the request offers some.
    pub tools: Tools,
    /// Whether the answer begins with a thought.
    pub reasoning: bool,
    /// Prompt tokens reported as read from the cache, on top of the counted ones.
    pub cached: u64,
}

/// What happens instead of a good reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A good reply.
    None,
    /// An error of this status in the wire's own shape.
    Status(StatusCode),
    /// 400 as the vendor words it when the prompt does not fit the context.
    ContextLength,
    /// No head, ever.
    Hang,
    /// The connection is reset before the head (one stream of it over HTTP/2).
    Reset,
    /// 200 with bytes that are not JSON, or not JSON inside SSE.
    Garbage,
    /// A whole reply whose content-length promises more than arrives.
    Truncated,
}

/// How a stream ends; the number counts content events sent before it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// As the wire says.
    Complete,
    /// The connection closes in the middle of the body.
    Cut(usize),
    /// The body ends well as HTTP sees it, but without the wire's end marker.
    CleanCut(usize),
    /// An in-band error event, then a clean end.
    Error(usize),
    /// Silence with the connection open.
    Hang(usize),
    /// As `Cut`, at an event drawn from this seed and the number of the call: at least one word before it and behind it.
    RandomCut(u64),
}

/// Whether tools are called unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tools {
    /// Only when `tool_choice` forces it.
    WhenForced,
    /// One call of the first tool.
    One,
    /// Two calls: the first and the second tool, or the first one twice.
    Two,
}

/// Why a model name cannot be obeyed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KnobError {
    /// No knob of this name.
    #[error("unknown knob `{0}` in the model name")]
    Unknown(String),
    /// The knob is known and its value is not.
    #[error("knob `{knob}` cannot take the value `{value}`")]
    Value {
        /// The knob.
        knob: String,
        /// What stood behind its `=`.
        value: String,
    },
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            words: 10,
            size: None,
            delay: None,
            drip: None,
            slow_bytes: false,
            comments: false,
            crlf: false,
            unicode: false,
            unstreamed: false,
            fault: Fault::None,
            fail: None,
            quota: None,
            no_prefill: false,
            retry_after: None,
            retry_after_ms: None,
            no_retry: false,
            code: None,
            ending: Ending::Complete,
            tools: Tools::WhenForced,
            reasoning: false,
            cached: 0,
        }
    }
}

/// Most words one answer may have: a typing error must not fill the memory.
const WORDS_MAX: usize = 1_000_000;
/// Most bytes one answer may be padded to.
const SIZE_MAX: usize = 64 << 20;

impl Knobs {
    /// Reads the knobs behind the base name of `model`.
    ///
    /// # Errors
    /// [`KnobError::Unknown`] names the first knob that does not exist,
    /// [`KnobError::Value`] the first whose value cannot be read.
    pub fn parse(model: &str) -> Result<Self, KnobError> {
        let mut parts = model.split('+');
        let base = parts.next().unwrap_or_default();
        let mut knobs = Self::default();
        if base.contains("parallel-tools") {
            knobs.tools = Tools::Two;
        } else if base.contains("tools") {
            knobs.tools = Tools::One;
        }
        for part in parts {
            knobs.read(part)?;
        }
        Ok(knobs)
    }

    /// Lays more knobs over these; `text` is what stands behind a base name, without the first `+`.
    pub(super) fn lay(&mut self, text: &str) -> Result<(), KnobError> {
        text.split('+').try_for_each(|part| self.read(part))
    }

    /// Forgets the faults once they struck as often as `fail` says; `call` counts the calls of this name from 1.
    pub(super) fn recover(&mut self, call: u64) {
        if self.fail.is_some_and(|fail| call > fail) {
            self.fault = Fault::None;
            self.ending = Ending::Complete;
            self.retry_after = None;
            self.retry_after_ms = None;
            self.no_retry = false;
            self.unstreamed = false;
        }
    }

    fn read(&mut self, part: &str) -> Result<(), KnobError> {
        let (name, value) = part.split_once('=').map_or((part, None), |(name, value)| (name, Some(value)));
        self.set(name, value).ok_or_else(|| match (KNOWN.contains(&name), value) {
            (false, _) => KnobError::Unknown(name.to_owned()),
            (true, value) => KnobError::Value { knob: name.to_owned(), value: value.unwrap_or_default().to_owned() },
        })
    }

    fn set(&mut self, name: &str, value: Option<&str>) -> Option<()> {
        match (name, value) {
            ("words" | "events", Some(value)) => self.words = count(value, WORDS_MAX)?,
            ("size", Some(value)) => self.size = Some(size(value)?),
            ("delay", Some(value)) => self.delay = Some(duration(value)?),
            ("drip", Some(value)) => self.drip = Some(duration(value)?),
            ("slow-bytes", None) => self.slow_bytes = true,
            ("comments", None) => self.comments = true,
            ("crlf", None) => self.crlf = true,
            ("unicode", None) => self.unicode = true,
            ("unstreamed", None) => self.unstreamed = true,
            ("status", Some(value)) => self.fault = Fault::Status(status(value)?),
            ("context-length", None) => self.fault = Fault::ContextLength,
            ("hang", None) => self.fault = Fault::Hang,
            ("reset", None) => self.fault = Fault::Reset,
            ("garbage", None) => self.fault = Fault::Garbage,
            ("truncated", None) => self.fault = Fault::Truncated,
            ("fail", Some(value)) => self.fail = Some(value.parse().ok()?),
            ("quota", Some(value)) => self.quota = Some(quota(value)?),
            ("no-prefill", None) => self.no_prefill = true,
            ("retry-after", Some(value)) => self.retry_after = Some(header(value)?),
            ("retry-after-ms", Some(value)) => self.retry_after_ms = Some(header(value)?),
            ("no-retry", None) => self.no_retry = true,
            ("code", Some(value)) => self.code = Some(value.to_owned()),
            ("cut", Some(value)) => self.ending = Ending::Cut(count(value, WORDS_MAX)?),
            ("clean-cut", Some(value)) => self.ending = Ending::CleanCut(count(value, WORDS_MAX)?),
            ("error-at", Some(value)) => self.ending = Ending::Error(count(value, WORDS_MAX)?),
            ("hang-at", Some(value)) => self.ending = Ending::Hang(count(value, WORDS_MAX)?),
            ("random-cut", Some(value)) => self.ending = Ending::RandomCut(value.parse().ok()?),
            ("tools", None) => self.tools = Tools::One,
            ("parallel-tools", None) => self.tools = Tools::Two,
            ("reasoning", None) => self.reasoning = true,
            ("cached", Some(value)) => self.cached = value.parse().ok()?,
            _ => return None,
        }
        Some(())
    }
}

/// Every knob, to tell a wrong name from a wrong value.
const KNOWN: [&str; 32] = [
    "words",
    "events",
    "size",
    "delay",
    "drip",
    "slow-bytes",
    "comments",
    "crlf",
    "unicode",
    "unstreamed",
    "status",
    "context-length",
    "hang",
    "reset",
    "garbage",
    "truncated",
    "fail",
    "quota",
    "no-prefill",
    "retry-after",
    "retry-after-ms",
    "no-retry",
    "code",
    "cut",
    "clean-cut",
    "error-at",
    "hang-at",
    "random-cut",
    "tools",
    "parallel-tools",
    "reasoning",
    "cached",
];

fn count(text: &str, max: usize) -> Option<usize> {
    text.parse().ok().filter(|count| *count <= max)
}

fn status(text: &str) -> Option<StatusCode> {
    StatusCode::from_bytes(text.as_bytes()).ok().filter(|status| (300..600).contains(&status.as_u16()))
}

fn header(text: &str) -> Option<String> {
    http::HeaderValue::from_str(text).is_ok().then(|| text.to_owned())
}

fn duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    match unit {
        "us" => Some(Duration::from_micros(number)),
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        _ => None,
    }
}

fn quota(text: &str) -> Option<Quota> {
    let (limit, window) = text.split_once('/')?;
    // Tokens are shown as a thousandfold, which must not overflow.
    let limit = limit.parse().ok().filter(|limit| *limit <= u64::from(u32::MAX))?;
    Some(Quota { limit, window: duration(window).filter(|window| !window.is_zero())? })
}

fn size(text: &str) -> Option<usize> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: usize = number.parse().ok()?;
    let unit = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return None,
    };
    number.checked_mul(unit).filter(|size| *size <= SIZE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_ten_words_and_no_fault() {
        assert_eq!(Knobs::parse("gpt-4o").unwrap(), Knobs::default());
    }

    #[test]
    fn knobs_stand_behind_any_base_name() {
        let knobs = Knobs::parse("gpt-x+status=429+retry-after=2+words=3+drip=20ms+size=2KiB").unwrap();

        assert_eq!(knobs.fault, Fault::Status(StatusCode::TOO_MANY_REQUESTS));
        assert_eq!(knobs.retry_after.as_deref(), Some("2"));
        assert_eq!(knobs.words, 3);
        assert_eq!(knobs.drip, Some(Duration::from_millis(20)));
        assert_eq!(knobs.size, Some(2048));
    }

    #[test]
    fn a_base_name_that_speaks_of_tools_calls_them() {
        assert_eq!(Knobs::parse("mock-tools").unwrap().tools, Tools::One);
        assert_eq!(Knobs::parse("parallel-tools").unwrap().tools, Tools::Two);
        assert_eq!(Knobs::parse("mock+parallel-tools").unwrap().tools, Tools::Two);
    }

    #[test]
    fn a_wrong_name_and_a_wrong_value_are_told_apart() {
        assert_eq!(Knobs::parse("mock+statsu=503"), Err(KnobError::Unknown("statsu".to_owned())));
        for (knob, value) in [("status", "200"), ("drip", "20"), ("size", "1GiB"), ("cut", "-1"), ("hang", "1")] {
            let error = Knobs::parse(&format!("mock+{knob}={value}")).unwrap_err();
            assert_eq!(error, KnobError::Value { knob: knob.to_owned(), value: value.to_owned() });
        }
    }

    #[test]
    fn a_name_recovers_after_its_failures() {
        let knobs = Knobs::parse("mock+status=503+retry-after=2+fail=2").unwrap();
        let after = |call| {
            let mut knobs = knobs.clone();
            knobs.recover(call);
            (knobs.fault, knobs.retry_after.is_some())
        };

        assert_eq!(after(2), (Fault::Status(StatusCode::SERVICE_UNAVAILABLE), true));
        assert_eq!(after(3), (Fault::None, false));
    }

    #[test]
    fn knobs_laid_over_others_win() {
        let mut knobs = Knobs::parse("mock+words=3+cut=1").unwrap();

        knobs.lay("cut=2+quota=5/2s").unwrap();

        assert_eq!((knobs.words, knobs.ending), (3, Ending::Cut(2)));
        assert_eq!(knobs.quota, Some(Quota { limit: 5, window: Duration::from_secs(2) }));
        assert!(knobs.lay("").is_err() && knobs.lay("quota=5").is_err());
    }

    #[test]
    fn every_known_knob_can_be_set() {
        for knob in KNOWN {
            let taken = ["", "=3", "=3ms", "=503", "=3KiB", "=3/3s"]
                .iter()
                .any(|value| Knobs::parse(&format!("mock+{knob}{value}")).is_ok());
            assert!(taken, "{knob}");
        }
    }
}
