//! Resolves the duration of an event, in seconds.
//!
//! Python computes durations exactly, with decimal numbers. This module computes them with doubles,
//! so it leaves a number to Python if it has an exponent or more digits than a double holds.
//! Source: docs/spec/wire-shapes.md#u1, #u2, #s6.

use crate::left::Left;
use crate::tables::{Member, Top, DURATIONS, MAX_S, MAX_WORK_S, WORK};
use crate::wire_event::{From, WireEvent};
use crate::wire_values::{value, Value};

/// The longest number that's read here, in characters. Up to this length, no two decimals become
/// the same double.
const MAX_CHARS: usize = 15;

/// Returns the duration at the top level, or else the first nested one.
pub fn resolve_duration(event: &mut WireEvent<'_>, event_type: &str) -> Result<Option<f64>, Left> {
    if let Some(seconds) = declared(event, event_type)? {
        return Ok(Some(seconds));
    }
    let nested = &event.nested;
    let values = [
        nested.payload.get(Member::DurationMs),
        nested.payload_result.get(Member::DurationMs),
        nested.payload_result_context.get(Member::DurationMs),
        nested.stored_payload.get(Member::DurationMs),
        nested.stored_payload_result.get(Member::DurationMs),
        nested.stored_payload_result_context.get(Member::DurationMs),
        nested.payload_response.get(Member::DurationMs),
        nested.stored_payload_response.get(Member::DurationMs),
    ];
    for (&field, raw) in DURATIONS.iter().zip(values) {
        if let Value::Integer(_) | Value::Number(_) = value(raw)? {
            let seconds = seconds(raw, true)?;
            if is_possible(seconds, event_type) {
                return Ok(Some(seconds));
            }
            event.coerce("duration_invalid", field, From::Raw(raw));
        }
    }
    Ok(None)
}

fn declared(event: &mut WireEvent<'_>, event_type: &str) -> Result<Option<f64>, Left> {
    let raw = event.get(Top::Duration);
    let is_milliseconds = match value(raw)? {
        Value::Absent => return Ok(None),
        Value::Text(text) if text.is_empty() => return Ok(None),
        Value::Integer(_) => {
            !event.get(Top::EventTime).is_empty() || !event.get(Top::IngestTime).is_empty()
        }
        Value::Number(_) => false,
        Value::Text(_) | Value::Other => {
            event.keep_extra(Top::Duration);
            return Ok(None);
        }
    };
    let seconds = seconds(raw, is_milliseconds)?;
    if is_possible(seconds, event_type) {
        return Ok(Some(seconds));
    }
    event.coerce("duration_invalid", "duration", From::Raw(raw));
    Ok(None)
}

fn seconds(number: &str, is_milliseconds: bool) -> Result<f64, Left> {
    if number.len() > MAX_CHARS || number.contains(['e', 'E']) {
        return Err(Left::Rare);
    }
    let exponent = if is_milliseconds { "e-3" } else { "" };
    let seconds: f64 = format!("{number}{exponent}")
        .parse()
        .map_err(|_| Left::Rare)?;
    if seconds == 0.0 && number.starts_with('-') {
        return Err(Left::Rare);
    }
    Ok(seconds)
}

fn is_possible(seconds: f64, event_type: &str) -> bool {
    let most = if is_work(event_type) {
        MAX_WORK_S
    } else {
        MAX_S
    };
    (0.0..=most).contains(&seconds)
}

/// Returns whether an event belongs to a call, a command, or a step.
fn is_work(event_type: &str) -> bool {
    WORK.iter().any(|word| {
        event_type
            .split_at_checked(word.len())
            .is_some_and(|(begin, rest)| {
                begin.eq_ignore_ascii_case(word)
                    && !rest.starts_with(|letter: char| letter.is_ascii_alphanumeric())
            })
    })
}

#[cfg(test)]
mod tests {
    use super::{is_possible, is_work, seconds};

    #[test]
    fn seconds_are_the_nearest_double() {
        assert_eq!(
            seconds("18", true).map(f64::to_bits),
            Ok(0.018_f64.to_bits())
        );
        assert_eq!(
            seconds("0.1", false).map(f64::to_bits),
            Ok(0.1_f64.to_bits())
        );
        assert!(seconds("1e3", false).is_err());
        assert!(seconds("-0.0", false).is_err());
        assert!(seconds("0.1234567890123456", false).is_err());
    }

    #[test]
    fn a_call_may_take_thirty_days_and_anything_else_ten_years() {
        assert!(is_possible(2_592_000.0, "call.done"));
        assert!(!is_possible(2_592_000.1, "Call.done"));
        assert!(is_possible(2_592_000.1, "playbook.completed"));
        assert!(!is_possible(-1.0, "playbook.completed"));
        assert!(is_work("step_exit") && !is_work("steps.exit") && !is_work("recall"));
    }
}
