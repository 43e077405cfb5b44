//! Any text as the settings. The fuzz target `config` and the test of its corpus share it.

use observerd::config::{Place, parse};

/// What no finding may show.
const SECRET: &str = "hunter2-0123456789";

/// Whether it is accepted. Panics if settings are read as they must not be.
pub(crate) fn config(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let env = |name: &str| match name {
        "SECRET" => Some(SECRET.to_owned()),
        "DIRECTORY" => Some("/var/lib/observerd".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    };
    let read = parse(text, &env);
    match &read {
        Ok(_) => {}
        Err(findings) => {
            assert!(!findings.is_empty());
            for finding in findings {
                let shown = finding.to_string();
                assert!(shown.len() <= 500 && !shown.contains(char::is_control), "one line: {shown:?}");
                assert!(text.contains(SECRET) || !shown.contains(SECRET), "{shown:?}");
                if let Place::At { line, column } = finding.place {
                    is_in(text, line, column);
                }
            }
        }
    }
    assert!(read == parse(text, &env), "the same text, the same answer");
    read.is_ok()
}

/// The position is in the text, or at its end.
fn is_in(text: &str, line: usize, column: usize) {
    let lines: Vec<&str> = text.split('\n').collect();
    assert!((1..=lines.len()).contains(&line), "line {line}");
    assert!((1..=lines[line - 1].chars().count() + 1).contains(&column), "line {line}, column {column}");
}
