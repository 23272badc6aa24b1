//! Times: every spelling of a producer in, UTC with microseconds out.

use chrono::{DateTime, Duration, NaiveDate, NaiveDateTime, SecondsFormat, TimeZone, Utc};
use serde_json::value::RawValue;

use crate::json;

const SNOWFLAKE_EPOCH_MS: i64 = 1_704_067_200_000;

/// Gives a time as a canonical line has it: RFC 3339, UTC, always with microseconds.
pub(crate) fn canonical(time: &DateTime<Utc>) -> String {
    unix(time).to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// Gives the time as Unix counts it: a leap second, which no reader takes, is the one after it.
pub(crate) fn unix(time: &DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(time.timestamp_micros()).unwrap_or(*time)
}

/// Gives the time that a value says, cut to microseconds; nothing outside of 2000 to 2100.
pub(crate) fn read(value: &RawValue) -> Option<DateTime<Utc>> {
    let sent = value.get();
    let time = match json::text(Some(value)) {
        Some(text) => of_text(&text).or_else(|| of_number(&text))?,
        None => of_number(sent)?,
    };
    believable(time)
}

/// Gives the time inside a snowflake id, where the id is one.
pub(crate) fn of_id(id: i64) -> Option<DateTime<Utc>> {
    if id < 1 << 40 || id & (1 << 62) != 0 {
        return None;
    }
    // The platform's database has a layout of its own, one bit further to the left.
    let foreign = id & 0x7F_FC00 == 0x04_0000;
    let ms = (id >> if foreign { 23 } else { 22 }) + SNOWFLAKE_EPOCH_MS;
    believable(Utc.timestamp_millis_opt(ms).single()?)
}

fn believable(time: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let year = |year| Utc.with_ymd_and_hms(year, 1, 1, 0, 0, 0).single();
    (year(2000)? <= time && time <= year(2100)?).then_some(time)
}

fn of_text(text: &str) -> Option<DateTime<Utc>> {
    if !text.is_ascii() || text.len() < 10 {
        return None;
    }
    let (date, rest) = text.split_at(10);
    let parts: Vec<&str> = date.split('-').collect();
    let [year, month, day] = parts[..] else {
        return None;
    };
    let date = NaiveDate::from_ymd_opt(
        i32::try_from(fixed(year, 4)?).ok()?,
        fixed(month, 2)?,
        fixed(day, 2)?,
    )?;
    if rest.is_empty() {
        return Some(date.and_hms_opt(0, 0, 0)?.and_utc());
    }
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let zone_at = rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len());
    let (clock, zone) = rest.split_at(zone_at);
    let local = of_clock(date, clock)?;
    Some((local - Duration::seconds(of_zone(zone)?)).and_utc())
}

fn of_clock(date: NaiveDate, clock: &str) -> Option<NaiveDateTime> {
    let (clock, fraction) = match clock.split_once('.') {
        Some((clock, fraction)) if clock.len() == 8 => (clock, fraction),
        Some(_) => return None,
        None => (clock, "0"),
    };
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let parts: Vec<&str> = clock.split(':').collect();
    let (hour, minute, second) = match parts[..] {
        [hour, minute] => (hour, minute, "00"),
        [hour, minute, second] => (hour, minute, second),
        _ => return None,
    };
    let micros: u32 = format!("{fraction:0<6}")[..6].parse().ok()?;
    date.and_hms_micro_opt(
        fixed(hour, 2)?,
        fixed(minute, 2)?,
        fixed(second, 2)?,
        micros,
    )
}

/// Gives the seconds by which a zone is ahead of UTC; no zone is UTC.
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
        4 => digits.split_at(2),
        _ => digits.split_once(':')?,
    };
    let (hours, minutes) = (fixed(hours, 2)?, fixed(minutes, 2)?);
    (hours < 24 && minutes < 60).then_some(sign * i64::from(hours * 3600 + minutes * 60))
}

/// Gives the number that exactly `length` ASCII digits are.
fn fixed(text: &str, length: usize) -> Option<u32> {
    let is_number = text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}

/// Tells whether a text is digits, perhaps with a minus, a fraction, and an exponent of 1 to 4
/// digits.
fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let power = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let is_digits = |part: &&str| !part.is_empty() && part.bytes().all(|a| a.is_ascii_digit());
    power.len() <= 4 && [whole, fraction, power].iter().all(is_digits)
}

/// Gives the time of seconds, or milli-, micro- or nanoseconds, distinguished by their size.
fn of_number(text: &str) -> Option<DateTime<Utc>> {
    let plain = is_number(text).then(|| json::number(text).ok())??;
    let (whole, fraction) = plain.split_once('.').unwrap_or((&plain, ""));
    let number: i128 = whole.parse().ok()?;
    let above = |limit: i128| {
        number > limit || (number == limit && fraction.bytes().any(|digit| digit != b'0'))
    };
    // Decimal places between the number's unit and microseconds.
    let places: usize = if above(20_000_000_000_000_000) {
        return micros(number / 1000);
    } else if above(20_000_000_000_000) {
        0
    } else if above(20_000_000_000) {
        3
    } else {
        6
    };
    let digits = format!("{fraction:0<places$}");
    micros(format!("{whole}{}", &digits[..places]).parse().ok()?)
}

fn micros(count: i128) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_micros(i64::try_from(count).ok()?)
}
