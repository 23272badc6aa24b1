//! The canonical event that the rules make of a wire event.

use std::borrow::Cow;

use crate::scan::Raw;

/// The columns of an event, except for its coordinates, its headers, and constants.
///
/// Times are in microseconds since 1970. JSON columns have the text that the producer sent, unless
/// a rule has changed it. An empty `context` or `result` means null.
pub struct Envelope<'a> {
    pub execution_id: i64,
    pub event_id: i64,
    pub event_type: Cow<'a, str>,
    pub status: Cow<'a, str>,
    pub step: Cow<'a, str>,
    pub attempts: i32,
    pub max_attempts: Option<i32>,
    pub created_at: i64,
    pub worker_id: Option<Cow<'a, str>>,
    pub command_id: Option<Cow<'a, str>>,
    pub iteration: Option<i32>,
    pub node_type: Option<Cow<'a, str>>,
    pub catalog_id: Option<i64>,
    pub parent_event_id: Option<i64>,
    pub parent_execution_id: Option<i64>,
    pub duration: Option<f64>,
    pub error: Option<Cow<'a, str>>,
    pub context: Raw<'a>,
    pub result: Raw<'a>,
    pub meta: Cow<'a, str>,
    pub extra: Option<String>,
    pub coercions: Option<String>,
    pub evidence: i16,
    pub shape: &'static str,
    pub index: u32,
}
