//! Looking into a snapshot by JSON pointer.

use serde_json::Value;

use crate::StepError;

/// Keys that are listed of one object.
const KEYS: usize = 20;

/// Refuses what can be no JSON pointer (RFC 6901).
pub(crate) fn check(pointer: &str) -> Result<(), StepError> {
    let escapes = pointer.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    if escapes && (pointer.is_empty() || pointer.starts_with('/')) {
        return Ok(());
    }
    Err(StepError::InvalidPointer { pointer: pointer.to_owned() })
}

/// What a step says a value is: JSON if it is some, else text.
pub(crate) fn wanted(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// The longest part of `pointer` that leads somewhere, and what is there.
pub(crate) fn nearest(root: &Value, pointer: &str) -> String {
    let mut found = (root, "");
    for (end, _) in pointer.match_indices('/').skip(1).chain([(pointer.len(), "")]) {
        let part = &pointer[..end];
        match root.pointer(part) {
            Some(value) => found = (value, part),
            None => break,
        }
    }
    let (value, path) = found;
    let at = if path.is_empty() { "the snapshot itself".to_owned() } else { format!("{path:?}") };
    format!("the nearest that exists is {at}, {}", described(value))
}

fn described(value: &Value) -> String {
    match value {
        Value::Object(object) if object.is_empty() => "an object without keys".to_owned(),
        Value::Object(object) => {
            let keys: Vec<&str> = object.keys().take(KEYS).map(String::as_str).collect();
            let more = object.len() - keys.len();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("with the keys {}{more}", keys.join(", "))
        }
        Value::Array(array) if array.is_empty() => "an array without elements".to_owned(),
        Value::Array(array) => format!("an array of {}, from 0", array.len()),
        Value::String(_) => "a string".to_owned(),
        Value::Number(_) => "a number".to_owned(),
        Value::Bool(_) => "a boolean".to_owned(),
        Value::Null => "null".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_nearest_part_of_a_path_is_shown_with_what_is_in_it() {
        let root = json!({
            "leader": "n2", "nodes": {"n1": {"term": 3}, "n/2": {}}, "log": [1, 2], "none": null, "empty": []
        });
        let cases = [
            ("/leder", "the snapshot itself, with the keys empty, leader, log, nodes, none"),
            ("/nodes/n3/term", "\"/nodes\", with the keys n/2, n1"),
            ("/nodes/n1/trem", "\"/nodes/n1\", with the keys term"),
            ("/nodes/n~12/term", "\"/nodes/n~12\", an object without keys"),
            ("/log/2", "\"/log\", an array of 2, from 0"),
            ("/empty/0", "\"/empty\", an array without elements"),
            ("/leader/name", "\"/leader\", a string"),
            ("/nodes/n1/term/x", "\"/nodes/n1/term\", a number"),
            ("/none/x", "\"/none\", null"),
            ("/", "the snapshot itself, with the keys empty, leader, log, nodes, none"),
        ];
        for (pointer, expected) in cases {
            assert_eq!(root.pointer(pointer), None, "{pointer:?}");
            assert_eq!(nearest(&root, pointer), format!("the nearest that exists is {expected}"));
        }
        let many: Value =
            (0..25).map(|n| (format!("k{n:02}"), json!(n))).collect::<serde_json::Map<_, _>>().into();
        assert!(nearest(&many, "/x").ends_with("k18, k19 and 5 more"));
    }

    #[test]
    fn only_a_pointer_is_taken_for_one() {
        for (pointer, is_one) in
            [("", true), ("/a", true), ("/a~0b~1c", true), ("a", false), ("/a~b", false), ("/a~", false)]
        {
            assert_eq!(check(pointer).is_ok(), is_one, "{pointer:?}");
        }
    }

    #[test]
    fn a_value_is_json_if_it_can_be() {
        let cases = [
            ("n2", json!("n2")),
            ("2", json!(2)),
            ("\"2\"", json!("2")),
            ("null", json!(null)),
            ("[1, 2]", json!([1, 2])),
            ("", json!("")),
        ];
        for (text, expected) in cases {
            assert_eq!(wanted(text), expected);
        }
    }
}
