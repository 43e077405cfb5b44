//! Panics of app code, turned into messages: the runner itself must not panic.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs app code and returns the message of a panic.
pub(crate) fn catch<T>(app: impl FnOnce() -> T) -> Result<T, String> {
    let (mut app, mut returned) = (Some(app), None);
    catch_dyn(&mut || returned = app.take().map(|app| app()))?;
    Ok(returned.expect("what does not panic returns"))
}

/// Through a trait object: this is compiled once, and not for each piece of app code, of which there are thousands.
fn catch_dyn(app: &mut dyn FnMut()) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(app)).map_err(message)
}

/// Drops a value of the app; a panic of its destructor is logged, and not recorded as a failure.
pub(crate) fn discard<T>(value: T) {
    if let Err(panic) = catch(|| drop(value)) {
        tracing::error!(panic, "dropping a {} panicked", std::any::type_name::<T>());
    }
}

/// The message of a panic.
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
