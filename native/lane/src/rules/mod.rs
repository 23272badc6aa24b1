//! The rules, one per module, in the order in which they are applied to an event.
//!
//! Each returns the same result as the Python module of the same name in `normalizer/core/rules`,
//! or leaves the record to Python.

pub mod attempt_numbers;
pub mod durations;
pub mod error_text;
pub mod identifiers;
pub mod names;
pub mod status;
pub mod timestamps;
