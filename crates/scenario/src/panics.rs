//! App code may panic anywhere; the runner may not.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

/// Runs app code to its end and turns its panic into a message.
///
/// Unwind safety: what a panic may have left half changed is dropped by every caller.
pub(crate) async fn caught<T>(app: impl Future<Output = T>) -> Result<T, String> {
    let mut app = pin!(app);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| app.as_mut().poll(context))) {
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(panic) => Poll::Ready(Err(message(panic))),
    })
    .await
}

/// Runs app code and turns its panic into a message.
pub(crate) fn catch<T>(app: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(app)).map_err(message)
}

/// Drops a value of the app's; a panic of its destructor is logged and goes no further.
pub(crate) fn discard<T>(value: T) {
    if let Err(panic) = catch(|| drop(value)) {
        tracing::error!(panic, "dropping a {} panicked", std::any::type_name::<T>());
    }
}

/// What a panic said.
pub(crate) fn message(payload: Box<dyn Any + Send>) -> String {
    let text = match payload.downcast_ref::<&'static str>() {
        Some(text) => (*text).to_owned(),
        None => match payload.downcast_ref::<String>() {
            Some(text) => text.clone(),
            None => "a value that is no text".to_owned(),
        },
    };
    // A payload's destructor is app code too; one that panics is leaked with what it held.
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
    text
}
