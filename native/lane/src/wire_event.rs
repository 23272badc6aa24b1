//! Holds one event, as a producer sent it, while the rules read it.

use std::borrow::Cow;

use crate::left::Left;
use crate::scan::{object, Raw, ABSENT};
use crate::tables::{key_sets, Member, Top, FIRST_COLUMN, PAIRS};
use crate::wire_values::{canonical, present, quote, same_json, value, Value};

/// The most keys of an event that aren't the name of a column. There's a limit because each is
/// compared with all others.
const MAX_OTHERS: usize = 64;

/// The members of one JSON object that is an event, a batch, or a wrapper.
#[derive(Clone)]
pub struct Fields<'a> {
    top: [Raw<'a>; Top::COUNT],
    /// Every key that isn't the name of a column, in order. Keys that rules read, and nulls, are
    /// included.
    pub others: Vec<(&'a str, Raw<'a>)>,
    /// The facts about its keys from which its shape is recognized, as bits.
    pub keys: u32,
}

impl<'a> Fields<'a> {
    /// Returns fields without members.
    #[must_use]
    pub fn new() -> Self {
        Self {
            top: [ABSENT; Top::COUNT],
            others: Vec::new(),
            keys: 0,
        }
    }

    /// Reads a text that is one JSON object.
    pub fn read(text: &'a str) -> Result<Self, Left> {
        let mut fields = Self::new();
        object(text, |key, raw| fields.add(key, raw))?;
        Ok(fields)
    }

    /// Returns a field as it was sent, which may be null; empty if there's no such key.
    #[must_use]
    pub fn sent(&self, field: Top) -> Raw<'a> {
        self.top[field as usize]
    }

    /// Returns the value of a field; empty if it's absent or null.
    #[must_use]
    pub fn get(&self, field: Top) -> Raw<'a> {
        present(self.sent(field))
    }

    /// Returns the value of a key that isn't the name of a column; empty if it's absent or null.
    #[must_use]
    pub fn other(&self, key: &str) -> Raw<'a> {
        present(self.other_sent(key).unwrap_or(ABSENT))
    }

    /// Returns the value of a key that isn't the name of a column, or None if there's no such key.
    /// The value may be null.
    #[must_use]
    pub fn other_sent(&self, key: &str) -> Option<Raw<'a>> {
        self.others
            .iter()
            .find(|(name, _)| *name == key)
            .map(|(_, raw)| *raw)
    }

    /// Returns the value of any key as it was sent; None if there's no such key.
    #[must_use]
    pub fn of_key(&self, key: &str) -> Option<Raw<'a>> {
        match Top::of_key(key) {
            Some(field) => Some(self.sent(field)).filter(|raw| !raw.is_empty()),
            None => self.other_sent(key),
        }
    }

    /// Adds a member of an object.
    ///
    /// If its key is repeated, the record is left to Python, which stores only the last value, at
    /// the position where the key first occurs.
    fn add(&mut self, key: &'a str, raw: Raw<'a>) -> Result<(), Left> {
        if key.contains('\\') {
            return Err(Left::Rare);
        }
        self.keys |= key_sets(key);
        let field = Top::of_key(key);
        if let Some(field) = field {
            if !self.sent(field).is_empty() {
                return Err(Left::Rare);
            }
            self.top[field as usize] = raw;
            if field as usize >= FIRST_COLUMN {
                return Ok(());
            }
        }
        if self.others.len() >= MAX_OTHERS || self.other_sent(key).is_some() {
            return Err(Left::Rare);
        }
        self.others.push((key, raw));
        Ok(())
    }

    /// Returns the fields of an item of a batch, including those that it inherits (#b1).
    ///
    /// A field may have several names, such as `created_at` and `timestamp`. If the item has a
    /// value under one of them, it inherits the field under none of them.
    pub fn inheriting(self, shared: &Self) -> Result<Self, Left> {
        let mut merged = Self::new();
        merged.keys = self.keys;
        let names_of = |field: Top| PAIRS.iter().find(|names| names.contains(&field));
        let has_own = |field: Top| match names_of(field) {
            Some(names) => names.iter().any(|&name| !self.get(name).is_empty()),
            None => !self.get(field).is_empty(),
        };
        for &name in &Top::NAMES[FIRST_COLUMN..] {
            let Some(field) = Top::of_key(name) else {
                continue;
            };
            let outer = shared.get(field);
            merged.top[field as usize] = if outer.is_empty() || has_own(field) {
                self.sent(field)
            } else {
                merged.keys |= key_sets(name);
                outer
            };
        }
        for &(key, raw) in &shared.others {
            if raw != "null" && self.other(key).is_empty() {
                merged.add(key, raw)?;
            }
        }
        for &(key, raw) in &self.others {
            if merged.other_sent(key).is_none() {
                merged.add(key, raw)?;
            }
        }
        Ok(merged)
    }

    /// Sets a field to the value of a wrapper.
    pub fn supply(&mut self, field: Top, raw: Raw<'a>) {
        self.top[field as usize] = raw;
        self.keys |= key_sets(Top::NAMES[field as usize]);
    }

    /// Removes a field and returns it.
    pub fn take(&mut self, field: Top) -> Raw<'a> {
        std::mem::replace(&mut self.top[field as usize], ABSENT)
    }

    /// Removes a key that isn't the name of a column.
    pub fn take_other(&mut self, key: &str) {
        self.others.retain(|(name, _)| *name != key);
    }
}

/// The members of a payload, a meta, or a result that rules read. There are none if the value isn't
/// an object.
#[derive(Clone)]
pub struct Nested<'a> {
    members: [Raw<'a>; Member::COUNT],
    /// Whether the value is an object.
    pub is_object: bool,
}

impl<'a> Nested<'a> {
    /// The members of a value that isn't an object.
    pub const NOTHING: Self = Self {
        members: [ABSENT; Member::COUNT],
        is_object: false,
    };

    /// Reads a value that was scanned.
    pub fn read(raw: Raw<'a>) -> Result<Self, Left> {
        if !raw.starts_with('{') {
            return Ok(Self::NOTHING);
        }
        let mut nested = Self {
            members: [ABSENT; Member::COUNT],
            is_object: true,
        };
        object(raw, |key, value| {
            if let Some(member) = Member::of_key(key) {
                if !nested.members[member as usize].is_empty() {
                    return Err(Left::Rare);
                }
                nested.members[member as usize] = value;
            } else if key.contains('\\') {
                return Err(Left::Rare);
            }
            Ok(())
        })?;
        Ok(nested)
    }

    /// Returns the value of a member; empty if it's absent or null.
    #[must_use]
    pub fn get(&self, member: Member) -> Raw<'a> {
        present(self.members[member as usize])
    }

    /// Reads the object that a member holds.
    pub fn inner(&self, member: Member) -> Result<Self, Left> {
        Self::read(self.members[member as usize])
    }
}

/// The objects inside an event in which the rules look for an outcome, an error, a duration, or a
/// command.
///
/// The names are paths, so `payload_result_context` is payload.result.context. In the stored row of
/// a Rust server, the payload is in result.context (#s6). That's `stored_payload`, and the objects
/// in it have the same names as those in `payload`.
pub struct NestedObjects<'a> {
    pub payload: Nested<'a>,
    pub payload_result: Nested<'a>,
    pub payload_result_context: Nested<'a>,
    pub payload_response: Nested<'a>,
    pub result: Nested<'a>,
    pub stored_payload: Nested<'a>,
    pub stored_payload_result: Nested<'a>,
    pub stored_payload_result_context: Nested<'a>,
    pub stored_payload_response: Nested<'a>,
}

impl<'a> NestedObjects<'a> {
    fn read(payload: Raw<'a>, result: Raw<'a>) -> Result<Self, Left> {
        let payload = Nested::read(payload)?;
        let payload_result = payload.inner(Member::Result)?;
        let result = Nested::read(result)?;
        let stored_payload = result.inner(Member::Context)?;
        let stored_payload_result = stored_payload.inner(Member::Result)?;
        Ok(Self {
            payload_result_context: payload_result.inner(Member::Context)?,
            payload_response: payload.inner(Member::Response)?,
            stored_payload_result_context: stored_payload_result.inner(Member::Context)?,
            stored_payload_response: stored_payload.inner(Member::Response)?,
            payload,
            payload_result,
            result,
            stored_payload,
            stored_payload_result,
        })
    }

    /// Returns the objects below the payload that may hold a command (#k2), in order.
    #[must_use]
    pub fn deeper(&self) -> [&Nested<'a>; 6] {
        [
            &self.payload_result,
            &self.payload_result_context,
            &self.result,
            &self.stored_payload,
            &self.stored_payload_result,
            &self.stored_payload_result_context,
        ]
    }
}

/// The original value of a coercion.
#[derive(Clone)]
pub enum From<'a> {
    /// The value is in `extra`.
    InExtra,
    /// A text, or an id as text.
    Text(Cow<'a, str>),
    /// A value as it was sent.
    Raw(Raw<'a>),
}

/// One coercion (#v2).
pub struct Coercion<'a> {
    rule: &'static str,
    field: &'static str,
    from: From<'a>,
}

/// One event while the rules read it.
pub struct WireEvent<'a> {
    /// The top-level values as they were sent.
    pub fields: Fields<'a>,
    /// The keys and values of the column `extra`.
    pub extra: Vec<(Cow<'a, str>, Raw<'a>)>,
    coercions: Vec<Coercion<'a>>,
    /// The context, or the payload if there's no context (#a1, #x1).
    pub context: Raw<'a>,
    /// The result.
    pub result: Raw<'a>,
    /// The meta as it was sent, if it's an object.
    pub meta_sent: Raw<'a>,
    /// The meta.
    pub meta: Nested<'a>,
    /// The nested objects of the context and the result.
    pub nested: NestedObjects<'a>,
}

impl<'a> WireEvent<'a> {
    /// Reads an event from its fields. `extra` has the other fields of its wrappers.
    pub fn decode(
        fields: Fields<'a>,
        mut extra: Vec<(Cow<'a, str>, Raw<'a>)>,
    ) -> Result<Self, Left> {
        let unread = fields.others.iter().filter(|(_, raw)| *raw != "null");
        extra.extend(unread.map(|&(key, raw)| (Cow::Borrowed(key), raw)));
        let (context, payload) = (fields.get(Top::Context), fields.get(Top::Payload));
        let chosen = if context.is_empty() { payload } else { context };
        let (result, meta) = (fields.get(Top::Result), fields.get(Top::Meta));
        let mut event = Self {
            nested: NestedObjects::read(chosen, result)?,
            meta: Nested::read(meta)?,
            meta_sent: ABSENT,
            context: chosen,
            result,
            fields,
            extra,
            coercions: Vec::new(),
        };
        if !context.is_empty() && !payload.is_empty() && !same_json(context, payload)? {
            event.drop_alias(Top::Payload);
        }
        if event.meta.is_object {
            event.meta_sent = meta;
        } else if !meta.is_empty() {
            event.keep_extra(Top::Meta);
            event.record_coercion_without_original("meta_not_object", "meta"); // #n2
        }
        Ok(event)
    }

    /// Returns the value of a field; empty if it's absent or null.
    #[must_use]
    pub fn get(&self, field: Top) -> Raw<'a> {
        self.fields.get(field)
    }

    /// Decodes a field.
    pub fn value(&self, field: Top) -> Result<Value<'a>, Left> {
        value(self.get(field))
    }

    /// Keeps a field in `extra`, because no rule could use its value.
    pub fn keep_extra(&mut self, field: Top) {
        let (name, raw) = (Top::NAMES[field as usize], self.fields.sent(field));
        match self.extra.iter_mut().find(|(key, _)| key == name) {
            Some((_, kept)) => *kept = raw,
            None => self.extra.push((Cow::Borrowed(name), raw)),
        }
    }

    /// Keeps a field in `extra` and records the conflict, because the event has another value under
    /// a stronger name of the same field (#a1).
    pub fn drop_alias(&mut self, field: Top) {
        self.keep_extra(field);
        self.record_coercion_without_original("alias_conflict", Top::NAMES[field as usize]);
    }

    /// Records a coercion whose original value is kept in `extra`.
    pub fn record_coercion_without_original(&mut self, rule: &'static str, field: &'static str) {
        self.coerce(rule, field, From::InExtra);
    }

    /// Records a coercion, i.e. that a rule changed or guessed a value, with the original value.
    pub fn coerce(&mut self, rule: &'static str, field: &'static str, from: From<'a>) {
        self.coercions.push(Coercion { rule, field, from });
    }

    /// Returns the column `extra`; None if it's empty.
    #[must_use]
    pub fn written_extra(&self) -> Option<String> {
        if self.extra.is_empty() {
            return None;
        }
        let bytes = self
            .extra
            .iter()
            .map(|(key, raw)| key.len() + raw.len() + 4)
            .sum::<usize>();
        let mut out = String::with_capacity(bytes + 2);
        for (key, raw) in &self.extra {
            out.push(if out.is_empty() { '{' } else { ',' });
            // No key contains an escape here, so the keys can be written as they are.
            out.push('"');
            out.push_str(key);
            out.push_str("\":");
            out.push_str(raw);
        }
        out.push('}');
        Some(out)
    }

    /// Returns the column `coercions`, or None if there are none.
    ///
    /// Several coercions are written as canonical JSON, and sorted by their bytes. They're all
    /// different, because no rule changes the same field twice.
    pub fn written_coercions(&self) -> Result<Option<String>, Left> {
        Ok(match &self.coercions[..] {
            [] => None,
            [one] => Some(format!("[{}]", one.written())),
            several => {
                let mut entries = several
                    .iter()
                    .map(Coercion::canonical)
                    .collect::<Result<Vec<_>, _>>()?;
                entries.sort_unstable();
                Some(format!("[{}]", entries.join(",")))
            }
        })
    }
}

impl Coercion<'_> {
    fn written(&self) -> String {
        let mut out = format!("{{\"rule\":\"{}\",\"field\":\"{}\"", self.rule, self.field);
        match &self.from {
            From::InExtra => {}
            From::Text(text) => {
                out.push_str(",\"from\":");
                quote(text, &mut out);
            }
            From::Raw(raw) => {
                out.push_str(",\"from\":");
                out.push_str(raw);
            }
        }
        out.push('}');
        out
    }

    fn canonical(&self) -> Result<String, Left> {
        let mut out = format!("{{\"field\":\"{}\"", self.field);
        match &self.from {
            From::InExtra => {}
            From::Text(text) => {
                out.push_str(",\"from\":");
                quote(text, &mut out);
            }
            From::Raw(raw) => {
                out.push_str(",\"from\":");
                match value(raw)? {
                    Value::Text(text) => quote(&text, &mut out),
                    Value::Number(number) => out.push_str(canonical(number)?),
                    Value::Other if raw.starts_with(['{', '[']) => return Err(Left::Rare),
                    Value::Integer(_) | Value::Absent | Value::Other => out.push_str(raw),
                }
            }
        }
        out.push_str(",\"rule\":\"");
        out.push_str(self.rule);
        out.push_str("\"}");
        Ok(out)
    }
}
