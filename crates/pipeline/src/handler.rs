//! The handler that an app writes.

use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;

use watchkeeper::DynError;

use crate::item::Item;
use crate::position::UpstreamPosition;
use crate::stage::caught::discard;

/// Handles the items of a stage, one at a time and in their order. It owns what it needs: connections, counts, buffers.
///
/// An item whose call has returned `Ok` is committed together with what it emitted. One that failed is retried, and
/// after a crash items after the last commit come again: handling must be repeatable. [`Emitter::position`] is the
/// same for the same item each time.
///
/// A factory makes the handler when the stage starts, and again after a panic and after a restart: its state is then
/// lost, and the pipeline restores none. What must survive belongs into the outputs, or into a
/// [`CommitStore`](crate::CommitStore) of the app.
///
/// # Cancel safety
///
/// The future is dropped when the stage is aborted, at the drain's deadline, and at
/// [`item_timeout`](crate::StageBuilder::item_timeout). The item was not handled then, and comes again. Blocking work
/// belongs into [`tokio::task::spawn_blocking`].
///
/// # Examples
///
/// ```
/// use watchkeeper::DynError;
/// use watchkeeper_pipeline::{Emitter, Handler, Item};
///
/// struct RunningSum(u64);
///
/// impl Handler<u64> for RunningSum {
///     type Output = u64;
///
///     async fn handle(&mut self, item: Item<&u64>, out: &mut Emitter<u64>) -> Result<(), DynError> {
///         match item {
///             Item::Event(number) => self.0 += number,
///             Item::Lagged { missed } => eprintln!("the sum is without {missed} batches"),
///             Item::Rebuilt { .. } => self.0 = 0,
///         }
///         out.emit(self.0);
///         Ok(())
///     }
/// }
/// ```
pub trait Handler<T>: Send + 'static {
    /// What it emits for the stages after it. `()` for a sink.
    type Output: Clone + Send + Sync + 'static;

    /// Handles one item.
    ///
    /// # Errors
    ///
    /// The item failed: it is retried, then what [`on_error`](crate::StageBuilder::on_error) says. What it emitted is
    /// dropped.
    fn handle(
        &mut self,
        item: Item<&T>,
        out: &mut Emitter<Self::Output>,
    ) -> impl Future<Output = Result<(), DynError>> + Send;
}

/// Collects what a handler emits, and says which item it handles.
#[derive(Debug)]
pub struct Emitter<O> {
    pub(crate) outputs: Vec<O>,
    /// How many outputs are of items before this one.
    pub(crate) before: usize,
    pub(crate) upstream: Arc<str>,
    pub(crate) start: UpstreamPosition,
    pub(crate) index: u64,
    /// Each item has a number of its own in the upstream.
    pub(crate) is_numbered: bool,
    pub(crate) attempt: u64,
}

impl<O> Emitter<O> {
    /// An empty one, for tests of a handler without a pipeline.
    #[must_use]
    pub fn new(upstream: impl Into<Arc<str>>, position: UpstreamPosition) -> Self {
        let upstream = upstream.into();
        Self {
            outputs: Vec::new(),
            before: 0,
            upstream,
            start: position,
            index: 0,
            is_numbered: false,
            attempt: 1,
        }
    }

    /// Emits an output, after those before it. It is published once its item is committed.
    pub fn emit(&mut self, output: O) {
        self.outputs.push(output);
    }

    /// What was emitted since the last commit, for tests of a handler.
    #[must_use]
    pub fn outputs(&self) -> &[O] {
        &self.outputs
    }

    /// The name of the item's upstream.
    #[must_use]
    pub fn upstream(&self) -> &str {
        &self.upstream
    }

    /// The item's position: the same each time the item is handled, also after a crash.
    #[must_use]
    pub fn position(&self) -> UpstreamPosition {
        self.start.of_item(self.index, self.is_numbered)
    }

    /// 1 for the first attempt since the item was read or the stage was restarted, and one more after each failure. For the
    /// replay of a dead letter, one more than its attempts.
    #[must_use]
    pub fn attempt(&self) -> u64 {
        self.attempt
    }

    /// The next item begins.
    pub(crate) fn begin(&mut self, index: u64, attempt: u64) {
        self.before = self.outputs.len();
        (self.index, self.attempt) = (index, attempt);
    }

    /// Drops what the present item has emitted.
    pub(crate) fn undo(&mut self) {
        for output in self.outputs.drain(self.before..) {
            discard(output, "an output");
        }
    }
}

/// A handler without state from an async function, which gets a clone of each item and returns the outputs.
///
/// # Examples
///
/// ```
/// use watchkeeper::DynError;
/// use watchkeeper_pipeline::{Item, handler_fn};
///
/// async fn double(item: Item<u64>) -> Result<Vec<u64>, DynError> {
///     Ok(item.event().into_iter().map(|number| 2 * number).collect())
/// }
///
/// let handler = handler_fn(double);
/// # let _ = handler;
/// ```
pub fn handler_fn<T, O, F, Fut>(function: F) -> HandlerFn<T, O, F>
where
    F: FnMut(Item<T>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<Vec<O>, DynError>> + Send,
{
    HandlerFn { function, types: PhantomData }
}

/// A handler from an async function: see [`handler_fn`].
pub struct HandlerFn<T, O, F> {
    function: F,
    types: PhantomData<fn(T) -> O>,
}

impl<T, O, F, Fut> Handler<T> for HandlerFn<T, O, F>
where
    T: Clone + Send + Sync + 'static,
    O: Clone + Send + Sync + 'static,
    F: FnMut(Item<T>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<Vec<O>, DynError>> + Send,
{
    type Output = O;

    async fn handle(&mut self, item: Item<&T>, out: &mut Emitter<O>) -> Result<(), DynError> {
        let outputs = (self.function)(item.cloned()).await?;
        out.outputs.extend(outputs);
        Ok(())
    }
}

impl<T, O, F> std::fmt::Debug for HandlerFn<T, O, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HandlerFn").finish_non_exhaustive()
    }
}
