//! The text of reports and errors.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use watchkeeper::report::{debug, names, one_line};

/// How many bytes of a name are shown.
const NAME: usize = 300;
/// Of a list of names.
const LIST: usize = 2_000;
/// Of the text of an error, which may have many lines.
const ERROR: usize = 16_000;
/// Of one section of a report.
pub(crate) const SECTION: usize = 64 * 1024;
/// How many causes of an error are shown: an error may be its own cause.
const CAUSES: usize = 16;

/// Names as a list in a sentence.
pub(crate) fn listed<S: AsRef<str>>(all: &[S]) -> String {
    names(all.iter().map(AsRef::as_ref), LIST)
}

/// A name in a sentence.
pub(crate) fn name(name: &str) -> String {
    one_line(name, NAME)
}

/// A name in quotes.
pub(crate) fn quoted(name: &str) -> String {
    one_line(&format!("{name:?}"), NAME)
}

/// Writes a section of a report with `write`, truncated at `limit` bytes, and counts what was cut.
pub(crate) fn limited(
    f: &mut fmt::Formatter<'_>,
    limit: usize,
    section: &str,
    write: impl FnOnce(&mut dyn fmt::Write) -> fmt::Result,
) -> fmt::Result {
    let mut out = Limited { f, left: limit, cut: 0 };
    write(&mut out)?;
    match out.cut {
        0 => Ok(()),
        cut => writeln!(f, "\n... ({cut} more bytes of {section})"),
    }
}

struct Limited<'a, 'f> {
    f: &'a mut fmt::Formatter<'f>,
    left: usize,
    cut: usize,
}

impl fmt::Write for Limited<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let fits = if self.cut > 0 { 0 } else { self.left.min(text.len()) };
        let end = (0..=fits).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        let (shown, rest) = text.split_at(end);
        self.left -= shown.len();
        self.cut += rest.len();
        self.f.write_str(shown)
    }
}

/// A duration as reports show it.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.3}s", duration.as_secs_f64())
}

/// A text from outside, bounded and escaped; it keeps its lines.
pub(crate) fn bounded(text: &str) -> String {
    shown(ERROR, &text)
}

/// The text of `value`, bounded and escaped; it keeps its lines. Its `Display` is app code and may panic.
pub(crate) fn shown(limit: usize, value: &dyn fmt::Display) -> String {
    /// Its `Debug` is the `Display` of the value.
    struct TextOrPanic<'a>(&'a dyn fmt::Display);
    impl fmt::Debug for TextOrPanic<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{}", self.0)
        }
    }
    debug(&TextOrPanic(value), limit)
}

/// An error in a report: its text, and that of each cause, with their lines. A cause that the text before already ends
/// with is left out.
///
/// [`error_chain`](watchkeeper::report::error_chain) is for a log: it shows each cause as one line, and here the
/// output of a tool that failed keeps its lines.
pub(crate) fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = shown(ERROR, error);
    let mut cause = crate::panics::catch(|| error.source()).ok().flatten();
    for _ in 0..CAUSES {
        let Some(error) = cause else { return text };
        let cause_text = shown(ERROR.saturating_sub(text.len()).max(NAME), error);
        if !text.ends_with(&cause_text) {
            text.push_str("\ncaused by: ");
            text.push_str(&cause_text);
        }
        cause = crate::panics::catch(|| error.source()).ok().flatten();
    }
    if cause.is_some() {
        text.push_str("\ncaused by more errors, which are not shown");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_panics_while_it_is_shown_is_shown_up_to_there() {
        #[derive(Debug)]
        struct Broken;
        impl fmt::Display for Broken {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("half of ")?;
                panic!("no way")
            }
        }
        impl Error for Broken {}
        assert_eq!(with_causes(&Broken), "half of  ... (its Debug panicked: no way)");
    }

    #[test]
    fn a_chain_of_causes_that_is_a_circle_ends() {
        #[derive(Debug)]
        struct Round;
        impl fmt::Display for Round {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("round")
            }
        }
        impl Error for Round {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(self)
            }
        }
        assert_eq!(with_causes(&Round), "round\ncaused by more errors, which are not shown");
    }

    #[test]
    fn a_section_is_cut_between_characters_and_the_rest_is_counted() {
        struct Section(usize);
        impl fmt::Display for Section {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                limited(f, self.0, "it", |out| {
                    out.write_str("ab")?;
                    out.write_str("äö")?;
                    out.write_str("c")
                })
            }
        }
        assert_eq!(Section(7).to_string(), "abäöc");
        assert_eq!(Section(6).to_string(), "abäö\n... (1 more bytes of it)\n");
        assert_eq!(Section(5).to_string(), "abä\n... (3 more bytes of it)\n");
        assert_eq!(Section(0).to_string(), "\n... (7 more bytes of it)\n");
    }

    #[test]
    fn names_and_errors_forge_no_lines() {
        assert_eq!(quoted("a\nb"), r#""a\nb""#);
        assert_eq!(name("a\nb\u{1b}[2J"), r"a\nb\u{1b}[2J");
        assert_eq!(bounded("two\nlines\u{1b}[2J"), "two\nlines\\u{1b}[2J");
    }
}
