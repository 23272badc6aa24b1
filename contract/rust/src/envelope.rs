//! The canonical event, and the bytes that are the same for the same event.

use chrono::{DateTime, Datelike, Utc};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::error::Error;
use crate::json::{self, canonical_json};
use crate::places::MAX_ATTEMPTS;
use crate::status::{CALL_DONE_EVENT_TYPES, CALL_OUTCOMES};
use crate::time;

/// One canonical event: the nine fields that every line has, and the extensions where they are
/// known. Its JSON fields are held as they were sent, so that no digit of a number is lost.
///
/// [`Envelope::read`] takes what any producer sends, [`Envelope::read_line`] a line of the
/// canonical topic, and [`Envelope::to_canonical`] gives the bytes that are the same for the same
/// event. `serde_json` does the same: an `Envelope` is read leniently and written canonically.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// The event; `None` where its producer gave it no id.
    pub event_id: Option<i64>,
    /// The execution that the event belongs to.
    pub execution_id: i64,
    /// An open word: `call.done`, `step.enter`, ...
    pub event_type: String,
    /// The step; empty where nobody named one.
    pub step: String,
    /// How it went; of a finished call COMPLETED, FAILED, ERROR or CANCELLED.
    pub status: String,
    /// When it happened; `None` where nobody said so.
    pub created_at: Option<DateTime<Utc>>,
    /// What the producer sent as `context` or `payload`.
    pub context: Option<Box<RawValue>>,
    /// Who sent it.
    pub worker_id: Option<String>,
    /// How many retries came before this try; 0 is the first. A line has it within `meta`.
    pub attempts: u16,
    /// The producer's own keys: an object. Its `attempts`, if any, give way to those above.
    pub meta: Option<Box<RawValue>>,
    /// The command that the event is of.
    pub command_id: Option<String>,
    /// The playbook's entry in the catalog.
    pub catalog_id: Option<i64>,
    /// The kind of node.
    pub node_type: Option<String>,
    /// The event that caused this one.
    pub parent_event_id: Option<i64>,
    /// The execution that began this one.
    pub parent_execution_id: Option<i64>,
    /// A result apart from the context.
    pub result: Option<Box<RawValue>>,
    /// What went wrong, in words.
    pub error: Option<String>,
    /// How long it took, in seconds.
    pub duration: Option<f64>,
    /// Fields of a later version of the contract, in the order in which they came. Only
    /// [`Envelope::read_line`] fills it: what a producer sends beside its event is no field.
    pub later: Vec<(String, Box<RawValue>)>,
}

impl Envelope {
    /// Gives an event that says only what every event must.
    #[must_use]
    pub fn new(
        execution_id: i64,
        event_type: impl Into<String>,
        status: impl Into<String>,
    ) -> Self {
        Self {
            event_id: None,
            execution_id,
            event_type: event_type.into(),
            step: String::new(),
            status: status.into(),
            created_at: None,
            context: None,
            worker_id: None,
            attempts: 0,
            meta: None,
            command_id: None,
            catalog_id: None,
            node_type: None,
            parent_event_id: None,
            parent_execution_id: None,
            result: None,
            error: None,
            duration: None,
            later: Vec::new(),
        }
    }

    /// Gives the canonical line of the event, without a line feed.
    ///
    /// An id below 1 that an event may lack, an empty word, the step `unknown` and the result null
    /// count as absent, as where they are read.
    ///
    /// # Errors
    ///
    /// What no canonical line may hold: an `execution_id` below 1, an empty `event_type` or
    /// `status`, another `status` of a finished call than COMPLETED, FAILED, ERROR or CANCELLED, a
    /// `created_at` beyond the year 9999, a `meta` that is no object, more than 32,767 `attempts`, a
    /// `duration` that is negative, not finite or 1e308 and more, and JSON that no event may hold.
    /// A leap second is written as the second after it.
    pub fn to_canonical(&self) -> Result<String, Error> {
        self.check()?;
        let step = if self.step == "unknown" {
            ""
        } else {
            &self.step
        };
        let mut line = Line(String::from("{"));
        line.id("event_id", self.event_id);
        line.id("execution_id", Some(self.execution_id));
        line.raw("event_type", &json::quoted(&self.event_type));
        line.raw("step", &json::quoted(step));
        line.raw("status", &json::quoted(&self.status));
        line.text(
            "created_at",
            self.created_at.as_ref().map(time::canonical).as_deref(),
        );
        let context = self
            .context
            .as_ref()
            .map_or("null", |context| context.get());
        line.raw("context", &canonical_json(context)?);
        match self.worker_id.as_deref() {
            None | Some("") => line.raw("worker_id", "null"),
            worker_id => line.text("worker_id", worker_id),
        }
        line.raw("meta", &canonical_json(&self.meta_with_attempts())?);
        line.text("command_id", self.command_id.as_deref());
        line.id("catalog_id", self.catalog_id);
        line.text("node_type", self.node_type.as_deref());
        line.id("parent_event_id", self.parent_event_id);
        line.id("parent_execution_id", self.parent_execution_id);
        if let Some(result) = self.result.as_ref().filter(|result| result.get() != "null") {
            line.raw("result", &canonical_json(result.get())?);
        }
        line.text("error", self.error.as_deref());
        if let Some(seconds) = self.duration {
            line.raw("duration", &seconds_text(seconds)?);
        }
        for (name, value) in &self.later {
            line.raw(name, &canonical_json(value.get())?);
        }
        Ok(line.end())
    }

    fn check(&self) -> Result<(), Error> {
        if self.execution_id < 1 {
            return Err(Error::InvalidId("execution_id"));
        }
        let is_finished_call = CALL_DONE_EVENT_TYPES.contains(&self.event_type.as_str());
        let checks = [
            ("event_type", !self.event_type.is_empty()),
            (
                "status",
                !self.status.is_empty()
                    && (!is_finished_call || CALL_OUTCOMES.contains(&self.status.as_str())),
            ),
            (
                "created_at",
                self.created_at
                    .map_or(true, |at| (0..=9999).contains(&time::unix(&at).year())),
            ),
            (
                "meta",
                self.meta
                    .as_ref()
                    .map_or(true, |meta| meta.get().starts_with('{')),
            ),
            ("attempts", self.attempts <= MAX_ATTEMPTS),
            (
                "duration",
                self.duration
                    .map_or(true, |seconds| seconds.is_finite() && seconds >= 0.0),
            ),
        ];
        match checks.iter().find(|(_, holds)| !holds) {
            Some((field, _)) => Err(Error::InvalidField(field)),
            None => Ok(()),
        }
    }

    /// Gives the meta with the number of attempts as its last key: of duplicates the last counts.
    pub(crate) fn meta_with_attempts(&self) -> String {
        let meta = self.meta.as_ref().map_or("{}", |meta| meta.get().trim());
        let members = meta
            .strip_prefix('{')
            .and_then(|meta| meta.strip_suffix('}'));
        let members = members.unwrap_or("").trim();
        let comma = if members.is_empty() { "" } else { "," };
        format!("{{{members}{comma}\"attempts\":{}}}", self.attempts)
    }
}

/// Canonical, so that every program that passes the line on passes on the same bytes.
impl Serialize for Envelope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let line = self.to_canonical().map_err(serde::ser::Error::custom)?;
        let raw = RawValue::from_string(line).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

/// Gives seconds with a point and without an exponent: 0.018, 2.0. A zero has no sign.
fn seconds_text(seconds: f64) -> Result<String, Error> {
    let text = json::number(&seconds.to_string())?;
    Ok(if text.contains('.') {
        text
    } else {
        format!("{text}.0")
    })
}

/// An object that is written member by member.
struct Line(String);

impl Line {
    fn raw(&mut self, name: &str, json: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        json::quote(name, &mut self.0);
        self.0.push(':');
        self.0.push_str(json);
    }

    fn text(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.raw(name, &json::quoted(text));
        }
    }

    fn id(&mut self, name: &str, id: Option<i64>) {
        if let Some(id) = id.filter(|id| *id > 0) {
            self.raw(name, &id.to_string());
        }
    }

    fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}
