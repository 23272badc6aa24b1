//! Generated from the Python rules: type `python -m tests.support.lane_tables`.
/// The constant of this name in Python.
pub const RULES_VERSION: i32 = 6;
/// The constant of this name in Python.
pub const MAX_EVENT_TYPE_BYTES: usize = 200;
/// The constant of this name in Python.
pub const MAX_NAME_BYTES: usize = 1_000;
/// The constant of this name in Python.
pub const MAX_STATUS_BYTES: usize = 100;
/// The constant of this name in Python.
pub const MAX_EVENTS_IN_RECORD: usize = 10_000;
/// The constant of this name in Python.
pub const MAX_ATTEMPTS: i32 = 32_767;
/// The constant of this name in Python.
pub const MAX_WORK_S: f64 = 2_592_000.0;
/// The constant of this name in Python.
pub const MAX_S: f64 = 315_360_000.0;
/// The constant of this name in Python.
pub const MAX_RECORDED_MS: i64 = 253_402_214_399_999;
/// The constant of this name in Python.
pub const EPOCH_MS: i64 = 1_704_067_200_000;
/// The constant of this name in Python.
pub const FAILED_PREFIX: &str = "FAILED_";
/// The constant of this name in Python.
pub const NO_STEP: &str = "unknown";
/// The constant of this name in Python.
pub const NO_STATUS: &str = "UNKNOWN";

/// The types of events that end a call.
pub const CALL_DONE_EVENT_TYPES: &[&str] = &[
    "call.done",
    "action_done",
    "call_done",
];

/// The types of events that begin an execution.
pub const BEGINS: &[&str] = &[
    "playbook.initialized",
    "playbook_initialized",
    "playbook.started",
    "playbook_started",
    "execution.started",
    "execution_start",
    "execution.start",
    "execution_started",
];

/// The types of events whose nested status may be a user's own word.
pub const STEP_EXIT: &[&str] = &[
    "step.exit",
    "step_completed",
    "step_complete",
];

/// The first characters of event types in the flat rows of 2025.
pub const LEGACY_EVENT_TYPES: &[&str] = &[
    "action_",
    "step_result",
];

/// The first words of event types of a call, a command, or a step.
pub const WORK: &[&str] = &[
    "action",
    "call",
    "command",
    "step",
];

/// The outcomes that are failures.
pub const FAILURES: &[&str] = &[
    "CANCELLED",
    "ERROR",
    "FAILED",
];

/// Nested words that mean an end.
pub const NESTED_ENDINGS: &[&str] = &[
    "CANCELLED",
    "COMPLETED",
    "FAILED",
];

/// The status words of an event that ends something.
pub const ENDINGS: &[&str] = &[
    "CANCELLED",
    "COMPLETED",
    "FAILED",
    "SKIPPED",
];

/// Words that count less than the type of an event that ends something.
pub const WEAKER: &[&str] = &[
    "CLAIMED",
    "ENTERED",
    "INITIALIZED",
    "PENDING",
    "RUNNING",
    "STARTED",
];

/// Fields that count attempts from one, in the order in which they are tried.
pub const COUNTED_FROM_ONE: &[&str] = &[
    "meta.attempt",
    "correlation.attempt",
    "meta.correlation.attempt",
    "context.attempt",
    "context.retry.attempt",
    "meta.queue_meta.attempts",
    "attempt_number",
    "meta.retry.attempt_number",
    "context.data.attempt_number",
    "attempt",
    "result.context.attempt",
    "result.context.retry.attempt",
    "result.context.data.attempt_number",
];

/// Fields that hold milliseconds, in the order in which they are tried.
pub const DURATIONS: &[&str] = &[
    "context.duration_ms",
    "context.result.duration_ms",
    "context.result.context.duration_ms",
    "result.context.duration_ms",
    "result.context.result.duration_ms",
    "result.context.result.context.duration_ms",
    "context.response.duration_ms",
    "result.context.response.duration_ms",
];

/// Each status, and the words of an event's type that imply it. The first match counts.
pub const NAME_WORDS: &[(&str, &[&str])] = &[
    ("CANCELLED", &["cancel", "canceled", "cancelled"]),
    ("FAILED", &["error", "fail", "failed", "failure", "timedout", "timeout"]),
    ("COMPLETED", &["complete", "completed", "done", "exit", "exited", "finished"]),
    ("SKIPPED", &["skipped"]),
    ("PENDING", &["issued"]),
];

/// Returns the outcome of a finished call. `folded` is in upper case, with `_` for `-` and blanks.
pub fn call_outcome(folded: &str) -> Option<&'static str> {
    match folded {
        "COMPLETED"
        | "COMPLETE"
        | "SUCCESS"
        | "SUCCEEDED"
        | "SUCCESSFUL"
        | "DONE"
        | "OK"
        | "FINISHED"
        | "PASSED"
        | "NOOP"
        | "BREAK"
        | "PARTIAL" => Some("COMPLETED"),
        "FAILED"
        | "FAIL"
        | "FAILURE"
        | "REJECTED" => Some("FAILED"),
        "ERROR"
        | "ERRORED"
        | "EXCEPTION"
        | "ERR"
        | "TIMEOUT"
        | "TIMED_OUT" => Some("ERROR"),
        "CANCELLED"
        | "CANCELED"
        | "CANCEL"
        | "ABORTED"
        | "TERMINATED"
        | "KILLED" => Some("CANCELLED"),
        _ => None,
    }
}

/// Returns the canonical word of any other event. `folded` is in upper case, with `_` for `-` and blanks.
pub fn other_word(folded: &str) -> Option<&'static str> {
    match folded {
        "COMPLETED"
        | "COMPLETE"
        | "SUCCESS"
        | "SUCCEEDED"
        | "SUCCESSFUL"
        | "DONE"
        | "OK"
        | "FINISHED"
        | "PASSED" => Some("COMPLETED"),
        "FAILED"
        | "FAIL"
        | "FAILURE"
        | "REJECTED"
        | "ERROR"
        | "ERRORED"
        | "EXCEPTION"
        | "ERR"
        | "TIMEOUT"
        | "TIMED_OUT" => Some("FAILED"),
        "CANCELLED"
        | "CANCELED"
        | "CANCEL"
        | "ABORTED"
        | "TERMINATED"
        | "KILLED" => Some("CANCELLED"),
        "STARTED"
        | "INITIATED" => Some("STARTED"),
        "PENDING"
        | "QUEUED"
        | "CREATED" => Some("PENDING"),
        "INITIALIZED" => Some("INITIALIZED"),
        "IN_PROGRESS"
        | "PROGRESS" => Some("RUNNING"),
        _ => None,
    }
}

/// Names for the same field, the strongest first.
pub const PAIRS: &[&[Top]] = &[
    &[Top::EventType, Top::Name],
    &[Top::Step, Top::NodeName],
    &[Top::Context, Top::Payload],
    &[Top::CreatedAt, Top::Timestamp, Top::EventTime, Top::IngestTime],
];

/// A top-level field that a rule reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Top {
    /// `attempt`
    Attempt,
    /// `attempt_number`
    AttemptNumber,
    /// `correlation`
    Correlation,
    /// `max_attempts`
    MaxAttempts,
    /// `retry_count`
    RetryCount,
    /// `trace_component`
    TraceComponent,
    /// `catalog_id`
    CatalogId,
    /// `command_id`
    CommandId,
    /// `context`
    Context,
    /// `created_at`
    CreatedAt,
    /// `duration`
    Duration,
    /// `error`
    Error,
    /// `event_id`
    EventId,
    /// `event_time`
    EventTime,
    /// `event_type`
    EventType,
    /// `execution_id`
    ExecutionId,
    /// `ingest_time`
    IngestTime,
    /// `meta`
    Meta,
    /// `name`
    Name,
    /// `node_name`
    NodeName,
    /// `node_type`
    NodeType,
    /// `parent_event_id`
    ParentEventId,
    /// `parent_execution_id`
    ParentExecutionId,
    /// `payload`
    Payload,
    /// `result`
    Result,
    /// `status`
    Status,
    /// `step`
    Step,
    /// `timestamp`
    Timestamp,
    /// `worker_id`
    WorkerId,
}

impl Top {
    /// The number of fields.
    pub const COUNT: usize = 29;
    /// Their names, in order.
    pub const NAMES: [&'static str; 29] = [
        "attempt",
        "attempt_number",
        "correlation",
        "max_attempts",
        "retry_count",
        "trace_component",
        "catalog_id",
        "command_id",
        "context",
        "created_at",
        "duration",
        "error",
        "event_id",
        "event_time",
        "event_type",
        "execution_id",
        "ingest_time",
        "meta",
        "name",
        "node_name",
        "node_type",
        "parent_event_id",
        "parent_execution_id",
        "payload",
        "result",
        "status",
        "step",
        "timestamp",
        "worker_id",
    ];

    /// Returns the field with this name.
    pub fn of_key(key: &str) -> Option<Self> {
        match key {
            "attempt" => Some(Self::Attempt),
            "attempt_number" => Some(Self::AttemptNumber),
            "correlation" => Some(Self::Correlation),
            "max_attempts" => Some(Self::MaxAttempts),
            "retry_count" => Some(Self::RetryCount),
            "trace_component" => Some(Self::TraceComponent),
            "catalog_id" => Some(Self::CatalogId),
            "command_id" => Some(Self::CommandId),
            "context" => Some(Self::Context),
            "created_at" => Some(Self::CreatedAt),
            "duration" => Some(Self::Duration),
            "error" => Some(Self::Error),
            "event_id" => Some(Self::EventId),
            "event_time" => Some(Self::EventTime),
            "event_type" => Some(Self::EventType),
            "execution_id" => Some(Self::ExecutionId),
            "ingest_time" => Some(Self::IngestTime),
            "meta" => Some(Self::Meta),
            "name" => Some(Self::Name),
            "node_name" => Some(Self::NodeName),
            "node_type" => Some(Self::NodeType),
            "parent_event_id" => Some(Self::ParentEventId),
            "parent_execution_id" => Some(Self::ParentExecutionId),
            "payload" => Some(Self::Payload),
            "result" => Some(Self::Result),
            "status" => Some(Self::Status),
            "step" => Some(Self::Step),
            "timestamp" => Some(Self::Timestamp),
            "worker_id" => Some(Self::WorkerId),
            _ => None,
        }
    }
}

/// The first field that becomes a column.
pub const FIRST_COLUMN: usize = 6;

/// A field that a rule reads in a nested object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Member {
    /// `attempt`
    Attempt,
    /// `attempt_number`
    AttemptNumber,
    /// `attempts`
    Attempts,
    /// `child_execution_id`
    ChildExecutionId,
    /// `command_id`
    CommandId,
    /// `context`
    Context,
    /// `correlation`
    Correlation,
    /// `data`
    Data,
    /// `duration_ms`
    DurationMs,
    /// `error`
    Error,
    /// `id`
    Id,
    /// `max_attempts`
    MaxAttempts,
    /// `message`
    Message,
    /// `parent_execution_id`
    ParentExecutionId,
    /// `queue_meta`
    QueueMeta,
    /// `response`
    Response,
    /// `result`
    Result,
    /// `retry`
    Retry,
    /// `status`
    Status,
    /// `step`
    Step,
    /// `terminal_state`
    TerminalState,
    /// `worker`
    Worker,
    /// `worker_id`
    WorkerId,
}

impl Member {
    /// The number of fields.
    pub const COUNT: usize = 23;
    /// Returns the field with this name.
    pub fn of_key(key: &str) -> Option<Self> {
        match key {
            "attempt" => Some(Self::Attempt),
            "attempt_number" => Some(Self::AttemptNumber),
            "attempts" => Some(Self::Attempts),
            "child_execution_id" => Some(Self::ChildExecutionId),
            "command_id" => Some(Self::CommandId),
            "context" => Some(Self::Context),
            "correlation" => Some(Self::Correlation),
            "data" => Some(Self::Data),
            "duration_ms" => Some(Self::DurationMs),
            "error" => Some(Self::Error),
            "id" => Some(Self::Id),
            "max_attempts" => Some(Self::MaxAttempts),
            "message" => Some(Self::Message),
            "parent_execution_id" => Some(Self::ParentExecutionId),
            "queue_meta" => Some(Self::QueueMeta),
            "response" => Some(Self::Response),
            "result" => Some(Self::Result),
            "retry" => Some(Self::Retry),
            "status" => Some(Self::Status),
            "step" => Some(Self::Step),
            "terminal_state" => Some(Self::TerminalState),
            "worker" => Some(Self::Worker),
            "worker_id" => Some(Self::WorkerId),
            _ => None,
        }
    }
}

/// The bit of this fact about the keys.
pub const RUST_ROW: u32 = 1;
/// The bit of this fact about the keys.
pub const RUST_REQUEST: u32 = 2;
/// The bit of this fact about the keys.
pub const NOT_WORKER: u32 = 4;
/// The bit of this fact about the keys.
pub const PYTHON_ROW: u32 = 8;
/// The bit of this fact about the keys.
pub const PYTHON_LEGACY: u32 = 16;
/// The bit of this fact about the keys.
pub const PYTHON: u32 = 32;
/// The bit of this fact about the keys.
pub const RUST_FLAGS: u32 = 64;
/// The bit of this fact about the keys.
pub const HAS_EVENT_TYPE: u32 = 128;
/// The bit of this fact about the keys.
pub const HAS_EVENT_ID: u32 = 256;
/// The bit of this fact about the keys.
pub const HAS_NAME: u32 = 512;
/// The bit of this fact about the keys.
pub const HAS_TIMESTAMP: u32 = 1024;
/// The bit of this fact about the keys.
pub const HAS_CONTEXT: u32 = 2048;
/// The bit of this fact about the keys.
pub const HAS_CREATED_AT: u32 = 4096;
/// The bit of this fact about the keys.
pub const HAS_STATUS: u32 = 8192;
/// The bit of this fact about the keys.
pub const HAS_STEP: u32 = 16384;
/// The bits of all keys of an executor's event.
pub const EXECUTOR: u32 = HAS_CONTEXT | HAS_CREATED_AT | HAS_STATUS | HAS_STEP;

/// Returns the bits that a top-level key sets.
pub fn key_sets(key: &str) -> u32 {
    match key {
        "actionable" | "informative" => RUST_FLAGS,
        "catalog_id" | "correlation" | "duration" | "error" | "node_id" | "node_type" | "output_inline" | "output_ref" | "output_select" | "parent_event_id" | "parent_execution_id" | "payload_data" | "preview" | "result" | "stack_trace" => PYTHON,
        "context" => NOT_WORKER | HAS_CONTEXT,
        "created_at" => NOT_WORKER | HAS_CREATED_AT,
        "current_index" | "current_item" | "items_count" | "iterator" | "loop_id" | "loop_name" => PYTHON_LEGACY,
        "event_id" => HAS_EVENT_ID,
        "event_ids" | "result_kind" | "result_uri" => RUST_REQUEST,
        "event_time" | "frame_id" | "ingest_time" | "stage_id" => PYTHON_ROW | PYTHON,
        "event_type" => HAS_EVENT_TYPE,
        "name" => NOT_WORKER | HAS_NAME,
        "node_name" => NOT_WORKER | PYTHON,
        "prev_event_id" => RUST_ROW,
        "status" => NOT_WORKER | HAS_STATUS,
        "step" => NOT_WORKER | HAS_STEP,
        "timestamp" => PYTHON | HAS_TIMESTAMP,
        "trace_component" => PYTHON_LEGACY | PYTHON,
        _ => 0,
    }
}
