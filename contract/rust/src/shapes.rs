//! The shapes in which the platform's producers send events, each as a type.
//!
//! What a shape has no field for it cannot carry: the contract's README lists it.
//!
//! Each is read as any event is: by every name and place of a field, and what was left out is what the
//! event itself shows.

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::Value;

use crate::envelope::Envelope;
use crate::error::Error;
use crate::json::{self, Object};
use crate::{read, time};

/// What the local executor and the Rust worker send: the nine fields, as in 0.1.0.
///
/// `context` and `meta` are [`Value`]s, as there: what their numbers lose in a double is lost. An
/// [`Envelope`] keeps them as they were sent. Written by `serde_json` it is a canonical line.
#[derive(Debug, Clone)]
pub struct ExecutorEvent {
    /// The event; `None` where its producer gave it no id.
    pub event_id: Option<i64>,
    /// The execution that the event belongs to.
    pub execution_id: i64,
    /// An open word: `call.done`, `step.enter`, ...
    pub event_type: String,
    /// The step; empty where nobody named one.
    pub step: String,
    /// How it went: STARTED, COMPLETED, FAILED, ...
    pub status: String,
    /// When it happened.
    pub created_at: DateTime<Utc>,
    /// What belongs to the event.
    pub context: Value,
    /// Who sent it.
    pub worker_id: Option<String>,
    /// The producer's own keys: an object, with `attempts` in it.
    pub meta: Option<Value>,
}

/// What the Rust worker sends before it sends [`ExecutorEvent`]s.
#[derive(Debug, Clone, Serialize)]
pub struct WorkerEvent {
    /// An open word: `call.done`, `command.started`, ...
    pub event_type: String,
    /// The execution that the event belongs to.
    pub execution_id: i64,
    /// An object.
    pub payload: Box<RawValue>,
}

/// What the Rust server takes.
#[derive(Debug, Clone, Serialize)]
pub struct EventRequest {
    /// The execution that the event belongs to; text on the wire.
    #[serde(serialize_with = "ids::text")]
    pub execution_id: i64,
    /// The step; empty where nobody named one.
    pub step: String,
    /// An open word: `call.done`, `step.enter`, ...
    pub event_type: String,
    /// What belongs to the event.
    pub payload: Option<Box<RawValue>>,
    /// The producer's own keys: an object, with `attempts` in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta: Option<Box<RawValue>>,
    /// Who sent it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_id: Option<String>,
    /// `data`, `ref` or `refs`.
    pub result_kind: String,
    /// Where the result lies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result_uri: Option<String>,
    /// The events that the result consists of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_ids: Option<Vec<i64>>,
    /// Whether the server is to act on it.
    pub actionable: bool,
    /// Whether it is to be shown.
    pub informative: bool,
    /// The event; text on the wire.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "ids::optional_text"
    )]
    pub event_id: Option<i64>,
    /// How it went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// When it happened.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "moment")]
    pub created_at: Option<DateTime<Utc>>,
}

/// What the Python server takes.
#[derive(Debug, Clone, Serialize)]
pub struct EventEmitRequest {
    /// The execution that the event belongs to; text on the wire.
    #[serde(serialize_with = "ids::text")]
    pub execution_id: i64,
    /// An open word: `call.done`, `step.enter`, ...
    pub event_type: String,
    /// The event; text on the wire.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "ids::optional_text"
    )]
    pub event_id: Option<i64>,
    /// The playbook's entry in the catalog.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "ids::optional_text"
    )]
    pub catalog_id: Option<i64>,
    /// The event that caused this one.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "ids::optional_text"
    )]
    pub parent_event_id: Option<i64>,
    /// The execution that began this one.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "ids::optional_text"
    )]
    pub parent_execution_id: Option<i64>,
    /// The step; empty where nobody named one.
    pub node_name: String,
    /// The kind of node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_type: Option<String>,
    /// How it went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// How long it took, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<f64>,
    /// What belongs to the event.
    pub context: Option<Box<RawValue>>,
    /// A result apart from the context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Box<RawValue>>,
    /// What went wrong, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The producer's own keys: an object, with `attempts` in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta: Option<Box<RawValue>>,
    /// Who sent it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_id: Option<String>,
    /// The command that the event is of. The server has no such field yet, and lets it pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command_id: Option<String>,
    /// When it happened.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "moment")]
    pub created_at: Option<DateTime<Utc>>,
}

impl From<ExecutorEvent> for Envelope {
    fn from(event: ExecutorEvent) -> Self {
        let sent = serde_json::json!({
            "step": event.step,
            "status": event.status,
            "context": event.context,
            "worker_id": event.worker_id,
            "meta": event.meta,
        });
        let mut envelope = gathered(&sent, event.execution_id, event.event_type);
        envelope.event_id = event.event_id;
        envelope.created_at = Some(event.created_at);
        envelope
    }
}

impl From<WorkerEvent> for Envelope {
    fn from(event: WorkerEvent) -> Self {
        gathered(&event, event.execution_id, event.event_type.clone())
    }
}

impl From<EventRequest> for Envelope {
    fn from(event: EventRequest) -> Self {
        let mut envelope = gathered(&event, event.execution_id, event.event_type.clone());
        envelope.event_id = event.event_id;
        envelope.created_at = event.created_at.or_else(|| time::of_id(event.event_id?));
        envelope
    }
}

impl From<EventEmitRequest> for Envelope {
    fn from(event: EventEmitRequest) -> Self {
        let mut envelope = gathered(&event, event.execution_id, event.event_type.clone());
        envelope.event_id = event.event_id;
        envelope.created_at = event.created_at.or_else(|| time::of_id(event.event_id?));
        envelope
    }
}

/// Gives the event of what a producer writes: the same as the event of its bytes.
fn gathered(sent: &impl Serialize, execution_id: i64, event_type: String) -> Envelope {
    // Text keys, numbers and JSON: there is nothing in a shape that could not be written.
    let text = serde_json::to_string(sent).unwrap_or_default();
    let members: Object<'_> = serde_json::from_str(&text).unwrap_or_default();
    read::gather(&members, execution_id, event_type)
}

/// An event without a time is none for an executor: [`Error::MissingTime`].
impl TryFrom<Envelope> for ExecutorEvent {
    type Error = Error;

    fn try_from(envelope: Envelope) -> Result<Self, Error> {
        let context = envelope
            .context
            .as_ref()
            .map_or("null", |context| context.get());
        Ok(Self {
            context: serde_json::from_str(context)?,
            meta: Some(serde_json::from_str(&envelope.meta_with_attempts())?),
            event_id: envelope.event_id,
            execution_id: envelope.execution_id,
            created_at: envelope.created_at.ok_or(Error::MissingTime)?,
            event_type: envelope.event_type,
            step: envelope.step,
            status: envelope.status,
            worker_id: envelope.worker_id,
        })
    }
}

impl From<Envelope> for WorkerEvent {
    fn from(envelope: Envelope) -> Self {
        let Envelope {
            execution_id,
            event_type,
            context,
            ..
        } = &envelope;
        let members = Object::of(context.as_deref()).0;
        let payload = |members: &[(String, String)]| Self {
            event_type: event_type.clone(),
            execution_id: *execution_id,
            payload: object_of(members),
        };
        let mut sent: Vec<(String, String)> = members
            .into_iter()
            .map(|(name, value)| (name, value.get().to_owned()))
            .collect();
        let plain = Envelope::from(payload(&sent));
        // What stands there stays: a worker's payload is its own.
        let mut add = |name: &str, value: String| {
            if sent.iter().all(|(known, _)| known != name) {
                sent.push((name.to_owned(), value));
            }
        };
        if let Some(command_id) = &envelope.command_id {
            if plain.command_id != envelope.command_id {
                add("command_id", json::quoted(command_id));
            }
        }
        if let Some(worker_id) = &envelope.worker_id {
            if plain.worker_id != envelope.worker_id {
                add("worker_id", json::quoted(worker_id));
            }
        }
        if plain.step != envelope.step {
            add("step", json::quoted(&envelope.step));
        }
        if plain.status != envelope.status {
            add("status", json::quoted(&envelope.status));
        }
        if plain.attempts != envelope.attempts {
            add("attempt", (u32::from(envelope.attempts) + 1).to_string());
        }
        if let Some(error) = &envelope.error {
            if plain.error != envelope.error {
                add("error", json::quoted(error));
            }
        }
        payload(&sent)
    }
}

impl From<Envelope> for EventRequest {
    fn from(envelope: Envelope) -> Self {
        Self {
            meta: raw(envelope.meta_with_attempts()),
            execution_id: envelope.execution_id,
            step: envelope.step,
            event_type: envelope.event_type,
            payload: envelope.context,
            worker_id: envelope.worker_id,
            result_kind: String::from("data"),
            result_uri: None,
            event_ids: None,
            actionable: true,
            informative: true,
            event_id: envelope.event_id,
            status: Some(envelope.status),
            created_at: envelope.created_at,
        }
    }
}

impl From<Envelope> for EventEmitRequest {
    fn from(envelope: Envelope) -> Self {
        Self {
            meta: raw(envelope.meta_with_attempts()),
            execution_id: envelope.execution_id,
            event_type: envelope.event_type,
            event_id: envelope.event_id,
            catalog_id: envelope.catalog_id,
            parent_event_id: envelope.parent_event_id,
            parent_execution_id: envelope.parent_execution_id,
            node_name: envelope.step,
            node_type: envelope.node_type,
            status: Some(envelope.status),
            duration: envelope.duration,
            context: envelope.context,
            result: envelope.result,
            error: envelope.error,
            worker_id: envelope.worker_id,
            command_id: envelope.command_id,
            created_at: envelope.created_at,
        }
    }
}

impl Serialize for ExecutorEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Envelope::from(self.clone()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ExecutorEvent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::try_from(Envelope::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// Every shape is read as any event is: by all names and places of its fields.
impl<'de> Deserialize<'de> for WorkerEvent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Envelope::deserialize(deserializer).map(Self::from)
    }
}

impl<'de> Deserialize<'de> for EventEmitRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Envelope::deserialize(deserializer).map(Self::from)
    }
}

/// And what only the Rust server knows; a value of another type counts as absent.
impl<'de> Deserialize<'de> for EventRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let sent = Box::<RawValue>::deserialize(deserializer)?;
        let event = read::event(sent.get()).map_err(serde::de::Error::custom)?;
        let members = Object::of(Some(&sent));
        let plain = Self::from(event);
        Ok(Self {
            result_kind: own(&members, "result_kind").unwrap_or(plain.result_kind),
            result_uri: own(&members, "result_uri"),
            event_ids: own(&members, "event_ids"),
            actionable: own(&members, "actionable").unwrap_or(plain.actionable),
            informative: own(&members, "informative").unwrap_or(plain.informative),
            ..plain
        })
    }
}

fn own<T: DeserializeOwned>(members: &Object<'_>, name: &str) -> Option<T> {
    serde_json::from_str(members.get(name)?.get()).ok()
}

fn raw(json: String) -> Option<Box<RawValue>> {
    RawValue::from_string(json).ok()
}

fn object_of(members: &[(String, String)]) -> Box<RawValue> {
    let members: Vec<String> = members
        .iter()
        .map(|(name, value)| format!("{}:{value}", json::quoted(name)))
        .collect();
    raw(format!("{{{}}}", members.join(","))).unwrap_or_default()
}

/// Ids as text, as the servers write them.
mod ids {
    use serde::Serializer;

    // serde names a field by reference.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    pub(super) fn text<S: Serializer>(id: &i64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    // The same.
    #[allow(clippy::trivially_copy_pass_by_ref, clippy::ref_option)]
    pub(super) fn optional_text<S: Serializer>(
        id: &Option<i64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match id {
            Some(id) => serializer.collect_str(id),
            None => serializer.serialize_none(),
        }
    }
}

// serde names a field by reference.
#[allow(clippy::ref_option)]
fn moment<S: Serializer>(at: &Option<DateTime<Utc>>, serializer: S) -> Result<S::Ok, S::Error> {
    at.as_ref().map(time::canonical).serialize(serializer)
}
