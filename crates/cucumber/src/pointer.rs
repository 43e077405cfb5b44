//! JSON pointers into snapshots.

use serde_json::Value;
use watchkeeper::report::names;

use crate::StepError;
use crate::shown::{WORDS, quoted};

/// Of the list of an object's keys.
const KEYS: usize = 200;

/// Refuses a text that is no JSON pointer (RFC 6901).
pub(crate) fn check(pointer: &str) -> Result<(), StepError> {
    let mistake = if !pointer.is_empty() && !pointer.starts_with('/') {
        "it must be empty or begin with a slash, such as \"/nodes/n1\""
    } else if !pointer.split('~').skip(1).all(|rest| rest.starts_with(['0', '1'])) {
        "write ~0 for a ~ in a key, and ~1 for a slash"
    } else {
        return Ok(());
    };
    Err(StepError::InvalidPointer { pointer: pointer.to_owned(), mistake })
}

/// The longest part of `pointer` that exists, and what is there.
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
    let at = if path.is_empty() { "the snapshot itself".to_owned() } else { quoted(path, WORDS) };
    format!("the nearest that exists is {at}, {}", described(value))
}

fn described(value: &Value) -> String {
    match value {
        Value::Object(object) if object.is_empty() => "an object without keys".to_owned(),
        Value::Object(object) => {
            format!("with the keys {}", names(object.keys().map(String::as_str), KEYS))
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
            (0..1_000).map(|n| (format!("key{n:03}"), json!(n))).collect::<serde_json::Map<_, _>>().into();
        assert!(nearest(&many, "/x").ends_with("key023, key024 and 975 more"), "{}", nearest(&many, "/x"));
        let forged = json!({"a\n\u{1b}[2J": 1});
        assert!(nearest(&forged, "/x").ends_with(r"with the keys a\n\u{1b}[2J"));
    }

    #[test]
    fn a_text_that_is_no_pointer_is_refused() {
        let cases = [
            ("", None),
            ("/a", None),
            ("/a~0b~1c", None),
            ("a", Some("begin with a slash")),
            ("/a~b", Some("write ~0 for a ~")),
            ("/a~", Some("write ~0 for a ~")),
        ];
        for (pointer, expected) in cases {
            let refused = check(pointer).err().map(|error| error.to_string());
            assert_eq!(refused.is_some(), expected.is_some(), "{pointer:?}");
            assert!(refused.unwrap_or_default().contains(expected.unwrap_or_default()), "{pointer:?}");
        }
    }
}
