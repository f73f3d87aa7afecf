//! Units: no bare number crosses a function boundary.
//!
//! Each unit reads and prints the text form that the configuration files use.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bincode::{Decode, Encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Says why a text is not a quantity of its unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// The text has no number, or one that is not of the expected form.
    #[error("{text:?} is not {expected}")]
    Malformed {
        /// What was read.
        text: String,
        /// What would have been understood.
        expected: &'static str,
    },
    /// The number is well formed and does not fit.
    #[error("{text:?} is too large")]
    TooLarge {
        /// What was read.
        text: String,
    },
}

impl UnitError {
    fn malformed(text: &str, expected: &'static str) -> Self {
        Self::Malformed { text: text.to_owned(), expected }
    }

    fn too_large(text: &str) -> Self {
        Self::TooLarge { text: text.to_owned() }
    }
}

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
        pub struct $name($inner);

        impl $name {
            /// Nothing of it.
            pub const ZERO: Self = Self(0);

            /// Wraps a count of this unit.
            pub const fn new(count: $inner) -> Self {
                Self(count)
            }

            /// The count of this unit.
            pub const fn get(self) -> $inner {
                self.0
            }

            /// The sum, or `None` when it does not fit.
            pub const fn checked_add(self, other: Self) -> Option<Self> {
                match self.0.checked_add(other.0) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }

            /// The difference, or `None` when `other` is larger.
            pub const fn checked_sub(self, other: Self) -> Option<Self> {
                match self.0.checked_sub(other.0) {
                    Some(rest) => Some(Self(rest)),
                    None => None,
                }
            }
        }
    };
}

unit! {
    /// Money in billionths of a US dollar. A cost is rounded up, so an account can never be overdrawn by rounding.
    NanoUsd(u64)
}
unit! {
    /// A count of tokens as a provider reports or bills them.
    Tokens(u64)
}
unit! {
    /// A size in bytes.
    Bytes(u64)
}
unit! {
    /// A share in thousandths; 1000 is the whole.
    PerMille(u16)
}

impl Tokens {
    /// The sum, held at the largest count: for counters shown to people, never for money.
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, held at nothing: for parts a provider reports as larger than their whole.
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Bytes {
    /// The size as an index of this machine; what does not fit is held at the largest.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// Splits `text` after its leading digits (and one point, where `point` allows it).
fn split_number(text: &str, point: bool) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || (point && c == '.'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(end)?;
    (!number.is_empty()).then_some((number, suffix.trim()))
}

impl FromStr for NanoUsd {
    type Err = UnitError;

    /// Reads `"25.00"` or `"25.00 USD"`: US dollars with at most nine decimals.
    fn from_str(text: &str) -> Result<Self, UnitError> {
        const EXPECTED: &str = "an amount such as \"25.00\" or \"25.00 USD\"";
        let malformed = || UnitError::malformed(text, EXPECTED);
        let (number, suffix) = split_number(text.trim(), true).ok_or_else(malformed)?;
        if !(suffix.is_empty() || suffix == "USD") {
            return Err(malformed());
        }
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        if whole.is_empty() || fraction.is_empty() || fraction.len() > 9 || fraction.contains('.') {
            return Err(malformed());
        }
        let whole: u64 = whole.parse().map_err(|_| UnitError::too_large(text))?;
        let nanos: u64 = format!("{fraction:0<9}").parse().map_err(|_| malformed())?;
        whole
            .checked_mul(1_000_000_000)
            .and_then(|scaled| scaled.checked_add(nanos))
            .map(Self)
            .ok_or_else(|| UnitError::too_large(text))
    }
}

impl fmt::Display for NanoUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

impl FromStr for Bytes {
    type Err = UnitError;

    /// Reads `"512B"`, `"32KiB"`, `"4MiB"`, `"1GiB"`, or a bare count of bytes.
    fn from_str(text: &str) -> Result<Self, UnitError> {
        const EXPECTED: &str = "a size such as \"32KiB\" or \"4MiB\"";
        let (number, suffix) = split_number(text.trim(), false).ok_or_else(|| UnitError::malformed(text, EXPECTED))?;
        let scale: u64 = match suffix {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(UnitError::malformed(text, EXPECTED)),
        };
        let number: u64 = number.parse().map_err(|_| UnitError::too_large(text))?;
        number.checked_mul(scale).map(Self).ok_or_else(|| UnitError::too_large(text))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (scale, name) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
            if self.0 >= scale && self.0.is_multiple_of(scale) {
                return write!(f, "{}{name}", self.0 / scale);
            }
        }
        write!(f, "{}B", self.0)
    }
}

impl FromStr for PerMille {
    type Err = UnitError;

    /// Reads `"20%"` or `"2.5%"`, at most `"100%"`.
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let malformed = || UnitError::malformed(text, "a share such as \"20%\"");
        let (number, suffix) = split_number(text.trim(), true).ok_or_else(malformed)?;
        let (whole, tenth) = number.split_once('.').unwrap_or((number, "0"));
        if suffix != "%" || tenth.len() != 1 {
            return Err(malformed());
        }
        let whole: u16 = whole.parse().map_err(|_| malformed())?;
        let tenth: u16 = tenth.parse().map_err(|_| malformed())?;
        let share = whole.checked_mul(10).and_then(|w| w.checked_add(tenth)).filter(|share| *share <= 1000);
        share.map(Self).ok_or_else(|| UnitError::too_large(text))
    }
}

impl fmt::Display for PerMille {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 % 10 {
            0 => write!(f, "{}%", self.0 / 10),
            tenth => write!(f, "{}.{tenth}%", self.0 / 10),
        }
    }
}

macro_rules! serde_as_text {
    ($($name:ident),*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}
serde_as_text!(NanoUsd, Bytes, PerMille, Wait);

/// A length of time written with its unit: `"250ms"`, `"30s"`, `"10m"`, `"2h"`, `"7d"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Wait(pub Duration);

impl Wait {
    /// A wait of whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// A wait of whole milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }
}

impl FromStr for Wait {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        const EXPECTED: &str = "a duration such as \"250ms\", \"1.5s\" or \"10m\"";
        let malformed = || UnitError::malformed(text, EXPECTED);
        let (number, suffix) = split_number(text.trim(), true).ok_or_else(malformed)?;
        let scale: u64 = match suffix {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(malformed()),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        if whole.is_empty() || fraction.is_empty() || fraction.len() > 9 || fraction.contains('.') {
            return Err(malformed());
        }
        let whole: u64 = whole.parse().map_err(|_| UnitError::too_large(text))?;
        let billionths: u64 = format!("{fraction:0<9}").parse().map_err(|_| malformed())?;
        // A day in milliseconds times a billion is within the range. A part of a millisecond is none we could keep.
        let part = billionths * scale;
        if !part.is_multiple_of(1_000_000_000) {
            return Err(malformed());
        }
        let millis = whole.checked_mul(scale).and_then(|millis| millis.checked_add(part / 1_000_000_000));
        let millis = millis.ok_or_else(|| UnitError::too_large(text))?;
        Ok(Self(Duration::from_millis(millis)))
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        for (scale, name) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
            if millis >= scale && millis.is_multiple_of(scale) {
                return write!(f, "{}{name}", millis / scale);
            }
        }
        write!(f, "{millis}ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<T: FromStr<Err = UnitError>>(text: &str) -> Result<T, UnitError> {
        text.parse()
    }

    #[test]
    fn money_reads_dollars_to_nine_decimals() {
        assert_eq!(parse("25.00"), Ok(NanoUsd::new(25_000_000_000)));
        assert_eq!(parse("0.000000001 USD"), Ok(NanoUsd::new(1)));
        assert_eq!(parse::<NanoUsd>("18446744073.709551615").map(NanoUsd::get), Ok(u64::MAX));
    }

    #[test]
    fn money_refuses_what_it_cannot_hold_or_understand() {
        for text in ["", "USD", "1.", ".5", "1.0000000001", "1.2.3", "5 EUR", "-1", "18446744073.709551616"] {
            assert!(parse::<NanoUsd>(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn sizes_shares_and_waits_print_what_they_read() {
        for text in ["512B", "32KiB", "4MiB", "1GiB"] {
            assert_eq!(parse::<Bytes>(text).unwrap().to_string(), text);
        }
        for text in ["20%", "2.5%", "100%", "0%"] {
            assert_eq!(parse::<PerMille>(text).unwrap().to_string(), text);
        }
        for text in ["250ms", "30s", "10m", "2h", "7d"] {
            assert_eq!(parse::<Wait>(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn waits_have_decimals_down_to_a_millisecond() {
        for (text, millis) in [("1.5s", 1_500), ("0.25s", 250), ("1.001s", 1_001), ("0.5m", 30_000), ("2.0ms", 2)] {
            assert_eq!(parse(text), Ok(Wait::from_millis(millis)), "{text:?}");
        }
        for text in ["1.s", ".5s", "1.2.3s", "0.5ms", "0.0001s", "1,5s", "-1.5s"] {
            assert!(parse::<Wait>(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn numbers_without_a_unit_or_beyond_the_range_are_refused() {
        assert!(parse::<Wait>("30").is_err());
        assert!(parse::<Wait>("99999999999999999999s").is_err());
        assert!(parse::<PerMille>("101%").is_err());
        assert!(parse::<PerMille>("20").is_err());
        assert!(parse::<Bytes>("4MB").is_err());
    }
}
