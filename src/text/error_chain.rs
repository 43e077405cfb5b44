//! Error texts with their causes.

use std::error::Error;
use std::fmt::Write as _;
use std::sync::OnceLock;

use crate::panics::catch;
use crate::text::render::rendered;
use crate::text::{DisplayText, one_line};

/// How many causes are followed: an error may be its own cause.
const CAUSES: usize = 32;

/// Byte limit of the first text.
const FIRST: usize = 16_000;

/// Byte limit of each cause.
const CAUSE: usize = 1_000;

/// Whether a cause is the report of a wait. The first report sets it, because this module is below the waits. It
/// checks the type, because a foreign text may look like a report.
static IS_REPORT: OnceLock<fn(&(dyn Error + 'static)) -> bool> = OnceLock::new();

/// Causes of this type keep their line breaks.
pub(crate) fn keep_lines_of<E: Error + 'static>() {
    IS_REPORT.get_or_init(|| |cause| cause.is::<E>());
}

/// The texts of an error and its causes: `outer: middle: root`.
///
/// The first text keeps its line breaks, because the reports of waits have several lines. Among the causes, only an
/// [`Unmet`](crate::wait::Unmet) keeps them; each other cause is one line. All texts are escaped like
/// [`one_line`](crate::report::one_line) and bounded: 16,000 bytes of the first text and of an `Unmet`, 1,000 of each
/// other cause, and 32 causes. A cause is left out if the text before already ends with it. A panic of a text is
/// noted in its place.
///
/// All errors of the project print this as `Debug`, which `unwrap` and a `main` that returns `Err` show.
///
/// # Examples
///
/// ```
/// use watchkeeper::report::error_chain;
/// use watchkeeper::ObservationRuntimeError;
/// use watchkeeper::group::GroupError;
///
/// let error = ObservationRuntimeError::SourceRefresh { source: "connection\nrefused".into() };
/// assert_eq!(
///     error_chain(&error),
///     "the first source refresh failed: make the sources reachable, or start in the background to keep retrying: \
///      connection\\nrefused",
/// );
/// assert_eq!(format!("{:?}", GroupError::EmptyName), "a member needs a name: it may not be empty");
/// ```
#[must_use]
pub fn error_chain(error: &dyn Error) -> String {
    let mut text = rendered(FIRST, |out| write!(out, "{error}"));
    if let Err(panic) = catch(|| push_causes(&mut text, error)) {
        let _ = write!(text, ": a cause whose text panicked: {}", one_line(&panic, CAUSE));
    }
    text
}

fn push_causes(text: &mut String, error: &dyn Error) {
    for cause in causes(error) {
        let said = if IS_REPORT.get().is_some_and(|is_report| is_report(cause)) {
            rendered(FIRST, |out| write!(out, "{cause}"))
        } else {
            one_line(&cause.to_string(), CAUSE)
        };
        // Some errors already end with their cause.
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
    }
    if has_more_causes(error) {
        text.push_str(": and more causes");
    }
}

/// An error with all its causes, `outer: middle: root`, as recorded: see [`text::message`](crate::text::message).
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = DisplayText::by(error);
    for cause in causes(error) {
        let said = DisplayText::by(cause);
        // Some errors already end with their cause.
        if !text.ends_with(&said) {
            text.push(&DisplayText::by(": "));
            text.push(&said);
        }
    }
    if has_more_causes(error) {
        text.push(&DisplayText::by(" ... (there are more than 32 causes)"));
    }
    text.message()
}

/// The causes of an error, from the first on: at most 32, because an error may be its own cause.
pub fn causes(error: &dyn Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    all_causes(error).take(CAUSES)
}

/// Whether there are more than [`causes`] returns.
fn has_more_causes(error: &dyn Error) -> bool {
    all_causes(error).nth(CAUSES).is_some()
}

/// Endless if one of them is its own cause.
fn all_causes<'a>(error: &'a dyn Error) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |cause: &&'a (dyn Error + 'static)| (*cause).source())
}

#[cfg(all(test, not(watchkeeper_loom)))]
mod tests {
    use std::fmt;

    use super::*;

    /// Texts from the outermost to the root.
    #[derive(Debug)]
    struct TextChain(&'static [&'static str]);

    impl Error for TextChain {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            // Leaked, in a test: a link owns no other.
            (self.0.len() > 1).then(|| &*Box::leak(Box::new(TextChain(&self.0[1..]))) as _)
        }
    }

    impl fmt::Display for TextChain {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            assert_ne!(self.0[0], "panics", "no text");
            f.write_str(self.0[0])
        }
    }

    #[test]
    fn causes_follow_on_the_same_line_escaped_and_each_once() {
        let cases: [(&[&str], &str); 5] = [
            (&["a"], "a"),
            (&["a", "b", "c"], "a: b: c"),
            (&["a: b", "b", "c"], "a: b: c"),
            (
                &["a\nreport\u{1b}[2J", "b\r\nforged\u{1b}[31m"],
                "a\nreport\\u{1b}[2J: b\\r\\nforged\\u{1b}[31m",
            ),
            (&["panics"], " ... (its Debug panicked: no text)"),
        ];
        for (texts, expected) in cases {
            let shown = error_chain(&TextChain(texts));
            // The message of a failed assertion has more lines.
            let shown = shown.replace(r"assertion `left != right` failed: ", "");
            let shown = shown.split(r"\n  left").next().unwrap();
            assert_eq!(shown.trim_end_matches(')'), expected.trim_end_matches(')'), "{texts:?}");
        }
        let broken = error_chain(&TextChain(&["a", "b", "panics", "c"]));
        assert!(broken.starts_with("a: b: a cause whose text panicked: "), "{broken}");
    }

    #[derive(Debug)]
    struct Circle;

    impl fmt::Display for Circle {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("round")
        }
    }

    impl Error for Circle {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&Circle)
        }
    }

    #[test]
    fn an_error_that_is_its_own_cause_ends() {
        assert_eq!(error_chain(&Circle), "round: and more causes");
        assert_eq!(chain(&Circle), "round ... (there are more than 32 causes)");
    }

    #[test]
    fn what_is_more_than_32_causes_is_said_and_32_are_all() {
        for (texts, more) in [(33, false), (34, true)] {
            let error = TextChain(Box::leak(["a", "b"].repeat(17)[..texts].into()));
            assert_eq!(error_chain(&error).ends_with(": and more causes"), more, "{}", texts - 1);
            assert_eq!(chain(&error).contains("more than 32"), more, "{}", texts - 1);
        }
    }

    #[test]
    fn a_page_as_a_cause_is_one_line_with_a_count() {
        let page: &'static str = Box::leak("<html>\n".repeat(100_000).into_boxed_str());
        let shown = error_chain(&TextChain(Box::leak(Box::new(["a", page]))));
        assert!(shown.len() < CAUSE + 100 && shown.ends_with(" more bytes)"), "{shown}");
        assert!(!shown.contains('\n'), "{shown}");
        assert!(chain(&TextChain(Box::leak(Box::new(["a", page])))).len() < 10_000);
    }

    /// Its cause is itself, or the next link.
    #[derive(Debug)]
    struct LinkedError(Option<Box<LinkedError>>, usize);

    impl fmt::Display for LinkedError {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "link {}", self.1)
        }
    }

    impl Error for LinkedError {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            match &self.0 {
                Some(next) => Some(&**next),
                None if self.1 == 0 => None,
                None => Some(self),
            }
        }
    }

    fn links(count: usize) -> LinkedError {
        (1..count).fold(LinkedError(None, 0), |next, n| LinkedError(Some(Box::new(next)), n))
    }

    #[test]
    fn an_error_that_is_its_own_cause_has_an_end() {
        assert_eq!(chain(&LinkedError(None, 7)), "link 7 ... (there are more than 32 causes)");
        assert_eq!(chain(&links(3)), "link 2: link 1: link 0");
        assert!(chain(&links(32)).ends_with(": link 1: link 0"));
        assert!(chain(&links(40)).ends_with(" ... (there are more than 32 causes)"));
    }
}
