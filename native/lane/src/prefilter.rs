//! Searches a text in one pass for signs of anything that must not be stored.
//!
//! Most records contain nothing suspicious. This search proves that quickly, so that only the
//! others need Python's slow regular expressions. It searches for the same signs as
//! `normalizer/core/redaction/prefilter.py`, which passes them to it.
//!
//! Python folds the text before it searches, for example to lower case. That takes an extra pass
//! over the text, so here an automaton reads the text as it was sent. It doesn't distinguish bytes
//! that Python folds to the same byte, and it skips the bytes that Python removes.
//!
//! A sign doesn't prove that there's a secret. Only the expressions in Python can do that. Source:
//! docs/spec/wire-shapes.md#r6.

use std::collections::VecDeque;

/// The signs of text that must not be stored, and how Python folds a text before it searches.
pub struct Signs {
    /// The signs.
    pub signs: Vec<Vec<u8>>,
    /// The byte that each byte is folded into.
    pub folded: [u8; 256],
    /// The bytes that are removed.
    pub separators: Vec<u8>,
}

/// An automaton over classes of bytes (Aho-Corasick).
///
/// It finds all signs in one pass, however many there are. A state is the index of its row in
/// `next`. The states in which a sign ends have the highest indexes, so a single comparison shows
/// whether a sign was found.
pub struct Prefilter {
    classes: [u8; 256],
    next: Vec<u32>,
    first_end: u32,
}

const SKIPPED: u8 = 0;
const UNUSED: u8 = 1;

impl Prefilter {
    /// Builds the automaton.
    #[must_use]
    pub fn new(signs: &Signs) -> Self {
        let (classes, count) = classes(signs);
        let width = usize::from(count);
        let trie = Trie::new(signs, &classes, width);
        let mut order: Vec<usize> = (0..trie.rows.len()).collect();
        order.sort_by_key(|&state| trie.ends[state]); // stable: the root stays first
        let mut places = vec![0_u32; order.len()];
        let mut place = 0;
        for &state in &order {
            places[state] = place;
            place += u32::from(count);
        }
        let mut next = Vec::with_capacity(order.len() * width);
        for &state in &order {
            next.extend(trie.rows[state].iter().map(|&to| places[to]));
        }
        let before = order.iter().filter(|&&state| !trie.ends[state]);
        let first_end = before.fold(0, |at, _| at + u32::from(count));
        Self {
            classes,
            next,
            first_end,
        }
    }

    /// Returns whether the text has a sign, or may hide one.
    #[must_use]
    pub fn has_sign(&self, text: &str) -> bool {
        if hides_words(text) || is_disguised(text) {
            return true;
        }
        let mut state = 0;
        text.bytes().any(|byte| {
            let class = self.classes[usize::from(byte)];
            state = self.next[state as usize + usize::from(class)];
            state >= self.first_end
        })
    }
}

/// Returns the class of each byte, and the number of classes.
fn classes(signs: &Signs) -> ([u8; 256], u8) {
    let mut of_folded = [UNUSED; 256];
    let mut count = UNUSED + 1;
    for &byte in signs.signs.iter().flatten() {
        let class = &mut of_folded[usize::from(byte)];
        if *class == UNUSED {
            *class = count;
            count = count.saturating_add(1);
        }
    }
    let mut classes = [UNUSED; 256];
    for (class, &folded) in classes.iter_mut().zip(&signs.folded) {
        *class = of_folded[usize::from(folded)];
    }
    for &byte in &signs.separators {
        classes[usize::from(byte)] = SKIPPED;
    }
    (classes, count)
}

/// The automaton while it's built: the row of each state, and whether a sign ends in it.
struct Trie {
    rows: Vec<Vec<usize>>,
    ends: Vec<bool>,
}

impl Trie {
    fn new(signs: &Signs, classes: &[u8; 256], width: usize) -> Self {
        let mut trie = Self {
            rows: vec![vec![0; width]],
            ends: vec![false],
        };
        for sign in &signs.signs {
            trie.add(sign, classes);
        }
        trie.link();
        for (state, row) in trie.rows.iter_mut().enumerate() {
            row[usize::from(SKIPPED)] = state;
        }
        trie
    }

    fn add(&mut self, sign: &[u8], classes: &[u8; 256]) {
        let width = self.rows[0].len();
        let mut state = 0;
        for &byte in sign {
            let class = usize::from(classes[usize::from(byte)]);
            if self.rows[state][class] == 0 {
                self.rows[state][class] = self.rows.len();
                self.rows.push(vec![0; width]);
                self.ends.push(false);
            }
            state = self.rows[state][class];
        }
        self.ends[state] = true;
    }

    /// Fills in the missing transitions of each state, by copying them from its fallback state.
    ///
    /// When the next byte doesn't continue the current sign, another sign may have begun in the
    /// bytes before it. So the search continues in the fallback state, which belongs to the longest
    /// suffix of these bytes that is also the beginning of a sign.
    fn link(&mut self) {
        let mut fallback = vec![0; self.rows.len()];
        let mut waiting: VecDeque<usize> = self.rows[0]
            .iter()
            .copied()
            .filter(|&state| state != 0)
            .collect();
        while let Some(state) = waiting.pop_front() {
            let shorter = fallback[state];
            self.ends[state] |= self.ends[shorter];
            for class in 0..self.rows[state].len() {
                let (to, other) = (self.rows[state][class], self.rows[shorter][class]);
                if to == 0 {
                    self.rows[state][class] = other;
                } else {
                    fallback[to] = other;
                    waiting.push_back(to);
                }
            }
        }
    }
}

/// Returns whether the text has an escape that may hide a word.
fn hides_words(text: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        rest = &rest[at + 1..];
        if rest.starts_with(['u', '/']) {
            return true;
        }
    }
    false
}

/// Returns whether invisible characters or styled letters may hide a word.
fn is_disguised(text: &str) -> bool {
    if text.is_ascii() {
        return false;
    }
    let mut is_invisible = false;
    for letter in text.chars() {
        let joins = letter.is_ascii_alphabetic() || matches!(letter, '_' | '-');
        let is_styled = matches!(
            letter,
            '\u{ff21}'..='\u{ff3a}' | '\u{ff41}'..='\u{ff5a}' | '\u{1d400}'..='\u{1d7ff}'
        );
        if is_styled || (is_invisible && joins) {
            return true;
        }
        is_invisible = matches!(
            letter,
            '\u{ad}'
                | '\u{200b}'..='\u{200f}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
        );
    }
    false
}

#[cfg(test)]
mod tests {
    use super::{Prefilter, Signs};

    fn prefilter() -> Prefilter {
        let mut folded: [u8; 256] = std::array::from_fn(|byte| u8::try_from(byte).unwrap_or(0));
        folded.make_ascii_lowercase();
        Prefilter::new(&Signs {
            signs: ["pin", "in", "apikey", "keyx", "shinz"]
                .map(|sign| sign.as_bytes().to_vec())
                .to_vec(),
            folded,
            separators: b"-_ ".to_vec(),
        })
    }

    #[test]
    fn signs_are_found_in_folded_text() {
        let prefilter = prefilter();

        assert!(!prefilter.has_sign("an event"));
        assert!(prefilter.has_sign("a P-I_N"));
        assert!(prefilter.has_sign("shipin the API_key"));
        assert!(prefilter.has_sign("apike keyx"));
        assert!(!prefilter.has_sign("apike apik"));
        // This sign lies within the first letters of a longer one, and the search must find it all
        // the same.
        assert!(prefilter.has_sign("shin"));
    }

    #[test]
    fn escapes_and_disguises_are_suspicious() {
        let prefilter = prefilter();

        assert!(prefilter.has_sign("a \\u0041"));
        assert!(prefilter.has_sign("a\\/b"));
        assert!(prefilter.has_sign("a\u{200b}b"));
        assert!(!prefilter.has_sign("a\u{200b} é…"));
        assert!(prefilter.has_sign("\u{ff21}"));
    }
}
