//! One record is one line: a canonical JSON object (RFC 8785), at most [`MAX_LINE`] bytes.
//!
//! `{"event":{"type":…},"prev":HEX,"seq":N,"t":"2026-11-22T06:15:03.123Z"}`. `seq` counts from 1 and is the line's
//! number. `prev` is the Merkle leaf hash of the line before, so that an altered line is told by name and not only
//! as 'somewhere before the next checkpoint'. Numbers that a reader would not get back exactly are strings.

use serde_json::{Map, Number, Value};
use thiserror::Error;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime, UtcOffset};

use crate::event::{Event, Unknown};

/// The version of the format that this program writes.
pub const FORMAT: u32 = 1;

/// The longest line in bytes, without its newline.
pub const MAX_LINE: usize = 65_535;

/// How deep a record may nest; parsers stop at 128.
const MAX_DEPTH: usize = 100;

/// The largest integer that every JSON reader keeps exactly.
const MAX_SAFE: u64 = 1 << 53;

const TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// One record.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Counted from 1; the number of its line.
    pub seq: u64,
    /// When it was written, RFC 3339 in UTC with milliseconds, by the clock of the machine that wrote it. The order of
    /// records never relies on it.
    pub t: String,
    /// Hex of the leaf hash of the line before; empty in the first.
    pub prev: String,
    /// What it says.
    pub event: Event,
}

/// Why a line is no record, or a record no line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RecordError {
    /// It is not JSON.
    #[error("not JSON: {0}")]
    NotJson(String),
    /// It is not the canonical form of what it says.
    #[error("not in canonical form (RFC 8785)")]
    NotCanonical,
    /// A member is missing, ill-typed or unknown.
    #[error("{0}")]
    Shape(String),
    /// It is too long, even with its bodies outside.
    #[error("a record may have {MAX_LINE} bytes, this one has {0}")]
    TooLong(usize),
    /// It nests too deep to be read back.
    #[error("a record may nest {MAX_DEPTH} deep")]
    TooDeep,
}

/// The time as a record has it.
pub(crate) fn timestamp(now: OffsetDateTime) -> String {
    now.to_offset(UtcOffset::UTC).format(TIME).unwrap_or_default()
}

impl Record {
    /// The record's line, without the newline.
    ///
    /// # Errors
    /// It would be too long or too deep.
    pub fn encode(&self) -> Result<Vec<u8>, RecordError> {
        let mut event =
            serde_json::to_value(&self.event).map_err(|e| RecordError::Shape(format!("event: {e}")))?;
        normalise(&mut event, MAX_DEPTH)?;
        let mut members = Map::new();
        members.insert("seq".into(), self.seq.into());
        members.insert("t".into(), self.t.clone().into());
        members.insert("prev".into(), self.prev.clone().into());
        members.insert("event".into(), event);
        let line = canonical(&Value::Object(members))?;
        if line.len() > MAX_LINE { Err(RecordError::TooLong(line.len())) } else { Ok(line) }
    }

    /// Reads a line. An event that is not known, or whose shape is not, is [`Event::Unknown`].
    ///
    /// # Errors
    /// The line is not the canonical form of a record.
    pub fn decode(line: &[u8]) -> Result<Self, RecordError> {
        if line.len() > MAX_LINE {
            return Err(RecordError::TooLong(line.len()));
        }
        let value: Value = serde_json::from_slice(line).map_err(|e| RecordError::NotJson(e.to_string()))?;
        if canonical(&value)? != line {
            return Err(RecordError::NotCanonical);
        }
        let Value::Object(mut members) = value else {
            return Err(RecordError::Shape("a record is an object".into()));
        };
        let mut take = |name: &str| {
            members.remove(name).ok_or_else(|| RecordError::Shape(format!("member `{name}` is missing")))
        };
        let (seq, t, prev, event) = (take("seq")?, take("t")?, take("prev")?, take("event")?);
        if let Some(name) = members.keys().next() {
            return Err(RecordError::Shape(format!("unknown member `{name}`")));
        }
        let ill_typed = |name: &str| RecordError::Shape(format!("member `{name}` is malformed"));
        let text = |value: Value, name: &str| match value {
            Value::String(text) => Ok(text),
            _ => Err(ill_typed(name)),
        };
        let record = Self {
            seq: seq.as_u64().ok_or_else(|| ill_typed("seq"))?,
            t: text(t, "t")?,
            prev: text(prev, "prev")?,
            event: decode_event(event),
        };
        record.time().ok_or_else(|| ill_typed("t"))?;
        Ok(record)
    }

    /// When it was written; `None` only for a record made by hand.
    pub fn time(&self) -> Option<OffsetDateTime> {
        PrimitiveDateTime::parse(&self.t, TIME).ok().map(PrimitiveDateTime::assume_utc)
    }
}

fn decode_event(event: Value) -> Event {
    match Event::deserialize_from(&event) {
        Ok(known) => known,
        Err(why) => {
            let name = event.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
            Event::Unknown(Unknown { name, event, why })
        }
    }
}

impl Event {
    fn deserialize_from(value: &Value) -> Result<Self, String> {
        <Self as serde::Deserialize>::deserialize(value).map_err(|e| e.to_string())
    }
}

/// The canonical form of a value.
pub(crate) fn canonical(value: &Value) -> Result<Vec<u8>, RecordError> {
    serde_json_canonicalizer::to_vec(value).map_err(|e| RecordError::Shape(e.to_string()))
}

/// Makes every number one that any reader gets back exactly: integers beyond 2^53 become strings.
pub(crate) fn normalise(value: &mut Value, depth: usize) -> Result<(), RecordError> {
    let child = |item: &mut Value| match depth.checked_sub(1) {
        Some(deeper) => normalise(item, deeper),
        None => Err(RecordError::TooDeep),
    };
    match value {
        Value::Number(number) => {
            if let Some(text) = unsafe_number(number) {
                *value = Value::String(text);
            }
            Ok(())
        }
        Value::Array(items) => items.iter_mut().try_for_each(child),
        Value::Object(members) => members.values_mut().try_for_each(child),
        _ => Ok(()),
    }
}

/// The text in whose place a number stands that is an integer beyond 2^53.
fn unsafe_number(number: &Number) -> Option<String> {
    let beyond = match (number.as_u64(), number.as_i64(), number.as_f64()) {
        (Some(n), _, _) => n > MAX_SAFE,
        (_, Some(n), _) => n.unsigned_abs() > MAX_SAFE,
        // Below 10^21 canonical JSON writes a whole float as an integer.
        (_, _, Some(x)) => x.fract() == 0.0 && x.abs() > 9_007_199_254_740_992.0 && x.abs() < 1e21,
        _ => false,
    };
    beyond.then(|| number.as_f64().filter(|_| number.is_f64()).map_or(number.to_string(), |x| format!("{x}")))
}
