//! Text for a terminal.

use std::fmt::Write;
use std::path::Path;

use watchkeeper::report::one_line;

/// The longest name or path that is printed, in bytes.
const NAME: usize = 300;

pub(crate) fn path(path: &Path) -> String {
    one_line(&path.display().to_string(), NAME)
}

/// `1 record`, `2 records`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// `text` as one escaped line of at most `width` bytes; 0 for any length.
pub(crate) fn line(text: &str, width: usize) -> String {
    /// About the length of the count of what was cut.
    const COUNT: usize = 24;
    if width == 0 {
        return one_line(text, usize::MAX);
    }
    let line = one_line(text, width);
    if line.len() <= width { line } else { one_line(text, width.saturating_sub(COUNT)) }
}

/// JSON text as one line that any terminal shows as it is. The value is the same.
pub(crate) fn json(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            // Between two parts: in a string it would be escaped.
            '\0'..' ' => line.push(' '),
            '\u{7f}'..='\u{9f}'
            | '\u{61c}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}' => {
                let _ = write!(line, "\\u{:04x}", u32::from(character));
            }
            _ => line.push(character),
        }
    }
    line
}

/// A text as JSON for a terminal.
pub(crate) fn json_string(text: &str) -> String {
    json(&serde_json::Value::from(text).to_string())
}
