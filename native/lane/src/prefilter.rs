//! Searches a text in one pass for signs of anything that must not be stored.
//!
//! Most records contain nothing suspicious, and this search proves it quickly, so that only the
//! others need Python's slow expressions. It finds the same signs as
//! `normalizer/core/redaction/prefilter.py`, which passes them to it.
//!
//! Python folds the text before it searches, for example into lower case. Here an automaton reads
//! the text as it is. Bytes that Python folds into the same byte are one class to it, and a byte
//! that Python removes doesn't change its state.
//!
//! A weak sign, such as `token`, isn't enough by itself. A regular expression must match the text
//! too, and only Python has these expressions. Source: docs/spec/wire-shapes.md#r6.

use std::collections::VecDeque;

/// The signs of text that must not be stored, and how Python folds a text before it searches.
pub struct Signs {
    /// The signs, weak ones first.
    pub signs: Vec<Vec<u8>>,
    /// How many of them are weak.
    pub weak: usize,
    /// The byte that each byte is folded into.
    pub folded: [u8; 256],
    /// The bytes that are removed.
    pub separators: Vec<u8>,
}

/// The result of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// No sign.
    Nothing,
    /// Only weak signs. Python's expressions decide whether the text is suspicious.
    Weak,
    /// A strong sign: Python must clean the text.
    Strong,
}

/// An automaton over classes of bytes (Aho-Corasick).
///
/// It finds all signs in one pass, however many there are. A state is the index of its row in
/// `next`. States in which a sign ends have the highest indexes, so a single comparison shows
/// whether one was found.
pub struct Prefilter {
    classes: [u8; 256],
    next: Vec<u32>,
    first_weak: u32,
    first_strong: u32,
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
        let first = |end: End| {
            let before = order.iter().filter(|&&state| trie.ends[state] < end);
            before.fold(0, |at, _| at + u32::from(count))
        };
        let (first_weak, first_strong) = (first(End::Weak), first(End::Strong));
        Self {
            classes,
            next,
            first_weak,
            first_strong,
        }
    }

    /// Searches a text.
    #[must_use]
    pub fn look(&self, text: &str) -> Found {
        if hides_words(text) || is_disguised(text) {
            return Found::Strong;
        }
        let mut found = Found::Nothing;
        let mut state = 0;
        for byte in text.bytes() {
            let class = self.classes[usize::from(byte)];
            state = self.next[state as usize + usize::from(class)];
            if state >= self.first_weak {
                if state >= self.first_strong {
                    return Found::Strong;
                }
                found = Found::Weak;
            }
        }
        found
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

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Nothing,
    Weak,
    Strong,
}

/// The automaton while it's built: the row of each state, and the strongest sign that ends in it.
struct Trie {
    rows: Vec<Vec<usize>>,
    ends: Vec<End>,
}

impl Trie {
    fn new(signs: &Signs, classes: &[u8; 256], width: usize) -> Self {
        let mut trie = Self {
            rows: vec![vec![0; width]],
            ends: vec![End::Nothing],
        };
        for (at, sign) in signs.signs.iter().enumerate() {
            let end = if at < signs.weak {
                End::Weak
            } else {
                End::Strong
            };
            trie.add(sign, classes, end);
        }
        trie.link();
        for (state, row) in trie.rows.iter_mut().enumerate() {
            row[usize::from(SKIPPED)] = state;
        }
        trie
    }

    fn add(&mut self, sign: &[u8], classes: &[u8; 256], end: End) {
        let width = self.rows[0].len();
        let mut state = 0;
        for &byte in sign {
            let class = usize::from(classes[usize::from(byte)]);
            if self.rows[state][class] == 0 {
                self.rows[state][class] = self.rows.len();
                self.rows.push(vec![0; width]);
                self.ends.push(End::Nothing);
            }
            state = self.rows[state][class];
        }
        self.ends[state] = self.ends[state].max(end);
    }

    /// Fills the missing transitions of each state from its fallback state, which stands for the
    /// longest suffix of the bytes read that also begins a sign.
    fn link(&mut self) {
        let mut fallback = vec![0; self.rows.len()];
        let mut waiting: VecDeque<usize> = self.rows[0]
            .iter()
            .copied()
            .filter(|&state| state != 0)
            .collect();
        while let Some(state) = waiting.pop_front() {
            let shorter = fallback[state];
            self.ends[state] = self.ends[state].max(self.ends[shorter]);
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
    use super::{Found, Prefilter, Signs};

    fn prefilter() -> Prefilter {
        let mut folded: [u8; 256] = std::array::from_fn(|byte| u8::try_from(byte).unwrap_or(0));
        folded.make_ascii_lowercase();
        Prefilter::new(&Signs {
            signs: ["pin", "in", "apikey", "keyx", "shinz"]
                .map(|sign| sign.as_bytes().to_vec())
                .to_vec(),
            weak: 2,
            folded,
            separators: b"-_ ".to_vec(),
        })
    }

    #[test]
    fn signs_are_found_in_folded_text() {
        let prefilter = prefilter();

        assert_eq!(prefilter.look("an event"), Found::Nothing);
        assert_eq!(prefilter.look("a P-I_N"), Found::Weak);
        assert_eq!(prefilter.look("shipin the API_key"), Found::Strong);
        assert_eq!(prefilter.look("apike keyx"), Found::Strong);
        assert_eq!(prefilter.look("apike apik"), Found::Nothing);
        // This sign is inside the first letters of a longer one.
        assert_eq!(prefilter.look("shin"), Found::Weak);
    }

    #[test]
    fn escapes_and_disguises_are_suspicious() {
        let prefilter = prefilter();

        assert_eq!(prefilter.look("a \\u0041"), Found::Strong);
        assert_eq!(prefilter.look("a\\/b"), Found::Strong);
        assert_eq!(prefilter.look("a\u{200b}b"), Found::Strong);
        assert_eq!(prefilter.look("a\u{200b} é…"), Found::Nothing);
        assert_eq!(prefilter.look("\u{ff21}"), Found::Strong);
    }
}
