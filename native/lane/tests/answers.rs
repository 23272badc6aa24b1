//! Checks that the lane still reads stored records as it did when they were compared with Python.
//!
//! It exists for mutation testing, because the comparison with Python takes minutes and this test
//! takes a second. `LANE_ANSWERS` names the file with the records and results, which
//! `tests/support/lane_answers.py` writes and describes.

use std::collections::HashMap;

use event_normalizer_lane::{EncodedEvents, Lane, Record, Signs};

/// The unread part of the file. Every number in it has eight bytes.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn number(&mut self) -> i64 {
        let (number, rest) = self.0.split_first_chunk().expect("eight bytes");
        self.0 = rest;
        i64::from_le_bytes(*number)
    }

    fn small(&mut self) -> i32 {
        i32::try_from(self.number()).expect("a small number")
    }

    fn count(&mut self) -> usize {
        usize::try_from(self.number()).expect("a count")
    }

    fn bytes(&mut self) -> &'a [u8] {
        self.optional().expect("bytes")
    }

    fn optional(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()).ok()?; // -1 for none
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        Some(bytes)
    }

    fn text(&mut self) -> &'a str {
        std::str::from_utf8(self.bytes()).expect("a text")
    }

    fn signs(&mut self) -> Signs {
        Signs {
            signs: (0..self.count()).map(|_| self.bytes().to_vec()).collect(),
            folded: self.bytes().try_into().expect("all bytes, folded"),
            separators: self.bytes().to_vec(),
        }
    }

    fn record(&mut self) -> Record<'a> {
        Record {
            value: self.bytes(),
            topic: self.text(),
            incarnation: self.small(),
            partition: self.small(),
            offset: self.number(),
            headers: (0..self.count())
                .map(|_| (self.text(), self.optional()))
                .collect(),
            timestamp_ms: Some(self.number()).filter(|ms| *ms >= 0),
        }
    }
}

#[test]
fn records_are_answered_as_before() {
    let path = std::env::var("LANE_ANSWERS").expect("LANE_ANSWERS names a file");
    let file = std::fs::read(path).expect("the file can be read");
    let mut rest = Rest(&file);
    let lane = Lane::new(&rest.signs());
    let cleaned: HashMap<&str, &str> = (0..rest.count())
        .map(|_| (rest.text(), rest.text()))
        .collect();

    let mut records = 0;
    while !rest.0.is_empty() {
        let record = rest.record();
        let mut events = EncodedEvents::default();
        let headers_may_hold_secret = |headers: &str| !cleaned.contains_key(headers);
        let clean = |text: &str| cleaned.get(text).map(|&cleaned| cleaned.to_owned());
        let _ = lane.read(&record, &mut events, headers_may_hold_secret, clean);
        let sent = String::from_utf8_lossy(record.value);
        assert_eq!(events.len(), rest.count(), "{sent}");
        for event in events.iter() {
            assert_eq!(event.event_id, rest.number(), "{sent}");
            assert_eq!(event.execution_id, rest.number(), "{sent}");
            assert_eq!(event.shape, rest.text(), "{sent}");
            let coercions = event.coercions.map(str::as_bytes);
            assert_eq!(coercions, rest.optional(), "{sent}");
            assert_eq!(event.columns, rest.bytes(), "{sent}");
        }
        records += 1;
    }

    assert!(records > 1_000);
}
