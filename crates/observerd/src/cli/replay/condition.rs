//! A condition on a value at a JSON pointer.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use watchkeeper::report::one_line;

use super::pointer;

/// What the value at a pointer must be.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    pub(super) pointer: String,
    parts: Vec<String>,
    pub(super) test: Test,
    /// Whether a value was not recorded. The clones share it.
    is_unknown: Arc<AtomicBool>,
}

#[derive(Clone, Debug)]
pub(super) enum Test {
    Is(Value),
    Between(Option<f64>, Option<f64>),
    Exists,
}

impl Condition {
    pub(super) fn new(pointer: String, parts: Vec<String>, test: Test) -> Self {
        Self { pointer, parts, test, is_unknown: Arc::default() }
    }

    /// The value at the pointer.
    pub(super) fn find<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        let found = pointer::at(value, &self.parts);
        if found.is_none() && pointer::is_beyond(value, &self.parts) {
            self.is_unknown.store(true, Ordering::Relaxed);
        }
        found
    }

    /// Whether a value that was judged was not recorded.
    pub(super) fn is_unknown(&self) -> bool {
        self.is_unknown.load(Ordering::Relaxed)
    }

    /// Whether the value meets it; if not, what is there.
    pub(super) fn judge(&self, value: &Value) -> Result<(), String> {
        let found = self.find(value);
        let is_met = match (&self.test, found) {
            (Test::Exists, found) => found.is_some(),
            (Test::Is(wanted), Some(found)) => same(wanted, found),
            (Test::Between(low, high), Some(found)) => found.as_f64().is_some_and(|found| {
                low.is_none_or(|low| found >= low) && high.is_none_or(|high| found <= high)
            }),
            (_, None) => false,
        };
        match found {
            _ if is_met => Ok(()),
            None => Err(format!("there is nothing at {}", place(&self.pointer))),
            Some(found) => Err(format!("{} is {}", place(&self.pointer), one_line(&found.to_string(), 200))),
        }
    }
}

/// Numbers are the same if they are equal, however they are written.
fn same(wanted: &Value, found: &Value) -> bool {
    match (wanted, found) {
        (Value::Number(wanted), Value::Number(found)) if wanted.is_f64() != found.is_f64() => wanted
            .as_f64()
            .zip(found.as_f64())
            .is_some_and(|(wanted, found)| wanted.total_cmp(&found).is_eq()),
        (Value::Array(wanted), Value::Array(found)) => {
            wanted.len() == found.len() && wanted.iter().zip(found).all(|(wanted, found)| same(wanted, found))
        }
        (Value::Object(wanted), Value::Object(found)) => {
            wanted.len() == found.len()
                && wanted
                    .iter()
                    .all(|(name, wanted)| found.get(name).is_some_and(|found| same(wanted, found)))
        }
        _ => wanted == found,
    }
}

fn place(pointer: &str) -> String {
    if pointer.is_empty() { "the value".to_owned() } else { one_line(pointer, 100) }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = place(&self.pointer);
        match &self.test {
            Test::Is(value) => write!(f, "{place} is {}", one_line(&value.to_string(), 100)),
            Test::Exists => write!(f, "there is something at {place}"),
            Test::Between(Some(low), Some(high)) => write!(f, "{place} is from {low} to {high}"),
            Test::Between(Some(low), None) => write!(f, "{place} is at least {low}"),
            Test::Between(None, Some(high)) => write!(f, "{place} is at most {high}"),
            Test::Between(None, None) => write!(f, "{place} is a number"),
        }
    }
}
