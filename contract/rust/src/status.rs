//! The status of an event: the declared one, else what the event itself shows, else its name.
//!
//! The declared status of a finished call is read by the normalizer's rules, so that it is one of
//! four words. That of any other event is taken as it is: whether it may be believed is a rule of
//! the normalizer, not of this crate.

use serde_json::value::RawValue;

use crate::json::filled;
use crate::places::Places;

pub(crate) const CALL_DONE_EVENT_TYPES: [&str; 3] = ["call.done", "action_done", "call_done"];
/// How a call ends.
pub(crate) const CALL_OUTCOMES: [&str; 4] = ["COMPLETED", "FAILED", "ERROR", "CANCELLED"];
/// A user's own word may nest in these.
const STEP_EXIT: [&str; 3] = ["step.exit", "step_completed", "step_complete"];
const FAILURES: [&str; 3] = ["FAILED", "ERROR", "CANCELLED"];
const MAX_STATUS_BYTES: usize = 100;
const OUTCOMES: [(&str, &[&str]); 4] = [
    (
        "COMPLETED",
        &[
            "COMPLETED",
            "COMPLETE",
            "SUCCESS",
            "SUCCEEDED",
            "SUCCESSFUL",
            "DONE",
            "OK",
            "FINISHED",
            "PASSED",
        ],
    ),
    ("FAILED", &["FAILED", "FAIL", "FAILURE", "REJECTED"]),
    (
        "ERROR",
        &[
            "ERROR",
            "ERRORED",
            "EXCEPTION",
            "ERR",
            "TIMEOUT",
            "TIMED_OUT",
        ],
    ),
    (
        "CANCELLED",
        &[
            "CANCELLED",
            "CANCELED",
            "CANCEL",
            "ABORTED",
            "TERMINATED",
            "KILLED",
        ],
    ),
];
const OF_NAME: [(&str, &[&str]); 5] = [
    ("CANCELLED", &["cancel", "cancelled", "canceled"]),
    (
        "FAILED",
        &["error", "failed", "fail", "failure", "timeout", "timedout"],
    ),
    (
        "COMPLETED",
        &[
            "done",
            "exit",
            "exited",
            "complete",
            "completed",
            "finished",
        ],
    ),
    ("SKIPPED", &["skipped"]),
    ("PENDING", &["issued"]),
];

pub(crate) fn read(places: &Places<'_, '_>, event_type: &str) -> String {
    if CALL_DONE_EVENT_TYPES.contains(&event_type) {
        return of_call(places).to_owned();
    }
    let declared = filled(places.top.get("status")).map(|status| status.to_uppercase());
    declared
        .filter(|status| status != "UNKNOWN")
        .unwrap_or_else(|| of_other(places, event_type))
}

/// Gives the failure that a call declares, else one that nests in it, else COMPLETED.
fn of_call(places: &Places<'_, '_>) -> &'static str {
    let words = [
        places.top.get("status"),
        places.payload.get("status"),
        places.payload_result.get("status"),
        places.payload_result_context.get("status"),
        places.payload_result_context.get("terminal_state"),
        places.payload_response.get("status"),
        places.result_context.get("status"),
        places.result_context.get("terminal_state"),
        places.result_inner.get("status"),
        places.result_inner_context.get("status"),
        places.result_inner_context.get("terminal_state"),
        places.result_response.get("status"),
        places.result.get("status"),
    ];
    let mut outcomes = words.into_iter().filter_map(outcome);
    outcomes
        .find(|outcome| *outcome != "COMPLETED")
        .unwrap_or("COMPLETED")
}

/// Gives what the words that nest in an event show: a failure before all else, then the first word
/// other than COMPLETED; what its name says where they show nothing.
fn of_other(places: &Places<'_, '_>, event_type: &str) -> String {
    let name = of_name(event_type);
    let nested = [
        places.payload.get("status"),
        stored_payload_status(places),
        places.result.get("status"),
    ];
    let shown: Vec<String> = nested
        .into_iter()
        .filter_map(|sent| nested_word(&filled(sent)?, name, event_type))
        .collect();
    let failure = shown.iter().find(|word| FAILURES.contains(&word.as_str()));
    let other = shown.iter().find(|word| *word != "COMPLETED");
    failure
        .or(other)
        .or_else(|| shown.first())
        .cloned()
        .unwrap_or_else(|| name.to_owned())
}

/// Gives `result.context.status` where a server keeps the payload there. A Python server keeps the
/// producer's word as `result.status` and a tool's result as `result.context`; of a Rust server's
/// row, which names the event before it, `result.status` only repeats the name.
fn stored_payload_status<'a>(places: &Places<'a, '_>) -> Option<&'a RawValue> {
    let own = filled(places.result.get("status"))
        .is_some_and(|word| !word.eq_ignore_ascii_case("UNKNOWN"));
    if own && places.top.get("prev_event_id").is_none() {
        return None;
    }
    places.result_context.get("status")
}

/// Gives a nested word that is evidence: of an end only where the name says that something ends.
fn nested_word(sent: &str, name: &str, event_type: &str) -> Option<String> {
    let ends = !matches!(name, "RUNNING" | "PENDING");
    let upper = sent.to_uppercase();
    let word = match outcome_of(sent) {
        Some("ERROR") => "FAILED",
        Some(outcome) => outcome,
        None => match upper.replace(['-', ' '], "_").as_str() {
            "INITIATED" => "STARTED",
            "QUEUED" | "CREATED" => "PENDING",
            "IN_PROGRESS" | "PROGRESS" => "RUNNING",
            _ => &upper,
        },
    };
    let counts = match word {
        "UNKNOWN" => false,
        "COMPLETED" => ends && !matches!(name, "FAILED" | "CANCELLED"),
        "FAILED" | "CANCELLED" => ends,
        "RUNNING" | "STARTED" | "PENDING" | "INITIALIZED" | "CLAIMED" | "ENTERED" => !ends,
        _ => STEP_EXIT.contains(&event_type) && word.len() <= MAX_STATUS_BYTES,
    };
    counts.then(|| word.to_owned())
}

fn outcome(sent: Option<&RawValue>) -> Option<&'static str> {
    outcome_of(&filled(sent)?)
}

fn outcome_of(sent: &str) -> Option<&'static str> {
    let word = sent.to_uppercase().replace(['-', ' '], "_");
    if word.starts_with("FAILED_") {
        return Some("FAILED");
    }
    let (outcome, _) = OUTCOMES
        .iter()
        .find(|(_, words)| words.contains(&word.as_str()))?;
    Some(outcome)
}

/// Gives what the words of an event's name say; RUNNING where they say nothing.
fn of_name(event_type: &str) -> &'static str {
    let name = event_type.to_lowercase();
    let words: Vec<&str> = name
        .split(|letter: char| !letter.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    let timed_out = words.windows(2).any(|pair| pair == ["timed", "out"]);
    let says = |of: &[&str]| of.iter().any(|word| words.contains(word));
    OF_NAME
        .iter()
        .find(|(status, of)| says(of) || (*status == "FAILED" && timed_out))
        .map_or("RUNNING", |(status, _)| status)
}
