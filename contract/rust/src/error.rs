use std::fmt;

/// Why a text is no event. [`Error::reason`] gives the contract's word for it.
#[derive(Debug)]
pub enum Error {
    /// It is not JSON, or holds a lone surrogate.
    Json(serde_json::Error),
    /// It is not UTF-8.
    Utf8(std::str::Utf8Error),
    /// It holds a number beyond the limits.
    Number,
    /// It nests deeper than an event may.
    TooDeep,
    /// It is no object, or says neither `event_type` nor `name`.
    NotAnEvent,
    /// It does not say which execution it belongs to.
    MissingExecutionId,
    /// The field is neither an integer nor digits within 63 bits.
    InvalidId(&'static str),
    /// The field is longer than the normalizer stores it.
    TooLarge(&'static str),
    /// The field of an [`Envelope`](crate::Envelope) has a value that no event may have.
    InvalidField(&'static str),
    /// It does not say when it happened, and the requested type needs a time.
    MissingTime,
}

impl Error {
    /// Gives the word by which the contract's vectors and `noetl.events.rejected` name it.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Json(_) | Self::Number => "invalid_json",
            Self::Utf8(_) => "invalid_utf8",
            Self::TooDeep => "too_deep",
            Self::TooLarge(_) => "too_large",
            Self::NotAnEvent | Self::InvalidField(_) => "not_an_event",
            Self::MissingExecutionId => "missing_execution_id",
            Self::InvalidId(_) => "invalid_id",
            Self::MissingTime => "missing_time",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(error) => write!(formatter, "not JSON: {error}"),
            Self::Utf8(error) => write!(formatter, "not UTF-8: {error}"),
            Self::Number => formatter.write_str("a number beyond the limits"),
            Self::TooDeep => formatter.write_str("nested deeper than an event may be"),
            Self::NotAnEvent => formatter.write_str("expected event_type or name, got neither"),
            Self::MissingExecutionId => {
                formatter.write_str("execution_id: expected an id, got none")
            }
            Self::InvalidId(field) => write!(formatter, "{field}: expected int or digits"),
            Self::MissingTime => formatter.write_str("created_at: expected a time, got none"),
            Self::TooLarge(field) => write!(formatter, "{field}: too long"),
            Self::InvalidField(field) => write!(formatter, "{field}: no event may have this value"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Json(error) => Some(error),
            Self::Utf8(error) => Some(error),
            _ => None,
        }
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error)
    }
}

impl From<std::str::Utf8Error> for Error {
    fn from(error: std::str::Utf8Error) -> Self {
        Self::Utf8(error)
    }
}
