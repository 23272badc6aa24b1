//! The native lane as the Python module `event_normalizer_native`.
//!
//! The service imports this module if it's installed. `normalizer/core/encoded_events.py` describes
//! what the service expects of it. If the lane panics, the panic is caught here, because in Python
//! it would end the service. The Python rules then read all records of that call.

use std::panic::set_hook;

use event_normalizer_lane::{caught, EncodedEvents, Lane as Rules, Record, Signs};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyBytesMethods, PyList, PyString, PyTuple};

/// The longest key of a record that the lane reads, in bytes. If the key is longer, the record is
/// left to Python, which checks the limits of a record.
const MAX_KEY_BYTES: usize = 1 << 20;

/// The hash of the Python rules from which the lane was built, as passed by `setup.py`. Python
/// doesn't use a lane whose hash differs from that of its own rules.
const RULES_SHA256: &str = match option_env!("RULES_SHA256") {
    Some(sha256) => sha256,
    None => "",
};

/// Reads records with the same result as the Python rules, or leaves them to Python.
#[pyclass(module = "event_normalizer_native")]
struct Lane {
    rules: Rules,
    encoded_event: Py<PyAny>,
    headers_may_hold_secret: Py<PyAny>,
    clean: Py<PyAny>,
    /// How many calls of `read` have panicked.
    #[pyo3(get)]
    panics: u64,
}

#[pymethods]
impl Lane {
    /// Creates a lane.
    ///
    /// `encoded_event` is the Python class of the events that the lane returns, and is called with
    /// the five fields of an event. `cleaner` supplies the signs of secrets to search for, and
    /// removes secrets from text.
    #[new]
    fn new(encoded_event: Py<PyAny>, cleaner: &Bound<'_, PyAny>) -> PyResult<Self> {
        let (signs, folded, separators) = cleaner.call_method0("search_tables")?.extract()?;
        let rules = Rules::new(&Signs {
            signs,
            folded,
            separators,
        });
        let headers_may_hold_secret = cleaner.getattr("headers_may_hold_secret")?.unbind();
        let clean = cleaner.getattr("clean")?.unbind();
        Ok(Self {
            rules,
            encoded_event,
            headers_may_hold_secret,
            clean,
            panics: 0,
        })
    }

    /// Reads records. The result has a tuple of encoded events for each, or None for a record that
    /// Python must read.
    #[allow(clippy::needless_pass_by_value)] // PyO3 hands over a list by value.
    fn read<'py>(
        &mut self,
        records: Vec<Bound<'py, PyAny>>,
        py: Python<'py>,
    ) -> PyResult<Bound<'py, PyList>> {
        let mut events = EncodedEvents::default();
        let read = caught(&mut events, |events| {
            let read = records.iter().map(|record| self.read_one(record, events));
            // If reading a record raises an exception, leave the record to Python, which reports
            // the cause.
            read.map(|count| count.unwrap_or(0)).collect()
        });
        let counts = read.unwrap_or_else(|| {
            self.panics += 1;
            vec![0; records.len()]
        });
        self.outcomes(&counts, &events, py)
    }
}

impl Lane {
    /// Reads one record into `events`, and returns the number of its events, or 0 if Python must
    /// read the record. In that case, and after an error, `events` is unchanged.
    fn read_one(&self, record: &Bound<'_, PyAny>, events: &mut EncodedEvents) -> PyResult<usize> {
        let py = record.py();
        let get = |name| record.getattr(name);
        let (value, topic) = (get(intern!(py, "value"))?, get(intern!(py, "topic"))?);
        let (Ok(value), Ok(topic)) = (value.cast::<PyBytes>(), topic.cast::<PyString>()) else {
            return Ok(0);
        };
        let key = get(intern!(py, "key"))?;
        let is_long = key
            .cast::<PyBytes>()
            .is_ok_and(|key| key.as_bytes().len() > MAX_KEY_BYTES);
        let is_plain = get(intern!(py, "shape"))?.is_none()
            && get(intern!(py, "cut"))?.is_none()
            && get(intern!(py, "index"))?
                .extract::<u32>()
                .is_ok_and(|index| index == 0);
        let coordinates = (
            get(intern!(py, "incarnation"))?.extract(),
            get(intern!(py, "partition"))?.extract(),
            get(intern!(py, "offset"))?.extract(),
        );
        let (Ok(incarnation), Ok(partition), Ok(offset)) = coordinates else {
            return Ok(0);
        };
        if is_long || !is_plain {
            return Ok(0);
        }
        let headers = get(intern!(py, "headers"))?;
        let headers =
            headers.extract::<Vec<(Bound<'_, PyString>, Option<Bound<'_, PyBytes>>)>>()?;
        let headers = headers
            .iter()
            .map(|(name, text)| Ok((name.to_str()?, text.as_ref().map(PyBytesMethods::as_bytes))))
            .collect::<PyResult<_>>();
        // Text with a lone surrogate can't be read here.
        let (Ok(headers), Ok(topic)) = (headers, topic.to_str()) else {
            return Ok(0);
        };
        let record = Record {
            value: value.as_bytes(),
            topic,
            incarnation,
            partition,
            offset,
            headers,
            timestamp_ms: get(intern!(py, "recorded_ms"))?.extract()?,
        };
        let before = events.len();
        // If Python raises, the record is left to it.
        let headers_may_hold_secret = |headers: &str| {
            let headers = PyBytes::new(py, headers.as_bytes());
            let asked = self.headers_may_hold_secret.bind(py).call1((headers,));
            asked.and_then(|answer| answer.is_truthy()).unwrap_or(true)
        };
        let clean = |text: &str| {
            let text = PyBytes::new(py, text.as_bytes());
            let cleaned = self.clean.bind(py).call1((text,)).ok()?;
            let cleaned = cleaned.cast_into::<PyBytes>().ok()?;
            String::from_utf8(cleaned.as_bytes().to_vec()).ok()
        };
        let read = self.rules.read(&record, events, headers_may_hold_secret, clean);
        Ok(read.map_or(0, |()| events.len() - before))
    }

    fn outcomes<'py>(
        &self,
        counts: &[usize],
        events: &EncodedEvents,
        py: Python<'py>,
    ) -> PyResult<Bound<'py, PyList>> {
        let make = self.encoded_event.bind(py);
        let mut encoded = events.iter().map(|event| {
            make.call1((
                event.event_id,
                event.execution_id,
                // There are few different shapes, so each is interned.
                PyString::intern(py, event.shape),
                event
                    .coercions
                    .map(|coercions| PyBytes::new(py, coercions.as_bytes())),
                PyBytes::new(py, event.columns),
            ))
        });
        let outcomes = PyList::empty(py);
        for &count in counts {
            if count == 0 {
                outcomes.append(py.None())?;
            } else {
                let events = encoded.by_ref().take(count).collect::<PyResult<Vec<_>>>()?;
                outcomes.append(PyTuple::new(py, events)?)?;
            }
        }
        Ok(outcomes)
    }
}

#[pymodule]
fn event_normalizer_native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    // Count the panic, but don't print its message, because the message may quote a record.
    set_hook(Box::new(|_| {}));
    module.add("RULES_SHA256", RULES_SHA256)?;
    module.add_class::<Lane>()
}
