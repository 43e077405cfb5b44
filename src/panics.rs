//! App code may panic anywhere; the driver may not.

use std::any::{Any, type_name};
use std::fmt;
use std::mem::{forget, needs_drop, take};
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::text::{MESSAGE, one_line, panic_message};

/// The message of a panic: at most 480 bytes when escaped.
pub(crate) type PanicMessage = String;

/// Runs app code and turns its panic into a message.
///
/// Unwind safety: every caller drops the values that a panic may have left half changed.
pub(crate) fn catch<T>(app: impl FnOnce() -> T) -> Result<T, PanicMessage> {
    let (mut app, mut returned) = (Some(app), None);
    catch_dyn(&mut || returned = app.take().map(|app| app()))?;
    Ok(returned.expect("what does not panic returns"))
}

/// Through a trait object: this is compiled once, and not for each piece of app code, of which there are thousands.
fn catch_dyn(app: &mut dyn FnMut()) -> Result<(), PanicMessage> {
    catch_unwind(AssertUnwindSafe(app)).map_err(message)
}

/// Runs app code while holding app values. After a panic, those values are dropped before the panic resumes: their
/// destructors see no unwinding, in which they may do less.
pub(crate) fn holding<V, T>(values: V, app: impl FnOnce(&V) -> T) -> (V, T) {
    match catch_unwind(AssertUnwindSafe(|| app(&values))) {
        Ok(output) => (values, output),
        Err(panic) => {
            drop(values);
            resume_unwind(panic)
        }
    }
}

/// Polls app code once.
pub(crate) fn poll_caught<F: Future>(
    future: Pin<&mut F>,
    context: &mut Context<'_>,
) -> Poll<Result<F::Output, PanicMessage>> {
    match catch(|| future.poll(context)) {
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(panic) => Poll::Ready(Err(panic)),
    }
}

/// Drops an app value and returns the message of its destructor's panic, if it panicked.
pub(crate) fn discard<T>(value: T) -> Option<PanicMessage> {
    if !needs_drop::<T>() {
        return None;
    }
    catch(|| drop(value)).err()
}

/// Drops an app value outside of any cycle's work; a panic is logged.
///
/// Only for a single value: two panicking destructors in one drop abort the process. Put several values into
/// [`AppValues`], or each into its own [`AppValue`].
pub(crate) fn discard_logged<T>(value: T, what: &'static str) {
    if let Some(panic) = discard(value) {
        log_panic(&format!("dropping {what}"), &panic);
    }
}

/// Logs a panic outside of any cycle's work. A panic of the `tracing` subscriber is ignored.
pub(crate) fn log_panic(doing: &str, panic: &str) {
    let _ = catch(|| tracing::error!(panic = one_line(panic, MESSAGE), "{doing} panicked"));
}

/// An app value. If its destructor panics when this is dropped, the panic is logged and ends there.
///
/// A struct, tuple or future with several of these can be dropped anywhere, also while another panic unwinds. With
/// bare values, the second panic would abort the process.
pub(crate) struct AppValue<T>(Option<T>);

impl<T> AppValue<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }

    pub(crate) fn into_inner(mut self) -> T {
        self.0.take().expect(TAKEN)
    }

    /// Drops the value and returns the message of its destructor's panic, if it panicked.
    pub(crate) fn discard(mut self) -> Option<PanicMessage> {
        self.0.take().and_then(discard)
    }
}

/// Only consuming methods take the value out.
const TAKEN: &str = "the value is there until this is consumed";

impl<T> Deref for AppValue<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect(TAKEN)
    }
}

impl<T> DerefMut for AppValue<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect(TAKEN)
    }
}

impl<T> Drop for AppValue<T> {
    fn drop(&mut self) {
        if let Some(panic) = self.0.take().and_then(discard) {
            log_drop::<T>(1, &panic);
        }
    }
}

impl<T: Clone> Clone for AppValue<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: fmt::Debug> fmt::Debug for AppValue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// App values in order, dropped one by one: see [`AppValue`].
pub(crate) struct AppValues<T>(Vec<T>);

impl<T> AppValues<T> {
    pub(crate) const fn new(values: Vec<T>) -> Self {
        Self(values)
    }

    pub(crate) fn into_inner(mut self) -> Vec<T> {
        take(&mut self.0)
    }
}

/// If making an item panics, the items before it are dropped one by one as well.
impl<T> FromIterator<T> for AppValues<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let values = values.into_iter();
        let mut all = Self(Vec::with_capacity(values.size_hint().0));
        for value in values {
            all.0.push(value);
        }
        all
    }
}

impl<T: Clone> Clone for AppValues<T> {
    fn clone(&self) -> Self {
        self.0.iter().cloned().collect()
    }
}

impl<T> Deref for AppValues<T> {
    type Target = Vec<T>;

    fn deref(&self) -> &Vec<T> {
        &self.0
    }
}

impl<T> DerefMut for AppValues<T> {
    fn deref_mut(&mut self) -> &mut Vec<T> {
        &mut self.0
    }
}

impl<T> Drop for AppValues<T> {
    fn drop(&mut self) {
        discard_each(take(&mut self.0));
    }
}

impl<T: fmt::Debug> fmt::Debug for AppValues<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Drops app values one by one; panics are counted and logged once.
pub(crate) fn discard_each<T>(values: impl IntoIterator<Item = T>) {
    if !needs_drop::<T>() {
        return;
    }
    let mut values = values.into_iter();
    let (mut panics, mut first) = (0_u64, None);
    // A panic leaves the others in the iterator.
    while let Err(panic) = catch(|| values.by_ref().for_each(drop)) {
        panics += 1;
        first.get_or_insert(panic);
    }
    if let Some(panic) = first {
        log_drop::<T>(panics, &panic);
    }
}

fn log_drop<T>(panics: u64, panic: &str) {
    let of = one_line(type_name::<T>(), 200);
    match panics {
        1 => log_panic(&format!("dropping a value of type {of}"), panic),
        _ => log_panic(&format!("dropping {panics} values of type {of}"), panic),
    }
}

fn message(payload: Box<dyn Any + Send>) -> PanicMessage {
    let text = match payload.downcast_ref::<&'static str>() {
        Some(text) => panic_message(text),
        None => match payload.downcast_ref::<String>() {
            Some(text) => panic_message(text),
            None => "a value that is no text".to_owned(),
        },
    };
    // A payload's destructor is app code too. If it panics, the second payload is leaked.
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        forget(second);
    }
    text
}

#[cfg(all(test, not(watchkeeper_loom)))]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Its destructor always panics.
    struct Bomb<'a>(&'a Cell<u32>);

    impl Drop for Bomb<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
            panic!("boom");
        }
    }

    impl Clone for Bomb<'_> {
        fn clone(&self) -> Self {
            assert!(self.0.get() > 0, "no copy");
            self.0.set(self.0.get() - 1);
            Self(self.0)
        }
    }

    // As bare values, each of these would abort the process.
    #[test]
    fn values_whose_destructors_panic_are_dropped_one_by_one() {
        let dropped = Cell::new(0);
        let bomb = || Bomb(&dropped);
        drop((
            AppValue::new(bomb()),
            Some(AppValue::new(bomb())),
            AppValues::new(vec![bomb(), bomb(), bomb()]),
        ));
        assert_eq!(dropped.get(), 5);
        let panic = catch(|| {
            let _held = (AppValue::new(bomb()), AppValues::new(vec![bomb(), bomb()]));
            panic!("first");
        });
        assert_eq!((panic, dropped.get()), (Err("first".to_owned()), 8));
        assert_eq!((AppValue::new(bomb()).discard(), dropped.get()), (Some("boom".to_owned()), 9));
    }

    #[test]
    fn a_copy_that_panics_half_way_drops_what_was_copied() {
        let dropped = Cell::new(3);
        let original = AppValues::new((0..9).map(|_| Bomb(&dropped)).collect());
        assert!(catch(|| drop(original.clone())).is_err());
        assert_eq!(dropped.get(), 3, "three copies were made, and three were dropped");
    }
}
