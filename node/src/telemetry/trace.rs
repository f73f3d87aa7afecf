//! W3C trace context: a valid `traceparent` is continued, an invalid one replaced, and neither ever fails a request.

use std::fmt;

use super::hex;

/// The id shared by every span of one trace; never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(u128);

impl TraceId {
    /// Wraps an id; zero is not one.
    pub const fn new(id: u128) -> Option<Self> {
        if id == 0 { None } else { Some(Self(id)) }
    }

    /// Its number.
    pub const fn get(self) -> u128 {
        self.0
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A `traceparent` header: the trace, the calling span, and the flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    trace: TraceId,
    span: u64,
    flags: u8,
}

impl TraceParent {
    /// Reads a header value, of version 00 or of a later one whose beginning has the same form.
    pub fn read(value: &str) -> Option<Self> {
        let bytes = value.as_bytes();
        let (head, rest) = bytes.split_at_checked(55)?;
        let version = digits(head, 0, 2)?;
        let is_ours = if version == 0 { rest.is_empty() } else { rest.is_empty() || rest.first() == Some(&b'-') };
        let is_framed = [2, 35, 52].iter().all(|at| head.get(*at) == Some(&b'-'));
        if !is_ours || !is_framed || version == 0xff {
            return None;
        }
        let trace = TraceId::new(digits(head, 3, 35)?)?;
        let span = u64::try_from(digits(head, 36, 52)?).ok().filter(|span| *span != 0)?;
        // A later version may give the other flags a meaning we do not know; only `sampled` is passed on.
        let flags = u8::try_from(digits(head, 53, 55)? & 1).ok()?;
        Some(Self { trace, span, flags })
    }

    /// Starts a trace of our own, not sampled. A zero is replaced, since zero means none.
    pub const fn start(trace: u128, span: u64) -> Self {
        let trace = TraceId(if trace == 0 { 1 } else { trace });
        Self { trace, span: if span == 0 { 1 } else { span }, flags: 0 }
    }

    /// The same trace, seen from a span of ours.
    #[must_use]
    pub const fn child(self, span: u64) -> Self {
        Self { trace: self.trace, span: if span == 0 { 1 } else { span }, flags: self.flags }
    }

    /// The header's value, as [`Display`](fmt::Display) writes it.
    pub fn value(self) -> [u8; 55] {
        let mut value = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let parts = [
            (3, &hex::digits::<32>(self.trace.0)[..]),
            (36, &hex::digits::<16>(u128::from(self.span))[..]),
            (53, &hex::digits::<2>(u128::from(self.flags))[..]),
        ];
        for (at, digits) in parts {
            value.iter_mut().skip(at).zip(digits).for_each(|(to, digit)| *to = *digit);
        }
        value
    }

    /// The trace it belongs to.
    pub const fn trace(self) -> TraceId {
        self.trace
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

/// Reads lower-case hexadecimal digits; upper case is invalid in this header.
fn digits(bytes: &[u8], from: usize, to: usize) -> Option<u128> {
    bytes.get(from..to)?.iter().try_fold(0_u128, |value, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some((value << 4) | u128::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_child_keeps_the_trace_and_the_sampling() {
        let parent = TraceParent::read(VALID).unwrap();

        assert_eq!(parent.to_string(), VALID);
        assert_eq!(&parent.value(), VALID.as_bytes());
        assert_eq!(parent.child(7).to_string(), "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000007-01");
    }

    #[test]
    fn a_later_version_is_read_by_its_beginning() {
        assert!(TraceParent::read(&format!("cc{}-what-comes-later", VALID.strip_prefix("00").unwrap())).is_some());
    }

    #[test]
    fn what_the_standard_calls_invalid_is_not_continued() {
        let zero_trace = format!("00-{:032}-00f067aa0ba902b7-01", 0);
        let zero_span = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{:016}-01", 0);
        let cases = [
            "",
            "00",
            &VALID.to_uppercase(),
            &VALID.replace('-', "_"),
            &format!("{VALID}-more"),
            &VALID.replacen("00", "ff", 1),
            &zero_trace,
            &zero_span,
            "00-4bf92f3577b34da6a3ce929d0e0e473\u{e9}-00f067aa0ba902b7-01",
        ];
        for case in cases {
            assert_eq!(TraceParent::read(case), None, "{case:?}");
        }
    }
}
