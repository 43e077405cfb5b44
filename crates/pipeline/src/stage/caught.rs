//! App code may panic anywhere: the panic is a failure of what was done.

use std::any::Any;
use std::error::Error;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use watchkeeper::DynError;
use watchkeeper::report::{error_chain, one_line};

/// Byte limit of an error's text: with the count of the bytes that are left out, it has at most 1 KiB.
const MESSAGE: usize = 1_024 - NOTE;
/// The longest ` ... (more bytes)`.
pub(crate) const NOTE: usize = 40;

/// The output of `app`, or the text of its panic.
pub(crate) fn catch<R>(app: impl FnOnce() -> R) -> Result<R, String> {
    let (mut app, mut returned) = (Some(app), None);
    catch_dyn(&mut || returned = app.take().map(|app| app()))?;
    Ok(returned.expect("what does not panic returns"))
}

/// Through a trait object: this is compiled once, and not for each piece of app code, of which there are thousands.
fn catch_dyn(app: &mut dyn FnMut()) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(app)).map_err(text_of_panic)
}

/// The same for a future.
pub(crate) async fn caught<F: Future>(future: F) -> Result<F::Output, String> {
    let mut future = pin!(future);
    poll_fn(|context| match catch(|| future.as_mut().poll(context)) {
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

/// Drops an app value; a panic of its destructor is logged.
pub(crate) fn discard<V>(value: V, what: &'static str) {
    if let Err(panic) = catch(|| drop(value)) {
        tracing::error!(panic, "dropping {what} panicked");
    }
}

/// What app code has failed by: an error, or a panic, of which there is the text alone.
pub(crate) struct AppFailure {
    pub(crate) text: String,
    pub(crate) cause: Cause,
}

impl AppFailure {
    pub(crate) fn of(error: DynError) -> Self {
        let text = catch(|| one_line(&error_chain(&*error), MESSAGE));
        let text = text.unwrap_or_else(|panic| format!("an error whose text {panic}"));
        Self { text, cause: Cause(Some(Arc::new(Discarded::new(error)))) }
    }
}

impl From<String> for AppFailure {
    fn from(text: String) -> Self {
        Self { text, cause: Cause::default() }
    }
}

/// The error of an app. Failures are compared by their texts.
#[derive(Clone, Default)]
pub(crate) struct Cause(Option<Arc<Discarded<DynError>>>);

impl Cause {
    pub(crate) fn get(&self) -> Option<&(dyn Error + Send + Sync + 'static)> {
        self.0.as_ref().map(|error| &****error)
    }
}

impl PartialEq for Cause {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Cause {}

fn text_of_panic(panic: Box<dyn Any + Send>) -> String {
    let message = panic.downcast_ref::<&str>().copied();
    let message = message.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let text = format!("panicked: {}", one_line(message.unwrap_or("with no message"), MESSAGE / 2));
    // The payload is an app value too.
    if catch_unwind(AssertUnwindSafe(|| drop(panic))).is_err() {
        tracing::error!("dropping the payload of a panic panicked");
    }
    text
}

/// An app value, whose panicking destructor ends with a line in the log.
pub(crate) struct Discarded<V>(Option<V>);

impl<V> Discarded<V> {
    pub(crate) fn new(value: V) -> Self {
        Self(Some(value))
    }
}

impl<V> std::ops::Deref for Discarded<V> {
    type Target = V;

    fn deref(&self) -> &V {
        self.0.as_ref().expect("it is taken by the drop alone")
    }
}

impl<V> std::ops::DerefMut for Discarded<V> {
    fn deref_mut(&mut self) -> &mut V {
        self.0.as_mut().expect("it is taken by the drop alone")
    }
}

impl<V> Drop for Discarded<V> {
    fn drop(&mut self) {
        discard(self.0.take(), "a factory, a store or an error");
    }
}
