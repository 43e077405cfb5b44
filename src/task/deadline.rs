//! Deadlines that fire even if the executor does not run.
//!
//! App code may block the worker thread that drives the executor's timers; no timer fires until it returns. An
//! executor that nobody drives fires none at all. So one thread of this crate keeps the deadlines of all stops, and
//! of the looks at executors, on the real clock. The first deadline starts the thread.

use std::collections::BTreeMap;
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crate::panics::{catch, log_panic};

/// Called at a deadline.
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
    by_time: BTreeMap<Key, Weak<dyn Expire>>,
    next_number: u64,
    /// Until when the thread sleeps; `None` while it is awake or about to wake.
    sleeps_until: Option<Instant>,
}

/// Two deadlines may be equal, so each has a number.
type Key = (Instant, u64);

/// One deadline. Dropping it removes it.
#[must_use = "a deadline that is dropped does not come"]
pub(crate) struct Deadline(Option<(&'static Keeper, Key)>);

/// How long the thread sleeps without a deadline.
const NOTHING: Duration = Duration::from_secs(24 * 3600);

/// `false` if the thread could not be started.
static STARTED: LazyLock<bool> = LazyLock::new(|| {
    let thread = thread::Builder::new().name("watchkeeper-deadlines".to_owned());
    thread.spawn(|| KEEPER.keep()).is_ok()
});
static KEEPER: LazyLock<Keeper> = LazyLock::new(Keeper::default);

/// Calls `who` after this time, unless `who` or the deadline is dropped before.
pub(crate) fn expire_after(after: Duration, who: Weak<dyn Expire>) -> Deadline {
    if *STARTED {
        KEEPER.add(Instant::now() + after, who)
    } else {
        tracing::error!("no thread could be started: stops and waits have no deadline of their own");
        Deadline(None)
    }
}

impl Keeper {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&'static self, at: Instant, who: Weak<dyn Expire>) -> Deadline {
        let mut pending = self.lock();
        let key = (at, pending.next_number);
        pending.next_number += 1;
        pending.by_time.insert(key, who);
        // Only an earlier deadline wakes the thread.
        let earlier = pending.sleeps_until.is_some_and(|until| at < until);
        if earlier {
            pending.sleeps_until = None;
        }
        drop(pending);
        if earlier {
            self.earlier.notify_one();
        }
        Deadline(Some((self, key)))
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
                    // This runs wakers and destructors, which are foreign code.
                    if let Err(panic) = catch(move || who.inspect(|who| who.expire()).is_some()) {
                        log_panic("what was to happen at a deadline", &panic);
                    }
                    self.lock()
                }
                first => {
                    let until = first.unwrap_or(now + NOTHING);
                    pending.sleeps_until = Some(until);
                    let woken = self.earlier.wait_timeout(pending, until - now);
                    let (mut pending, _) = woken.unwrap_or_else(PoisonError::into_inner);
                    pending.sleeps_until = None;
                    pending
                }
            };
        }
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        if let Some((keeper, key)) = self.0.take() {
            // The thread may still wake once for the removed deadline.
            drop(keeper.lock().by_time.remove(&key));
        }
    }
}

#[cfg(all(test, not(watchkeeper_loom)))]
mod tests {
    use std::sync::{Arc, mpsc};

    use super::*;

    struct Sends(&'static str, mpsc::Sender<&'static str>);

    impl Expire for Sends {
        fn expire(&self) {
            self.1.send(self.0).expect("the test waits for it");
        }
    }

    const HOUR: Duration = Duration::from_secs(3600);
    /// Longer than any delay of a slow machine.
    const NEVER: Duration = Duration::from_secs(20);

    fn keeper() -> &'static Keeper {
        let keeper: &'static Keeper = Box::leak(Box::default());
        thread::spawn(|| keeper.keep());
        keeper
    }

    fn weak(who: &Arc<Sends>) -> Weak<dyn Expire> {
        let weak: Weak<Sends> = Arc::downgrade(who);
        weak
    }

    /// Returns the end of the sleep.
    fn wait_until_it_sleeps(keeper: &Keeper) -> Instant {
        let began = Instant::now();
        loop {
            if let Some(until) = keeper.lock().sleeps_until {
                return until;
            }
            assert!(began.elapsed() < NEVER, "it was not woken");
            thread::yield_now();
        }
    }

    #[test]
    fn an_earlier_deadline_wakes_the_thread_that_sleeps_until_a_later_one() {
        let keeper = keeper();
        let (sender, expired) = mpsc::channel();
        let (late, early) = (Arc::new(Sends("late", sender.clone())), Arc::new(Sends("early", sender)));
        wait_until_it_sleeps(keeper);
        let _late = keeper.add(Instant::now() + HOUR, weak(&late));
        wait_until_it_sleeps(keeper);
        let _early = keeper.add(Instant::now(), weak(&early));
        assert_eq!(expired.recv_timeout(NEVER), Ok("early"));
    }

    #[test]
    fn with_nothing_to_keep_the_thread_sleeps_for_a_day() {
        let keeper = keeper();
        let until = wait_until_it_sleeps(keeper);
        assert!(until.saturating_duration_since(Instant::now()) > 23 * HOUR);
    }

    #[test]
    fn a_deadline_that_is_taken_back_leaves_nothing_and_calls_nobody() {
        let keeper = keeper();
        let (sender, expired) = mpsc::channel();
        let (back, stays) = (Arc::new(Sends("back", sender.clone())), Arc::new(Sends("stays", sender)));
        let soon = Instant::now() + Duration::from_millis(20);
        let taken_back = keeper.add(soon, weak(&back));
        let _stays = keeper.add(soon, weak(&stays));
        drop(taken_back);
        assert_eq!(expired.recv_timeout(NEVER), Ok("stays"));
        assert!(keeper.lock().by_time.is_empty());
        assert_eq!(expired.try_recv(), Err(mpsc::TryRecvError::Empty));
    }

    #[test]
    fn who_has_gone_is_not_called() {
        let keeper = keeper();
        let (sender, expired) = mpsc::channel();
        let (gone, stays) = (Arc::new(Sends("gone", sender.clone())), Arc::new(Sends("stays", sender)));
        let soon = Instant::now() + Duration::from_millis(20);
        let _gone = keeper.add(soon, weak(&gone));
        drop(gone);
        let _stays = keeper.add(soon, weak(&stays));
        assert_eq!(expired.recv_timeout(NEVER), Ok("stays"));
    }
}
