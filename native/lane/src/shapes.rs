//! Recognizes the producer of a wire event by the event's top-level keys.
//!
//! Each producer has its own format, and the name of the format is stored with the event. No rule
//! depends on it. Source: docs/spec/wire-shapes.md#d1, #d2.

use crate::tables::{
    EXECUTOR, HAS_CREATED_AT, HAS_EVENT_ID, HAS_EVENT_TYPE, HAS_NAME, HAS_TIMESTAMP,
    LEGACY_EVENT_TYPES, NOT_WORKER, PYTHON, PYTHON_LEGACY, PYTHON_ROW, RUST_FLAGS, RUST_REQUEST,
    RUST_ROW,
};

/// Returns whether one of the keys holds an event's type. If so, the object is an event, and
/// neither a wrapper nor a batch.
pub fn is_named(keys: u32) -> bool {
    keys & (HAS_EVENT_TYPE | HAS_NAME) != 0
}

/// Returns the shape of an event with these keys.
pub fn detect_shape(keys: u32, payload_is_object: bool, event_type: &str) -> &'static str {
    let has = |set: u32| keys & set != 0;
    if has(RUST_ROW) {
        "rust_row"
    } else if has(RUST_REQUEST) {
        "rust_request"
    } else if payload_is_object && has(HAS_EVENT_TYPE) && !has(NOT_WORKER) {
        "worker"
    } else if has(HAS_TIMESTAMP) && has(HAS_EVENT_ID) && !has(HAS_CREATED_AT) {
        "rust_projector"
    } else if has(PYTHON_ROW) {
        "python_row"
    } else if has(PYTHON) {
        let is_legacy = LEGACY_EVENT_TYPES
            .iter()
            .any(|begin| event_type.starts_with(begin));
        if is_legacy || has(PYTHON_LEGACY) {
            "python_legacy"
        } else {
            "python_emit"
        }
    } else if has(HAS_NAME) {
        "python_request"
    } else if has(RUST_FLAGS) {
        "rust_request"
    } else if keys & EXECUTOR == EXECUTOR {
        "executor"
    } else {
        "unknown"
    }
}
