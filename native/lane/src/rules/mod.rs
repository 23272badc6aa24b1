//! The rules, one per module, in the order in which they are applied to an event.
//!
//! Each gives the same result as the Python module of the same name in `normalizer/core/rules`. For
//! a value that it doesn't handle, it returns an error, and the record is left to Python.

pub mod attempt_numbers;
pub mod durations;
pub mod error_text;
pub mod identifiers;
pub mod names;
pub mod status;
pub mod timestamps;
