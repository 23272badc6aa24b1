//! Resolves the time of an event, and how strong the evidence is.
//!
//! Times are in microseconds since 1970. A number is left to Python if it has an exponent, or more
//! digits than fit in 128 bits. Source: docs/spec/wire-shapes.md#t1, #t2, #t3, #t4, #a2.

use crate::left::Left;
use crate::record::Record;
use crate::rules::names::is_digits;
use crate::snowflake::time_in;
use crate::tables::Top;
use crate::wire_event::{From, WireEvent};
use crate::wire_values::{value, Value};

const SOURCES: [Top; 4] = [
    Top::CreatedAt,
    Top::Timestamp,
    Top::EventTime,
    Top::IngestTime,
];

const DAY_US: i64 = 86_400_000_000;
/// 2000-01-01
const EARLIEST_US: i64 = 946_684_800_000_000;
/// 2100-01-01, the latest accepted time of an event whose record has no timestamp.
const LATEST_US: i64 = 4_102_444_800_000_000;
/// A number above one of these counts nanoseconds, microseconds, or milliseconds.
const NANOSECONDS: i128 = 20_000_000_000_000_000;
const MICROSECONDS: i128 = 20_000_000_000_000;
const MILLISECONDS: i128 = 20_000_000_000;
const MAX_NUMBER_CHARS: usize = 30;

/// Returns the time of the event, and the rank of its evidence.
///
/// If the producer sent a valid time, that one is used (rank 2). Otherwise it's the time inside the
/// event's snowflake id (rank 1), or else the timestamp of the Kafka record (rank 0).
pub fn resolve_created_at(
    event: &mut WireEvent<'_>,
    event_id: Option<i64>,
    record: &Record<'_>,
) -> Result<(i64, i16), Left> {
    let recorded_us = record.recorded_ms().map(|ms| ms * 1000);
    let latest = recorded_us.map_or(LATEST_US, |us| us + DAY_US);
    if let Some(declared) = declared(event, latest)? {
        return Ok((declared, 2));
    }
    let in_id = event_id
        .and_then(|id| time_in(id, record.recorded_ms()))
        .map(|ms| ms * 1000);
    if let Some(us) = in_id.filter(|us| *us <= latest) {
        return Ok((us, 1));
    }
    recorded_us.map(|us| (us, 0)).ok_or(Left::Rejected)
}

/// Returns the first readable time. A later field with another time is kept in `extra`.
fn declared(event: &mut WireEvent<'_>, latest: i64) -> Result<Option<i64>, Left> {
    let mut chosen = None;
    for field in SOURCES {
        let raw = event.get(field);
        if raw.is_empty() || raw == "\"\"" {
            continue;
        }
        let time = parse_time(value(raw)?)?;
        if chosen.is_some() {
            if time != chosen {
                event.drop_alias(field);
            }
        } else if time.is_some_and(|us| (EARLIEST_US..=latest).contains(&us)) {
            chosen = time;
        } else {
            event.coerce(
                "created_at_unreadable",
                Top::NAMES[field as usize],
                From::Raw(raw),
            );
        }
    }
    Ok(chosen)
}

/// Parses a time and truncates it to microseconds; None if it isn't readable.
fn parse_time(value: Value<'_>) -> Result<Option<i64>, Left> {
    match value {
        Value::Text(text) => match of_text(&text) {
            None if may_be_number(&text) => of_number(&text),
            time => Ok(time),
        },
        Value::Integer(number) => of_number(&number.to_string()),
        Value::Number(number) => of_number(number),
        Value::Absent | Value::Other => Ok(None),
    }
}

/// Reads a time as text (#t2); None for any other form, or an impossible date or time of day.
fn of_text(text: &str) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let (year, month, day) = (
        fixed(date.get(..4)?, 4)?,
        fixed(date.get(5..7)?, 2)?,
        fixed(date.get(8..)?, 2)?,
    );
    let has_dashes = date.as_bytes()[4] == b'-' && date.as_bytes()[7] == b'-';
    if !has_dashes || year < 1 || !(1..=days_in(year, month)?).contains(&day) {
        return None;
    }
    let midnight = days_before(year, month, day) * DAY_US;
    if rest.is_empty() {
        return Some(midnight);
    }
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (clock, zone) = rest.split_at(rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len()));
    Some(midnight + of_clock(clock)? - of_zone(zone)? * 1_000_000)
}

/// Reads `hh:mm`, `hh:mm:ss`, or `hh:mm:ss.digits` as microseconds.
fn of_clock(clock: &str) -> Option<i64> {
    let (clock, fraction) = match clock.split_once('.') {
        Some((clock, fraction)) if clock.len() == 8 && is_digits(fraction) => (clock, fraction),
        Some(_) => return None,
        None => (clock, ""),
    };
    let mut parts = clock.split(':');
    let (hour, minute) = (fixed(parts.next()?, 2)?, fixed(parts.next()?, 2)?);
    let second = parts.next().map_or(Some(0), |second| fixed(second, 2))?;
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let digits = fraction.bytes().map(|digit| i64::from(digit - b'0'));
    let units = [100_000, 10_000, 1_000, 100, 10, 1];
    let microseconds: i64 = digits.zip(units).map(|(digit, unit)| digit * unit).sum();
    Some(((hour * 60 + minute) * 60 + second) * 1_000_000 + microseconds)
}

/// Returns how many seconds a zone is ahead of UTC. An empty zone is UTC.
fn of_zone(zone: &str) -> Option<i64> {
    if matches!(zone, "" | "Z" | "z") {
        return Some(0);
    }
    let (sign, digits) = match zone.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, zone.strip_prefix('+')?),
    };
    let (hours, minutes) = match digits.len() {
        2 => (digits, "00"),
        4 => digits.split_at_checked(2)?,
        _ => digits.split_once(':')?,
    };
    let (hours, minutes) = (fixed(hours, 2)?, fixed(minutes, 2)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

/// Returns whether a text may be a number, which Python then reads as a numeric time.
fn may_be_number(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_digit() || b"-+.eE".contains(&byte))
}

/// Reads an exact decimal (#t3); None if the text isn't a number.
fn of_number(text: &str) -> Result<Option<i64>, Left> {
    if text.contains(['e', 'E', '+']) || text.len() > MAX_NUMBER_CHARS {
        return Err(Left::Rare);
    }
    let (is_negative, unsigned) = match text.strip_prefix('-') {
        Some(unsigned) => (true, unsigned),
        None => (false, text),
    };
    let (whole, fraction) = match unsigned.split_once('.') {
        Some((whole, fraction)) if is_digits(fraction) => (whole, fraction),
        Some(_) => return Ok(None),
        None => (unsigned, ""),
    };
    if !is_digits(whole) {
        return Ok(None);
    }
    let number: i128 = whole.parse().map_err(|_| Left::Rare)?;
    let is_above = |limit| {
        !is_negative
            && (number > limit || (number == limit && fraction.bytes().any(|digit| digit != b'0')))
    };
    if is_above(NANOSECONDS) {
        return Ok(i64::try_from(number / 1000).ok());
    }
    let places = if is_above(MICROSECONDS) {
        0
    } else if is_above(MILLISECONDS) {
        3
    } else {
        6
    };
    let digits = format!("{whole}{fraction:0<places$}");
    let us: i128 = digits[..whole.len() + places]
        .parse()
        .map_err(|_| Left::Rare)?;
    Ok(i64::try_from(if is_negative { -us } else { us }).ok())
}

/// Returns the number in a text of exactly `length` ASCII digits.
fn fixed(text: &str, length: usize) -> Option<i64> {
    (text.len() == length && is_digits(text)).then(|| text.parse().ok())?
}

fn days_in(year: i64, month: i64) -> Option<i64> {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 => Some(28 + i64::from(is_leap)),
        _ => None,
    }
}

/// Returns the number of days from 1970-01-01 to a date.
fn days_before(year: i64, month: i64, day: i64) -> i64 {
    // Count years from March, so that a leap day is the last day of its year.
    let year = year - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::{of_number, of_text};

    #[test]
    fn every_spelling_of_a_time_is_read() {
        let us = 1_783_674_000_123_456;
        for text in [
            "2026-07-10T09:00:00.123456Z",
            "2026-07-10 09:00:00.1234569",
            "2026-07-10t11:00:00.123456+02:00",
            "2026-07-10T04:30:00.123456-0430",
            "2026-07-10T10:00:00.123456+01",
        ] {
            assert_eq!(of_text(text), Some(us), "{text}");
        }
        assert_eq!(of_text("1970-01-01"), Some(0));
        assert_eq!(of_text("2024-02-29T00:01"), Some(1_709_164_860_000_000));
        assert_eq!(of_text("0001-01-01"), Some(-62_135_596_800_000_000));
    }

    #[test]
    fn what_is_no_time_is_not_read() {
        for text in [
            "2026-02-29",
            "2026-13-01",
            "2026-07-10T24:00",
            "2026-07-10T10:60",
            "2026-7-10",
            "2026-07-10T10",
            "2026-07-10T10:00:00.",
            "2026-07-10T10:00+1",
            "2026-07-10T10:00+24:00",
            "2026-07-10T10:00:00.1+02:60",
            "2026-07-10x10:00",
            "0000-01-01",
            "é026-07-10",
        ] {
            assert_eq!(of_text(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_count_in_the_unit_of_their_size() {
        let us = 1_783_674_000_123_456_i64;
        assert_eq!(of_number("1783674000.1234569"), Ok(Some(us)));
        assert_eq!(of_number("1783674000123.456"), Ok(Some(us)));
        assert_eq!(of_number("1783674000123456.9"), Ok(Some(us)));
        assert_eq!(of_number("1783674000123456999"), Ok(Some(us)));
        assert_eq!(of_number("-1.5"), Ok(Some(-1_500_000)));
        assert_eq!(of_number("1-2"), Ok(None));
        assert!(of_number("1e9").is_err());
    }
}
