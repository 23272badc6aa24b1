//! The crate beside the contract's vectors, and beside what 0.1.0 promised.

use std::fs;
use std::path::Path;
use std::process::Command;

use noetl_events::{
    canonical_json, Envelope, EventEmitRequest, EventRequest, ExecutorEvent, WorkerEvent,
};
use serde_json::{json, Value};

fn vectors(name: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../vectors")
        .join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let lines: Vec<String> = text
        .split('\n')
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect();
    assert!(!lines.is_empty(), "{path:?} is empty");
    lines
}

fn lines() -> Vec<String> {
    let lines: Vec<String> = vectors("records.ndjson")
        .iter()
        .map(|vector| serde_json::from_str::<Value>(vector).unwrap())
        .flat_map(|vector| vector["gives"].as_array().unwrap().clone())
        .filter_map(|given| given.as_str().map(str::to_owned))
        .collect();
    assert!(lines.len() > 1_000, "only {} lines", lines.len());
    lines
}

fn read(text: &str) -> Envelope {
    Envelope::read(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn written(event: &Envelope) -> String {
    event
        .to_canonical()
        .unwrap_or_else(|error| panic!("{event:?}: {error}"))
}

#[test]
fn every_canonical_line_comes_back_byte_for_byte() {
    for line in lines() {
        let event: Envelope = serde_json::from_str(&line).unwrap();

        assert_eq!(written(&event), line);
        assert_eq!(serde_json::to_string(&event).unwrap(), line);
    }
}

#[test]
fn an_event_of_any_shape_becomes_the_line_that_its_vector_says() {
    let (mut held, mut differing) = (0, Vec::new());
    for vector in vectors("records.ndjson") {
        let vector: Value = serde_json::from_str(&vector).unwrap();
        if vector["level"] != "shapes" {
            continue;
        }
        let given = match Envelope::read(&sent_of(&vector)) {
            Ok(event) => json!(written(&event)),
            Err(error) => json!({"rejected": error.reason()}),
        };

        if given != vector["gives"][0] {
            differing.push(format!("{}: {given}", vector["id"]));
        }
        held += 1;
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
    assert!(held > 1500, "only {held} vectors");
}

fn sent_of(vector: &Value) -> Vec<u8> {
    let Some(hex) = vector["raw_hex"].as_str() else {
        return vector["raw"].as_str().unwrap().into();
    };
    let digits = |at: usize| &hex[at..at + 2];
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(digits(at), 16).unwrap())
        .collect()
}

#[test]
fn fields_of_a_later_version_are_kept_in_their_order() {
    for line in lines() {
        let later = format!(
            r#"{},"zone":{{"b":1.50,"a":[1]}},"area":null}}"#,
            &line[..line.len() - 1]
        );
        let canonical = later.replace(r#"{"b":1.50,"a":[1]}"#, r#"{"a":[1],"b":1.50}"#);

        let event = Envelope::read_line(later.as_bytes()).unwrap();

        assert_eq!(written(&event), canonical);
        assert_eq!(written(&read(&later)), line);
    }
    let twice = r#"{"execution_id":1,"event_type":"x","zone":1,"area":2,"zone":3}"#;
    let event = Envelope::read_line(twice.as_bytes()).unwrap();
    let names: Vec<(&str, &str)> = event
        .later
        .iter()
        .map(|(name, value)| (name.as_str(), value.get()))
        .collect();
    assert_eq!(names, [("area", "2"), ("zone", "3")]);
}

#[test]
fn what_is_no_event_is_rejected_with_the_reason_of_the_contract() {
    for (text, reason) in [
        ("", "invalid_json"),
        ("{", "invalid_json"),
        (
            r#"{"execution_id":1,"event_type":"x","context":1e400}"#,
            "invalid_json",
        ),
        (
            r#"{"execution_id":1,"event_type":"x","context":"\ud800"}"#,
            "invalid_json",
        ),
        ("[]", "not_an_event"),
        (r#"{"execution_id":1}"#, "not_an_event"),
        (r#"{"event_type":"x"}"#, "missing_execution_id"),
        (r#"{"execution_id":1.5,"event_type":"x"}"#, "invalid_id"),
        (
            r#"{"execution_id":1,"event_type":"x","event_id":true}"#,
            "invalid_id",
        ),
        (
            r#"{"execution_id":1,"event_type":"x","context":1e-2147483648}"#,
            "invalid_json",
        ),
        (
            r#"{"execution_id":1,"event_type":"x","step":"\ud800"}"#,
            "invalid_json",
        ),
        (
            r#"{"execution_id":1,"event_type":"x","region":[[1e999]]}"#,
            "invalid_json",
        ),
        (
            r#"{"event_type":"x","execution_id":1.5,"context":1e400}"#,
            "invalid_json",
        ),
    ] {
        let error = Envelope::read(text.as_bytes()).unwrap_err();

        assert_eq!(error.reason(), reason, "{text}: {error}");
    }
    let deep = format!(
        r#"{{"execution_id":1,"event_type":"x","context":{}1{}}}"#,
        "[".repeat(127),
        "]".repeat(127)
    );
    assert_eq!(
        Envelope::read(deep.as_bytes()).unwrap_err().reason(),
        "too_deep"
    );
    let long = format!(r#"{{"event_type":"{}"}}"#, "x".repeat(201));
    assert_eq!(
        Envelope::read(long.as_bytes()).unwrap_err().reason(),
        "too_large"
    );
    assert_eq!(
        Envelope::read(b"\xff").unwrap_err().reason(),
        "invalid_utf8"
    );
}

#[test]
fn canonical_json_is_one_spelling_for_all() {
    for (sent, canonical) in [
        (r#" { "b" : 1 , "a" : 2, "b": 3 } "#, r#"{"a":2,"b":3}"#),
        (
            "[1e2,1.50e1,-0,0e-3,-0.0,1E-2,-1.5e0,0e5]",
            "[100,15.0,0,0.000,0.0,0.01,-1.5,0]",
        ),
        (r#""\u0041\/\u001f\b\u007f""#, "\"A/\\u001f\\b\u{7f}\""),
        (
            "[true,false,null,{},[],[[]]]",
            "[true,false,null,{},[],[[]]]",
        ),
    ] {
        assert_eq!(canonical_json(sent).unwrap(), canonical);
    }
}

/// What a shape writes is what it becomes, and the Python server's carries everything.
#[test]
fn every_shape_of_an_event_becomes_the_event_of_its_bytes() {
    for line in lines() {
        let event = Envelope::read_line(line.as_bytes()).unwrap();

        let emitted = EventEmitRequest::from(event.clone());
        let requested = EventRequest::from(event.clone());
        let worked = WorkerEvent::from(event.clone());

        assert_eq!(written(&Envelope::from(emitted.clone())), line);
        assert_same(&emitted, Envelope::from(emitted.clone()));
        assert_same(&requested, Envelope::from(requested.clone()));
        assert_same(&worked, Envelope::from(worked.clone()));
        if let Ok(executed) = ExecutorEvent::try_from(event.clone()) {
            assert_same(&executed, Envelope::from(executed.clone()));
        }
        let received = Envelope::from(requested);
        assert_eq!(
            (
                received.event_id,
                received.created_at,
                received.execution_id,
                received.attempts,
                received.event_type
            ),
            (
                event.event_id,
                event.created_at,
                event.execution_id,
                event.attempts,
                event.event_type
            )
        );
        assert_eq!((received.step, received.status), (event.step, event.status));
    }
}

fn assert_same(sent: &impl serde::Serialize, event: Envelope) {
    let bytes = serde_json::to_string(sent).unwrap();

    assert_eq!(written(&read(&bytes)), written(&event), "{bytes}");
}

#[test]
fn a_shape_is_read_as_the_platform_writes_it() {
    let request: EventRequest = serde_json::from_value(json!({
        "execution_id": "7", "step": "s", "name": "step.exit", "context": {"n": 1},
        "event_id": 5, "created_at": "2026-07-10T11:00:00.5+02:00",
    }))
    .unwrap();
    let emit: EventEmitRequest = serde_json::from_value(json!({
        "execution_id": 7, "name": "step.exit", "step": "s", "payload": {"n": 1}, "event_id": "5",
        "created_at": 1_783_674_000_500_i64,
    }))
    .unwrap();
    let worker: WorkerEvent = serde_json::from_value(json!({
        "event_type": "step.exit", "execution_id": 7, "payload": {"step": "s", "n": 1},
    }))
    .unwrap();

    let (request, emit, worker) = (
        Envelope::from(request),
        Envelope::from(emit),
        Envelope::from(worker),
    );
    assert_eq!(written(&request), written(&emit));
    assert_eq!((worker.step, worker.status), (request.step, request.status));
}

/// Whatever the contract lets a producer write, a type of its shape reads as the filter does.
#[test]
fn a_shape_is_read_by_every_name_and_place_of_a_field() {
    for (change, field, value) in [
        (
            r#""correlation":{"attempt":2}"#,
            "meta",
            json!({"attempts": 1}),
        ),
        (r#""retry_count":3"#, "meta", json!({"attempts": 3})),
        (
            r#""timestamp":1783674000"#,
            "created_at",
            json!("2026-07-10T09:00:00.000000Z"),
        ),
        (r#""step":null,"node_name":"s""#, "step", json!("s")),
        (r#""step":"s","node_name":"t""#, "step", json!("s")),
        (r#""context":1,"payload":2"#, "context", json!(1)),
        (r#""event_type":"a","name":"b""#, "event_type", json!("a")),
        (r#""worker_id":7"#, "worker_id", json!("7")),
        (
            r#""trace_component":{"worker":{"id":"w"}}"#,
            "worker_id",
            json!("w"),
        ),
        (r#""catalog_id":"abc""#, "catalog_id", Value::Null),
        (r#""parent_event_id":9e0"#, "parent_event_id", Value::Null),
        (r#""event_id":-5"#, "event_id", Value::Null),
        (r#""meta":[]"#, "meta", json!({"attempts": 0})),
        (r#""result_kind":7,"actionable":"no""#, "step", json!("")),
    ] {
        let sent = format!(r#"{{"execution_id":7,"name":"x",{change}}}"#);
        let emit: EventEmitRequest = serde_json::from_str(&sent).unwrap();
        let request: EventRequest = serde_json::from_str(&sent).unwrap();
        let line = written(&Envelope::from(emit));

        assert_eq!(line, written(&read(&sent)));
        assert_eq!(written(&Envelope::from(request)), line, "{sent}");
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap()[field], value);
    }
    let sent =
        r#"{"execution_id":7,"name":"x","result_kind":"ref","event_ids":[1],"actionable":false}"#;
    let request: EventRequest = serde_json::from_str(sent).unwrap();
    assert_eq!(
        (
            request.result_kind.as_str(),
            request.event_ids,
            request.actionable
        ),
        ("ref", Some(vec![1]), false)
    );
    for rejected in [
        r#"{"execution_id":-5,"name":"x"}"#,
        r#"{"execution_id":5e1,"name":"x"}"#,
    ] {
        assert!(serde_json::from_str::<EventRequest>(rejected).is_err());
        assert!(serde_json::from_str::<EventEmitRequest>(rejected).is_err());
        assert!(serde_json::from_str::<WorkerEvent>(rejected).is_err());
    }
}

#[test]
fn what_no_line_may_hold_is_not_written() {
    let event = Envelope::new(7, "x", "OPEN");
    let raw = |json: &str| serde_json::value::RawValue::from_string(json.to_owned()).ok();
    let deep = format!("{}1{}", "[".repeat(127), "]".repeat(127));
    for wrong in [
        Envelope::new(0, "x", "OPEN"),
        Envelope::new(-5, "x", "OPEN"),
        Envelope::new(7, "", "OPEN"),
        Envelope::new(7, "x", ""),
        Envelope::new(7, "call.done", "success"),
        Envelope {
            attempts: 40_000,
            ..event.clone()
        },
        Envelope {
            meta: raw("[1]"),
            ..event.clone()
        },
        Envelope {
            duration: Some(f64::NAN),
            ..event.clone()
        },
        Envelope {
            duration: Some(f64::INFINITY),
            ..event.clone()
        },
        Envelope {
            duration: Some(-0.5),
            ..event.clone()
        },
        Envelope {
            duration: Some(f64::MAX),
            ..event.clone()
        },
        Envelope {
            context: raw(&deep),
            ..event.clone()
        },
        Envelope {
            result: raw("1e400"),
            ..event.clone()
        },
        Envelope {
            created_at: chrono::DateTime::from_timestamp(253_402_300_800, 0),
            ..event.clone()
        },
    ] {
        assert!(wrong.to_canonical().is_err(), "{wrong:?}");
    }
    let absent = Envelope {
        event_id: Some(0),
        parent_event_id: Some(-1),
        step: String::from("unknown"),
        worker_id: Some(String::new()),
        error: Some(String::new()),
        result: raw("null"),
        duration: Some(-0.0),
        ..event.clone()
    };
    assert_eq!(
        written(&absent),
        written(&Envelope {
            duration: Some(0.0),
            ..event
        })
    );
    assert!(written(&absent).ends_with(r#","duration":0.0}"#));
}

/// A time has no leap second anywhere else: it is the second after, as Unix counts.
#[test]
fn a_leap_second_is_written_as_a_time_that_is_read() {
    let at: chrono::DateTime<chrono::Utc> = "2016-12-31T23:59:60.5Z".parse().unwrap();
    let event = Envelope {
        created_at: Some(at),
        ..Envelope::new(7, "x", "OPEN")
    };

    let line = written(&event);

    assert!(
        line.contains(r#""created_at":"2017-01-01T00:00:00.500000Z""#),
        "{line}"
    );
    assert_eq!(written(&read(&line)), line);
}

/// The struct and the trait of 0.1.0, used as its own documentation and tests use them.
#[test]
fn what_was_written_for_the_first_version_still_compiles_and_reads() {
    let created_at = chrono::DateTime::parse_from_rfc3339("2026-05-31T03:14:15Z").unwrap();
    let event = ExecutorEvent {
        execution_id: 478_775_660_589_088_776,
        event_type: "command.completed".to_string(),
        step: "fetch_calendar".to_string(),
        status: "COMPLETED".to_string(),
        created_at: created_at.with_timezone(&chrono::Utc),
        context: json!({"result": {"items": 42}}),
        event_id: Some(478_775_660_589_088_777),
        worker_id: Some("worker-prod-7".to_string()),
        meta: Some(json!({"attempts": 3, "parent_event_id": "478775660589088770"})),
    };

    let parsed: ExecutorEvent =
        serde_json::from_value(serde_json::to_value(&event).unwrap()).unwrap();
    let older: ExecutorEvent = serde_json::from_value(json!({
        "execution_id": 5, "event_type": "step.enter", "step": "s", "status": "STARTED",
        "created_at": "2026-05-31T00:00:00Z", "payload": {"foo": "bar"},
    }))
    .unwrap();

    assert_eq!(
        (parsed.execution_id, parsed.event_id),
        (event.execution_id, event.event_id)
    );
    assert_eq!(
        (parsed.worker_id, parsed.meta),
        (event.worker_id, event.meta)
    );
    assert_eq!(older.context, json!({"foo": "bar"}));
    assert_eq!((older.event_id, older.worker_id), (None, None));
}

#[cfg(feature = "sink")]
#[test]
fn a_sink_takes_what_an_emitter_emits() {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::{Arc, Mutex};
    use std::task::{Context, Poll, Wake};

    use noetl_events::{EventEmitter, EventSink, NoopSink};

    struct Nobody;
    impl Wake for Nobody {
        fn wake(self: Arc<Self>) {}
    }

    #[derive(Default)]
    struct Kept(Mutex<Vec<ExecutorEvent>>);
    #[async_trait::async_trait]
    impl EventSink for Kept {
        async fn emit(&self, event: ExecutorEvent) -> anyhow::Result<()> {
            self.0.lock().unwrap().push(event);
            Ok(())
        }
    }

    let kept = Arc::new(Kept::default());
    for sink in [kept.clone() as Arc<dyn EventSink>, Arc::new(NoopSink)] {
        let emitter = EventEmitter::new(12_345, sink);
        let emitted = pin!(emitter.emit("batch.completed", "start", "COMPLETED", json!({"n": 1})))
            .poll(&mut Context::from_waker(&Arc::new(Nobody).into()));
        assert!(matches!(emitted, Poll::Ready(Ok(()))));
    }

    let events = kept.0.lock().unwrap();
    assert_eq!((events.len(), events[0].execution_id), (1, 12_345));
}

#[test]
fn every_dependency_may_be_used_and_is_no_newer_than_the_declared_compiler() {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        metadata.status.success(),
        "{}",
        String::from_utf8_lossy(&metadata.stderr)
    );
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let minor = |package: &Value| {
        let version = package["rust_version"]
            .as_str()
            .unwrap_or("1.0")
            .split('.')
            .nth(1);
        version
            .and_then(|minor| minor.parse::<u32>().ok())
            .unwrap_or(0)
    };
    let packages = metadata["packages"].as_array().unwrap();
    let own = packages
        .iter()
        .find(|package| package["name"] == "noetl-events")
        .unwrap();

    for package in packages {
        let license = package["license"].as_str().unwrap_or("none");
        let named: Vec<&str> = license
            .split(|letter: char| letter.is_whitespace() || "()/".contains(letter))
            .filter(|word| !matches!(*word, "" | "OR" | "AND"))
            .collect();
        assert!(
            !named.is_empty()
                && named.iter().all(|name| {
                    ["MIT", "Apache-2.0", "Unicode-3.0", "Unlicense"].contains(name)
                }),
            "{}: {license}",
            package["name"]
        );
        assert!(
            minor(package) <= minor(own),
            "{} wants {}",
            package["name"],
            package["rust_version"]
        );
    }
    assert!(packages.len() > 5);
}
