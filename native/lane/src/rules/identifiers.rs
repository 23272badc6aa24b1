//! Resolves the ids of an event: `event_id`, `execution_id`, `catalog_id`, and the parents' ids.
//!
//! An id may be sent as a number or as text. Text that isn't a number is replaced by its hash. If
//! `execution_id` or `event_id` is invalid, the event has to be rejected, so the record is left to
//! Python. If any other id is invalid, only its column is empty. Source:
//! docs/spec/wire-shapes.md#i1, #i2, #i3, #i4, #k3.

use std::borrow::Cow;

use crate::left::Left;
use crate::rules::names::is_digits;
use crate::snowflake::{hash_event_id, hash_text_id};
use crate::tables::{Member, Top, BEGINS};
use crate::wire_event::{From, WireEvent};
use crate::wire_values::{value, Value};

/// A value, read as an id.
enum Id<'a> {
    Number(i64),
    /// A text, or a number beyond 64 bits.
    Opaque(Cow<'a, str>),
    /// Absent, or an empty text.
    Missing,
    Zero,
    Negative,
    /// A value of another type.
    Invalid,
}

/// Returns the execution's id (#i3).
pub fn resolve_execution_id(event: &mut WireEvent<'_>) -> Result<i64, Left> {
    match parse_id(event.value(Top::ExecutionId)?) {
        Id::Number(id) => Ok(id),
        Id::Opaque(text) => {
            let id = hash_text_id(&text);
            event.coerce("opaque_id", "execution_id", From::Text(text));
            Ok(id)
        }
        Id::Missing | Id::Zero | Id::Negative | Id::Invalid => Err(Left::Rejected),
    }
}

/// Returns the producer's id of the event; None if it sent none (#i3).
pub fn resolve_event_id(event: &mut WireEvent<'_>) -> Result<Option<i64>, Left> {
    match parse_id(event.value(Top::EventId)?) {
        Id::Number(id) => Ok(Some(id)),
        Id::Opaque(text) => {
            let id = hash_event_id(&text);
            event.coerce("opaque_id", "event_id", From::Text(text));
            Ok(Some(id))
        }
        Id::Missing => Ok(None),
        Id::Zero | Id::Negative => {
            event.keep_extra(Top::EventId);
            Ok(None)
        }
        Id::Invalid => Err(Left::Rejected),
    }
}

/// Returns any other id; None if it's invalid, because that doesn't reject the event (#i4).
pub fn resolve_secondary_id(event: &mut WireEvent<'_>, field: Top) -> Result<Option<i64>, Left> {
    let name = Top::NAMES[field as usize];
    Ok(match parse_id(event.value(field)?) {
        Id::Number(id) => Some(id),
        Id::Opaque(text) => {
            let id = hash_text_id(&text);
            event.coerce("opaque_id", name, From::Text(text));
            Some(id)
        }
        Id::Missing => None,
        Id::Zero => {
            event.keep_extra(field);
            None
        }
        Id::Negative | Id::Invalid => {
            event.coerce("invalid_secondary_id", name, From::Raw(event.get(field)));
            None
        }
    })
}

/// Returns the id of the parent execution. An event that begins an execution may have it in its
/// context (#k3).
pub fn resolve_parent_execution_id(
    event: &mut WireEvent<'_>,
    event_type: &str,
    own_id: i64,
) -> Result<Option<i64>, Left> {
    let parent = resolve_secondary_id(event, Top::ParentExecutionId)?;
    if parent.is_some() || !BEGINS.contains(&event_type) {
        return Ok(parent);
    }
    for place in [&event.nested.payload, &event.nested.stored_payload] {
        let sent = value(place.get(Member::ParentExecutionId))?;
        if matches!(&sent, Value::Number(number) if number.contains(['e', 'E'])) {
            return Err(Left::Rare);
        }
        match parse_id(sent) {
            Id::Number(id) if id != own_id => return Ok(Some(id)),
            _ => {}
        }
    }
    Ok(None)
}

/// Keeps the id of a child execution, which a result may hold, in `extra` as it was sent (#k3).
pub fn keep_child_execution_id(event: &mut WireEvent<'_>) {
    const KEY: &str = "child_execution_id";
    let child = event.nested.result.get(Member::ChildExecutionId);
    if !child.is_empty() && !event.extra.iter().any(|(key, _)| key == KEY) {
        event.extra.push((Cow::Borrowed(KEY), child));
    }
}

/// Parses a value as an id (#i1, #i2).
fn parse_id(value: Value<'_>) -> Id<'_> {
    const MAX_DIGITS: usize = 19;
    match value {
        Value::Absent => Id::Missing,
        Value::Integer(0) => Id::Zero,
        Value::Integer(number) if number < 0 => Id::Negative,
        Value::Integer(number) => {
            i64::try_from(number).map_or_else(|_| Id::Opaque(number.to_string().into()), Id::Number)
        }
        Value::Text(text) if text.is_empty() => Id::Missing,
        Value::Text(text) if text.len() <= MAX_DIGITS && is_digits(&text) => match text.parse() {
            Ok(0) => Id::Zero,
            Ok(number) => Id::Number(number),
            Err(_) => Id::Opaque(text),
        },
        Value::Text(text) => Id::Opaque(text),
        Value::Number(_) | Value::Other => Id::Invalid,
    }
}
