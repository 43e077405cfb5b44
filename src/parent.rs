//! A parent: cancelling its token is a requested stop.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Wake, Waker};

use tokio::task::unconstrained;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::task::lifetime::{Lifetime, Reason};

/// Stops a machine when its parent is cancelled, until this is dropped.
///
/// No task is involved: the cancelling thread requests the stop, even while app code blocks the executor.
pub(crate) struct Parent {
    _cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// The waker for the token.
struct Stops<X> {
    parent: CancellationToken,
    life: Weak<Lifetime<X>>,
}

impl Parent {
    pub(crate) fn of<X: Reason>(life: &Arc<Lifetime<X>>, parent: &CancellationToken) -> Self {
        let stops = Arc::new(Stops { parent: parent.clone(), life: Arc::downgrade(life) });
        let waker = Waker::from(Arc::clone(&stops));
        let mut cancelled = Box::pin(parent.clone().cancelled_owned());
        // Unconstrained, so that the waker is registered even if the starting task has no budget left.
        let registering =
            Pin::new(&mut unconstrained(cancelled.as_mut())).poll(&mut Context::from_waker(&waker));
        if registering.is_ready() {
            stops.wake();
        }
        Self { _cancelled: cancelled }
    }
}

impl<X: Reason> Wake for Stops<X> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.parent.is_cancelled()
            && let Some(life) = self.life.upgrade()
        {
            life.request_stop(X::REQUESTED);
        }
    }
}

impl fmt::Debug for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parent").finish_non_exhaustive()
    }
}
