//! Encodes events as rows for PostgreSQL's binary COPY.
//!
//! The store sends these rows to the database unchanged, so their columns have the order that
//! `normalizer/core/encoded_events.py` defines.

use crate::envelope::Envelope;
use crate::headers::Headers;
use crate::record::Record;
use crate::tables::RULES_VERSION;

/// 2000-01-01, from which PostgreSQL counts, in microseconds since 1970.
const EPOCH_US: i64 = 946_684_800_000_000;

/// The encoded events of some records, one after the other.
#[derive(Default)]
pub struct EncodedEvents {
    columns: Vec<u8>,
    events: Vec<Encoded>,
}

/// Some fields of one event, and where its columns end.
struct Encoded {
    event_id: i64,
    execution_id: i64,
    shape: &'static str,
    coercions: Option<String>,
    end: usize,
}

/// One event: the columns of its row, and the fields that the write path reads of every event.
#[derive(Debug, PartialEq, Eq)]
pub struct EncodedEvent<'e> {
    /// The column of this name.
    pub event_id: i64,
    /// The column of this name.
    pub execution_id: i64,
    /// The column of this name.
    pub shape: &'static str,
    /// The column of this name.
    pub coercions: Option<&'e str>,
    /// All columns of the row, encoded.
    pub columns: &'e [u8],
}

impl EncodedEvents {
    /// Returns the number of events.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Returns whether there are no events.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Returns the number of bytes of all rows.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.columns.len()
    }

    /// Removes all events after the first `len`.
    pub fn truncate(&mut self, len: usize) {
        self.events.truncate(len);
        self.columns
            .truncate(self.events.last().map_or(0, |event| event.end));
    }

    /// Returns the events in order.
    pub fn iter(&self) -> impl Iterator<Item = EncodedEvent<'_>> {
        let starts = std::iter::once(0).chain(self.events.iter().map(|event| event.end));
        self.events
            .iter()
            .zip(starts)
            .map(|(event, start)| EncodedEvent {
                event_id: event.event_id,
                execution_id: event.execution_id,
                shape: event.shape,
                coercions: event.coercions.as_deref(),
                columns: &self.columns[start..event.end],
            })
    }

    /// Encodes an event and appends it.
    pub fn push(&mut self, record: &Record<'_>, headers: &Headers, event: Envelope<'_>) {
        let out = &mut self.columns;
        bigint(out, Some(event.execution_id));
        bigint(out, Some(event.event_id));
        integer(out, Some(event.attempts));
        time(out, Some(event.created_at));
        field(out, &event.evidence.to_be_bytes());
        integer(out, Some(RULES_VERSION));
        integer(out, Some(record.incarnation));
        integer(out, Some(record.partition));
        bigint(out, Some(record.offset));
        field(out, &event.index.to_be_bytes());
        field(out, &0_i16.to_be_bytes()); // merge_flags
        text(out, Some(record.topic));
        time(out, record.recorded_ms().map(|ms| ms * 1000));
        text(out, Some(&event.event_type));
        text(out, Some(&event.status));
        text(out, Some(&event.step));
        text(out, Some(event.shape));
        integer(out, event.max_attempts);
        text(out, event.worker_id.as_deref());
        text(out, event.command_id.as_deref());
        integer(out, event.iteration);
        text(out, event.node_type.as_deref());
        bigint(out, event.catalog_id);
        bigint(out, event.parent_event_id);
        bigint(out, event.parent_execution_id);
        optional(out, event.duration.map(f64::to_be_bytes).as_ref());
        text(out, event.error.as_deref());
        json(out, sent(event.context));
        json(out, sent(event.result));
        json(out, Some(&event.meta));
        json(out, event.extra.as_deref());
        json(out, event.coercions.as_deref());
        json(out, headers.json.as_deref());
        text(out, headers.trace_id.as_deref());
        self.events.push(Encoded {
            event_id: event.event_id,
            execution_id: event.execution_id,
            shape: event.shape,
            coercions: event.coercions,
            end: self.columns.len(),
        });
    }
}

fn sent(raw: &str) -> Option<&str> {
    Some(raw).filter(|raw| !raw.is_empty())
}

/// Writes a length. In the lane, every value of a record is far shorter than 2 GiB.
fn length(out: &mut Vec<u8>, bytes: usize) {
    let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
    out.extend_from_slice(&bytes.to_be_bytes());
}

fn null(out: &mut Vec<u8>) {
    out.extend_from_slice(&(-1_i32).to_be_bytes());
}

fn field(out: &mut Vec<u8>, bytes: &[u8]) {
    length(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn optional<const N: usize>(out: &mut Vec<u8>, bytes: Option<&[u8; N]>) {
    match bytes {
        Some(bytes) => field(out, bytes),
        None => null(out),
    }
}

fn bigint(out: &mut Vec<u8>, number: Option<i64>) {
    optional(out, number.map(i64::to_be_bytes).as_ref());
}

fn integer(out: &mut Vec<u8>, number: Option<i32>) {
    optional(out, number.map(i32::to_be_bytes).as_ref());
}

fn time(out: &mut Vec<u8>, us: Option<i64>) {
    bigint(out, us.map(|us| us - EPOCH_US));
}

fn text(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => field(out, text.as_bytes()),
        None => null(out),
    }
}

fn json(out: &mut Vec<u8>, value: Option<&str>) {
    match value {
        Some(value) => {
            length(out, value.len() + 1);
            out.push(1);
            out.extend_from_slice(value.as_bytes());
        }
        None => null(out),
    }
}
