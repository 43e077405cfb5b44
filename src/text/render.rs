//! App values as text: bounded and escaped, even if their `Debug` or `Display` fails or panics.

use std::fmt::{self, Debug, Write};

use crate::panics::catch;
use crate::text::{Form, one_line, push_escaped};

/// `value` with its pretty `Debug`: escaped like [`one_line`], but line breaks are kept.
///
/// Rendering ends at `limit` bytes, so a large value costs no more than the shown part. If `Debug` panics or fails,
/// the text ends with a note about it.
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

/// `value` with its `Debug`, as one line; otherwise like [`debug`].
///
/// # Examples
///
/// ```
/// use watchkeeper::report::debug_line;
///
/// assert_eq!(debug_line(&[1, 2], 80), "[1, 2]");
/// assert_eq!(debug_line(&"abcdefgh", 5), "\"abcd ... (cut after 5 bytes)");
/// ```
#[must_use]
pub fn debug_line<T: Debug + ?Sized>(value: &T, limit: usize) -> String {
    render(limit, Form::Line, |out| write!(out, "{value:?}")).described(limit)
}

/// The escaped output of `write`, up to `limit` bytes. `write` is app code and may panic.
pub(crate) fn rendered(limit: usize, write: impl FnOnce(&mut dyn Write) -> fmt::Result) -> String {
    render(limit, Form::Lines, write).described(limit)
}

/// The result of rendering a value.
pub(crate) struct Rendered {
    pub(crate) text: String,
    pub(crate) end: End,
}

/// How rendering ended.
pub(crate) enum End {
    Whole,
    /// There is more than `limit` bytes.
    Cut,
    /// The `Debug` or `Display` of the value returned an error.
    Failed,
    Panicked(String),
}

impl Rendered {
    /// The text, with a note if rendering did not end normally.
    fn described(self, limit: usize) -> String {
        let Self { mut text, end } = self;
        let _ = match end {
            End::Whole => Ok(()),
            End::Cut => write!(text, " ... (cut after {limit} bytes)"),
            _ => write!(text, "{end}"),
        };
        text
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => Ok(()),
            Self::Cut => f.write_str(" ..."),
            Self::Failed => f.write_str(" ... (its Debug returned an error)"),
            Self::Panicked(panic) => write!(f, " ... (its Debug panicked: {})", one_line(panic, 200)),
        }
    }
}

/// Renders up to `limit` bytes. An error or panic after the cut is ignored.
pub(crate) fn render(
    limit: usize,
    form: Form,
    write: impl FnOnce(&mut dyn Write) -> fmt::Result,
) -> Rendered {
    let mut out = Bounded { text: String::new(), limit, form, cut: false };
    let ended = catch(|| write(&mut out));
    let end = match ended {
        _ if out.cut => End::Cut,
        Ok(Ok(())) => End::Whole,
        Ok(Err(fmt::Error)) => End::Failed,
        Err(panic) => End::Panicked(panic),
    };
    Rendered { text: out.text, end }
}

struct Bounded {
    text: String,
    limit: usize,
    form: Form,
    cut: bool,
}

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.cut {
            return Err(fmt::Error);
        }
        let mut characters = text.chars();
        let written =
            characters.try_for_each(|each| push_escaped(&mut self.text, each, self.limit, self.form));
        self.cut = written.is_err();
        written
    }
}

#[cfg(all(test, not(watchkeeper_loom)))]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn rendering_ends_at_the_limit() {
        struct CountedText<'a>(&'a Cell<u64>);
        impl Debug for CountedText<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                loop {
                    self.0.set(self.0.get() + 1);
                    f.write_str("12345678")?;
                }
            }
        }
        let written = Cell::new(0);
        assert_eq!(debug(&CountedText(&written), 20), "12345678123456781234 ... (cut after 20 bytes)");
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
    fn a_value_on_one_line_forges_no_other() {
        struct Forges;
        impl Debug for Forges {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one\nnot met in time")
            }
        }
        assert_eq!(debug_line(&Forges, 80), r"one\nnot met in time");
        assert_eq!(debug_line(&vec![1; 1_000_000], 7), "[1, 1,  ... (cut after 7 bytes)");
    }
}
