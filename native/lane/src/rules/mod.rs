//! The rules, one a module, in the order an event meets them. Each answers as its namesake in
//! `normalizer/core/rules` does, or leaves the record.

pub mod attempt_numbers;
pub mod durations;
pub mod error_text;
pub mod identifiers;
pub mod names;
pub mod status;
pub mod timestamps;
