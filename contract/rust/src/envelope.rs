use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::json::{self, canonical_json};
use crate::{read, time, Error};

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

    /// Reads one event in the shape of any producer, or a canonical line.
    ///
    /// # Errors
    ///
    /// What is no event, or belongs to no execution.
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        read::event(std::str::from_utf8(bytes)?)
    }

    /// Reads a canonical line; fields that this version does not know are kept in `later`.
    ///
    /// # Errors
    ///
    /// What is no event, or belongs to no execution.
    pub fn read_line(bytes: &[u8]) -> Result<Self, Error> {
        read::line(std::str::from_utf8(bytes)?)
    }

    /// Gives the canonical line of the event, without a line feed.
    ///
    /// # Errors
    ///
    /// JSON that no event may hold, in `context`, `meta`, `result` or `later`.
    pub fn to_canonical(&self) -> Result<String, Error> {
        let mut line = Line(String::from("{"));
        line.number("event_id", self.event_id);
        line.number("execution_id", Some(self.execution_id));
        line.text("event_type", Some(&self.event_type));
        line.text("step", Some(&self.step));
        line.text("status", Some(&self.status));
        line.text(
            "created_at",
            self.created_at.as_ref().map(time::canonical).as_deref(),
        );
        line.raw("context", &json_or_null(self.context.as_deref())?);
        match &self.worker_id {
            None => line.raw("worker_id", "null"),
            worker_id => line.text("worker_id", worker_id.as_deref()),
        }
        line.raw("meta", &canonical_json(&self.meta_with_attempts())?);
        line.text("command_id", self.command_id.as_deref());
        line.number("catalog_id", self.catalog_id);
        line.text("node_type", self.node_type.as_deref());
        line.number("parent_event_id", self.parent_event_id);
        line.number("parent_execution_id", self.parent_execution_id);
        if let Some(result) = &self.result {
            line.raw("result", &canonical_json(result.get())?);
        }
        line.text("error", self.error.as_deref());
        if let Some(seconds) = self.duration {
            line.raw("duration", &seconds_text(seconds));
        }
        for (name, value) in &self.later {
            line.raw(name, &canonical_json(value.get())?);
        }
        Ok(line.end())
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

impl<'de> Deserialize<'de> for Envelope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        read::event(raw.get()).map_err(serde::de::Error::custom)
    }
}

fn json_or_null(value: Option<&RawValue>) -> Result<String, Error> {
    value.map_or_else(
        || Ok(String::from("null")),
        |value| canonical_json(value.get()),
    )
}

/// Gives seconds with a point and without an exponent: 0.018, 2.0.
fn seconds_text(seconds: f64) -> String {
    let text = format!("{seconds}");
    if text.contains('.') {
        text
    } else {
        format!("{text}.0")
    }
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
        if let Some(text) = text {
            let mut quoted = String::with_capacity(text.len() + 2);
            json::quote(text, &mut quoted);
            self.raw(name, &quoted);
        }
    }

    fn number(&mut self, name: &str, number: Option<i64>) {
        if let Some(number) = number {
            self.raw(name, &number.to_string());
        }
    }

    fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}
