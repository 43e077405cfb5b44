//! How reports and errors put things.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use watchkeeper::report::{debug, names, one_line};

/// How many bytes of a name are shown.
const NAME: usize = 300;
/// Of a list of names.
const LIST: usize = 2_000;
/// Of what an error says, which may have many lines.
const ERROR: usize = 16_000;
/// How many causes of an error are shown: a chain may be endless.
const CAUSES: usize = 16;

/// Names as a sentence lists them.
pub(crate) fn listed<S: AsRef<str>>(all: &[S]) -> String {
    names(all.iter().map(AsRef::as_ref), LIST)
}

/// A name inside of a sentence.
pub(crate) fn name(name: &str) -> String {
    one_line(name, NAME)
}

/// A name in quotes.
pub(crate) fn quoted(name: &str) -> String {
    one_line(&format!("{name:?}"), NAME)
}

/// A duration as reports show it.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.3}s", duration.as_secs_f64())
}

/// What somebody else says, in its own lines.
pub(crate) fn said(text: &str) -> String {
    shown(ERROR, &text)
}

/// What `value` shows, in its own lines: at most `limit` bytes. Showing it is app code: it may panic.
pub(crate) fn shown(limit: usize, value: &dyn fmt::Display) -> String {
    /// Shown by its `Display` where a `Debug` is asked for.
    struct Shown<'a>(&'a dyn fmt::Display);
    impl fmt::Debug for Shown<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{}", self.0)
        }
    }
    debug(&Shown(value), limit)
}

/// An error as a failure shows it: with a line for each cause that its text does not already end with.
pub(crate) fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = shown(ERROR, error);
    let mut cause = crate::panics::catch(|| error.source()).ok().flatten();
    for _ in 0..CAUSES {
        let Some(error) = cause else { return text };
        let said = shown(ERROR.saturating_sub(text.len()).max(NAME), error);
        if !text.ends_with(&said) {
            text.push_str("\ncaused by: ");
            text.push_str(&said);
        }
        cause = crate::panics::catch(|| error.source()).ok().flatten();
    }
    if cause.is_some() {
        text.push_str("\ncaused by more errors, which are not shown");
    }
    text
}

/// `Debug` of an error is its text with its causes: that is what `unwrap` and a failed `main` print.
macro_rules! debug_is_text {
    ($error:ty) => {
        impl std::fmt::Debug for $error {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&watchkeeper::report::error_chain(self))
            }
        }
    };
}
pub(crate) use debug_is_text;

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
    fn a_chain_of_causes_that_goes_round_ends() {
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
    fn names_and_errors_forge_no_lines() {
        assert_eq!(quoted("a\nb"), r#""a\nb""#);
        assert_eq!(name("a\nb\u{1b}[2J"), r"a\nb\u{1b}[2J");
        assert_eq!(said("two\nlines\u{1b}[2J"), "two\nlines\\u{1b}[2J");
    }
}
