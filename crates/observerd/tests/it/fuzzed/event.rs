//! Any text as the body of `POST event`. The fuzz target `event` and the test of its corpus share it.

use jiff::Timestamp;
use observerd::operation::{MAX_ENDPOINT, MAX_NAME, Operation, rfc3339};
use serde_json::Value;
use watchkeeper_journal::Entry;

/// Whether it is accepted. Panics if an operation is read as it must not be.
pub(crate) fn event(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    lenient(text);
    let now = Timestamp::from_second(1_764_489_600).unwrap();
    match Operation::read(text, now) {
        Ok((operation, entry)) => {
            stored(&operation, &entry);
            kept(text, entry.body());
            true
        }
        Err(error) => {
            is_one_line(&error.to_string(), 300);
            false
        }
    }
}

/// What is stored is what was read, and is read again as it is.
pub(crate) fn stored(operation: &Operation, entry: &Entry) {
    let body = entry.body();
    assert!(!body.contains(['\n', '\r']), "one line: {body:?}");
    // A page of operations has to be readable.
    serde_json::from_str::<Value>(body).unwrap();
    assert!(!operation.endpoint.trim().is_empty() && !operation.source.is_empty());
    assert_eq!(rfc3339(&operation.timestamp_text), Some(operation.timestamp));
    assert_eq!(Operation::of_text(body).as_ref(), Some(operation), "{body}");
    let (again, same) = Operation::read(body, Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!((&again, same.body()), (operation, body));
}

/// All but `timestamp` and `source` is as it came.
fn kept(sent: &str, stored: &str) {
    // A number that has no place in a float is JSON, and kept, though not every reader of JSON takes it.
    let Ok(Value::Object(mut sent)) = serde_json::from_str(sent) else { return };
    let Ok(Value::Object(mut stored)) = serde_json::from_str(stored) else {
        panic!("it was a value: {stored}")
    };
    for name in ["timestamp", "source"] {
        let stored = stored.remove(name).unwrap();
        assert!(stored.as_str().is_some_and(|text| !text.is_empty()), "{stored}");
        sent.remove(name);
    }
    assert_eq!(stored, sent);
}

/// What an imported file has.
fn lenient(text: &str) {
    let Some(operation) = Operation::of_text(text) else { return };
    assert!(!operation.endpoint.trim().is_empty() && operation.endpoint.len() <= MAX_ENDPOINT);
    for name in [&operation.source, &operation.staffer, &operation.kind, &operation.role] {
        assert!(name.len() <= MAX_NAME, "{operation:?}");
    }
    assert!(!operation.source.is_empty());
}

pub(crate) fn is_one_line(text: &str, most: usize) {
    assert!(text.len() <= most && !text.contains(char::is_control), "{text:?}");
}
