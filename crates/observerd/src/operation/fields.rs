//! The fields of an operation.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Operation, OperationError};

/// The fields of an object, in their order.
pub(super) struct Fields<'a>(pub(super) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Fields<'a> {
    pub(super) fn of(text: &'a str) -> Result<Self, OperationError> {
        serde_json::from_str(text).map_err(|error| {
            if error.is_data() {
                return OperationError::NotAnObject;
            }
            OperationError::NotJson { line: error.line(), column: error.column() }
        })
    }

    /// The text of the object with other values of these fields, which are added if they are missing. `text` is what the fields are of.
    pub(super) fn with(&self, text: &str, changed: &[(&str, String)]) -> String {
        let is_changed = |name: &str| changed.iter().any(|(changed, _)| name == *changed);
        let mut all = String::with_capacity(text.len() + 128);
        if self.0.iter().any(|(name, _)| is_changed(name)) {
            all.push('{');
            for (name, value) in self.0.iter().filter(|(name, _)| !is_changed(name)) {
                push(&mut all, name, value.get());
            }
        } else {
            // The usual case: what is there stays as it is.
            let text = text.trim();
            all.push_str(text.strip_suffix('}').unwrap_or(text).trim_end());
        }
        for (name, value) in changed {
            push(&mut all, name, &quoted(value));
        }
        all.push('}');
        all
    }
}

fn push(text: &mut String, name: &str, value: &str) {
    if text.len() > 1 {
        text.push(',');
    }
    text.push_str(&quoted(name));
    text.push(':');
    text.push_str(value);
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object<'a>(std::marker::PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for Object<'a> {
            type Value = Fields<'a>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::with_capacity(12);
                while let Some(Name(name)) = map.next_key()? {
                    fields.push((name, map.next_value()?));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Object(std::marker::PhantomData))
    }
}

/// The name of a field, borrowed unless it has escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// The fields that the service reads.
#[derive(Default)]
pub(super) struct Known {
    pub(super) endpoint: String,
    pub(super) timestamp: String,
    pub(super) source: String,
    pub(super) success: bool,
    pub(super) duration_ms: Option<f64>,
    pub(super) input_summary: String,
    pub(super) output_summary: String,
    pub(super) error: String,
    pub(super) staffer: String,
    pub(super) kind: String,
    pub(super) role: String,
}

/// The names of the known fields.
const NAMES: [&str; 11] = [
    "endpoint",
    "timestamp",
    "source",
    "success",
    "duration_ms",
    "input_summary",
    "output_summary",
    "error",
    "staffer_id",
    "event_kind",
    "role",
];

impl Known {
    pub(super) fn read(&mut self, fields: &Fields<'_>) -> Result<(), OperationError> {
        let mut seen = [false; NAMES.len()];
        for (name, value) in &fields.0 {
            let Some(index) = NAMES.iter().position(|known| known == name) else { continue };
            let name = NAMES[index];
            if std::mem::replace(&mut seen[index], true) {
                return Err(OperationError::field(name, "is given twice"));
            }
            self.set(name, value.get()).map_err(|what| {
                OperationError::field(
                    name,
                    match what {
                        Kind::Text => "must be a string",
                        Kind::Flag => "must be true or false",
                        Kind::Number => "must be a number that is finite",
                    },
                )
            })?;
        }
        Ok(())
    }

    /// The last one of a name counts, as for most readers of JSON.
    pub(super) fn read_leniently(&mut self, fields: &Fields<'_>) {
        for (name, value) in &fields.0 {
            if let Some(name) = NAMES.iter().find(|known| *known == name) {
                let _ = self.set(name, value.get());
            }
        }
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), Kind> {
        let place = match name {
            "success" => {
                self.success = read(value, Kind::Flag)?;
                return Ok(());
            }
            "duration_ms" => {
                self.duration_ms = read(value, Kind::Number)?;
                return Ok(());
            }
            "endpoint" => &mut self.endpoint,
            "timestamp" => &mut self.timestamp,
            "source" => &mut self.source,
            "input_summary" => &mut self.input_summary,
            "output_summary" => &mut self.output_summary,
            "error" => &mut self.error,
            "staffer_id" => &mut self.staffer,
            "event_kind" => &mut self.kind,
            _ => &mut self.role,
        };
        *place = read(value, Kind::Text)?;
        Ok(())
    }

    pub(super) fn into_operation(self, timestamp: Timestamp, timestamp_text: String) -> Operation {
        Operation {
            endpoint: self.endpoint,
            timestamp,
            timestamp_text,
            source: self.source,
            success: self.success,
            duration_ms: self.duration_ms,
            error: self.error,
            staffer: self.staffer,
            kind: self.kind,
            role: self.role,
        }
    }
}

/// The type that a field must have.
enum Kind {
    Text,
    Flag,
    Number,
}

/// `null` is the default.
fn read<T: DeserializeOwned + Default>(value: &str, kind: Kind) -> Result<T, Kind> {
    if value == "null" {
        return Ok(T::default());
    }
    serde_json::from_str(value).map_err(|_| kind)
}
