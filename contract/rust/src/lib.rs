//! The canonical event of NoETL, and the shapes of its producers.
//!
//! Four producers write the same events in four shapes. [`Envelope`] reads every one of them and
//! writes the same bytes for the same event:
//!
//! ```
//! use noetl_events::Envelope;
//!
//! let sent = br#"{"execution_id":"7","name":"call.done","node_name":"fetch","status":"FAILED",
//!     "timestamp":"2026-07-10T11:00:00+02:00","payload":{"n":1.50,"a":1e2},"meta":{"attempt":2}}"#;
//! let event = Envelope::read(sent)?;
//!
//! assert_eq!(event.attempts, 1);
//! assert_eq!(
//!     event.to_canonical()?,
//!     concat!(
//!         r#"{"execution_id":7,"event_type":"call.done","step":"fetch","status":"FAILED","#,
//!         r#""created_at":"2026-07-10T09:00:00.000000Z","context":{"a":100,"n":1.50},"#,
//!         r#""worker_id":null,"meta":{"attempt":2,"attempts":1}}"#,
//!     )
//! );
//! # Ok::<(), noetl_events::Error>(())
//! ```
//!
//! The types of the shapes are [`ExecutorEvent`], [`WorkerEvent`], [`EventRequest`] (the Rust
//! server's) and [`EventEmitRequest`] (the Python server's); each becomes an [`Envelope`] and is
//! made of one. With the feature `sink`, which is on unless it is left out, [`EventSink`] and its
//! companions are there as in 0.1.0.
//!
//! What is left to the normalizer: whether the declared status of an event that finishes no call may
//! be believed, secrets, text that PostgreSQL cannot hold, ids that are no numbers, batches and
//! wrappers.

mod envelope;
mod error;
mod json;
mod places;
mod read;
mod shapes;
#[cfg(feature = "sink")]
mod sink;
mod status;
mod time;

pub use envelope::Envelope;
pub use error::Error;
pub use json::canonical_json;
pub use shapes::{EventEmitRequest, EventRequest, ExecutorEvent, WorkerEvent};
#[cfg(feature = "sink")]
pub use sink::{EventEmitter, EventSink, NoopSink};
