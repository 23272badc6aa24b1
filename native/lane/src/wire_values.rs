//! Reads single JSON values of a wire event: texts, integers, raw bytes.

use std::borrow::Cow;

use crate::left::Left;
use crate::scan::{unescaped, Raw};

/// A decoded value. Null counts as absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Absent, or null.
    Absent,
    /// A string.
    Text(Cow<'a, str>),
    /// A number without a point or an exponent.
    Integer(i128),
    /// Any other number, as it was written.
    Number(&'a str),
    /// A boolean, a list, or an object.
    Other,
}

/// Decodes a value.
pub fn value(raw: Raw<'_>) -> Result<Value<'_>, Left> {
    Ok(match raw.as_bytes().first() {
        None | Some(b'n') => Value::Absent,
        Some(b'"') => Value::Text(unescaped(raw)?),
        Some(b'-' | b'0'..=b'9') if raw.contains(['.', 'e', 'E']) => Value::Number(raw),
        Some(b'-') if raw == "-0" => return Err(Left::Rare),
        Some(b'-' | b'0'..=b'9') => Value::Integer(raw.parse().map_err(|_| Left::Rare)?),
        Some(_) => Value::Other,
    })
}

/// Returns a value, or the absent one for null.
pub fn present(raw: Raw<'_>) -> Raw<'_> {
    if raw == "null" {
        ""
    } else {
        raw
    }
}

/// Returns a number as jsonb prints it. A number with an exponent or a negative zero would be
/// printed differently from how it was sent, so it's left to Python.
pub fn canonical(number: &str) -> Result<&str, Left> {
    const LONG: usize = 100;
    let is_signed_zero = number.starts_with('-') && number.bytes().all(|b| b"-0.".contains(&b));
    if number.contains(['e', 'E']) || is_signed_zero || number.len() > LONG {
        return Err(Left::Rare);
    }
    Ok(number)
}

/// Returns a text, or an integer as text; empty for any other value (#k2).
pub fn text_or_integer(value: Value<'_>) -> Result<Cow<'_, str>, Left> {
    Ok(match value {
        Value::Text(text) => text,
        Value::Integer(number) => Cow::Owned(number.to_string()),
        Value::Number(number) if number.contains(['e', 'E']) => return Err(Left::Rare),
        Value::Absent | Value::Number(_) | Value::Other => Cow::Borrowed(""),
    })
}

/// Returns a text, or a number as text; empty for any other value (#p1, #k1).
pub fn as_text(value: Value<'_>) -> Result<Cow<'_, str>, Left> {
    match value {
        Value::Number(number) => canonical(number).map(Cow::Borrowed),
        value => text_or_integer(value),
    }
}

/// Returns the text, or an error if it has more than `most` bytes, because Python rejects such a
/// record (#l1).
pub fn within_bytes(text: Cow<'_, str>, most: usize) -> Result<Cow<'_, str>, Left> {
    if text.len() > most {
        return Err(Left::Rejected);
    }
    Ok(text)
}

/// Returns whether two values are equal as JSON. If a simple comparison can't decide that, the
/// record is left to Python.
pub fn same_json(a: Raw<'_>, b: Raw<'_>) -> Result<bool, Left> {
    if a == b {
        return Ok(true);
    }
    let is_nested = |raw: Raw<'_>| raw.starts_with(['{', '[']);
    match (value(a)?, value(b)?) {
        (Value::Number(a), Value::Number(b)) => Ok(canonical(a)? == canonical(b)?),
        // A number with an exponent may equal an integer.
        (Value::Number(number), Value::Integer(_)) | (Value::Integer(_), Value::Number(number)) => {
            canonical(number).map(|_| false)
        }
        (Value::Other, Value::Other) if is_nested(a) && is_nested(b) => Err(Left::Rare),
        (a, b) => Ok(a == b && !matches!(a, Value::Other)),
    }
}

/// Writes a string as msgspec does.
pub fn quote(text: &str, out: &mut String) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            other => out.push(other),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::{as_text, quote, same_json, value, Value};
    use crate::left::Left;

    #[test]
    fn values_have_the_types_that_rules_compare() {
        assert_eq!(value("null"), Ok(Value::Absent));
        assert_eq!(value("\"a\""), Ok(Value::Text("a".into())));
        assert_eq!(value("18446744073709551616"), Ok(Value::Integer(1 << 64)));
        assert_eq!(value("1e2"), Ok(Value::Number("1e2")));
        assert_eq!(value("true"), Ok(Value::Other));
        assert_eq!(value("-0"), Err(Left::Rare));
    }

    #[test]
    fn numbers_as_text_keep_their_zeros_and_leave_exponents() {
        let text = |raw| value(raw).and_then(as_text);

        assert_eq!(text("1.50").as_deref(), Ok("1.50"));
        assert_eq!(text("-7").as_deref(), Ok("-7"));
        assert_eq!(text("1e2"), Err(Left::Rare));
        assert_eq!(text("-0.0"), Err(Left::Rare));
        assert_eq!(text("[1]").as_deref(), Ok(""));
    }

    #[test]
    fn equal_values_may_be_spelled_differently() {
        assert_eq!(same_json("\"a\\\"\"", "\"a\\\"\""), Ok(true));
        assert_eq!(same_json("1.0", "1"), Ok(false));
        assert_eq!(same_json("1e0", "1"), Err(Left::Rare));
        assert_eq!(same_json("{}", "{ }"), Err(Left::Rare));
        assert_eq!(same_json("{}", "1"), Ok(false));
        assert_eq!(same_json("true", "false"), Ok(false));
    }

    #[test]
    fn quotes_escape_what_they_must() {
        let mut out = String::new();
        quote("a\"\n\\é", &mut out);

        assert_eq!(out, "\"a\\\"\\n\\\\é\"");
    }
}
