//! Fuzzes the lane: feeds it records of any bytes, which must never cause a panic or an incomplete
//! row.
//!
//! `make soak ARGS="-k fuzzed_records"` runs it for an hour. The fuzzer's input is the value of a
//! record. After a byte 0 come the name and the value of a header, separated by another 0.

#![no_main]

use event_normalizer_lane::{EncodedEvents, Lane, Record, Signs};
use libfuzzer_sys::fuzz_target;

/// The number of columns of `normalizer/core/encoded_events.py`.
const COLUMNS: usize = 34;

thread_local! {
    static LANE: Lane = Lane::new(&Signs {
        signs: [&b"token"[..], b"password", b"\\u"].map(Vec::from).to_vec(),
        weak: 1,
        folded: std::array::from_fn(|byte| {
            u8::try_from(byte).map_or(0, |byte| byte.to_ascii_lowercase())
        }),
        separators: b"-_".to_vec(),
    });
}

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(3, |byte| *byte == 0);
    let value = parts.next().unwrap_or_default();
    let name = parts.next().and_then(|name| std::str::from_utf8(name).ok());
    let record = Record {
        value,
        topic: "noetl.events",
        incarnation: 0,
        partition: 0,
        offset: 7,
        headers: name.map(|name| (name, parts.next())).into_iter().collect(),
        timestamp_ms: Some(1_784_000_000_000),
    };
    let mut events = EncodedEvents::default();
    let headers_may_hold_secret = |headers: &str| headers.len() % 2 == 0;
    let clean = |text: &str| (text.len() % 2 == 0).then(|| text.to_owned());
    let read = LANE.with(|lane| lane.read(&record, &mut events, headers_may_hold_secret, clean));
    assert_eq!(read.is_ok(), !events.is_empty());
    for event in events.iter() {
        assert_eq!(columns(event.columns), Some(COLUMNS));
    }
});

/// Counts the columns of an encoded row. Returns None unless the last column ends exactly where the
/// row ends.
fn columns(mut row: &[u8]) -> Option<usize> {
    let mut count = 0;
    while let Some((length, rest)) = row.split_first_chunk() {
        // A null has the length -1 and no bytes.
        row = rest.get(usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0)..)?;
        count += 1;
    }
    row.is_empty().then_some(count)
}
