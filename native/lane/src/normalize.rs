//! Applies every rule to an event, in the same order as Python does.
//!
//! If several rules would reject the event, the first one decides the reason. Source:
//! docs/spec/wire-shapes.md#l2, #v3, #g4.

use std::borrow::Cow;

use crate::envelope::Envelope;
use crate::left::Left;
use crate::record::Record;
use crate::rules::attempt_numbers::{meta_attempts_equal, resolve_attempts, resolve_max_attempts};
use crate::rules::durations::resolve_duration;
use crate::rules::error_text::resolve_error;
use crate::rules::identifiers::{
    keep_child_execution_id, resolve_event_id, resolve_execution_id, resolve_parent_execution_id,
    resolve_secondary_id,
};
use crate::rules::names::{
    iteration_of, resolve_command_id, resolve_event_type, resolve_node_type, resolve_step,
    resolve_worker_id,
};
use crate::rules::status::resolve_status;
use crate::rules::timestamps::resolve_created_at;
use crate::shapes::detect_shape;
use crate::snowflake::derive_id;
use crate::tables::Top;
use crate::wire_event::WireEvent;

/// Returns the canonical event.
pub fn normalize<'a>(
    record: &Record<'_>,
    index: u32,
    mut event: WireEvent<'a>,
) -> Result<Envelope<'a>, Left> {
    let event = &mut event;
    let event_type = resolve_event_type(event)?;
    let shape = detect_shape(
        event.fields.keys,
        event.nested.payload.is_object,
        &event_type,
    );
    keep_child_execution_id(event);
    let command_id = resolve_command_id(event)?;
    let step = resolve_step(event, command_id.as_deref())?;
    let worker_id = resolve_worker_id(event)?;
    let (status, status_rank) = resolve_status(event, &event_type)?;
    let execution_id = resolve_execution_id(event)?;
    let own_id = resolve_event_id(event)?;
    let (created_at, created_rank) = resolve_created_at(event, own_id, record)?;
    let (attempts, attempts_rank) = resolve_attempts(event)?;
    Ok(Envelope {
        execution_id,
        event_id: own_id.unwrap_or_else(|| derive_id(record, index)),
        step,
        attempts,
        max_attempts: resolve_max_attempts(event)?,
        created_at,
        worker_id,
        iteration: command_id.as_deref().and_then(iteration_of),
        command_id,
        node_type: resolve_node_type(event)?,
        catalog_id: resolve_secondary_id(event, Top::CatalogId)?,
        parent_event_id: resolve_secondary_id(event, Top::ParentEventId)?,
        parent_execution_id: resolve_parent_execution_id(event, &event_type, execution_id)?,
        duration: resolve_duration(event, &event_type)?,
        error: resolve_error(event)?,
        context: event.context,
        result: event.result,
        meta: meta_of(event, attempts)?,
        extra: event.written_extra(),
        coercions: event.written_coercions()?,
        evidence: attempts_rank * 100 + status_rank * 10 + created_rank,
        event_type,
        status,
        shape,
        index,
    })
}

/// Returns the meta with `attempts` as its last key. A meta that already has this number isn't
/// changed.
fn meta_of<'a>(event: &WireEvent<'a>, attempts: i32) -> Result<Cow<'a, str>, Left> {
    let sent = event.meta_sent;
    if meta_attempts_equal(event, attempts)? {
        return Ok(Cow::Borrowed(sent));
    }
    let inner = sent
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .unwrap_or_default();
    let members = inner.trim_matches([' ', '\t', '\r', '\n']);
    let comma = if members.is_empty() { "" } else { "," };
    Ok(Cow::Owned(format!(
        "{{{members}{comma}\"attempts\":{attempts}}}"
    )))
}
