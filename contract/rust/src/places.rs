//! Places: where each field of an event may stand, in the order in which the places are read.
//!
//! The places are those of every producer at once; which shape an event has makes no difference.

use serde_json::value::RawValue;

use crate::json::{self, canonical_json, digits, filled, integer, numeral, word, Object};

/// The most retries that an event may have behind it.
pub(crate) const MAX_ATTEMPTS: u16 = 32_767;
/// A call, a command or a step takes no longer, all else at most ten years.
const LONGEST_WORK_S: u64 = 30 * 24 * 3600;
const LONGEST_S: u64 = 10 * 365 * 24 * 3600;

/// The objects of an event in which its producers put what belongs to it.
pub(crate) struct Places<'a, 'b> {
    pub(crate) top: &'b Object<'a>,
    meta: Object<'a>,
    pub(crate) payload: Object<'a>,
    pub(crate) payload_result: Object<'a>,
    pub(crate) payload_result_context: Object<'a>,
    pub(crate) payload_response: Object<'a>,
    pub(crate) result: Object<'a>,
    pub(crate) result_context: Object<'a>,
    pub(crate) result_inner: Object<'a>,
    pub(crate) result_inner_context: Object<'a>,
    pub(crate) result_response: Object<'a>,
}

impl<'a, 'b> Places<'a, 'b> {
    pub(crate) fn of(top: &'b Object<'a>) -> Self {
        let payload = Object::of(top.get("context").or_else(|| top.get("payload")));
        let payload_result = payload.object("result");
        let result = top.object("result");
        let result_context = result.object("context");
        let result_inner = result_context.object("result");
        Self {
            top,
            meta: top.object("meta"),
            payload_result_context: payload_result.object("context"),
            payload_response: payload.object("response"),
            payload_result,
            payload,
            result_inner_context: result_inner.object("context"),
            result_response: result_context.object("response"),
            result_inner,
            result_context,
            result,
        }
    }

    pub(crate) fn object(&self, name: &str) -> Option<&'a RawValue> {
        self.top
            .get(name)
            .filter(|value| value.get().starts_with('{'))
    }

    /// Gives the objects that are read after the payload, in reading order.
    fn deeper(&self) -> [&Object<'a>; 6] {
        [
            &self.payload_result,
            &self.payload_result_context,
            &self.result,
            &self.result_context,
            &self.result_inner,
            &self.result_inner_context,
        ]
    }

    pub(crate) fn command_id(&self) -> Option<String> {
        [self.top, &self.payload, &self.meta]
            .into_iter()
            .chain(self.deeper())
            .find_map(|place| {
                let sent = place.get("command_id");
                filled(sent).or_else(|| integer(sent))
            })
    }

    pub(crate) fn step(&self, command_id: Option<&str>) -> String {
        let named = |value| word(value).filter(|step| step != "unknown");
        named(self.top.get("step"))
            .or_else(|| named(self.top.get("node_name")))
            .or_else(|| named(self.payload.get("step")))
            .or_else(|| step_of_command(command_id?))
            .or_else(|| named(self.result_context.get("step")))
            .unwrap_or_default()
    }

    pub(crate) fn worker_id(&self) -> Option<String> {
        let traced = self.top.object("trace_component").object("worker");
        word(self.top.get("worker_id"))
            .or_else(|| word(self.payload.get("worker_id")))
            .or_else(|| word(self.meta.get("worker_id")))
            .or_else(|| word(traced.get("id")))
            .or_else(|| word(self.result_context.get("worker_id")))
    }

    pub(crate) fn parent(&self, execution_id: i64) -> Option<i64> {
        let named = |object: &Object<'a>| {
            let sent = object.get("parent_execution_id");
            let written_out = integer(sent).and_then(|digits| digits.parse().ok());
            let id = written_out.or_else(|| json::id(sent))?;
            (id > 0 && id != execution_id).then_some(id)
        };
        named(&self.payload).or_else(|| named(&self.result_context))
    }

    pub(crate) fn attempts(&self) -> u16 {
        let count = |value| {
            let count = u16::try_from(digits(value)?).ok()?;
            (count <= MAX_ATTEMPTS).then_some(count)
        };
        let retries = |value| count(value).map(|tries| tries.saturating_sub(1));
        let (top, meta) = (self.top, &self.meta);
        let (payload, stored) = (&self.payload, &self.result_context);
        count(meta.get("attempts"))
            .or_else(|| retries(meta.get("attempt")))
            .or_else(|| retries(top.object("correlation").get("attempt")))
            .or_else(|| retries(meta.object("correlation").get("attempt")))
            .or_else(|| retries(payload.get("attempt")))
            .or_else(|| retries(payload.object("retry").get("attempt")))
            .or_else(|| retries(meta.object("queue_meta").get("attempts")))
            .or_else(|| retries(top.get("attempt_number")))
            .or_else(|| retries(meta.object("retry").get("attempt_number")))
            .or_else(|| retries(payload.object("data").get("attempt_number")))
            .or_else(|| retries(top.get("attempt")))
            .or_else(|| retries(stored.get("attempt")))
            .or_else(|| retries(stored.object("retry").get("attempt")))
            .or_else(|| retries(stored.object("data").get("attempt_number")))
            .or_else(|| count(top.get("retry_count")))
            .unwrap_or(0)
    }

    pub(crate) fn error(&self) -> Option<String> {
        let places = [self.top, &self.payload]
            .into_iter()
            .chain(self.deeper())
            .chain([&self.payload_response, &self.result_response]);
        places.into_iter().find_map(|place| {
            let sent = place.get("error").filter(|value| value.get() != "false")?;
            match json::text(Some(sent)) {
                Some(text) => Some(text).filter(|text| !text.is_empty()),
                None => filled(Object::of(Some(sent)).get("message"))
                    .or_else(|| canonical_json(sent.get()).ok()),
            }
        })
    }

    pub(crate) fn duration(&self, event_type: &str) -> Option<f64> {
        let is_work = ["call", "action", "command", "step"].iter().any(|word| {
            let begins = event_type
                .get(..word.len())
                .is_some_and(|a| a.eq_ignore_ascii_case(word));
            begins && !event_type[word.len()..].starts_with(|a: char| a.is_ascii_alphanumeric())
        });
        let longest = if is_work { LONGEST_WORK_S } else { LONGEST_S };
        let seconds = |value: Option<&RawValue>, is_ms: bool| {
            let plain = numeral(value)?;
            let (per_second, power) = if is_ms { (1000, "e-3") } else { (1, "") };
            let fits = is_within(&plain, longest * per_second);
            fits.then(|| format!("{plain}{power}").parse::<f64>().ok())?
        };
        let declared = self.top.get("duration");
        let stored = self
            .top
            .get("event_time")
            .or_else(|| self.top.get("ingest_time"))
            .is_some();
        let whole = declared.is_some_and(|sent| !sent.get().contains(['.', 'e', 'E']));
        seconds(declared, stored && whole).or_else(|| {
            [
                &self.payload,
                &self.payload_result,
                &self.payload_result_context,
                &self.result_context,
                &self.result_inner,
                &self.result_inner_context,
                &self.payload_response,
                &self.result_response,
            ]
            .iter()
            .find_map(|place| seconds(place.get("duration_ms"), true))
        })
    }
}

/// Tells whether a number as text is from 0 to a limit.
fn is_within(plain: &str, most: u64) -> bool {
    let (whole, fraction) = plain.split_once('.').unwrap_or((plain, ""));
    whole.parse::<u64>().is_ok_and(|whole| {
        whole < most || (whole == most && fraction.bytes().all(|digit| digit == b'0'))
    })
}

/// Gives the step of `{execution}:{step}:{id}` or `...:i{n}`; the step itself may hold colons.
fn step_of_command(command_id: &str) -> Option<String> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|a| a.is_ascii_digit());
    let (_, rest) = command_id
        .split_once(':')
        .filter(|(execution, _)| !execution.is_empty())?;
    let (before, last) = rest.rsplit_once(':')?;
    let step = match last.strip_prefix('i').filter(|turn| is_number(turn)) {
        Some(_) => before.rsplit_once(':').filter(|(_, id)| is_number(id))?.0,
        None if is_number(last) => before,
        None => return None,
    };
    (!step.is_empty() && step != "unknown").then(|| step.to_owned())
}
