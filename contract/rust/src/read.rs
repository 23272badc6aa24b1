//! Reading: an [`Envelope`] of the text of any producer, or of a canonical line.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::envelope::Envelope;
use crate::error::Error;
use crate::json::{self, filled, word, Object};
use crate::places::Places;
use crate::{status, time};

/// Every name that means a field of an event at its top level.
const FIELDS: &[&str] = &[
    "event_id",
    "execution_id",
    "event_type",
    "name",
    "step",
    "node_name",
    "status",
    "created_at",
    "timestamp",
    "event_time",
    "ingest_time",
    "context",
    "payload",
    "worker_id",
    "meta",
    "command_id",
    "catalog_id",
    "node_type",
    "parent_event_id",
    "parent_execution_id",
    "result",
    "error",
    "duration",
];
const TIMES: [&str; 4] = ["created_at", "timestamp", "event_time", "ingest_time"];
/// The events that begin an execution; their context may name its parent.
const BEGINS: [&str; 8] = [
    "playbook.initialized",
    "playbook_initialized",
    "playbook.started",
    "playbook_started",
    "execution.started",
    "execution_start",
    "execution.start",
    "execution_started",
];

impl Envelope {
    /// Reads one event in the shape of any producer, or a canonical line.
    ///
    /// # Errors
    ///
    /// What is no event, or belongs to no execution.
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        event(std::str::from_utf8(bytes)?)
    }

    /// Reads a canonical line; fields that this version does not know are kept in `later`.
    ///
    /// # Errors
    ///
    /// What is no event, or belongs to no execution.
    pub fn read_line(bytes: &[u8]) -> Result<Self, Error> {
        line(std::str::from_utf8(bytes)?)
    }
}

impl<'de> Deserialize<'de> for Envelope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        event(raw.get()).map_err(serde::de::Error::custom)
    }
}

/// Gives the event of a text in any producer's shape.
pub(crate) fn event(text: &str) -> Result<Envelope, Error> {
    let members = members_of(text)?;
    let event_type = ["event_type", "name"]
        .iter()
        .find_map(|name| members.get(name));
    let event_type = filled(event_type).ok_or(Error::NotAnEvent)?;
    let execution_id = id(members.get("execution_id"), "execution_id");
    let event_id = match members.get("event_id") {
        sent if json::is_negative_integer(sent) => Ok(None),
        sent => id(sent, "event_id"),
    };
    let own_id = execution_id.as_ref().map_or(0, |id| id.unwrap_or(0));
    let mut event = gather(&members, own_id, event_type);
    check_words(&event)?;
    event.execution_id = execution_id?.ok_or(Error::MissingExecutionId)?;
    event.event_id = event_id?;
    event.created_at = event.created_at.or_else(|| time::of_id(event.event_id?));
    Ok(event)
}

/// Gives the event of a canonical line, with the fields that only a later version knows.
pub(crate) fn line(text: &str) -> Result<Envelope, Error> {
    let mut event = event(text)?;
    let mut seen = BTreeSet::new();
    // From the last on: of a name that is there twice the last value counts.
    for (name, value) in members_of(text)?.0.into_iter().rev() {
        if !FIELDS.contains(&name.as_str()) && seen.insert(name.clone()) {
            event.later.push((name, value.to_owned()));
        }
    }
    event.later.reverse();
    Ok(event)
}

fn members_of(text: &str) -> Result<Object<'_>, Error> {
    let value: &RawValue = serde_json::from_str(text.strip_prefix('\u{feff}').unwrap_or(text))?;
    json::check_event(value.get())?;
    if !value.get().starts_with('{') {
        return Err(Error::NotAnEvent);
    }
    Ok(serde_json::from_str(value.get())?)
}

/// Refuses words that are longer than the normalizer stores them.
fn check_words(event: &Envelope) -> Result<(), Error> {
    for (field, word, most_bytes) in [
        ("event_type", Some(&event.event_type), 200),
        ("command_id", event.command_id.as_ref(), 1000),
        ("step", Some(&event.step), 1000),
        ("worker_id", event.worker_id.as_ref(), 1000),
        ("status", Some(&event.status), 100),
    ] {
        if word.is_some_and(|word| word.len() > most_bytes) {
            return Err(Error::TooLarge(field));
        }
    }
    Ok(())
}

/// Gives all that an event says beside its ids and its type.
pub(crate) fn gather(top: &Object<'_>, execution_id: i64, event_type: String) -> Envelope {
    let places = Places::of(top);
    let command_id = places.command_id();
    let status = status::read(&places, &event_type);
    let mut event = Envelope::new(execution_id, event_type, status);
    event.step = places.step(command_id.as_deref());
    event.created_at = TIMES.iter().find_map(|name| time::read(top.get(name)?));
    event.context = top
        .get("context")
        .or_else(|| top.get("payload"))
        .map(ToOwned::to_owned);
    event.worker_id = places.worker_id();
    event.attempts = places.attempts();
    event.meta = places.object("meta").map(ToOwned::to_owned);
    event.command_id = command_id;
    event.catalog_id = secondary_id(top.get("catalog_id"));
    event.node_type = word(top.get("node_type"));
    event.parent_event_id = secondary_id(top.get("parent_event_id"));
    event.parent_execution_id = secondary_id(top.get("parent_execution_id")).or_else(|| {
        let begins = BEGINS.contains(&event.event_type.as_str());
        begins.then(|| places.parent(execution_id)).flatten()
    });
    event.result = top.get("result").map(ToOwned::to_owned);
    event.error = places.error();
    event.duration = places.duration(&event.event_type);
    event
}

/// Gives a primary id: a positive integer or its digits; nothing where none was sent.
fn id(sent: Option<&RawValue>, field: &'static str) -> Result<Option<i64>, Error> {
    let Some(value) = sent else { return Ok(None) };
    match json::id(sent) {
        Some(0) => Ok(None),
        Some(number) if number > 0 => Ok(Some(number)),
        _ if value.get() == "\"\"" => Ok(None),
        _ => Err(Error::InvalidId(field)),
    }
}

fn secondary_id(sent: Option<&RawValue>) -> Option<i64> {
    json::id(sent).filter(|number| *number > 0)
}
