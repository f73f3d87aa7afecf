//! Times, sizes and rates as a plan writes them.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::{Deserialize, Deserializer, Error as _, Visitor};

/// A time with its unit, `250us`, `20ms`, `10s` or `2m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Duration);

/// A size, a bare number of bytes or one with its unit: `300`, `2KiB`, `1MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Size(pub u64);

/// Reads a time; none when it has no unit or is no number.
pub fn time(text: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(text)?;
    match unit {
        "us" => Some(Duration::from_micros(number)),
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number.checked_mul(60)?)),
        _ => None,
    }
}

/// Reads a size in bytes.
pub fn size(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    match unit {
        "" | "B" => Some(number),
        "KiB" => number.checked_mul(1 << 10),
        "MiB" => number.checked_mul(1 << 20),
        _ => None,
    }
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit))
}

/// Gives microseconds as a person reads them: `85 us`, `1.24 ms`, `2.50 s`.
pub fn shown_us(us: f64) -> String {
    match us.abs() {
        small if small < 1000.0 => format!("{us:.0} us"),
        middle if middle < 1_000_000.0 => format!("{:.2} ms", us / 1e3),
        _ => format!("{:.2} s", us / 1e6),
    }
}

/// Counts are far below 2^53, where f64 is exact.
#[expect(clippy::cast_precision_loss, reason = "counts of a bounded run are exact in f64")]
pub fn float(count: u64) -> f64 {
    count as f64
}

/// Gives whole microseconds; what does not fit counts as the most that does.
pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Serialize for Time {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{}us", self.0.as_micros()))
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let read = time(&text).map(Self);
        read.ok_or_else(|| D::Error::custom(format!("`{text}` is no time: write 250us, 20ms, 10s or 2m")))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = Size;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a size: 300, \"2KiB\" or \"1MiB\"")
    }

    fn visit_i64<E: serde::de::Error>(self, bytes: i64) -> Result<Size, E> {
        u64::try_from(bytes).map(Size).map_err(|_| E::custom(format!("{bytes} is no size")))
    }

    fn visit_u64<E: serde::de::Error>(self, bytes: u64) -> Result<Size, E> {
        Ok(Size(bytes))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Size, E> {
        size(text).map(Size).ok_or_else(|| E::custom(format!("`{text}` is no size: write 300, 2KiB or 1MiB")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_needs_a_unit_and_a_size_does_not() {
        assert_eq!(time("20ms"), Some(Duration::from_millis(20)));
        assert_eq!(time("2m"), Some(Duration::from_secs(120)));
        assert_eq!((time("20"), time("ms"), time("-1s"), time("1.5s")), (None, None, None, None));
        assert_eq!((size("300"), size("2KiB"), size("1GiB")), (Some(300), Some(2048), None));
    }

    #[test]
    fn microseconds_are_shown_in_the_unit_that_fits() {
        assert_eq!(shown_us(85.4), "85 us");
        assert_eq!(shown_us(1240.0), "1.24 ms");
        assert_eq!(shown_us(2_500_000.0), "2.50 s");
        assert_eq!(shown_us(-12.0), "-12 us");
    }
}
