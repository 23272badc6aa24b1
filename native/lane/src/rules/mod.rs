//! The rules, one per module, in the order in which they are applied to an event.
//!
//! Each module gives the same result as the Python module with the same name in
//! `normalizer/core/rules`. If it doesn't handle a value, it returns an error, and the record is
//! left to Python.

pub mod attempt_numbers;
pub mod durations;
pub mod error_text;
pub mod identifiers;
pub mod names;
pub mod status;
pub mod timestamps;
