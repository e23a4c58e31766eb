//! `--output json`: one event a line.

use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;

use crate::events::{EVENTS_VERSION, Event, Reporter};

/// Prints every event as one JSON object on a line of stdout.
#[derive(Debug, Default, Clone, Copy)]
pub struct JsonLines;

/// The line of one event.
pub fn line(at: time::OffsetDateTime, event: &Event) -> String {
    let mut value = serde_json::to_value(event)
        .unwrap_or_else(|error| json!({"event": "unprintable", "why": error.to_string()}));
    if let Value::Object(map) = &mut value {
        map.insert("v".into(), EVENTS_VERSION.into());
        map.insert("at".into(), at.format(&Rfc3339).unwrap_or_default().into());
    }
    value.to_string()
}

impl Reporter for JsonLines {
    fn event(&self, at: time::OffsetDateTime, event: &Event) {
        super::data(&line(at, event));
    }
}
