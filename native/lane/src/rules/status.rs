//! Resolves the status of an event, and how strong the evidence is.
//!
//! The status that the event declares, a status nested in its payload, and its type may disagree,
//! and these rules decide which one counts. A record is left to Python if its status isn't ASCII or
//! is longer than any known word. Source: docs/spec/wire-shapes.md#s1, #s2, #s3, #s4, #s5, #s6,
//! #s7, #s8, #s9, #s10, #s11, #s13, #s14, #s16.

use std::borrow::Cow;

use crate::left::Left;
use crate::scan::Raw;
use crate::tables::{
    call_outcome, other_word, Member, Top, CALL_DONE_EVENT_TYPES, ENDINGS, FAILED_PREFIX, FAILURES,
    MAX_STATUS_BYTES, NAME_WORDS, NESTED_ENDINGS, NO_STATUS, STEP_EXIT, WEAKER, WORK,
};
use crate::wire_event::{From, WireEvent};
use crate::wire_values::{value, Value};

/// The canonical status, and the rank of its evidence.
///
/// The rank is 0 if only the event's type implies the status, 1 if the status was declared, and 2
/// for a failure, whether it was declared or found further down in the event.
pub type Status<'a> = (Cow<'a, str>, i16);

/// The status that an event type implies, and which other evidence counts.
struct Meaning {
    status: &'static str,
    /// The event ends something.
    ends: bool,
    /// The declared status is no evidence of its own if it equals `status`, because servers derive
    /// it from the event's type.
    by_servers: bool,
    /// The nested status may be a user's own word.
    any_word: bool,
}

/// Returns the status of the event, and its rank.
pub fn resolve_status<'a>(event: &mut WireEvent<'a>, event_type: &str) -> Result<Status<'a>, Left> {
    let declared = declared(event)?;
    if CALL_DONE_EVENT_TYPES.contains(&event_type) {
        of_call(event, declared)
    } else {
        of_other(event, event_type, declared)
    }
}

/// Returns the status declared at the top level; empty if there is none (#s5).
fn declared<'a>(event: &mut WireEvent<'a>) -> Result<Cow<'a, str>, Left> {
    match event.value(Top::Status)? {
        Value::Absent => Ok(Cow::Borrowed("")),
        Value::Text(text) => known_letters(text),
        _ => {
            event.keep_extra(Top::Status);
            event.record_coercion_without_original("status_not_text", "status");
            Ok(Cow::Borrowed(""))
        }
    }
}

/// Returns the status of a finished call. If the event declares a failure, that's the status.
/// Otherwise it's a failure that was found further down, or COMPLETED if there's none.
fn of_call<'a>(event: &mut WireEvent<'a>, declared: Cow<'a, str>) -> Result<Status<'a>, Left> {
    let outcome = outcome_of(&declared);
    if let Some(failure) = outcome.filter(|word| FAILURES.contains(word)) {
        keep_other_word(event, &declared, failure);
        return Ok((Cow::Borrowed(failure), 2));
    }
    let (found, failure) = nested_outcomes(event)?;
    let rank = i16::from(found);
    if let (Some(outcome), None) = (outcome, failure) {
        keep_other_word(event, &declared, outcome);
        return Ok((Cow::Borrowed(outcome), rank));
    }
    if is_unknown(&declared) {
        if !declared.is_empty() {
            event.keep_extra(Top::Status);
        }
    } else if outcome.is_some() || WEAKER.contains(&&*canonical_word(&declared)) {
        event.coerce("status_overruled", "status", From::Text(declared));
    } else {
        event.coerce("status_unmapped", "status", From::Text(declared));
    }
    Ok(failure.map_or((Cow::Borrowed("COMPLETED"), rank), |word| {
        (Cow::Borrowed(word), 2)
    }))
}

fn of_other<'a>(
    event: &mut WireEvent<'a>,
    event_type: &str,
    declared: Cow<'a, str>,
) -> Result<Status<'a>, Left> {
    let meaning = meaning_of_type(event_type);
    let of_name = Cow::Borrowed(meaning.status);
    let is_unknown = is_unknown(&declared);
    let canonical = canonical_word(&declared);
    let mut overruled = false;
    if is_unknown {
        if !declared.is_empty() {
            event.keep_extra(Top::Status);
        }
    } else if meaning.ends && WEAKER.contains(&&*canonical) {
        overruled = true;
        event.coerce("status_overruled", "status", From::Text(declared.clone()));
        if !meaning.by_servers {
            return Ok((of_name, 0));
        }
    } else {
        keep_other_word(event, &declared, &canonical);
        if !(meaning.by_servers && canonical == meaning.status) {
            let rank = rank(&canonical);
            return Ok((canonical, rank));
        }
    }
    let Some(found) = nested_status(event, &meaning)? else {
        return Ok((of_name, 0));
    };
    if found != of_name && !overruled && !is_unknown {
        event.extra.retain(|(key, _)| key != "status");
        event.coerce("status_overruled", "status", From::Text(declared));
    }
    let rank = rank(&found);
    Ok((found, rank))
}

/// Returns what an event type implies (#s1, #s7, #s10, #s11).
fn meaning_of_type(event_type: &str) -> Meaning {
    let lower = event_type.to_ascii_lowercase();
    let begins_with_word = lower.starts_with(|letter: char| letter.is_ascii_alphanumeric());
    let words: Vec<&str> = lower
        .split(|letter: char| !letter.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    let timed_out = words.windows(2).any(|pair| pair == ["timed", "out"]);
    let says = |named: &[&str]| {
        named
            .iter()
            .any(|word| words.contains(word) || (timed_out && *word == "timedout"))
    };
    let status = NAME_WORDS
        .iter()
        .find(|(_, named)| says(named))
        .map_or("RUNNING", |(status, _)| *status);
    Meaning {
        status,
        ends: ENDINGS.contains(&status),
        by_servers: status == "COMPLETED"
            && begins_with_word
            && words.first().is_some_and(|word| WORK.contains(word)),
        any_word: STEP_EXIT.contains(&event_type),
    }
}

/// Returns the status that nested words imply (#s3). A failure counts most, then any word other
/// than COMPLETED, and COMPLETED least.
fn nested_status(
    event: &WireEvent<'_>,
    meaning: &Meaning,
) -> Result<Option<Cow<'static, str>>, Left> {
    let nested = &event.nested;
    let mut words = Vec::new();
    for raw in [
        nested.payload.get(Member::Status),
        stored_payload_status(event)?,
        nested.result.get(Member::Status),
    ] {
        if let Some(word) = text_of(raw)? {
            words.extend(nested_word(&word, meaning));
        }
    }
    let failure = words.iter().position(|word| FAILURES.contains(&&**word));
    let other = words.iter().position(|word| *word != "COMPLETED");
    let at = failure.or(other).unwrap_or(0);
    Ok(words.into_iter().nth(at))
}

/// Returns `result.context.status`; empty if it's the status of a tool (#s16).
fn stored_payload_status<'a>(event: &WireEvent<'a>) -> Result<Raw<'a>, Left> {
    let own = value(event.nested.result.get(Member::Status))?;
    let is_word = matches!(&own, Value::Text(text) if !is_unknown(text));
    if matches!(&own, Value::Text(text) if !text.is_ascii()) {
        return Err(Left::Rare);
    }
    if is_word && event.fields.other("prev_event_id").is_empty() {
        return Ok("");
    }
    Ok(event.nested.stored_payload.get(Member::Status))
}

/// Returns the canonical word if it counts as evidence. A word such as COMPLETED says that
/// something has ended, so it counts only if the event is of a type that ends something (#s3, #s8,
/// #s10).
fn nested_word(sent: &str, meaning: &Meaning) -> Option<Cow<'static, str>> {
    if is_unknown(sent) {
        return None;
    }
    let found = canonical_word(sent);
    let is_in = |words: &[&str]| words.contains(&&*found);
    let counts = if is_in(WEAKER) {
        !meaning.ends
    } else if found == "COMPLETED" && FAILURES.contains(&meaning.status) {
        false
    } else if is_in(NESTED_ENDINGS) {
        meaning.ends
    } else {
        meaning.any_word
    };
    counts.then_some(found)
}

/// Returns whether a call has a nested outcome, and the first failure among them.
fn nested_outcomes(event: &WireEvent<'_>) -> Result<(bool, Option<&'static str>), Left> {
    let nested = &event.nested;
    let (mut found, mut failure) = (false, None);
    for raw in [
        nested.payload.get(Member::Status),
        nested.payload_result.get(Member::Status),
        nested.payload_result_context.get(Member::Status),
        nested.payload_result_context.get(Member::TerminalState),
        nested.payload_response.get(Member::Status),
        // An event that was read back from the database has its payload under `result.context`, so
        // look for the status there too (#s6).
        nested.stored_payload.get(Member::Status),
        nested.stored_payload.get(Member::TerminalState),
        nested.stored_payload_result.get(Member::Status),
        nested.stored_payload_result_context.get(Member::Status),
        nested.stored_payload_result_context.get(Member::TerminalState),
        nested.stored_payload_response.get(Member::Status),
        nested.result.get(Member::Status),
    ] {
        let Some(outcome) = text_of(raw)?.and_then(|word| outcome_of(&word)) else {
            continue;
        };
        found = true;
        if failure.is_none() && FAILURES.contains(&outcome) {
            failure = Some(outcome);
        }
    }
    Ok((found, failure))
}

/// Returns a text that may be a status; None for any other value.
fn text_of(raw: Raw<'_>) -> Result<Option<Cow<'_, str>>, Left> {
    match value(raw)? {
        Value::Text(text) => known_letters(text).map(Some),
        _ => Ok(None),
    }
}

/// Returns a text that has the same upper case in Rust and Python, and isn't longer than a status
/// (#l1).
fn known_letters(text: Cow<'_, str>) -> Result<Cow<'_, str>, Left> {
    if text.is_ascii() && text.len() <= MAX_STATUS_BYTES {
        Ok(text)
    } else {
        Err(Left::Rare)
    }
}

fn outcome_of(sent: &str) -> Option<&'static str> {
    let folded = fold(sent);
    if folded.starts_with(FAILED_PREFIX) {
        return Some("FAILED");
    }
    call_outcome(&folded)
}

/// Returns the canonical word, or an unknown word in upper case (#s4).
fn canonical_word(sent: &str) -> Cow<'static, str> {
    let folded = fold(sent);
    if folded.starts_with(FAILED_PREFIX) {
        return Cow::Borrowed("FAILED");
    }
    other_word(&folded).map_or_else(|| Cow::Owned(sent.to_ascii_uppercase()), Cow::Borrowed)
}

fn keep_other_word(event: &mut WireEvent<'_>, declared: &str, canonical: &str) {
    if !declared.eq_ignore_ascii_case(canonical) {
        event.keep_extra(Top::Status);
    }
}

fn is_unknown(declared: &str) -> bool {
    declared.is_empty() || declared.eq_ignore_ascii_case(NO_STATUS)
}

fn rank(canonical: &str) -> i16 {
    if FAILURES.contains(&canonical) {
        2
    } else {
        1
    }
}

fn fold(sent: &str) -> String {
    sent.to_ascii_uppercase().replace(['-', ' '], "_")
}

#[cfg(test)]
mod tests {
    use super::meaning_of_type;

    #[test]
    fn the_name_of_an_event_gives_a_status() {
        let status = |event_type| meaning_of_type(event_type).status;

        assert_eq!(status("call.done"), "COMPLETED");
        assert_eq!(status("step_timed.out"), "FAILED");
        assert_eq!(status("timeout-cancelled"), "CANCELLED");
        assert_eq!(status("command.issued"), "PENDING");
        assert_eq!(status("outtimed"), "RUNNING");
        assert!(!meaning_of_type(".call.done").by_servers);
        assert!(meaning_of_type("step_completed").any_word);
    }
}
