//! The native lane: for each record it answers exactly as the Python rules would, or leaves it.
//!
//! Python stays the rule book. The lane takes what nearly all producers send nearly always, and
//! what it doesn't know is [`Left`]. In the order an event meets them:
//!
//! - [`prefilter`]: one fast search for secrets, unstorable text, and extreme numbers
//! - [`headers`]: the headers of a record, and the trace id
//! - [`decode`]: text to wire events: opens feed wrappers, splits batches
//! - [`scan`]: scans JSON
//! - [`wire_event`]: one wire event, read for the rules
//! - [`wire_values`]: reads single JSON values
//! - [`shapes`]: which producer wrote an event
//! - [`normalize`]: applies every rule to an event
//! - [`rules`]: one rule a module
//! - [`encoded_events`]: the rows for COPY

mod decode;
mod encoded_events;
mod envelope;
mod headers;
mod left;
mod normalize;
mod prefilter;
mod record;
mod rules;
mod scan;
mod shapes;
mod snowflake;
#[rustfmt::skip]
mod tables;
mod wire_event;
mod wire_values;

pub use encoded_events::{EncodedEvent, EncodedEvents};
pub use left::Left;
pub use prefilter::Signs;
use prefilter::{Found, Prefilter};
pub use record::Record;

/// The most bytes of a record's value: a longer one has limits of its own, which Python checks.
pub const MAX_BYTES: usize = 50_000;

/// Reads records. It keeps nothing between them.
pub struct Lane {
    prefilter: Prefilter,
}

impl Lane {
    /// Makes a lane that searches for these signs.
    #[must_use]
    pub fn new(signs: &Signs) -> Self {
        Self {
            prefilter: Prefilter::new(signs),
        }
    }

    /// Adds the events of a record to `events`, or leaves the record and adds nothing.
    ///
    /// `suspects` decides about a text that has only weak signs.
    ///
    /// # Errors
    ///
    /// Why the record is left to Python.
    pub fn read(
        &self,
        record: &Record<'_>,
        events: &mut EncodedEvents,
        mut suspects: impl FnMut(&str) -> bool,
    ) -> Result<(), Left> {
        if record.value.len() > MAX_BYTES {
            return Err(Left::Large);
        }
        let text = std::str::from_utf8(record.value).map_err(|_| Left::Unreadable)?;
        let headers = headers::read_headers(record)?;
        for text in std::iter::once(text).chain(headers.json.as_deref()) {
            let is_clean = match self.prefilter.look(text) {
                Found::Nothing => true,
                Found::Weak => !suspects(text),
                Found::Strong => false,
            };
            if !is_clean {
                return Err(Left::Suspicious);
            }
        }
        let before = events.len();
        let read = decode::decode_events(text, &mut |index, event| {
            let event = normalize::normalize(record, index, event)?;
            events.push(record, &headers, event);
            Ok(())
        });
        if read.is_err() {
            events.truncate(before);
        }
        read
    }
}
