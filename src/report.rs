//! Text for people: bounded in bytes, and escaped.

pub use crate::text::error_chain::{causes, error_chain};
pub use crate::text::render::{debug, debug_line};
pub use crate::text::{names, one_line};

#[doc(inline)]
pub use crate::__debug_as_text as debug_as_text;

/// Implements `Debug` for errors as their text with its causes, by [`error_chain`](crate::report::error_chain).
/// `unwrap` and a `main` that returns the error print this text.
///
/// # Examples
///
/// ```
/// use watchkeeper::report::debug_as_text;
///
/// #[derive(thiserror::Error)]
/// #[error("cannot read the list of nodes: check its path")]
/// struct ListError(#[source] std::io::Error);
///
/// debug_as_text!(ListError);
///
/// let error = ListError(std::io::Error::other("no such file"));
/// assert_eq!(format!("{error:?}"), "cannot read the list of nodes: check its path: no such file");
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __debug_as_text {
    ($($error:ty),+ $(,)?) => {$(
        impl ::std::fmt::Debug for $error {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(&$crate::report::error_chain(self))
            }
        }
    )+};
}
