//! The `Debug` text of errors.

/// Gives errors a `Debug` that is their text with its causes: what `main` and `unwrap` print.
macro_rules! debug_as_text {
    ($($error:ty),+ $(,)?) => {$(
        impl std::fmt::Debug for $error {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&watchkeeper::report::error_chain(self))
            }
        }
    )+};
}
pub(crate) use debug_as_text;
