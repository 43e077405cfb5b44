//! What has changed between two snapshots.

use serde_json::{Map, Value, json};

use super::pointer::escaped;

/// How many changes are shown.
const SHOWN: usize = 6;
/// How many are looked for.
const MOST: usize = 1_000;
/// The longest text of one value, in bytes.
const VALUE: usize = 80;

/// The changes in words: `/height: 3 -> 4; /nodes/2: added "n3"`.
pub(super) fn changes(before: &Value, after: &Value) -> String {
    let mut found = Vec::new();
    between("", &readable(before), &readable(after), &mut found);
    if found.is_empty() {
        return "nothing has changed".to_owned();
    }
    let more = found.len().saturating_sub(SHOWN);
    found.truncate(SHOWN);
    if more > 0 {
        found.push(format!("and {more} more"));
    }
    found.join("; ")
}

/// A snapshot of `PerSource` without what counts up in each cycle: its sources with their values.
fn readable(value: &Value) -> Value {
    let Some(sources) = sources(value) else { return value.clone() };
    let by_name: Map<String, Value> = sources
        .iter()
        .filter_map(|source| {
            let name = source.get("name")?.as_str()?.to_owned();
            let failing = source.get("consecutive_failures").and_then(Value::as_u64).unwrap_or(0) > 0;
            let value = source.pointer("/answer/value").cloned().unwrap_or(Value::Null);
            Some((name, json!({ "value": value, "is_failing": failing })))
        })
        .collect();
    Value::Object(by_name)
}

/// The sources of a snapshot of `PerSource`.
pub(super) fn sources(value: &Value) -> Option<&Vec<Value>> {
    let fields = value.as_object()?;
    let is_one = fields.len() == 4
        && ["taken_at", "stale_after_ns", "collect_for_ns"].into_iter().all(|name| fields.contains_key(name));
    let sources = fields.get("sources")?.as_array()?;
    let is_source = |source: &Value| source.get("name").is_some() && source.get("answers").is_some();
    (is_one && sources.iter().all(is_source)).then_some(sources)
}

fn between(path: &str, before: &Value, after: &Value, found: &mut Vec<String>) {
    if before == after || found.len() >= MOST {
        return;
    }
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            for (name, before) in old {
                let path = format!("{path}/{}", escaped(name));
                match new.get(name) {
                    Some(after) => between(&path, before, after, found),
                    None => found.push(format!("{path}: removed")),
                }
            }
            for (name, after) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
                found.push(format!("{path}/{}: added {}", escaped(name), short(after)));
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            for (place, (before, after)) in old.iter().zip(new).enumerate() {
                between(&format!("{path}/{place}"), before, after, found);
            }
            for (place, after) in new.iter().enumerate().skip(old.len()) {
                found.push(format!("{path}/{place}: added {}", short(after)));
            }
            if new.len() < old.len() {
                found.push(format!("{path}: {} removed at the end", old.len() - new.len()));
            }
        }
        _ if path.is_empty() => found.push(format!("{} -> {}", short(before), short(after))),
        _ => found.push(format!("{path}: {} -> {}", short(before), short(after))),
    }
}

fn short(value: &Value) -> String {
    let mut text = value.to_string();
    if text.len() > VALUE {
        text.truncate(text.floor_char_boundary(VALUE - 3));
        text.push_str("...");
    }
    text
}
