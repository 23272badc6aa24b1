//! Why a record is left to Python.

/// Why a record is left to Python. It's never an error of the record: Python may well store it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It's beyond the sizes that the lane takes.
    Large,
    /// It may hold a secret, or text that PostgreSQL cannot hold.
    Suspicious,
    /// It isn't the JSON of an event, a batch, or a feed wrapper.
    Unreadable,
    /// It's in an envelope that only Python opens.
    Foreign,
    /// Its headers have a form that the lane doesn't write.
    Headers,
    /// A rule reads a value in a way that only Python knows.
    Rare,
    /// The rules reject it.
    Rejected,
}
