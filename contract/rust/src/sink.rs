//! Where events go: the trait that producers emit through, as 0.1.0 has it.

use std::sync::Arc;

use anyhow::Result;
use async_trait::async_trait;
use chrono::Utc;

use crate::ExecutorEvent;

/// Takes the events that an executor emits.
#[async_trait]
pub trait EventSink: Send + Sync {
    /// Emits an event. The same `event_id` again is the same event.
    async fn emit(&self, event: ExecutorEvent) -> Result<()>;
}

/// Emits the events of one execution.
pub struct EventEmitter {
    /// Where they go.
    pub sink: Arc<dyn EventSink>,
    /// The execution that they belong to.
    pub execution_id: i64,
}

impl EventEmitter {
    /// Gives an emitter for an execution.
    #[must_use]
    pub fn new(execution_id: i64, sink: Arc<dyn EventSink>) -> Self {
        Self { sink, execution_id }
    }

    /// Emits an event that happens now, without an id.
    ///
    /// # Errors
    ///
    /// What the sink answers.
    pub async fn emit(
        &self,
        event_type: &str,
        step: &str,
        status: &str,
        context: serde_json::Value,
    ) -> Result<()> {
        let event = ExecutorEvent {
            event_id: None,
            execution_id: self.execution_id,
            event_type: event_type.to_owned(),
            step: step.to_owned(),
            status: status.to_owned(),
            created_at: Utc::now(),
            context,
            worker_id: None,
            meta: None,
        };
        self.sink.emit(event).await
    }
}

/// Forgets every event.
#[derive(Default)]
pub struct NoopSink;

#[async_trait]
impl EventSink for NoopSink {
    async fn emit(&self, _event: ExecutorEvent) -> Result<()> {
        Ok(())
    }
}
