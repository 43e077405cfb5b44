//! App code may panic anywhere; the driver may not.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::text::{MESSAGE, one_line, panic_message};

/// What a panic said: at most 480 bytes when it is escaped.
pub(crate) type PanicMessage = String;

/// Runs app code and turns its panic into a message.
///
/// Unwind safety: what a panic may have left half changed is dropped by every caller.
pub(crate) fn catch<T>(app: impl FnOnce() -> T) -> Result<T, PanicMessage> {
    catch_unwind(AssertUnwindSafe(app)).map_err(message)
}

/// Runs app code while holding a value of the app's. A panic goes on when that value has been
/// dropped: unwinding through a destructor that panics as well would abort the process.
pub(crate) fn holding<V, T>(value: V, app: impl FnOnce(&V) -> T) -> (V, T) {
    match catch_unwind(AssertUnwindSafe(|| app(&value))) {
        Ok(output) => (value, output),
        Err(panic) => {
            discard_logged(value, "what was held when app code panicked");
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

/// Drops a value of the app and says what its destructor panicked with, if it did.
pub(crate) fn discard<T>(value: T) -> Option<PanicMessage> {
    if !std::mem::needs_drop::<T>() {
        return None;
    }
    catch(|| drop(value)).err()
}

/// Drops a value of the app that no cycle can be blamed for; a panic is logged.
pub(crate) fn discard_logged<T>(value: T, what: &'static str) {
    if let Some(panic) = discard(value) {
        tracing::error!(panic = one_line(&panic, MESSAGE), "dropping {what} panicked");
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
    // A payload's destructor is app code too; one that panics is leaked with what it held.
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
    text
}
