//! Text for people: bounded in bytes, and escaped.
//!
//! Names, errors and values come from outside and go to terminals and logs. They may hold a whole HTML page, a line
//! break that forges a line, or an escape sequence. All reports are printed through this module.

pub(crate) mod error_chain;
pub(crate) mod render;

use std::fmt::{self, Write};

/// Byte limit of a name in a sentence.
pub(crate) const NAME: usize = 100;
/// Byte limit of several names in a sentence.
pub(crate) const NAMES: usize = 400;
/// Byte limit of a label.
pub(crate) const LABEL: usize = 200;
/// Byte limit of an error's escaped text, including the count of what was cut.
pub(crate) const MESSAGE: usize = 1_024;
/// Byte limit of a panic's escaped message, including the count of what was cut.
const PANIC: usize = 480;

/// `text` as one line. Control characters, line breaks and marks of writing direction are escaped; bytes after the
/// first `limit` are only counted.
///
/// The result has at most `limit` bytes plus the count.
///
/// # Examples
///
/// ```
/// use watchkeeper::report::one_line;
///
/// assert_eq!(one_line("connection refused", 80), "connection refused");
/// assert_eq!(one_line("a\nb\u{1b}[2J", 80), r"a\nb\u{1b}[2J");
/// assert_eq!(one_line("<html>and much more", 6), "<html> ... (13 more bytes)");
/// ```
#[must_use]
pub fn one_line(text: &str, limit: usize) -> String {
    let (line, shown) = escaped(text, limit, Form::Line);
    counted(line, text.len() - shown)
}

/// The names in order, separated by commas, in at most `limit` bytes. The other names are counted.
///
/// # Examples
///
/// ```
/// use watchkeeper::report::names;
///
/// assert_eq!(names(["n1", "n2"], 80), "n1, n2");
/// assert_eq!(names(["n1", "n2", "n3", "n4"], 7), "n1, n2 and 2 more");
/// assert_eq!(names([], 80), "none");
/// ```
#[must_use]
pub fn names<'a>(names: impl IntoIterator<Item = &'a str>, limit: usize) -> String {
    let mut shown = String::new();
    let mut more = 0_usize;
    for name in names {
        let name = if more == 0 { one_line(name, NAME) } else { String::new() };
        let comma = if shown.is_empty() { "" } else { ", " };
        if more > 0 || (!shown.is_empty() && shown.len() + comma.len() + name.len() > limit) {
            more += 1;
        } else {
            shown.push_str(comma);
            shown.push_str(&name);
        }
    }
    match more {
        0 if shown.is_empty() => "none".to_owned(),
        0 => shown,
        _ => format!("{shown} and {more} more"),
    }
}

/// `text` in quotation marks, as one line of at most `limit` bytes plus the count of what was cut.
pub(crate) fn quoted(text: &str, limit: usize) -> String {
    let (line, shown) = escaped(text, limit, Form::Quoted);
    counted(format!("\"{line}\""), text.len() - shown)
}

/// An error text as recorded: not escaped, and short enough for [`one_line`] to show it whole in [`MESSAGE`] bytes,
/// with the count of what was cut. Recording it again does not change it.
pub(crate) fn message(text: &str) -> String {
    recorded(text, 0, MESSAGE)
}

/// A panic's message as recorded: shorter than a [`message`], so that there is room for text around it.
pub(crate) fn panic_message(text: &str) -> String {
    recorded(text, 0, PANIC)
}

/// `text`, truncated so that it has at most `limit` bytes when escaped. `more` bytes after it were already cut.
fn recorded(text: &str, more: usize, limit: usize) -> String {
    /// The length of the longest count.
    const COUNT: usize = " ... (18446744073709551615 more bytes)".len();
    if more == 0 && fits(text, limit) == text.len() {
        return text.to_owned();
    }
    let shown = fits(text, limit.saturating_sub(COUNT));
    counted(text[..shown].to_owned(), text.len() - shown + more)
}

/// Keeps as much of a text as a message may show, and counts the rest. For the `Display` of app errors, which may
/// have any size.
#[derive(Default)]
pub(crate) struct DisplayText {
    begin: String,
    more: usize,
}

impl DisplayText {
    /// The text of an error without its causes.
    pub(crate) fn by(error: &(impl fmt::Display + ?Sized)) -> Self {
        let mut said = Self::default();
        if write!(said, "{error}").is_err() {
            let _ = said.write_str(" ... (its Display returned an error)");
        }
        said
    }

    /// Whether it ends with the text of `other`, as errors do that print their cause themselves.
    pub(crate) fn ends_with(&self, other: &Self) -> bool {
        self.more == 0 && other.more == 0 && self.begin.ends_with(&other.begin)
    }

    /// Appends another text.
    pub(crate) fn push(&mut self, other: &Self) {
        let _ = self.write_str(&other.begin);
        self.more += other.more;
    }

    /// The recorded form: see [`message`].
    pub(crate) fn message(&self) -> String {
        recorded(&self.begin, self.more, MESSAGE)
    }
}

impl Write for DisplayText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = if self.more > 0 { 0 } else { MESSAGE - self.begin.len() };
        let fits = prefix(text, room);
        self.begin.push_str(fits);
        self.more += text.len() - fits.len();
        Ok(())
    }
}

/// How text is escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As one line.
    Line,
    /// Line breaks are kept.
    Lines,
    /// As one line, in quotation marks.
    Quoted,
}

/// As much of `text` as fits into `limit` bytes when escaped, and how many bytes of `text` that is.
fn escaped(text: &str, limit: usize, form: Form) -> (String, usize) {
    let mut line = String::with_capacity(text.len().min(limit));
    for (at, character) in text.char_indices() {
        if push_escaped(&mut line, character, limit, form).is_err() {
            return (line, at);
        }
    }
    (line, text.len())
}

/// How many bytes of `text` fit into `limit` bytes when escaped as one line.
fn fits(text: &str, limit: usize) -> usize {
    let mut room = limit;
    for (at, character) in text.char_indices() {
        let bytes = if is_plain(character) { character.len_utf8() } else { character.escape_default().len() };
        if bytes > room {
            return at;
        }
        room -= bytes;
    }
    text.len()
}

/// The beginning of `text` as one line, without a count of the rest.
pub(crate) fn beginning(text: &str, limit: usize) -> String {
    let (mut line, shown) = escaped(text, limit, Form::Line);
    line.push_str(if shown < text.len() { "..." } else { "" });
    line
}

/// The longest prefix of whole characters in at most `limit` bytes.
pub(crate) fn prefix(text: &str, limit: usize) -> &str {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn counted(mut line: String, more: usize) -> String {
    if more > 0 {
        let _ = write!(line, " ... ({more} more bytes)");
    }
    line
}

/// Appends one character, escaped if need be, unless it does not fit.
pub(crate) fn push_escaped(text: &mut String, character: char, limit: usize, form: Form) -> fmt::Result {
    let room = limit.saturating_sub(text.len());
    let as_it_is = match character {
        '\n' => form == Form::Lines,
        '"' | '\\' => form != Form::Quoted,
        _ => is_plain(character),
    };
    if as_it_is {
        if character.len_utf8() > room {
            return Err(fmt::Error);
        }
        text.push(character);
        return Ok(());
    }
    // Not `escape_debug`, which leaves marks of direction as they are.
    let escaped = character.escape_default();
    if escaped.len() > room {
        return Err(fmt::Error);
    }
    text.extend(escaped);
    Ok(())
}

/// Whether a terminal shows the character without side effects.
fn is_plain(character: char) -> bool {
    let directs = matches!(
        character,
        '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
    );
    !character.is_control() && !directs
}

#[cfg(all(test, not(watchkeeper_loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_forges_lines_or_hides_text_is_escaped() {
        let cases = [
            ("plain, also ä and 水", "plain, also ä and 水"),
            ("two\r\nlines", r"two\r\nlines"),
            ("\u{1b}[31mred", r"\u{1b}[31mred"),
            ("a\u{202e}b\u{2028}c", r"a\u{202e}b\u{2028}c"),
            ("\u{9b}31m\u{7f}\0", r"\u{9b}31m\u{7f}\u{0}"),
        ];
        for (raw, expected) in cases {
            assert_eq!(one_line(raw, 200), expected);
        }
    }

    #[test]
    fn a_line_never_exceeds_its_limit_nor_splits_a_character() {
        assert_eq!(one_line("äö", 3), "ä ... (2 more bytes)");
        assert_eq!(one_line("ab\n", 3), "ab ... (1 more bytes)");
        assert_eq!(one_line("", 0), "");
        assert_eq!(one_line(&"x".repeat(5_000_000), 4), "xxxx ... (4999996 more bytes)");
    }

    #[test]
    fn ten_thousand_names_are_a_short_line() {
        let all: Vec<String> = (0..10_000).map(|n| format!("node-{n}")).collect();
        let shown = names(all.iter().map(String::as_str), 40);
        assert_eq!(shown, "node-0, node-1, node-2, node-3, node-4 and 9995 more");
        assert!(names(["y".repeat(1_000_000).as_str()], 40).len() < 200);
    }

    #[test]
    fn a_name_in_quotation_marks_stays_inside_them() {
        assert_eq!(quoted(r#"a "b" \ c"#, 80), r#""a \"b\" \\ c""#);
        assert_eq!(quoted("a\nb", 80), r#""a\nb""#);
        assert_eq!(quoted("abcdef", 3), r#""abc" ... (3 more bytes)"#);
    }

    #[test]
    fn a_message_counts_what_it_leaves_out_and_is_recorded_twice_without_a_change() {
        assert_eq!(message("connection refused"), "connection refused");
        let page = message(&format!("<html>\n{}", "x".repeat(1_000_000)));
        let rest = 1_000_007 - (MESSAGE - 38 - 1);
        assert!(
            page.starts_with("<html>\nxxx") && page.ends_with(&format!(" ... ({rest} more bytes)")),
            "{page}"
        );
        assert_eq!(message(&page), page);
        for raw in [page, "\u{1b}\n\u{202e}".repeat(100_000), "\u{1b}".repeat(MESSAGE / 6)] {
            let recorded = message(&raw);
            let shown = one_line(&recorded, MESSAGE);
            assert!(shown.len() <= MESSAGE && shown.matches("more bytes").count() < 2, "{shown}");
            assert_eq!(message(&recorded), recorded);
        }

        let mut said = DisplayText::by("first");
        said.push(&DisplayText::by(&"é".repeat(2_000)));
        let message = said.message();
        assert!(message.len() <= MESSAGE, "{}", message.len());
        let shown = message.matches('é').count();
        let rest = format!(" ... ({} more bytes)", 4_000 - 2 * shown);
        assert!(message.starts_with("firsté") && message.ends_with(&rest), "{message}");
    }
}
