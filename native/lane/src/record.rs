//! A Kafka record as the lane reads it.

use crate::tables::MAX_RECORDED_MS;

/// One record of a topic, with its coordinates.
pub struct Record<'a> {
    /// The bytes of its value.
    pub value: &'a [u8],
    /// The topic.
    pub topic: &'a str,
    /// The number of the topic's incarnation.
    pub incarnation: i32,
    /// The partition.
    pub partition: i32,
    /// The offset in the partition.
    pub offset: i64,
    /// The names of its headers with their values.
    pub headers: Vec<(&'a str, Option<&'a [u8]>)>,
    /// The timestamp of the record, in milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
}

impl Record<'_> {
    /// Returns the timestamp of the record; None if it's outside the range that can be stored.
    #[must_use]
    pub fn recorded_ms(&self) -> Option<i64> {
        self.timestamp_ms
            .filter(|ms| (0..=MAX_RECORDED_MS).contains(ms))
    }
}
