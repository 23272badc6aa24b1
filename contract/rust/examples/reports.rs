//! Canonical lines in; for each, four reports of the event as its producers would send them out.
//!
//! Every report is a line `{"shape":NAME,"report":TEXT,"line":TEXT}`: the JSON that the producer
//! sends, and the canonical line that the crate makes of it.

use std::io::{self, BufRead};

use noetl_events::{Envelope, Error};
use noetl_events::{EventEmitRequest, EventRequest, ExecutorEvent, WorkerEvent};
use serde::Serialize;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for line in io::stdin().lock().lines() {
        let event = Envelope::read_line(line?.as_bytes())?;
        report("python_server", EventEmitRequest::from(event.clone()))?;
        report("rust_server", EventRequest::from(event.clone()))?;
        report("rust_worker", WorkerEvent::from(event.clone()))?;
        match ExecutorEvent::try_from(event) {
            Ok(event) => report("executor", event)?,
            Err(Error::MissingTime) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn report<T>(shape: &str, event: T) -> Result<(), Box<dyn std::error::Error>>
where
    T: Serialize + Into<Envelope>,
{
    let report = serde_json::to_string(&event)?;
    let line = event.into().to_canonical()?;
    println!(
        "{}",
        serde_json::json!({"shape": shape, "report": report, "line": line})
    );
    Ok(())
}
