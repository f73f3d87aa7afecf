//! Dates as headers and bodies write them. Gregorian calendar, UTC, no leap seconds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Reads the one form of HTTP date that is still written: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(super) fn parse_http(text: &str) -> Option<SystemTime> {
    let (_, text) = text.split_once(", ")?;
    let mut parts = text.split(' ');
    let day: u64 = parts.next()?.parse().ok()?;
    let month = parts.next()?;
    let month = u64::try_from(MONTHS.iter().position(|name| *name == month)?).ok()? + 1;
    let year: u64 = parts.next()?.parse().ok()?;
    let mut clock = parts.next()?.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let sound = parts.next() == Some("GMT")
        && parts.next().is_none()
        && clock.next().is_none()
        && (1..=31).contains(&day)
        && (1970..=9999).contains(&year)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !sound {
        return None;
    }
    let seconds = ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// Reads a date of RFC 3339 not before 1970, its fraction of a second left out: `2026-11-22T00:00:00Z`.
pub(crate) fn parse_rfc3339(text: &str) -> Option<SystemTime> {
    let (date, clock) = text.split_once(['T', 't', ' '])?;
    let date: Vec<u64> = date.split('-').map(str::parse).collect::<Result<_, _>>().ok()?;
    let (clock, zone) = clock.split_at_checked(clock.find(['Z', 'z', '+', '-'])?)?;
    let clock = clock.split_once('.').map_or(clock, |(clock, _)| clock);
    let clock: Vec<u64> = clock.split(':').map(str::parse).collect::<Result<_, _>>().ok()?;
    let ([year, month, day], [hour, minute, second]) = (date.try_into().ok()?, clock.try_into().ok()?);
    let sound = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !sound {
        return None;
    }
    let seconds = ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    let behind = |zone: &str| {
        let (hours, minutes) = zone.split_once(':')?;
        let (hours, minutes): (u64, u64) = (hours.parse().ok()?, minutes.parse().ok()?);
        (hours < 24 && minutes < 60).then_some((hours * 60 + minutes) * 60)
    };
    let seconds = match zone.split_at_checked(1)? {
        ("Z" | "z", "") => seconds,
        ("+", zone) => seconds.checked_sub(behind(zone)?)?,
        ("-", zone) => seconds.checked_add(behind(zone)?)?,
        _ => return None,
    };
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// The days from 1970-01-01 to a date not before it.
const fn days(year: u64, month: u64, day: u64) -> u64 {
    // Years are counted from March, so that the leap day is their last; 719,468 days lie before 1970.
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + of_year - 719_468
}

/// Seconds since 1970 as RFC 3339 writes them: `2026-11-22T00:00:00Z`. After the year 9999 the last moment of it.
pub(crate) fn rfc3339(seconds: u64) -> String {
    let seconds = seconds.min(253_402_300_799);
    let (days, clock) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", clock / 3600, clock / 60 % 60, clock % 60)
}
