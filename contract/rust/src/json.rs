//! Canonical JSON: one spelling for all spellings of a value.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::Error;

/// The most digits that a number may have, as it was written and when its exponent is written out.
const MAX_DIGITS: usize = 400;
const MAX_EXPONENT: u32 = 400;
/// A number is below ten to this power: readers that make a double of it can.
const MAX_MAGNITUDE: i32 = 308;
/// The most levels that may lie below a field of an event.
const MAX_LEVELS: usize = 126;

/// Gives any JSON as canonical text: compact, keys by their bytes, of duplicates the last, strings
/// escaped only where they must be, numbers without exponent and without a negative zero.
///
/// # Errors
///
/// What is not JSON, nests deeper than an event may, or holds a number or a lone surrogate that no
/// event may hold.
pub fn canonical_json(text: &str) -> Result<String, Error> {
    let value: &RawValue = serde_json::from_str(text)?;
    let mut out = String::with_capacity(text.len());
    write(value, &mut out, 0)?;
    Ok(out)
}

fn write(value: &RawValue, out: &mut String, level: usize) -> Result<(), Error> {
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'{' | b'[') if level >= MAX_LEVELS => Err(Error::TooDeep),
        Some(b'{') => {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(text)?;
            out.push('{');
            for (place, (key, member)) in members.into_iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                quote(&key, out);
                out.push(':');
                write(member, out, level + 1)?;
            }
            out.push('}');
            Ok(())
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text)?;
            out.push('[');
            for (place, item) in items.into_iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                write(item, out, level + 1)?;
            }
            out.push(']');
            Ok(())
        }
        Some(b'"') => {
            quote(&serde_json::from_str::<String>(text)?, out);
            Ok(())
        }
        Some(b't' | b'f' | b'n') => {
            out.push_str(text);
            Ok(())
        }
        _ => {
            out.push_str(&number(text)?);
            Ok(())
        }
    }
}

/// Writes a string literal: only quotes, backslashes and controls are escaped.
pub(crate) fn quote(text: &str, out: &mut String) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            control if control < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => out.push(other),
        }
    }
    out.push('"');
}

/// Gives the literal of a string.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    quote(text, &mut out);
    out
}

/// Gives a number as PostgreSQL's jsonb prints it: `1e2` is 100, `-0` is 0, trailing zeros stay.
pub(crate) fn number(text: &str) -> Result<String, Error> {
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(unsigned) => ("-", unsigned),
        None => ("", text),
    };
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(place) => (&unsigned[..place], &unsigned[place + 1..]),
        None => (unsigned, "0"),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent: i32 = exponent.parse().map_err(|_| Error::Number)?;
    let digits = format!("{whole}{fraction}");
    if exponent.unsigned_abs() > MAX_EXPONENT || digits.len() > MAX_DIGITS {
        return Err(Error::Number);
    }
    let is_zero = digits.bytes().all(|digit| digit == b'0');
    // How many of the digits stand before the point.
    let point = i32::try_from(whole.len()).map_err(|_| Error::Number)? + exponent;
    let leading = digits.bytes().take_while(|digit| *digit == b'0').count();
    let magnitude = point - i32::try_from(leading).map_err(|_| Error::Number)? - 1;
    if !is_zero && magnitude >= MAX_MAGNITUDE {
        return Err(Error::Number);
    }
    let written = place_point(&digits, point);
    if written.bytes().filter(u8::is_ascii_digit).count() > MAX_DIGITS {
        return Err(Error::Number);
    }
    Ok(if is_zero {
        written
    } else {
        format!("{sign}{written}")
    })
}

/// Puts the point behind the first `point` digits; zeros are added where it lies outside of them.
fn place_point(digits: &str, point: i32) -> String {
    let length = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
    let (whole, fraction) = if point >= length {
        (format!("{digits}{}", zeros(point - length)), String::new())
    } else if point <= 0 {
        (String::new(), format!("{}{digits}", zeros(-point)))
    } else {
        let (whole, fraction) = digits.split_at(usize::try_from(point).unwrap_or(0));
        (whole.to_owned(), fraction.to_owned())
    };
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    if fraction.is_empty() {
        whole.to_owned()
    } else {
        format!("{whole}.{fraction}")
    }
}

/// The members of an object in the order in which they were sent; of duplicates the last counts.
#[derive(Debug, Default)]
pub(crate) struct Object<'a>(pub(crate) Vec<(String, &'a RawValue)>);

impl<'a> Object<'a> {
    /// Gives the members of a value, and of what is no object none.
    pub(crate) fn of(value: Option<&'a RawValue>) -> Self {
        value.map_or_else(Self::default, |value| {
            serde_json::from_str(value.get()).unwrap_or_default()
        })
    }

    /// Gives a member; null counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&'a RawValue> {
        let (_, value) = self.0.iter().rev().find(|(key, _)| key == name)?;
        (value.get() != "null").then_some(*value)
    }

    /// Gives the members of a member.
    pub(crate) fn object(&self, name: &str) -> Object<'a> {
        Object::of(self.get(name))
    }
}

impl<'a, 'de: 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Members).map(Object)
    }
}

/// Refuses an event that holds a number, a lone surrogate or a depth that none may hold, wherever
/// it stands. The text is valid JSON.
pub(crate) fn check_event(text: &str) -> Result<(), Error> {
    let bytes = text.as_bytes();
    let (mut at, mut level, mut deepest) = (0, 0_usize, 0_usize);
    while at < bytes.len() {
        let start = at;
        at += 1;
        match bytes[start] {
            b'"' => {
                let mut is_escaped = false;
                while bytes[at] != b'"' {
                    is_escaped |= bytes[at] == b'\\';
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
                if is_escaped {
                    serde_json::from_str::<String>(&text[start..at])?;
                }
            }
            b'{' | b'[' => {
                level += 1;
                deepest = deepest.max(level);
            }
            b'}' | b']' => level -= 1,
            b'-' | b'0'..=b'9' => {
                let rest = &bytes[at..];
                let is_part = |byte: &&u8| byte.is_ascii_digit() || b".eE+-".contains(byte);
                at += rest.iter().take_while(is_part).count();
                number(&text[start..at])?;
            }
            _ => {}
        }
    }
    // The event's own object is a level too.
    if deepest > MAX_LEVELS + 1 {
        return Err(Error::TooDeep);
    }
    Ok(())
}

/// Gives a string; of all else nothing.
pub(crate) fn text(value: Option<&RawValue>) -> Option<String> {
    serde_json::from_str(value?.get()).ok()
}

/// Gives a string that says something.
pub(crate) fn filled(value: Option<&RawValue>) -> Option<String> {
    text(value).filter(|text| !text.is_empty())
}

/// Gives a number as text; of all else nothing.
pub(crate) fn numeral(value: Option<&RawValue>) -> Option<String> {
    let sent = value?.get();
    let starts = sent.as_bytes().first()?;
    (*starts == b'-' || starts.is_ascii_digit()).then(|| number(sent).ok())?
}

/// Gives a filled string, or a number as text.
pub(crate) fn word(value: Option<&RawValue>) -> Option<String> {
    filled(value).or_else(|| numeral(value))
}

/// Gives the digits of an integer of any size, also of one that is written with an exponent.
pub(crate) fn integer(value: Option<&RawValue>) -> Option<String> {
    numeral(value).filter(|digits| !digits.contains('.'))
}

/// Gives an integer, or the integer that a string of ASCII digits says.
pub(crate) fn digits(value: Option<&RawValue>) -> Option<i64> {
    let said = || filled(value).filter(|text| is_digits(text));
    integer(value).or_else(said)?.parse().ok()
}

/// Gives the integer that an id is: a number without a point and an exponent, or a string of 1 to
/// 19 ASCII digits.
pub(crate) fn id(value: Option<&RawValue>) -> Option<i64> {
    match filled(value) {
        Some(text) => text
            .parse()
            .ok()
            .filter(|_| text.len() <= 19 && is_digits(&text)),
        None => value?.get().parse().ok(),
    }
}

/// Tells whether a value is a number below zero without a point and an exponent.
pub(crate) fn is_negative_integer(value: Option<&RawValue>) -> bool {
    let digits = value.and_then(|value| value.get().strip_prefix('-'));
    digits.is_some_and(|digits| is_digits(digits) && digits != "0")
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}
