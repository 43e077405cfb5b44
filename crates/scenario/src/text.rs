//! How reports and errors put things.

use std::fmt::{self, Write as _};
use std::time::Duration;

use crate::panics::catch;

/// Names as a sentence lists them.
pub(crate) fn listed<S: AsRef<str>>(names: &[S]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ")
}

/// A duration as reports show it.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.3}s", duration.as_secs_f64())
}

/// At most `limit` characters of what is written, and how many were cut. What is written is the app's:
/// it may panic.
pub(crate) fn shown(limit: usize, value: fmt::Arguments<'_>) -> String {
    let mut cut = Cut { text: String::new(), room: limit, rest: 0 };
    if let Err(panic) = catch(|| cut.write_fmt(value)) {
        let _ = write!(cut.text, " ... (showing it panicked: {panic})");
    } else if cut.rest > 0 {
        let _ = write!(cut.text, " ... ({} more characters)", cut.rest);
    }
    cut.text
}

struct Cut {
    text: String,
    room: usize,
    rest: usize,
}

impl fmt::Write for Cut {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let end = part.char_indices().nth(self.room).map_or(part.len(), |(end, _)| end);
        let (kept, rest) = part.split_at(end);
        self.text.push_str(kept);
        self.room -= kept.chars().count();
        self.rest += rest.chars().count();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_cut_between_characters_with_a_count() {
        assert_eq!(shown(3, format_args!("äöü")), "äöü");
        assert_eq!(shown(3, format_args!("äö{}", "üß!")), "äöü ... (2 more characters)");
    }

    #[test]
    fn a_value_that_panics_while_it_is_shown_is_shown_up_to_there() {
        struct Broken;
        impl fmt::Display for Broken {
            fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                panic!("no way")
            }
        }
        assert_eq!(shown(9, format_args!("a {Broken}")), "a  ... (showing it panicked: no way)");
    }

    #[test]
    fn a_list_is_never_empty() {
        assert_eq!(listed(&["a", "b"]), "a, b");
        assert_eq!(listed::<&str>(&[]), "none");
    }
}
