//! Reads the time inside an id, and derives one for an event without an id.
//!
//! A snowflake is a 63-bit id whose upper bits are the time at which it was made. Source:
//! docs/spec/wire-shapes.md#g1, #g2, #g4, #i3.

use blake2b_simd::Params;

use crate::record::Record;
use crate::tables::EPOCH_MS;

/// A day in milliseconds.
pub const DAY_MS: i64 = 86_400_000;

const DERIVED: u64 = 1 << 62;
const HASHED: u64 = DERIVED | 1 << 61;
const DERIVED_MAX_MS: i64 = (1 << 39) - 1;
const SMALLEST_SNOWFLAKE: i64 = 1 << 40;
const TIME_SHIFT: u32 = 22;

/// Returns the time inside a producer's id, in milliseconds since 1970; None if it has none (#g2).
pub fn time_in(id: i64, near_ms: Option<i64>) -> Option<i64> {
    if id < SMALLEST_SNOWFLAKE || id.unsigned_abs() & DERIVED != 0 {
        return None;
    }
    let (application, doubled) = (EPOCH_MS + (id >> TIME_SHIFT), EPOCH_MS + (id >> 23));
    let is_doubled = id & 0x7F_FC00 == 0x04_0000
        && near_ms.is_none_or(|near| (doubled - near).abs() <= (application - near).abs());
    let ms = if is_doubled { doubled } else { application };
    near_ms.is_none_or(|near| ms <= near + DAY_MS).then_some(ms)
}

/// Derives the id of the event at these coordinates (#g4).
pub fn derive_id(record: &Record<'_>, index: u32) -> i64 {
    let mut packed = [0; 20];
    packed[..4].copy_from_slice(&record.incarnation.to_be_bytes());
    packed[4..8].copy_from_slice(&record.partition.to_be_bytes());
    packed[8..16].copy_from_slice(&record.offset.to_be_bytes());
    packed[16..].copy_from_slice(&index.to_be_bytes());
    let digest = hash(&[record.topic.as_bytes(), b"\0", &packed]);
    let Some(recorded_ms) = record.recorded_ms() else {
        return id(hashed(digest));
    };
    let ms = (recorded_ms - EPOCH_MS)
        .clamp(0, DERIVED_MAX_MS)
        .unsigned_abs();
    id(DERIVED | ms << TIME_SHIFT | digest >> (64 - TIME_SHIFT))
}

/// Turns an opaque execution or secondary id into a number (#i3).
pub fn hash_text_id(text: &str) -> i64 {
    id(DERIVED | hash(&[text.as_bytes()]) & (DERIVED - 1))
}

/// Turns an opaque event id into a number (#i3).
pub fn hash_event_id(text: &str) -> i64 {
    id(hashed(hash(&[text.as_bytes()])))
}

fn hashed(digest: u64) -> u64 {
    HASHED | digest & ((1 << 61) - 1)
}

/// Returns the bits as an id. Bit 63 is clear in every id.
fn id(bits: u64) -> i64 {
    i64::try_from(bits).unwrap_or(i64::MAX)
}

fn hash(parts: &[&[u8]]) -> u64 {
    let mut state = Params::new().hash_length(8).to_state();
    for part in parts {
        state.update(part);
    }
    let digest = state.finalize();
    digest
        .as_bytes()
        .iter()
        .fold(0, |number, &byte| number << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::{hash_event_id, hash_text_id, time_in};
    use crate::tables::EPOCH_MS;

    #[test]
    fn ids_have_a_time_where_the_layout_is_known() {
        let near = EPOCH_MS + 10_000_000_000;

        assert_eq!(time_in(77, None), None);
        assert_eq!(time_in(1 << 62, None), None);
        assert_eq!(time_in(10_000_000_000 << 22, Some(near)), Some(near));
        assert_eq!(time_in(10_000_000_000 << 22, Some(EPOCH_MS)), None);
        assert_eq!(
            time_in(10_000_000_000 << 23 | 0x04_0000, Some(near)),
            Some(near)
        );
    }

    #[test]
    fn hashes_of_text_are_in_their_regions() {
        assert_eq!(hash_text_id("a") >> 62, 1);
        assert_eq!(hash_event_id("a") >> 61, 3);
    }
}
