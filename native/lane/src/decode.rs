//! Decodes the text of a record into wire events, i.e. events as a producer sent them.
//!
//! A record may hold one event, a list of events, or an event in a wrapper with a sequence number,
//! as change feeds send it. Everything else is left to Python: other envelopes such as a
//! CloudEvent, values that begin with a schema id, and JSON strings. Source:
//! docs/spec/wire-shapes.md#w2, #w3, #w4, #w5, #b1, #b2.

use std::borrow::Cow;

use crate::left::Left;
use crate::scan::{list, unescaped, Raw};
use crate::shapes::is_named;
use crate::tables::{Top, FIRST_COLUMN, MAX_EVENTS_IN_RECORD};
use crate::wire_event::{Fields, WireEvent};
use crate::wire_values::{as_text, same_json, value};

/// The most bytes that the items of a batch inherit from it, all together. Each item gets a copy.
const MAX_COPIED_BYTES: usize = 1 << 18;

/// A function that is called with each event of a record, in order, and its index.
type Each<'e> = &'e mut dyn FnMut(u32, WireEvent<'_>) -> Result<(), Left>;

/// Decodes a record.
pub fn decode_events(text: &str, each: Each<'_>) -> Result<(), Left> {
    if text
        .trim_start_matches([' ', '\t', '\r', '\n'])
        .starts_with('[')
    {
        return decode_batch(text, &Fields::new(), None, 0, each); // #w4
    }
    let fields = Fields::read(text)?;
    if is_named(fields.keys) {
        return each(0, WireEvent::decode(fields, Vec::new())?); // nearly every record
    }
    if is_enveloped(&fields) {
        return Err(Left::Foreign);
    }
    open(fields, |fields, wrapper| match batch_items(&fields) {
        None => each(0, within(fields, &[wrapper.as_ref()])?),
        Some((key, items)) => {
            let mut shared = fields;
            shared.take_other(key);
            if let Some(wrapper) = &wrapper {
                supply_execution(&mut shared, wrapper); // #w5
            }
            let outer_bytes = text.len().saturating_sub(items.len());
            decode_batch(items, &shared, wrapper.as_ref(), outer_bytes, each)
        }
    })
}

/// Decodes the items of a batch.
///
/// An item inherits the fields of the batch that it doesn't have itself (#b1). If an item is in a
/// wrapper, the wrapper is opened first (#b2).
fn decode_batch(
    items: Raw<'_>,
    shared: &Fields<'_>,
    wrapper: Option<&Fields<'_>>,
    outer_bytes: usize,
    each: Each<'_>,
) -> Result<(), Left> {
    let items = list(items)?;
    if items.is_empty() {
        return Err(Left::Rejected); // Python ignores it
    }
    if items.len() > MAX_EVENTS_IN_RECORD || items.len().saturating_mul(outer_bytes) > MAX_COPIED_BYTES {
        return Err(Left::Large);
    }
    for (index, item) in (0..).zip(items) {
        let text = if item.starts_with('"') {
            unescaped(item)?
        } else {
            Cow::Borrowed(item)
        };
        open(Fields::read(&text)?, |mut own, inner| {
            if let Some(inner) = &inner {
                supply_execution(&mut own, inner);
            }
            let fields = own.inheriting(shared)?;
            each(index, within(fields, &[inner.as_ref(), wrapper])?)
        })?;
    }
    Ok(())
}

/// Opens a feed wrapper (#w2) if the object is one, and calls `then` with the object inside and the
/// wrapper's other fields.
fn open(
    mut fields: Fields<'_>,
    then: impl for<'t> FnOnce(Fields<'t>, Option<Fields<'t>>) -> Result<(), Left>,
) -> Result<(), Left> {
    if !is_wrapper(&fields) {
        return then(fields, None);
    }
    let payload = fields.sent(Top::Payload);
    let text = if payload.starts_with('"') {
        unescaped(payload)?
    } else {
        Cow::Borrowed(payload)
    };
    if !text.starts_with('{') {
        return if payload.starts_with('"') {
            Err(Left::Foreign)
        } else {
            then(fields, None)
        };
    }
    let inner = Fields::read(&text)?;
    let holds_event = is_named(inner.keys) || batch_items(&inner).is_some();
    if payload.starts_with('{') && !holds_event {
        return then(fields, None);
    }
    fields.take(Top::Payload);
    then(inner, Some(fields))
}

/// Returns the event with these fields. The other fields of its wrappers are kept in `extra`.
fn within<'a>(
    mut fields: Fields<'a>,
    wrappers: &[Option<&Fields<'a>>],
) -> Result<WireEvent<'a>, Left> {
    let mut extra = Vec::new();
    for wrapper in wrappers.iter().copied().flatten() {
        supply_execution(&mut fields, wrapper);
        adopt(wrapper, &fields, &mut extra)?;
    }
    WireEvent::decode(fields, extra)
}

fn adopt<'a>(
    wrapper: &Fields<'a>,
    fields: &Fields<'a>,
    extra: &mut Vec<(Cow<'a, str>, Raw<'a>)>,
) -> Result<(), Left> {
    for &name in &Top::NAMES[FIRST_COLUMN..] {
        // A column may be set in the wrapper and missing from the event, or the two may have
        // different values. Only the Python code has the rules for these cases, so leave such a
        // record to Python.
        let outer = wrapper.of_key(name).filter(|raw| *raw != "null");
        match (outer, fields.of_key(name)) {
            (None, _) => {}
            (Some(outer), Some(own)) if same_value(own, outer)? => {}
            (Some(_), _) => return Err(Left::Rare),
        }
    }
    for &(key, raw) in &wrapper.others {
        if raw == "null" {
            continue;
        }
        if let Some(own) = fields.of_key(key) {
            if same_value(own, raw)? {
                continue;
            }
        }
        let mut name = Cow::Borrowed(key);
        while Top::of_key(&name).is_some()
            || fields.of_key(&name).is_some()
            || extra.iter().any(|(taken, _)| *taken == name)
        {
            name = Cow::Owned(format!("wrapper.{name}"));
        }
        extra.push((name, raw));
    }
    Ok(())
}

fn supply_execution<'a>(fields: &mut Fields<'a>, wrapper: &Fields<'a>) {
    let outer = wrapper.get(Top::ExecutionId);
    if !outer.is_empty() && fields.get(Top::ExecutionId).is_empty() {
        fields.supply(Top::ExecutionId, outer);
    }
}

/// Returns the key that holds the events of a batch, and their list (#w4).
fn batch_items<'a>(fields: &Fields<'a>) -> Option<(&'static str, Raw<'a>)> {
    if is_named(fields.keys) {
        return None;
    }
    let items = |key| fields.other_sent(key).filter(|raw| raw.starts_with('['));
    ["events", "records"]
        .into_iter()
        .find_map(|key| items(key).map(|raw| (key, raw)))
}

fn is_wrapper(fields: &Fields<'_>) -> bool {
    let has = |key| fields.other_sent(key).is_some();
    !fields.sent(Top::Payload).is_empty()
        && (has("global_sequence") || has("transaction_id"))
        && !is_named(fields.keys)
}

/// Returns whether the keys look like those of an envelope that only Python opens (#w7, #w9).
fn is_enveloped(fields: &Fields<'_>) -> bool {
    ["specversion", "op", "schema", "aggregatetype"]
        .iter()
        .any(|key| fields.other_sent(key).is_some())
}

/// Returns whether two values are equal. An id as text equals the same id as a number.
fn same_value(a: Raw<'_>, b: Raw<'_>) -> Result<bool, Left> {
    if same_json(a, b)? {
        return Ok(true);
    }
    let (a, b) = (as_text(value(a)?)?, as_text(value(b)?)?);
    Ok(!a.is_empty() && a == b)
}
