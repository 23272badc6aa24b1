//! A record as a log holds it.

use crate::tables::MAX_RECORDED_MS;

/// One record of a log, with its coordinates.
pub struct Record<'a> {
    /// The bytes of its value.
    pub value: &'a [u8],
    /// The log.
    pub topic: &'a str,
    /// Which log of that name.
    pub incarnation: i32,
    /// The part of the log.
    pub partition: i32,
    /// The place in the part.
    pub offset: i64,
    /// The names of its headers with their values.
    pub headers: Vec<(&'a str, Option<&'a [u8]>)>,
    /// The time that the log recorded, in milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
}

impl Record<'_> {
    /// Gives the time that the log recorded; None for one outside the calendar.
    #[must_use]
    pub fn recorded_ms(&self) -> Option<i64> {
        self.timestamp_ms
            .filter(|ms| (0..=MAX_RECORDED_MS).contains(ms))
    }
}
