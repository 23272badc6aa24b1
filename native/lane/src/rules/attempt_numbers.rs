//! Resolves how many retries came before this attempt, and how strong the evidence is.
//!
//! Some producers count attempts from 1, while others count retries from 0. The column `attempts`
//! counts retries, so the first attempt has 0. Source: docs/spec/wire-shapes.md#n1, #n2, #n3, #n4,
//! #s6.

use crate::left::Left;
use crate::rules::names::is_digits;
use crate::scan::Raw;
use crate::tables::{Member, Top, COUNTED_FROM_ONE, MAX_ATTEMPTS};
use crate::wire_event::{From, Nested, WireEvent};
use crate::wire_values::{value, Value};

/// Returns the number of retries before this attempt, and the rank of its evidence.
///
/// The first valid count that was sent is used. Invalid counts before it are recorded as coercions.
///
/// The rank is 0 if no count was sent, so that this is the first attempt, 1 for a field that counts
/// from 1, and 2 for an explicit count of retries.
pub fn resolve_attempts(event: &mut WireEvent<'_>) -> Result<(i32, i16), Left> {
    let explicit = event.meta.get(Member::Attempts);
    if let Some(attempts) = count(event, "meta.attempts", explicit)? {
        return Ok((attempts, 2));
    }
    let values = counted_from_one(event)?;
    for (&field, raw) in COUNTED_FROM_ONE.iter().zip(values) {
        if let Some(number) = count(event, field, raw)? {
            return Ok(((number - 1).max(0), 1));
        }
    }
    let retries = event.get(Top::RetryCount);
    Ok(count(event, "retry_count", retries)?.map_or((0, 0), |retries| (retries, 2)))
}

/// Returns the maximum number of attempts; None if it wasn't sent (#n4).
pub fn resolve_max_attempts(event: &WireEvent<'_>) -> Result<Option<i32>, Left> {
    let (meta, nested) = (&event.meta, &event.nested);
    for raw in [
        meta.get(Member::MaxAttempts),
        meta.inner(Member::QueueMeta)?.get(Member::MaxAttempts),
        nested
            .payload
            .inner(Member::Retry)?
            .get(Member::MaxAttempts),
        event.get(Top::MaxAttempts),
        meta.inner(Member::Retry)?.get(Member::MaxAttempts),
        nested
            .stored_payload
            .inner(Member::Retry)?
            .get(Member::MaxAttempts),
    ] {
        if let Some(most) = as_count(value(raw)?)? {
            return Ok(Some(most));
        }
    }
    Ok(None)
}

/// Returns whether the meta already holds this number, as an integer.
pub fn meta_attempts_equal(event: &WireEvent<'_>, attempts: i32) -> Result<bool, Left> {
    Ok(match value(event.meta.get(Member::Attempts))? {
        Value::Integer(number) => number == i128::from(attempts),
        Value::Number(number) if number.contains(['e', 'E']) => return Err(Left::Rare),
        _ => false,
    })
}

/// Returns the value of each field in `COUNTED_FROM_ONE`, in the same order.
fn counted_from_one<'a>(event: &WireEvent<'a>) -> Result<[Raw<'a>; 13], Left> {
    let meta = &event.meta;
    let (payload, stored) = (&event.nested.payload, &event.nested.stored_payload);
    Ok([
        meta.get(Member::Attempt),
        Nested::read(event.get(Top::Correlation))?.get(Member::Attempt),
        meta.inner(Member::Correlation)?.get(Member::Attempt),
        payload.get(Member::Attempt),
        payload.inner(Member::Retry)?.get(Member::Attempt),
        meta.inner(Member::QueueMeta)?.get(Member::Attempts),
        event.get(Top::AttemptNumber),
        meta.inner(Member::Retry)?.get(Member::AttemptNumber),
        payload.inner(Member::Data)?.get(Member::AttemptNumber),
        event.get(Top::Attempt),
        stored.get(Member::Attempt),
        stored.inner(Member::Retry)?.get(Member::Attempt),
        stored.inner(Member::Data)?.get(Member::AttemptNumber),
    ])
}

fn count<'a>(
    event: &mut WireEvent<'a>,
    field: &'static str,
    raw: Raw<'a>,
) -> Result<Option<i32>, Left> {
    if raw.is_empty() {
        return Ok(None);
    }
    let count = as_count(value(raw)?)?;
    if count.is_none() && raw != "\"\"" {
        event.coerce("attempts_invalid", field, From::Raw(raw));
    }
    Ok(count)
}

/// Returns a count from 0 to `MAX_ATTEMPTS`, from an integer or a text of digits.
fn as_count(value: Value<'_>) -> Result<Option<i32>, Left> {
    let number = match value {
        Value::Integer(number) => i32::try_from(number).ok(),
        Value::Text(text) if is_digits(&text) => {
            let digits = text.trim_start_matches('0');
            if digits.is_empty() {
                Some(0)
            } else {
                digits.parse().ok()
            }
        }
        Value::Number(number) if number.contains(['e', 'E']) => return Err(Left::Rare),
        _ => None,
    };
    Ok(number.filter(|number| (0..=MAX_ATTEMPTS).contains(number)))
}

#[cfg(test)]
mod tests {
    use super::as_count;
    use crate::wire_values::value;

    #[test]
    fn a_count_is_an_integer_or_digits_in_bounds() {
        let count = |raw| value(raw).and_then(as_count);

        assert_eq!(count("3"), Ok(Some(3)));
        assert_eq!(count("\"0003\""), Ok(Some(3)));
        assert_eq!(count("\"00\""), Ok(Some(0)));
        assert_eq!(count("32768"), Ok(None));
        assert_eq!(count("-1"), Ok(None));
        assert_eq!(count("1.0"), Ok(None));
        assert_eq!(count("true"), Ok(None));
        assert!(count("1e1").is_err());
    }
}
