//! One operation: what a program reports, read and checked.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use watchkeeper::report::debug_as_text;
use watchkeeper_journal::{Entry, EntryError, Record};

/// The source of an operation that names none.
pub const DEFAULT_SOURCE: &str = "mcp";

/// The source of operations of scenarios, which have a list of their own in the statistics.
pub const SCENARIO: &str = "scenario";

/// The source of lines of the overseer's file of corrections.
pub const CORRECTION: &str = "overseer_correction";

/// The endpoint of a correction that names none.
pub const CORRECTION_ENDPOINT: &str = "/overseer/correction";

/// The sources that have a name of their own in metrics. Any other name is allowed.
pub const KNOWN_SOURCES: [&str; 4] = [DEFAULT_SOURCE, SCENARIO, "langfuse", CORRECTION];

/// The most bytes of `endpoint`.
pub const MAX_ENDPOINT: usize = 1_024;

/// The most bytes of `source`, `staffer_id`, `event_kind` and `role`.
pub const MAX_NAME: usize = 256;

/// What the service knows of an operation. Its text is in the journal.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// What was called. Never empty.
    pub endpoint: String,
    /// When it happened, as the program says, on any clock: order is by sequence.
    pub timestamp: Timestamp,
    /// The same as it stands in the record.
    pub timestamp_text: String,
    /// Who reports it.
    pub source: String,
    /// Whether it succeeded. An absent one is `false`.
    pub success: bool,
    /// How long it took, in milliseconds.
    pub duration_ms: Option<f64>,
    /// The error's message; empty if there is none.
    pub error: String,
    /// Who did it; empty if not said.
    pub staffer: String,
    /// What kind of event it is; empty if not said.
    pub kind: String,
    /// The role of who did it; empty if not said.
    pub role: String,
}

impl Operation {
    /// Reads an operation that a program sends, checks it, and adds what is missing: `timestamp` is `now`, `source` is
    /// [`DEFAULT_SOURCE`]. Both are the default of an empty text and of `null` too. A timestamp with an offset is written in UTC.
    /// All other fields stay as they came.
    ///
    /// # Errors
    ///
    /// [`OperationError`] names the field. Nothing of a value is repeated.
    pub fn read(text: &str, now: Timestamp) -> Result<(Self, Entry), OperationError> {
        Self::read_with(text, now, None)
    }

    /// Reads a correction: as [`read`](Self::read), but `source` is always [`CORRECTION`], and `endpoint` may be missing, empty or
    /// `null`: it is [`CORRECTION_ENDPOINT`] then. Another `source` stays as `line_source`.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn read_correction(text: &str, now: Timestamp) -> Result<(Self, Entry), OperationError> {
        Self::read_with(text, now, Some(CORRECTION_ENDPOINT))
    }

    fn read_with(
        text: &str,
        now: Timestamp,
        correction: Option<&str>,
    ) -> Result<(Self, Entry), OperationError> {
        let fields = Fields::of(text)?;
        let mut known = Known::default();
        known.read(&fields)?;
        let mut changed = Vec::new();
        if let Some(endpoint) = correction {
            if known.endpoint.trim().is_empty() {
                endpoint.clone_into(&mut known.endpoint);
                changed.push(("endpoint", known.endpoint.clone()));
            }
            if known.source != CORRECTION {
                let other = std::mem::replace(&mut known.source, CORRECTION.to_owned());
                changed.push(("source", CORRECTION.to_owned()));
                if !other.is_empty() && fields.0.iter().all(|(name, _)| name != "line_source") {
                    changed.push(("line_source", other));
                }
            }
        }
        if known.endpoint.trim().is_empty() {
            return Err(OperationError::field("endpoint", "is required, and must not be empty"));
        }
        bounded("endpoint", &known.endpoint, MAX_ENDPOINT)?;
        for (name, value) in [
            ("source", &known.source),
            ("staffer_id", &known.staffer),
            ("event_kind", &known.kind),
            ("role", &known.role),
        ] {
            bounded(name, value, MAX_NAME)?;
        }
        if known.duration_ms.is_some_and(|duration| !(0.0..f64::INFINITY).contains(&duration)) {
            return Err(OperationError::field("duration_ms", "must be zero or more, and finite"));
        }
        let (timestamp, timestamp_text) = if known.timestamp.is_empty() {
            (now, now.to_string())
        } else {
            let at = rfc3339(&known.timestamp).ok_or_else(|| {
                OperationError::field(
                    "timestamp",
                    "must be a time of RFC 3339, such as 2026-11-30T08:15:00Z; leave it out for the time of receipt",
                )
            })?;
            let is_utc = known.timestamp.ends_with(['Z', 'z']);
            (at, if is_utc { known.timestamp.clone() } else { at.to_string() })
        };
        if timestamp_text != known.timestamp {
            changed.push(("timestamp", timestamp_text.clone()));
        }
        if known.source.is_empty() {
            DEFAULT_SOURCE.clone_into(&mut known.source);
            changed.push(("source", known.source.clone()));
        }
        let entry =
            if changed.is_empty() { Entry::from_text(text) } else { Entry::from_text(fields.with(&changed)) };
        Ok((known.into_operation(timestamp, timestamp_text), entry?))
    }

    /// What a record says of its operation. It accepts what the service would refuse, because imported files have it:
    /// a time that is none is the epoch, a value of another type counts as absent, long names are truncated. `None` if it has no
    /// endpoint.
    #[must_use]
    pub fn of_record(record: &Record) -> Option<Self> {
        Self::of_text(record.body())
    }

    /// The same of the text of a record.
    #[must_use]
    pub fn of_text(text: &str) -> Option<Self> {
        let fields = Fields::of(text).ok()?;
        let mut known = Known::default();
        known.read_leniently(&fields);
        if known.endpoint.trim().is_empty() {
            return None;
        }
        if known.source.is_empty() {
            DEFAULT_SOURCE.clone_into(&mut known.source);
        }
        truncate(&mut known.endpoint, MAX_ENDPOINT);
        for name in
            [&mut known.source, &mut known.staffer, &mut known.kind, &mut known.role, &mut known.timestamp]
        {
            truncate(name, MAX_NAME);
        }
        let timestamp = rfc3339(&known.timestamp).unwrap_or(Timestamp::UNIX_EPOCH);
        let text = std::mem::take(&mut known.timestamp);
        Some(known.into_operation(timestamp, text))
    }
}

fn bounded(name: &'static str, value: &str, most: usize) -> Result<(), OperationError> {
    if value.len() <= most {
        return Ok(());
    }
    let detail = format!("has {} bytes: at most {most} are allowed", value.len());
    Err(OperationError::Field { name, detail })
}

fn truncate(text: &mut String, most: usize) {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
    }
}

/// A time of RFC 3339, and nothing of what ISO 8601 allows besides.
#[must_use]
pub fn rfc3339(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let shape = b"dddd-dd-ddTdd:dd:dd";
    if bytes.len() <= shape.len() || bytes.len() > 64 {
        return None;
    }
    let fits = shape.iter().zip(bytes).all(|(shape, byte)| match shape {
        b'd' => byte.is_ascii_digit(),
        b'T' => matches!(byte, b'T' | b't'),
        other => byte == other,
    });
    let mut rest = &bytes[shape.len()..];
    if let Some(fraction) = rest.strip_prefix(b".") {
        let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        rest = &fraction[digits..];
    }
    let has_offset = match rest {
        [b'Z' | b'z'] => true,
        [b'+' | b'-', a, b, b':', c, d] => [a, b, c, d].iter().all(|byte| byte.is_ascii_digit()),
        _ => false,
    };
    if !(fits && has_offset) {
        return None;
    }
    // Digits beyond nanoseconds are allowed, and say nothing that is kept.
    let mut text = text.to_ascii_uppercase();
    if let Some(point) = text.find('.') {
        let digits = text[point + 1..].bytes().take_while(u8::is_ascii_digit).count();
        if digits > 9 {
            text.replace_range(point + 10..point + 1 + digits, "");
        }
    }
    text.parse().ok()
}

/// The fields of an object, in their order.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Fields<'a> {
    fn of(text: &'a str) -> Result<Self, OperationError> {
        serde_json::from_str(text).map_err(|error| {
            if error.is_data() {
                return OperationError::NotAnObject;
            }
            OperationError::NotJson { line: error.line(), column: error.column() }
        })
    }

    /// The text of the object with other values of these fields, which are added if they are missing.
    fn with(&self, changed: &[(&str, String)]) -> String {
        let kept = self.0.iter().filter(|(name, _)| !changed.iter().any(|(changed, _)| name == changed));
        let mut text = String::from("{");
        for (name, value) in kept {
            push(&mut text, name, value.get());
        }
        for (name, value) in changed {
            push(&mut text, name, &quoted(value));
        }
        text.push('}');
        text
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
struct Known {
    endpoint: String,
    timestamp: String,
    source: String,
    success: bool,
    duration_ms: Option<f64>,
    input_summary: String,
    output_summary: String,
    error: String,
    staffer: String,
    kind: String,
    role: String,
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
    fn read(&mut self, fields: &Fields<'_>) -> Result<(), OperationError> {
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
    fn read_leniently(&mut self, fields: &Fields<'_>) {
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

    fn into_operation(self, timestamp: Timestamp, timestamp_text: String) -> Operation {
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

/// Why something is no operation. It shows nothing of the values.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OperationError {
    /// The text is no JSON.
    #[error("no JSON at line {line}, column {column}: send one JSON object")]
    NotJson {
        /// The line, counted from 1.
        line: usize,
        /// The byte of the line, counted from 1.
        column: usize,
    },
    /// A JSON value that is no object.
    #[error("a JSON value that is no object: an operation is an object with the field `endpoint`")]
    NotAnObject,
    /// A field is missing or wrong.
    #[error("`{name}` {detail}")]
    Field {
        /// The field.
        name: &'static str,
        /// What is wrong.
        detail: String,
    },
    /// The journal refuses the object.
    #[error(transparent)]
    Entry(#[from] EntryError),
}

impl OperationError {
    fn field(name: &'static str, detail: &str) -> Self {
        Self::Field { name, detail: detail.to_owned() }
    }

    /// The field that is wrong.
    #[must_use]
    pub fn name(&self) -> Option<&'static str> {
        match self {
            Self::Field { name, .. } => Some(name),
            _ => None,
        }
    }
}

debug_as_text!(OperationError);
