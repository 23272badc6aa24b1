//! The native lane: the rules of the normalizer in Rust, for the records that nearly all producers
//! send.
//!
//! The Python rules in `normalizer/core` define every result. For a record that the lane reads, it
//! computes the same rows in less time. For any other record it returns [`Left`], and Python reads
//! the record instead. So forms that are rare need no code here. The modules, in the order in which
//! they handle a record:
//!
//! - [`prefilter`]: searches once for secrets, unstorable text, and extreme numbers
//! - [`headers`]: writes the headers of a record, and finds the trace id
//! - [`decode`]: decodes a text into wire events: opens feed wrappers, splits batches
//! - [`scan`]: scans JSON
//! - [`wire_event`]: holds one wire event while the rules read it
//! - [`wire_values`]: reads single JSON values
//! - [`shapes`]: recognizes which producer wrote an event
//! - [`normalize`]: applies every rule to an event
//! - [`rules`]: the rules, one per module
//! - [`encoded_events`]: encodes the rows for COPY

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

use std::borrow::Cow;
use std::panic::{catch_unwind, AssertUnwindSafe};

pub use encoded_events::{EncodedEvent, EncodedEvents};
pub use left::Left;
use prefilter::Prefilter;
pub use prefilter::Signs;
pub use record::Record;

/// The longest value that the lane reads, in bytes. A longer one is left to Python, which checks
/// further limits.
pub const MAX_BYTES: usize = 50_000;

/// The most bytes that the rows of one record may take, which limits the memory of a call.
const MAX_ROW_BYTES: usize = 300_000;

/// Runs `read`, which adds events to `events`, and catches its panics.
///
/// After a panic, the result is None and `events` is empty, so all records of the call are left to
/// Python.
pub fn caught<T>(
    events: &mut EncodedEvents,
    read: impl FnOnce(&mut EncodedEvents) -> T,
) -> Option<T> {
    let result = catch_unwind(AssertUnwindSafe(|| read(events)));
    if result.is_err() {
        *events = EncodedEvents::default();
    }
    result.ok()
}

/// Reads records. It keeps no state from one record to the next, so their order doesn't matter.
pub struct Lane {
    prefilter: Prefilter,
}

impl Lane {
    /// Creates a lane that searches for these signs.
    #[must_use]
    pub fn new(signs: &Signs) -> Self {
        Self {
            prefilter: Prefilter::new(signs),
        }
    }

    /// Adds the events of a record to `events`, or none if the record is left to Python.
    ///
    /// `clean` is called for a value that may contain a secret or other text that must not be
    /// stored. It returns the value without that text, or None if the record must be left to
    /// Python. `headers_may_hold_secret` is called with the headers as JSON. If it returns true,
    /// they may contain such text too, and the record is left to Python.
    ///
    /// # Errors
    ///
    /// Why the record is left to Python.
    pub fn read(
        &self,
        record: &Record<'_>,
        events: &mut EncodedEvents,
        headers_may_hold_secret: impl FnOnce(&str) -> bool,
        clean: impl FnOnce(&str) -> Option<String>,
    ) -> Result<(), Left> {
        if record.value.len() > MAX_BYTES {
            return Err(Left::Large);
        }
        let text = std::str::from_utf8(record.value).map_err(|_| Left::Unreadable)?;
        let headers = headers::read_headers(record)?;
        if let Some(json) = headers.json.as_deref() {
            if self.prefilter.has_sign(json) && headers_may_hold_secret(json) {
                return Err(Left::Suspicious);
            }
        }
        let text = if self.prefilter.has_sign(text) {
            clean(text).map(Cow::Owned).ok_or(Left::Suspicious)?
        } else {
            Cow::Borrowed(text)
        };
        let (before, bytes_before) = (events.len(), events.bytes());
        let read = decode::decode_events(&text, &mut |index, event| {
            let event = normalize::normalize(record, index, event)?;
            events.push(record, &headers, event);
            if events.bytes() - bytes_before > MAX_ROW_BYTES {
                return Err(Left::Large);
            }
            Ok(())
        });
        if read.is_err() {
            events.truncate(before);
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use super::{caught, EncodedEvents, Lane, Left, Record, Signs};

    fn lane() -> Lane {
        Lane::new(&Signs {
            signs: vec![b"secret".to_vec()],
            folded: std::array::from_fn(|byte| u8::try_from(byte).unwrap_or(0)),
            separators: Vec::new(),
        })
    }

    fn record(value: &str) -> Record<'_> {
        Record {
            value: value.as_bytes(),
            topic: "t",
            incarnation: 0,
            partition: 0,
            offset: 7,
            headers: Vec::new(),
            timestamp_ms: Some(1_784_000_000_000),
        }
    }

    #[test]
    fn a_record_with_one_bad_item_adds_no_event() {
        let mut events = EncodedEvents::default();
        let good = r#"{"event_type":"a.b","execution_id":7}"#;

        assert_eq!(
            lane().read(&record(good), &mut events, |_| true, |_| None),
            Ok(())
        );
        let batch = format!("[{good},{good},1]");
        assert_eq!(
            lane().read(&record(&batch), &mut events, |_| true, |_| None),
            Err(Left::Unreadable)
        );

        assert_eq!(events.len(), 1);
        assert!(events.iter().all(|event| event.execution_id == 7));
    }

    #[test]
    fn a_batch_whose_rows_are_many_times_its_bytes_is_left() {
        let batch =
            |items: usize| format!("[{}1]", r#"{"name":"a","execution_id":7},"#.repeat(items));
        let read = |items| {
            let text = batch(items).replace(",1]", "]");
            lane().read(
                &record(&text),
                &mut EncodedEvents::default(),
                |_| true,
                |_| None,
            )
        };

        assert_eq!(read(1_000), Ok(()));
        assert_eq!(read(1_600), Err(Left::Large));
    }

    #[test]
    fn only_text_with_a_sign_is_cleaned() {
        let read = |word: &str, cleaned: Option<&str>| {
            let text = format!(r#"{{"event_type":"a.b","execution_id":7,"x":"{word}"}}"#);
            let mut events = EncodedEvents::default();
            let read = lane().read(
                &record(&text),
                &mut events,
                |_| true,
                |_| cleaned.map(str::to_owned),
            );
            read.map(|()| events.iter().next().map(|event| event.execution_id))
        };
        let cleaned = r#"{"event_type":"a.b","execution_id":8}"#;

        assert_eq!(read("other", None), Ok(Some(7)));
        assert_eq!(read("a secret", None), Err(Left::Suspicious));
        assert_eq!(read("a secret", Some(cleaned)), Ok(Some(8)));
    }

    #[test]
    fn suspicious_headers_leave_the_record() {
        let text = r#"{"event_type":"a.b","execution_id":7}"#;
        let read = |name: &str, is_suspicious: bool| {
            let record = Record {
                headers: vec![(name, Some(b"x".as_slice()))],
                ..record(text)
            };
            let mut events = EncodedEvents::default();
            lane().read(&record, &mut events, |_| is_suspicious, |_| None)
        };

        assert_eq!(read("secret", true), Err(Left::Suspicious));
        assert_eq!(read("secret", false), Ok(()));
        assert_eq!(read("other", true), Ok(()));
    }

    #[test]
    fn a_panic_leaves_every_record_and_the_next_call_reads_again() {
        let mut events = EncodedEvents::default();
        let text = r#"{"event_type":"a.b","execution_id":7}"#;
        let suspicious = r#"{"event_type":"secret","execution_id":7}"#;

        let panicked = caught(&mut events, |events| {
            let good = lane().read(&record(text), events, |_| true, |_| None);
            (
                good,
                lane().read(
                    &record(suspicious),
                    events,
                    |_| true,
                    |_| panic!("as a bug would"),
                ),
            )
        });

        assert!(panicked.is_none());
        assert!(events.is_empty());
        let again = caught(&mut events, |events| {
            lane().read(&record(text), events, |_| true, |_| None)
        });
        assert_eq!((again, events.len()), (Some(Ok(())), 1));
    }
}
