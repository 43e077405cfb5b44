//! Text for a terminal.

use std::fmt::Write;
use std::path::Path;

use watchkeeper::report::one_line;

/// The longest path that is printed, in bytes.
const PATH: usize = 300;

pub(super) fn path(path: &Path) -> String {
    one_line(&path.display().to_string(), PATH)
}

/// `1 record`, `2 records`.
pub(super) fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// JSON text as one line that any terminal shows as it is. The value is the same.
pub(super) fn json(text: &str) -> String {
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
