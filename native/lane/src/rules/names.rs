//! Resolves the names of an event: `event_type`, `step`, `worker_id`, `command_id`, `node_type`.
//!
//! Producers use different fields for these, so each function looks in several places and takes the
//! first text that it finds. Source: docs/spec/wire-shapes.md#e1, #k1, #k2, #p1, #a1, #l1, #s6.

use std::borrow::Cow;

use crate::left::Left;
use crate::tables::{Member, Top, MAX_EVENT_TYPE_BYTES, MAX_NAME_BYTES, NO_STEP};
use crate::wire_event::{Nested, WireEvent};
use crate::wire_values::{as_text, text_or_integer, value, within_bytes, Value};

const MAX_ITERATION_DIGITS: usize = 10;

/// Returns the event's type as it was sent (#e1).
pub fn resolve_event_type<'a>(event: &mut WireEvent<'a>) -> Result<Cow<'a, str>, Left> {
    let (first, second) = (event.value(Top::EventType)?, event.value(Top::Name)?);
    let has_both = first != Value::Absent && second != Value::Absent;
    if has_both && matches!(second, Value::Number(_)) {
        return Err(Left::Rare); // Python compares it with a text by its digits
    }
    if has_both && first != second {
        event.drop_alias(Top::Name);
    }
    match if first == Value::Absent {
        second
    } else {
        first
    } {
        // Accept only ASCII text here, and leave other text to Python. For some other letters,
        // Python and Rust disagree on the lower case, and on where a word ends.
        Value::Text(text) if !text.is_empty() && text.is_ascii() => {
            within_bytes(text, MAX_EVENT_TYPE_BYTES)
        }
        Value::Text(text) if !text.is_empty() => Err(Left::Rare),
        _ => Err(Left::Rejected),
    }
}

/// Returns the id of the command as text (#k2).
pub fn resolve_command_id<'a>(event: &mut WireEvent<'a>) -> Result<Option<Cow<'a, str>>, Left> {
    let top = event.value(Top::CommandId)?;
    if is_filled(&top) && text_or_integer(top.clone())?.is_empty() {
        event.keep_extra(Top::CommandId);
    }
    let (nested, meta) = (&event.nested, &event.meta);
    let places = [&nested.payload, meta].into_iter().chain(nested.deeper());
    first_word(top, places, Member::CommandId, text_or_integer)
}

/// Returns the step; empty if it's unknown (#p1).
pub fn resolve_step<'a>(
    event: &mut WireEvent<'a>,
    command_id: Option<&str>,
) -> Result<Cow<'a, str>, Left> {
    let (sent, sent_node) = (event.value(Top::Step)?, event.value(Top::NodeName)?);
    let (has_step, has_node) = (is_filled(&sent), is_filled(&sent_node));
    let (step, node_name) = (step_of(sent)?, step_of(sent_node)?);
    if step.is_empty() && has_step {
        event.keep_extra(Top::Step);
    }
    if !node_name.is_empty() && !step.is_empty() && node_name != step {
        event.drop_alias(Top::NodeName);
    } else if node_name.is_empty() && has_node {
        event.keep_extra(Top::NodeName);
    }
    let nested = &event.nested;
    let mut found = step;
    if found.is_empty() {
        found = node_name;
    }
    if found.is_empty() {
        found = step_of(value(nested.payload.get(Member::Step))?)?;
    }
    if found.is_empty() {
        if let Some(step) = command_id.and_then(step_of_command) {
            found = Cow::Owned(step.to_owned());
        }
    }
    if found.is_empty() {
        found = step_of(value(nested.stored_payload.get(Member::Step))?)?;
    }
    within_bytes(found, MAX_NAME_BYTES)
}

/// Returns the id of the worker (#k1).
pub fn resolve_worker_id<'a>(event: &mut WireEvent<'a>) -> Result<Option<Cow<'a, str>>, Left> {
    let top = event.value(Top::WorkerId)?;
    if is_filled(&top) && as_text(top.clone())?.is_empty() {
        event.keep_extra(Top::WorkerId);
    }
    let (nested, meta) = (&event.nested, &event.meta);
    let found = first_word(
        top,
        [&nested.payload, meta],
        Member::WorkerId,
        as_text,
    )?;
    if found.is_some() {
        return Ok(found);
    }
    let worker = Nested::read(event.get(Top::TraceComponent))?.inner(Member::Worker)?;
    let traced = value(worker.get(Member::Id))?;
    first_word(
        traced,
        [&nested.stored_payload],
        Member::WorkerId,
        as_text,
    )
}

/// Returns the type of the node; None if there is none.
pub fn resolve_node_type<'a>(event: &mut WireEvent<'a>) -> Result<Option<Cow<'a, str>>, Left> {
    let sent = event.value(Top::NodeType)?;
    let is_sent = is_filled(&sent);
    let node_type = as_text(sent)?;
    if node_type.is_empty() && is_sent {
        event.keep_extra(Top::NodeType);
    }
    Ok(Some(node_type).filter(|text| !text.is_empty()))
}

/// Returns the loop iteration of a command: the n of `:i{n}` at the end of its id.
#[must_use]
pub fn iteration_of(command_id: &str) -> Option<i32> {
    let (_, digits) = command_id.rsplit_once(":i")?;
    if !is_digits(digits) || digits.len() > MAX_ITERATION_DIGITS {
        return None;
    }
    digits.parse().ok()
}

/// Returns whether a text is one or more ASCII digits, and nothing else.
#[must_use]
pub fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns the first text that isn't empty: from `first`, or from the member of these objects.
fn first_word<'a, 'n>(
    first: Value<'a>,
    places: impl IntoIterator<Item = &'n Nested<'a>>,
    member: Member,
    word: impl Fn(Value<'a>) -> Result<Cow<'a, str>, Left>,
) -> Result<Option<Cow<'a, str>>, Left>
where
    'a: 'n,
{
    let mut found = word(first)?;
    for place in places {
        if !found.is_empty() {
            break;
        }
        found = word(value(place.get(member))?)?;
    }
    within_bytes(found, MAX_NAME_BYTES).map(|found| Some(found).filter(|text| !text.is_empty()))
}

/// Returns whether a value is present, and isn't an empty text.
fn is_filled(value: &Value<'_>) -> bool {
    match value {
        Value::Absent => false,
        Value::Text(text) => !text.is_empty(),
        _ => true,
    }
}

fn step_of(value: Value<'_>) -> Result<Cow<'_, str>, Left> {
    let step = as_text(value)?;
    Ok(if step == NO_STEP {
        Cow::Borrowed("")
    } else {
        step
    })
}

/// Returns the step in the id of a command: the text between the first colon and the id at the end.
fn step_of_command(command_id: &str) -> Option<&str> {
    let (_, rest) = command_id
        .split_once(':')
        .filter(|(first, _)| !first.is_empty())?;
    let (before, last) = rest.rsplit_once(':')?;
    let step = if is_digits(last) {
        before
    } else {
        last.strip_prefix('i').filter(|turn| is_digits(turn))?;
        before.rsplit_once(':').filter(|(_, id)| is_digits(id))?.0
    };
    (!step.is_empty() && step != NO_STEP).then_some(step)
}

#[cfg(test)]
mod tests {
    use super::{iteration_of, step_of_command};

    #[test]
    fn a_command_names_its_step_and_its_iteration() {
        assert_eq!(step_of_command("1:a:b:2"), Some("a:b"));
        assert_eq!(step_of_command("1:a:2:i7"), Some("a"));
        assert_eq!(step_of_command("1::2"), None);
        assert_eq!(step_of_command(":a:2"), None);
        assert_eq!(step_of_command("1:unknown:2"), None);
        assert_eq!(step_of_command("77"), None);
        assert_eq!(iteration_of("1:a:2:i7"), Some(7));
        assert_eq!(iteration_of("1:a:2:i4294967296"), None);
        assert_eq!(iteration_of("1:a:2"), None);
    }
}
