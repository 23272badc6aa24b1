//! The reasons for which the lane leaves a record to Python.

/// Why the lane doesn't read a record. It's no verdict: Python then reads the record, and may store
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// The record is larger, or nests deeper, than the lane allows.
    Large,
    /// It may hold a secret, or text that PostgreSQL can't store.
    Suspicious,
    /// It isn't the JSON of an event, a batch, or a feed wrapper.
    Unreadable,
    /// It's in an envelope that only Python opens.
    Foreign,
    /// Its headers have a form that the lane doesn't handle.
    Headers,
    /// It has a value that only Python handles, for example one with a repeated key.
    Rare,
    /// The rules reject it.
    Rejected,
}
