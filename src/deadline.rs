//! Deadlines that come even when the executor does not.
//!
//! A worker thread that app code blocks may be the very one that drives the executor's timers; none
//! of them fires until it is back. So the deadlines of all stops are kept by one thread of our own,
//! on the real clock: it is started by the first stop, sleeps, and calls whoever is still there.

use std::collections::BTreeMap;
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crate::panics::catch;
use crate::text::{MESSAGE, one_line};

/// Who is called at a deadline.
pub(crate) trait Expire: Send + Sync {
    fn expire(&self);
}

#[derive(Default)]
struct Keeper {
    pending: Mutex<Pending>,
    /// There is an earlier deadline than before.
    earlier: Condvar,
}

#[derive(Default)]
struct Pending {
    /// Two deadlines may be equal, so each has a number.
    by_time: BTreeMap<(Instant, u64), Weak<dyn Expire>>,
    next_number: u64,
}

/// `false` where no thread can be had.
static STARTED: LazyLock<bool> = LazyLock::new(|| {
    let thread = thread::Builder::new().name("watchkeeper-deadlines".to_owned());
    thread.spawn(|| KEEPER.keep()).is_ok()
});
static KEEPER: LazyLock<Keeper> = LazyLock::new(Keeper::default);

/// Calls `who` after a while, unless it has gone by then.
pub(crate) fn expire_after(after: Duration, who: Weak<dyn Expire>) {
    if *STARTED {
        KEEPER.add(Instant::now() + after, who);
    } else {
        tracing::error!("no thread could be started: a stop waits for app code without a deadline");
    }
}

impl Keeper {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, at: Instant, who: Weak<dyn Expire>) {
        let mut pending = self.lock();
        let number = pending.next_number;
        pending.next_number += 1;
        // Only an earlier deadline wakes the thread: of many stops at once, the first.
        let earlier = pending.by_time.first_key_value().is_none_or(|((first, _), _)| at < *first);
        pending.by_time.insert((at, number), who);
        drop(pending);
        if earlier {
            self.earlier.notify_one();
        }
    }

    fn keep(&self) {
        let mut pending = self.lock();
        loop {
            let now = Instant::now();
            let first = pending.by_time.first_key_value().map(|((at, _), _)| *at);
            pending = match first {
                Some(at) if at <= now => {
                    let who = pending.by_time.pop_first().and_then(|(_, who)| who.upgrade());
                    drop(pending);
                    // Wakers and destructors are foreign code: whoever is let go of, is so in here.
                    if let Err(panic) = catch(move || who.inspect(|who| who.expire()).is_some()) {
                        tracing::error!(
                            panic = one_line(&panic, MESSAGE),
                            "telling the end of a stopped observation panicked"
                        );
                    }
                    self.lock()
                }
                Some(at) => {
                    let (pending, _) =
                        self.earlier.wait_timeout(pending, at - now).unwrap_or_else(PoisonError::into_inner);
                    pending
                }
                None => self.earlier.wait(pending).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}
