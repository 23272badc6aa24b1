//! Resolves the text of an event's error.
//!
//! The column `error` is text. An error that's a list, or an object without a message, would have
//! to be turned into canonical JSON first, so a record with such an error is left to Python.
//! Source: docs/spec/wire-shapes.md#x2, #s6.

use std::borrow::Cow;

use crate::left::Left;
use crate::scan::Raw;
use crate::tables::{Member, Top};
use crate::wire_event::{Nested, WireEvent};
use crate::wire_values::{canonical, value, Value};

/// Returns the text of the first field that holds an error; None if no field does.
pub fn resolve_error<'a>(event: &mut WireEvent<'a>) -> Result<Option<Cow<'a, str>>, Left> {
    let top = event.get(Top::Error);
    if !top.is_empty() && !top.starts_with('"') {
        event.keep_extra(Top::Error);
    }
    let nested = &event.nested;
    let responses = [&nested.payload_response, &nested.stored_payload_response];
    let places = std::iter::once(&nested.payload)
        .chain(nested.deeper())
        .chain(responses);
    let values = std::iter::once(top).chain(places.map(|place| place.get(Member::Error)));
    for raw in values {
        let error = error_of(raw)?;
        if !error.is_empty() {
            return Ok(Some(error));
        }
    }
    Ok(None)
}

/// Returns a text, an object's message, or the JSON of any other value; empty if there's no error.
fn error_of(raw: Raw<'_>) -> Result<Cow<'_, str>, Left> {
    if raw == "false" {
        return Ok(Cow::Borrowed(""));
    }
    Ok(match value(raw)? {
        Value::Absent => Cow::Borrowed(""),
        Value::Text(text) => text,
        Value::Integer(_) => Cow::Borrowed(raw),
        Value::Number(number) => Cow::Borrowed(canonical(number)?),
        Value::Other if raw == "true" => Cow::Borrowed(raw),
        Value::Other => match value(Nested::read(raw)?.get(Member::Message))? {
            Value::Text(text) if !text.is_empty() => text,
            _ => return Err(Left::Rare),
        },
    })
}
