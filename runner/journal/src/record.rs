//! One record is one line: a canonical JSON object (RFC 8785), at most [`MAX_LINE`] bytes.
//!
//! `{"event":{"type":…},"prev":HEX,"seq":N,"t":"2026-11-22T06:15:03.123Z"}`. `seq` counts from 1 and is the line's
//! number. `prev` is the Merkle leaf hash of the line before, so that an altered line is told by name and not only
//! as 'somewhere before the next checkpoint'. Numbers that a reader would not get back exactly are strings.

use serde::Deserialize as _;
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
        self.seal().map(|(line, _)| line)
    }

    /// The line, and the record as it will be read back from it.
    pub(crate) fn seal(&self) -> Result<(Vec<u8>, Self), RecordError> {
        let mut event =
            serde_json::to_value(&self.event).map_err(|e| RecordError::Shape(format!("event: {e}")))?;
        normalise(&mut event, MAX_DEPTH)?;
        let (seq, t, prev) = (self.seq, self.t.clone(), self.prev.clone());
        let as_read = Self { seq, t, prev, event: decode_event(&event) };
        let mut members = Map::new();
        members.insert("seq".into(), self.seq.into());
        members.insert("t".into(), self.t.clone().into());
        members.insert("prev".into(), self.prev.clone().into());
        members.insert("event".into(), event);
        let line = canonical(&Value::Object(members))?;
        if line.len() > MAX_LINE { Err(RecordError::TooLong(line.len())) } else { Ok((line, as_read)) }
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
            event: decode_event(&event),
        };
        record.time().ok_or_else(|| ill_typed("t"))?;
        Ok(record)
    }

    /// When it was written; `None` only for a record made by hand.
    pub fn time(&self) -> Option<OffsetDateTime> {
        PrimitiveDateTime::parse(&self.t, TIME).ok().map(PrimitiveDateTime::assume_utc)
    }
}

fn decode_event(event: &Value) -> Event {
    Event::deserialize(event).unwrap_or_else(|e| {
        let name = event.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        Event::Unknown(Unknown { name, event: event.clone(), why: e.to_string() })
    })
}

/// The canonical form of a value.
pub(crate) fn canonical(value: &Value) -> Result<Vec<u8>, RecordError> {
    let line = if is_plain(value) {
        serde_json::to_vec(value).map_err(|e| e.to_string())
    } else {
        serde_json_canonicalizer::to_vec(value).map_err(|e| e.to_string())
    };
    line.map_err(RecordError::Shape)
}

/// Whether the compact form of a value is its canonical one already: the two differ in how they write floats and large
/// integers, and in the order of members, which is that of UTF-16. Most records are plain, and sorting them again is half of the cost of
/// an append.
fn is_plain(value: &Value) -> bool {
    match value {
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(whole), _) => whole <= MAX_SAFE,
            (None, Some(negative)) => negative.unsigned_abs() <= MAX_SAFE,
            (None, None) => false,
        },
        Value::Array(items) => items.iter().all(is_plain),
        Value::Object(members) => {
            members.keys().all(|name| name.is_ascii())
                && members.keys().is_sorted()
                && members.values().all(is_plain)
        }
        _ => true,
    }
}

/// Makes every number one that any reader gets back exactly, and as the parser will give it back: integers beyond 2^53
/// become strings, whole floats integers.
pub(crate) fn normalise(value: &mut Value, depth: usize) -> Result<(), RecordError> {
    let child = |item: &mut Value| match depth.checked_sub(1) {
        Some(deeper) => normalise(item, deeper),
        None => Err(RecordError::TooDeep),
    };
    match value {
        Value::Number(number) => {
            if let Some(other) = plain(number) {
                *value = other;
            }
            Ok(())
        }
        Value::Array(items) => items.iter_mut().try_for_each(child),
        Value::Object(members) => members.values_mut().try_for_each(child),
        _ => Ok(()),
    }
}

/// What stands in the place of a number that is not as a parser would give it back.
fn plain(number: &Number) -> Option<Value> {
    if let Some(whole) = number.as_u64() {
        return (whole > MAX_SAFE).then(|| whole.to_string().into());
    }
    if let Some(negative) = number.as_i64() {
        return (negative.unsigned_abs() > MAX_SAFE).then(|| negative.to_string().into());
    }
    // Below 10^21 canonical JSON writes a whole float as an integer.
    let float = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 1e21)?;
    let digits = format!("{float:.0}");
    match digits.parse::<i64>() {
        Ok(whole) if whole.unsigned_abs() <= MAX_SAFE => Some(whole.into()),
        _ => Some(digits.into()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::event::{Direction, Forecast};

    fn with(summary: Value) -> Record {
        let event = Event::Forecast(Forecast { phase: "a".into(), direction: Direction::Forward, summary });
        Record { seq: 7, t: "2026-11-22T06:15:03.123Z".into(), prev: "ab".into(), event }
    }

    fn summary(record: Record) -> Value {
        match record.event {
            Event::Forecast(e) => e.summary,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_line_is_canonical_and_in_this_shape() {
        let line = with(json!({ "b": [1.0, 2.5, -0.0], "a": "\u{20ac}\n\u{1}" })).encode().unwrap();
        let expected = concat!(
            r#"{"event":{"direction":"forward","phase":"a","summary":{"a":"€\n\u0001","b":[1,2.5,0]},"#,
            r#""type":"forecast"},"prev":"ab","seq":7,"t":"2026-11-22T06:15:03.123Z"}"#
        );
        assert_eq!(String::from_utf8(line).unwrap(), expected);
    }

    #[test]
    fn numbers_that_a_reader_may_lose_are_strings() {
        for (given, recorded) in [
            (json!(9_007_199_254_740_992_u64), json!(9_007_199_254_740_992_u64)),
            (json!(9_007_199_254_740_993_u64), json!("9007199254740993")),
            (json!(-9_007_199_254_740_993_i64), json!("-9007199254740993")),
            (json!(1e20), json!("100000000000000000000")),
            (json!(1e300), json!(1e300)),
            (json!(-3.0), json!(-3)),
            (json!(0.1), json!(0.1)),
        ] {
            let line = with(given.clone()).encode().unwrap();
            assert_eq!(summary(Record::decode(&line).unwrap()), recorded, "{given}");
        }
    }

    #[test]
    fn what_is_not_a_record_is_told() {
        let line = String::from_utf8(with(json!(1)).encode().unwrap()).unwrap();
        let why = |text: String| Record::decode(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(why(line.replace(":7,", ": 7,")), "not in canonical form (RFC 8785)");
        assert_eq!(why(line.replace("\"prev\"", "\"prex\"")), "member `prev` is missing");
        assert_eq!(why(line.replace(":7,", ":\"7\",")), "member `seq` is malformed");
        assert_eq!(why(line.replace("03.123Z", "03Z")), "member `t` is malformed");
        assert_eq!(why(line.replace("\"t\":", "\"t\":\"\",\"u\":")), "unknown member `u`");
        assert!(why(line[1..].to_owned()).starts_with("not JSON"));
        assert_eq!(why("x".repeat(70_000)), "a record may have 65535 bytes, this one has 70000");
        let mut deep = json!(1);
        for _ in 0..200 {
            deep = json!([deep]);
        }
        assert_eq!(with(deep).encode().unwrap_err(), RecordError::TooDeep);
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            (-1e22..1e22).prop_map(|x: f64| Value::from(x.round())),
            any::<String>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            Just(Value::Null),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_short_way_to_the_canonical_form_is_the_long_one(value in values()) {
            prop_assert_eq!(canonical(&value).unwrap(), serde_json_canonicalizer::to_vec(&value).unwrap());
        }

        #[test]
        fn what_is_sealed_is_what_is_read_back(value in values()) {
            let (line, sealed) = with(value).seal().unwrap();
            prop_assert_eq!(Record::decode(&line).unwrap(), sealed);
        }
    }
}
