//! Text that a person reads: bounded in bytes, and escaped.
//!
//! Names, errors and values come from outside, and they go to terminals and logs. One of them may hold a
//! whole HTML page, a line break that forges a line, or an escape sequence. All reports print through here.

use std::fmt::{self, Debug, Write};

use crate::panics::catch;

/// `text` as one line: control characters, line breaks and marks of writing direction are escaped, and
/// what follows the first `limit` bytes is only counted.
///
/// The result has at most `limit` bytes, beside the count.
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
    let mut line = String::with_capacity(text.len().min(limit));
    for (at, character) in text.char_indices() {
        if push_escaped(&mut line, character, limit, false).is_err() {
            let rest = text.len() - at;
            let _ = write!(line, " ... ({rest} more bytes)");
            break;
        }
    }
    line
}

/// `value` by its pretty `Debug`, on as many lines as that has: escaped like [`one_line`], line breaks kept.
///
/// Rendering ends at `limit` bytes, so a large value costs no more than what is shown of it. A `Debug` that
/// panics or fails says so at the end of what it had written.
///
/// # Examples
///
/// ```
/// use watchkeeper::report::debug;
///
/// assert_eq!(debug(&[1, 2], 80), "[\n    1,\n    2,\n]");
/// assert_eq!(debug(&"abcdefgh", 5), "\"abcd ... (cut after 5 bytes)");
/// ```
#[must_use]
pub fn debug<T: Debug + ?Sized>(value: &T, limit: usize) -> String {
    rendered(limit, |out| write!(out, "{value:#?}"))
}

/// The names in their order, separated by commas, in at most `limit` bytes; the others are counted.
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
    /// Of one name.
    const NAME: usize = 100;
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

/// What `render` writes, escaped, up to `limit` bytes; `render` is app code and may panic.
pub(crate) fn rendered(limit: usize, render: impl FnOnce(&mut dyn Write) -> fmt::Result) -> String {
    let mut out = Bounded { text: String::new(), limit, cut: false };
    let ended = catch(|| render(&mut out));
    let Bounded { mut text, cut, .. } = out;
    match ended {
        // Rendering may go on after the cut, and fail or panic then: nothing of that is shown.
        _ if cut => {
            let _ = write!(text, " ... (cut after {limit} bytes)");
        }
        Ok(Ok(())) => {}
        Ok(Err(fmt::Error)) => text.push_str(" ... (its Debug returned an error)"),
        Err(panic) => {
            let _ = write!(text, " ... (its Debug panicked: {})", one_line(&panic, 200));
        }
    }
    text
}

struct Bounded {
    text: String,
    limit: usize,
    cut: bool,
}

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.cut {
            return Err(fmt::Error);
        }
        let written = text.chars().try_for_each(|each| push_escaped(&mut self.text, each, self.limit, true));
        self.cut = written.is_err();
        written
    }
}

/// Appends one character, escaped if need be, unless it does not fit.
fn push_escaped(text: &mut String, character: char, limit: usize, keep_breaks: bool) -> fmt::Result {
    let room = limit.saturating_sub(text.len());
    if is_plain(character) || (keep_breaks && character == '\n') {
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

/// Whether a terminal shows it, and nothing else.
fn is_plain(character: char) -> bool {
    let directs = matches!(
        character,
        '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
    );
    !character.is_control() && !directs
}

#[cfg(all(test, not(watchkeeper_loom)))]
mod tests {
    use std::cell::Cell;

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
    fn rendering_ends_at_the_limit() {
        struct Endless<'a>(&'a Cell<u64>);
        impl Debug for Endless<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                loop {
                    self.0.set(self.0.get() + 1);
                    f.write_str("12345678")?;
                }
            }
        }
        let written = Cell::new(0);
        assert_eq!(debug(&Endless(&written), 20), "12345678123456781234 ... (cut after 20 bytes)");
        assert_eq!(written.get(), 3);
    }

    #[test]
    fn a_debug_that_breaks_leaves_what_it_wrote() {
        struct Breaks(bool);
        impl Debug for Breaks {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("Breaks { ")?;
                assert!(self.0, "in its\nDebug");
                Err(fmt::Error)
            }
        }
        assert_eq!(debug(&Breaks(true), 80), "Breaks {  ... (its Debug returned an error)");
        assert_eq!(debug(&Breaks(false), 80), r"Breaks {  ... (its Debug panicked: in its\nDebug)");
    }

    #[test]
    fn ten_thousand_names_are_a_short_line() {
        let all: Vec<String> = (0..10_000).map(|n| format!("node-{n}")).collect();
        let shown = names(all.iter().map(String::as_str), 40);
        assert_eq!(shown, "node-0, node-1, node-2, node-3, node-4 and 9995 more");
        assert!(names(["y".repeat(1_000_000).as_str()], 40).len() < 200);
    }
}
