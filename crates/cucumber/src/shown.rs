//! What errors show of text that came from outside: bounded and escaped.

use std::io::{self, Write};
use std::sync::Arc;

use serde_json::Value;
use watchkeeper::report::{names, one_line};

/// Of the words of a step.
pub(crate) const WORDS: usize = 200;
/// Of a list of names.
pub(crate) const LIST: usize = 500;

/// As a step writes it: between quotes, with `\"` for a quote and `\\` for a backslash.
pub(crate) fn quoted(text: &str, limit: usize) -> String {
    // Only what is shown is copied.
    let end = (0..=limit.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    let (start, rest) = text.split_at(end);
    let escaped = one_line(&start.replace('\\', r"\\").replace('"', "\\\""), 2 * limit);
    if rest.is_empty() {
        format!("\"{escaped}\"")
    } else {
        format!("\"{escaped}\" ... ({} more bytes)", rest.len())
    }
}

pub(crate) fn listed(list: &[Arc<str>]) -> String {
    names(list.iter().map(|name| &**name), LIST)
}

/// `value` on one line. Rendering ends at `limit` bytes, so that a large value costs no more than a small one.
pub(crate) fn json(value: &Value, limit: usize) -> String {
    let mut out = Bounded { bytes: Vec::new(), limit };
    let cut = serde_json::to_writer(&mut out, value).is_err();
    let shown = one_line(&String::from_utf8_lossy(&out.bytes), 2 * limit);
    if cut { format!("{shown} ... (cut after {limit} bytes)") } else { shown }
}

struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = (self.limit - self.bytes.len()).min(bytes.len());
        self.bytes.extend_from_slice(&bytes[..room]);
        Ok(room)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_are_shown_as_a_step_writes_them() {
        let cases = [
            ("n1", r#""n1""#),
            (r#"a "b""#, r#""a \"b\"""#),
            (r"C:\dir", r#""C:\\dir""#),
            ("two\nlines \u{1b}[2J", r#""two\nlines \u{1b}[2J""#),
            ("a\u{202e}b", r#""a\u{202e}b""#),
        ];
        for (text, expected) in cases {
            assert_eq!(quoted(text, 80), expected);
        }
        assert_eq!(quoted("äöü", 3), "\"ä\" ... (4 more bytes)");
        assert!(quoted(&"\u{1b}".repeat(1_000_000), WORDS).len() < 3 * WORDS);
    }

    #[test]
    fn a_large_value_is_cut() {
        assert_eq!(json(&json!({"leader": "n\n1"}), 80), r#"{"leader":"n\n1"}"#);
        assert_eq!(json(&json!("\u{202e}"), 80), r#""\u{202e}""#);
        assert_eq!(json(&json!([1, 2, 3, 4]), 4), "[1,2 ... (cut after 4 bytes)");
        assert!(json(&json!(vec!["x"; 1_000_000]), 200).len() < 300);
    }
}
