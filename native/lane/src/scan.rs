//! Scans JSON without decoding it: finds the members of objects and the items of lists.
//!
//! The scanner is strict. It accepts only JSON that msgspec accepts too, and leaves any other
//! record to Python. It returns a value as a slice of the record, like `Raw` in Python.

use std::borrow::Cow;

use crate::left::Left;

/// A JSON value as it was sent, or an empty text if the field is absent.
pub type Raw<'a> = &'a str;

/// No value.
pub const ABSENT: Raw<'static> = "";

/// The most levels of nesting. Deeper records are rare, and the recursion needs a limit.
pub const MAX_LEVELS: usize = 64;

/// Scans a text that is one JSON object, and calls `each` with the key and the value of every
/// member.
pub fn object<'a>(
    text: &'a str,
    each: impl FnMut(&'a str, Raw<'a>) -> Result<(), Left>,
) -> Result<(), Left> {
    let start = blanks(text.as_bytes(), 0);
    if text.as_bytes().get(start) != Some(&b'{') {
        return Err(Left::Unreadable);
    }
    let end = members(text, start, 0, each)?;
    whole(text, end)
}

/// Returns the items of a text that is one JSON list.
pub fn list(text: &str) -> Result<Vec<Raw<'_>>, Left> {
    let start = blanks(text.as_bytes(), 0);
    if text.as_bytes().get(start) != Some(&b'[') {
        return Err(Left::Unreadable);
    }
    let mut found = Vec::new();
    let end = items(text, start, 0, |item| found.push(item))?;
    whole(text, end)?;
    Ok(found)
}

/// Returns the text of a JSON string that was scanned.
pub fn unescaped(raw: Raw<'_>) -> Result<Cow<'_, str>, Left> {
    let inner = raw
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .ok_or(Left::Unreadable)?;
    let Some(first) = inner.find('\\') else {
        return Ok(Cow::Borrowed(inner));
    };
    let mut text = String::with_capacity(inner.len());
    text.push_str(&inner[..first]);
    let mut rest = &inner[first..];
    while let Some(escaped) = rest.strip_prefix('\\') {
        text.push(match escaped.as_bytes().first() {
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            _ => return Err(Left::Unreadable),
        });
        rest = &escaped[1..];
        let next = rest.find('\\').unwrap_or(rest.len());
        text.push_str(&rest[..next]);
        rest = &rest[next..];
    }
    Ok(Cow::Owned(text))
}

fn whole(text: &str, end: usize) -> Result<(), Left> {
    if blanks(text.as_bytes(), end) == text.len() {
        Ok(())
    } else {
        Err(Left::Unreadable)
    }
}

/// Scans the members of the object at `at`, and returns the position after it.
fn members<'a>(
    text: &'a str,
    at: usize,
    level: usize,
    mut each: impl FnMut(&'a str, Raw<'a>) -> Result<(), Left>,
) -> Result<usize, Left> {
    let bytes = text.as_bytes();
    if level >= MAX_LEVELS {
        return Err(Left::Large);
    }
    let mut at = blanks(bytes, at + 1);
    if bytes.get(at) == Some(&b'}') {
        return Ok(at + 1);
    }
    loop {
        if bytes.get(at) != Some(&b'"') {
            return Err(Left::Unreadable);
        }
        let behind = string(bytes, at)?;
        let key = &text[at + 1..behind - 1];
        at = blanks(bytes, behind);
        if bytes.get(at) != Some(&b':') {
            return Err(Left::Unreadable);
        }
        let start = blanks(bytes, at + 1);
        let end = value(text, start, level + 1)?;
        each(key, &text[start..end])?;
        at = blanks(bytes, end);
        match bytes.get(at) {
            Some(b',') => at = blanks(bytes, at + 1),
            Some(b'}') => return Ok(at + 1),
            _ => return Err(Left::Unreadable),
        }
    }
}

/// Scans the items of the list at `at`, and returns the position after it.
fn items<'a>(
    text: &'a str,
    at: usize,
    level: usize,
    mut each: impl FnMut(Raw<'a>),
) -> Result<usize, Left> {
    let bytes = text.as_bytes();
    if level >= MAX_LEVELS {
        return Err(Left::Large);
    }
    let mut at = blanks(bytes, at + 1);
    if bytes.get(at) == Some(&b']') {
        return Ok(at + 1);
    }
    loop {
        let end = value(text, at, level + 1)?;
        each(&text[at..end]);
        at = blanks(bytes, end);
        match bytes.get(at) {
            Some(b',') => at = blanks(bytes, at + 1),
            Some(b']') => return Ok(at + 1),
            _ => return Err(Left::Unreadable),
        }
    }
}

/// Scans the value at `at`, and returns the position after it.
fn value(text: &str, at: usize, level: usize) -> Result<usize, Left> {
    let bytes = text.as_bytes();
    match bytes.get(at) {
        Some(b'"') => string(bytes, at),
        Some(b'{') => members(text, at, level, |_, _| Ok(())),
        Some(b'[') => items(text, at, level, |_| ()),
        Some(b'-' | b'0'..=b'9') => number(bytes, at),
        Some(b't') => literal(bytes, at, b"true"),
        Some(b'f') => literal(bytes, at, b"false"),
        Some(b'n') => literal(bytes, at, b"null"),
        _ => Err(Left::Unreadable),
    }
}

/// Returns the position after the blanks that begin at `at`.
fn blanks(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

/// Scans the string whose first quote is at `at`, and returns the position after it.
fn string(bytes: &[u8], at: usize) -> Result<usize, Left> {
    let mut at = at + 1;
    loop {
        while let Some(word) = bytes.get(at..at + 8).and_then(|word| word.try_into().ok()) {
            if holds_end(u64::from_le_bytes(word)) {
                break;
            }
            at += 8;
        }
        while matches!(bytes.get(at), Some(&byte) if byte >= b' ' && byte != b'"' && byte != b'\\')
        {
            at += 1;
        }
        match bytes.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => match bytes.get(at + 1) {
                Some(b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't') => at += 2,
                _ => return Err(Left::Unreadable),
            },
            _ => return Err(Left::Unreadable),
        }
    }
}

/// Returns whether one of eight bytes may be a quote, a backslash, or a control character.
fn holds_end(word: u64) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let quote = zero(word ^ (ONES * u64::from(b'"')));
    let backslash = zero(word ^ (ONES * u64::from(b'\\')));
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (quote | backslash | control) & HIGHS != 0
}

fn number(bytes: &[u8], at: usize) -> Result<usize, Left> {
    let mut at = at + usize::from(bytes.get(at) == Some(&b'-'));
    at = match bytes.get(at) {
        Some(b'0') => at + 1,
        Some(b'1'..=b'9') => digits(bytes, at)?,
        _ => return Err(Left::Unreadable),
    };
    if bytes.get(at) == Some(&b'.') {
        at = digits(bytes, at + 1)?;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        at += 1;
        at += usize::from(matches!(bytes.get(at), Some(b'+' | b'-')));
        at = digits(bytes, at)?;
    }
    Ok(at)
}

/// Returns the position after one or more digits.
fn digits(bytes: &[u8], at: usize) -> Result<usize, Left> {
    let mut end = at;
    while matches!(bytes.get(end), Some(b'0'..=b'9')) {
        end += 1;
    }
    if end > at {
        Ok(end)
    } else {
        Err(Left::Unreadable)
    }
}

fn literal(bytes: &[u8], at: usize, word: &[u8]) -> Result<usize, Left> {
    if bytes[at..].starts_with(word) {
        Ok(at + word.len())
    } else {
        Err(Left::Unreadable)
    }
}

#[cfg(test)]
mod tests {
    use super::{list, object, unescaped, MAX_LEVELS};

    fn keys(text: &str) -> Option<Vec<(&str, &str)>> {
        let mut found = Vec::new();
        object(text, |key, value| {
            found.push((key, value));
            Ok(())
        })
        .ok()
        .map(|()| found)
    }

    #[test]
    fn members_are_slices_of_the_text() {
        let text = " { \"a\" : 1.5e3 , \"b\":[ {} ,\"x\\\"y\"] ,\"c\":null } ";

        let found = keys(text);

        assert_eq!(
            found,
            Some(vec![
                ("a", "1.5e3"),
                ("b", "[ {} ,\"x\\\"y\"]"),
                ("c", "null")
            ])
        );
    }

    #[test]
    fn what_is_not_strictly_json_is_left() {
        for text in [
            "",
            "{",
            "{}{}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":01}",
            "{\"a\":1.}",
            "{\"a\":+1}",
            "{\"a\":nul}",
            "{\"a\":\"\n\"}",
            "{\"a\":\"\\u0041\"}",
            "{\"a\":1,}",
            "{a:1}",
            "[1,]",
            "{\"a\":\"abcdefgh\t\"}",
            "{\"a\":-}",
            "{\"a\":1e}",
            "{\"a\":'x'}",
        ] {
            assert_eq!(keys(text), None, "{text}");
        }
    }

    #[test]
    fn recursion_ends_at_the_most_levels() {
        let deep = |levels: usize| {
            format!(
                "{{\"a\":{}{}}}",
                "[".repeat(levels - 1),
                "]".repeat(levels - 1)
            )
        };

        assert!(keys(&deep(MAX_LEVELS)).is_some());
        assert!(keys(&deep(MAX_LEVELS + 1)).is_none());
        assert!(keys(&"{\"a\":".repeat(100_000)).is_none());
    }

    #[test]
    fn items_and_escapes_are_decoded() {
        assert_eq!(list("[1, \"a\" ,{}]").ok(), Some(vec!["1", "\"a\"", "{}"]));
        assert_eq!(
            unescaped("\"a\\n\\\"é\\\\\"").ok().as_deref(),
            Some("a\n\"é\\")
        );
    }
}
