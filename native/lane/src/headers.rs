//! Writes the headers of a record as JSON, and finds the trace id.
//!
//! Only the common case is handled here. The record is left to Python if its headers belong to a
//! CloudEvent, if two of them have the same name, or if one isn't printable ASCII. Source:
//! docs/spec/wire-shapes.md#v6.

use crate::left::Left;
use crate::record::Record;
use crate::wire_values::quote;

/// The most bytes of all names and values together.
const MAX_BYTES: usize = 50_000;

/// The headers as they're stored.
#[derive(Default)]
pub struct Headers {
    /// The headers as a JSON object of texts and nulls. None if the record has no headers.
    pub json: Option<String>,
    /// The trace id of the first valid `traceparent`.
    pub trace_id: Option<String>,
}

/// Reads the headers of a record. The caller has to check them for secrets.
pub fn read_headers(record: &Record<'_>) -> Result<Headers, Left> {
    let sent = &record.headers;
    if sent.is_empty() {
        return Ok(Headers::default());
    }
    let bytes: usize = sent
        .iter()
        .map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len))
        .sum();
    if bytes > MAX_BYTES || sent.len() > 64 {
        return Err(Left::Large);
    }
    let mut json = String::with_capacity(bytes + 8 * sent.len());
    let mut trace_id = None;
    for (at, (name, value)) in sent.iter().enumerate() {
        let is_repeated = sent[..at].iter().any(|(earlier, _)| earlier == name);
        if is_repeated || *name == "ce_specversion" || !is_plain(name) {
            return Err(Left::Headers);
        }
        json.push(if at == 0 { '{' } else { ',' });
        quote(name, &mut json);
        json.push(':');
        let Some(value) = value else {
            json.push_str("null");
            continue;
        };
        let text = std::str::from_utf8(value)
            .ok()
            .filter(|text| is_plain(text));
        let text = text.ok_or(Left::Headers)?;
        quote(text, &mut json);
        if trace_id.is_none() && name.eq_ignore_ascii_case("traceparent") {
            trace_id = trace_of(text).map(str::to_owned);
        }
    }
    json.push('}');
    Ok(Headers {
        json: Some(json),
        trace_id,
    })
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// Returns the trace id of a valid traceparent: version, trace, span, and flags. In version 00
/// nothing may follow the flags.
fn trace_of(text: &str) -> Option<&str> {
    let mut parts = text.splitn(5, '-');
    let (version, trace, span, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |part: &str, length: usize| {
        part.len() == length
            && part
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    let is_valid = is_hex(version, 2)
        && version != "ff"
        && is_hex(trace, 32)
        && !is_zero(trace)
        && is_hex(span, 16)
        && !is_zero(span)
        && is_hex(flags, 2)
        && (version != "00" || parts.next().is_none());
    is_valid.then_some(trace)
}

#[cfg(test)]
mod tests {
    use super::trace_of;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn only_a_valid_traceparent_has_a_trace_id() {
        let of = |version: &str, flags: &str| {
            let text = format!("{version}-{TRACE}-00f067aa0ba902b7-{flags}");
            trace_of(&text).map(str::to_owned)
        };

        assert_eq!(of("00", "01").as_deref(), Some(TRACE));
        assert_eq!(of("00", "01-x"), None);
        assert_eq!(of("01", "01-x").as_deref(), Some(TRACE));
        assert_eq!(of("ff", "01"), None);
        assert_eq!(of("00", "1"), None);
        assert_eq!(
            trace_of(&format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32))),
            None
        );
    }
}
