//! Wakers of consumers are foreign code and may panic. Wakers for publications are in [`waiting`](crate::waiting),
//! which catches panics. Those here wait on tokio: for a timer, a reply or a task.
//!
//! Tokio's primitives wake a list of waiters in one call. If a waker panics there, the waking thread panics and the
//! waiters after it are never woken. So tokio's primitives get a stand-in instead of the consumer's waker. It catches
//! the panics of that waker, also when it is dropped.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use crate::panics::{AppValue, catch, log_panic};

/// Runs `future`, which waits on a primitive that others wake.
pub(crate) async fn shielded<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut shield = Shield::default();
    poll_fn(|context| future.as_mut().poll(&mut Context::from_waker(&shield.over(context.waker())))).await
}

/// The stand-in for the waker of one consumer.
#[derive(Debug, Default)]
pub(crate) struct Shield(Option<Arc<StandIn>>);

#[derive(Debug)]
struct StandIn(AppValue<Waker>);

impl Shield {
    /// A waker that wakes `waker`. It panics neither when it wakes nor when it is dropped.
    pub(crate) fn over(&mut self, waker: &Waker) -> Waker {
        let known = self.0.take().filter(|stand_in| stand_in.0.will_wake(waker));
        let stand_in = known.unwrap_or_else(|| Arc::new(StandIn(AppValue::new(waker.clone()))));
        Waker::from(Arc::clone(self.0.insert(stand_in)))
    }
}

impl Wake for StandIn {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Err(panic) = catch(|| self.0.wake_by_ref()) {
            log_panic("waking a consumer", &panic);
        }
    }
}
