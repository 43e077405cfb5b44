//! Which records are shown.

use serde_json::Value;
use watchkeeper_journal::Record;

/// A field and the text of its value.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    field: String,
    value: String,
}

pub(crate) fn condition(text: &str) -> Result<Condition, &'static str> {
    match text.split_once('=') {
        Some((field, value)) if !field.is_empty() => {
            Ok(Condition { field: field.to_owned(), value: value.to_owned() })
        }
        _ => Err("give a field and a value, such as result.ok=true"),
    }
}

#[derive(Debug)]
pub(crate) struct Filter {
    pub(crate) conditions: Vec<Condition>,
    pub(crate) grep: Option<String>,
}

impl Filter {
    pub(crate) fn is_empty(&self) -> bool {
        self.conditions.is_empty() && self.grep.is_none()
    }

    pub(crate) fn matches(&self, record: &Record) -> bool {
        if self.grep.as_ref().is_some_and(|text| !record.body().contains(text)) {
            return false;
        }
        if self.conditions.is_empty() {
            return true;
        }
        let Ok(object) = record.parse::<Value>() else { return false };
        self.conditions.iter().all(|Condition { field, value }| has(&object, field, value))
    }
}

/// Whether the value has the field with this text. A dot is a step into an object or a list, or a part of a name.
fn has(object: &Value, path: &str, text: &str) -> bool {
    let is_it = |name: &str, rest: Option<&str>| {
        let value = match object {
            Value::Object(fields) => fields.get(name),
            Value::Array(items) => name.parse::<usize>().ok().and_then(|place| items.get(place)),
            _ => None,
        };
        match (value, rest) {
            (Some(value), Some(rest)) => has(value, rest, text),
            (Some(Value::String(value)), None) => value == text,
            (Some(value), None) => {
                let shown = value.to_string();
                shown == text
            }
            (None, _) => false,
        }
    };
    is_it(path, None)
        || path.match_indices('.').any(|(place, _)| is_it(&path[..place], Some(&path[place + 1..])))
}
