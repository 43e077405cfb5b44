//! One operation: what a program reports, read and checked.

mod fields;
mod shape;
mod time;

use jiff::Timestamp;
use watchkeeper::report::debug_as_text;
use watchkeeper_journal::{Entry, EntryError, Record};

use fields::{Fields, Known};
use time::is_plain_utc;

pub use time::rfc3339;

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
        shape::check(text)?;
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
            (at, if is_plain_utc(&known.timestamp) { known.timestamp.clone() } else { at.to_string() })
        };
        if timestamp_text != known.timestamp {
            changed.push(("timestamp", timestamp_text.clone()));
        }
        if known.source.is_empty() {
            DEFAULT_SOURCE.clone_into(&mut known.source);
            changed.push(("source", known.source.clone()));
        }
        let entry = if changed.is_empty() {
            Entry::from_text(text)
        } else {
            Entry::from_text(fields.with(text, &changed))
        };
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
    /// Arrays and objects in each other.
    #[error("arrays and objects are nested more than {most} deep: send it flatter, or as a string")]
    TooDeep {
        /// The deepest that is allowed.
        most: usize,
    },
    /// A string has one half of a surrogate pair.
    #[error("a string has one half of a surrogate pair, such as `\\ud800`: send characters that are whole")]
    HalfPair,
    /// A number is beyond what a double can hold.
    #[error("a number is beyond 1.8e308, which many readers of JSON refuse: send it as a string")]
    HugeNumber,
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
