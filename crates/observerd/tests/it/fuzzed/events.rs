//! Any text as the body of `POST events`. The fuzz target `events` and the test of its corpus share it.

use observerd::fuzzed::batch;
use observerd::operation::Operation;
use watchkeeper_journal::Entry;

use super::event::{is_one_line, stored};

/// Whether it is accepted. Panics if a batch is read as it must not be.
pub(crate) fn events(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    match batch(text) {
        Ok(operations) => {
            assert!(!operations.is_empty());
            for (operation, entry) in &operations {
                stored(operation, entry);
            }
            let bodies: Vec<&str> = operations.iter().map(|(_, entry)| entry.body()).collect();
            same(&operations, &format!("[{}]", bodies.join(",")));
            same(&operations, &format!(" [\r\n{}\n]", bodies.join("\n,\t")));
            same(&operations, &bodies.join("\n"));
            same(&operations, &format!("\r\n{}\r\n\n", bodies.join(" \r\n\n")));
            true
        }
        Err(problem) => {
            assert!(matches!(problem.status, 400 | 413), "{problem:?}");
            is_one_line(&problem.detail, 1_040);
            is_one_line(problem.pointer.as_deref().unwrap_or_default(), 100);
            false
        }
    }
}

fn same(operations: &[(Operation, Entry)], text: &str) {
    assert_eq!(batch(text).unwrap(), operations, "{text}");
}
