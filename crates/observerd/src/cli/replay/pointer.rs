//! JSON pointers (RFC 6901) that also find an entry of a list by its `name`.

use serde_json::Value;

/// The parts of a pointer; `None` if it is none.
pub(super) fn parts(pointer: &str) -> Option<Vec<String>> {
    if pointer.is_empty() {
        return Some(Vec::new());
    }
    let rest = pointer.strip_prefix('/')?;
    Some(rest.split('/').map(|part| part.replace("~1", "/").replace("~0", "~")).collect())
}

/// The value there.
pub(super) fn at<'a>(value: &'a Value, parts: &[String]) -> Option<&'a Value> {
    parts.iter().try_fold(value, |value, part| match value {
        Value::Object(fields) => fields.get(part),
        Value::Array(items) => {
            let by_name = || items.iter().find(|item| item.get("name").and_then(Value::as_str) == Some(part));
            part.parse::<usize>().ok().and_then(|place| items.get(place)).or_else(by_name)
        }
        _ => None,
    })
}

/// Whether what is there may be in the rest of a list that was recorded in part: a field `not_recorded` beside the list counts
/// that rest.
pub(super) fn is_beyond(value: &Value, parts: &[String]) -> bool {
    let (mut value, mut rest) = (value, 0);
    for part in parts {
        let next = at(value, std::slice::from_ref(part));
        match (value, next) {
            (_, Some(next)) => {
                rest = value.get("not_recorded").and_then(Value::as_u64).unwrap_or(0);
                value = next;
            }
            (Value::Array(items), None) => {
                let place = part.parse().unwrap_or(items.len() as u64);
                return place < rest.saturating_add(items.len() as u64);
            }
            (_, None) => return false,
        }
    }
    false
}

/// A part as it stands in a pointer.
pub(super) fn escaped(part: &str) -> String {
    part.replace('~', "~0").replace('/', "~1")
}
