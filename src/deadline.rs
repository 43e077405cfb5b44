//! Deadlines that come even when the executor does not.
//!
//! A worker thread that app code blocks may be the very one that drives the executor's timers; none
//! of them fires until it is back. So the deadlines of all stops are kept by one thread of our own,
//! on the real clock: it is started by the first stop, sleeps, and calls whoever is still there.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{LazyLock, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crate::panics::catch;

/// Who is called at a deadline.
pub(crate) trait Expire: Send + Sync {
    fn expire(&self);
}

type Entry = (Instant, Weak<dyn Expire>);

/// `None` where no thread can be had.
static KEEPER: LazyLock<Option<Sender<Entry>>> = LazyLock::new(|| {
    let (sender, entries) = channel();
    let thread = thread::Builder::new().name("watchkeeper-deadlines".to_owned());
    thread.spawn(move || keep(&entries)).ok().map(|_| sender)
});

/// Calls `who` after a while, unless it has gone by then.
pub(crate) fn expire_after(after: Duration, who: Weak<dyn Expire>) {
    let kept = KEEPER.as_ref().is_some_and(|keeper| keeper.send((Instant::now() + after, who)).is_ok());
    if !kept {
        tracing::error!("no thread could be started: a stop waits for app code without a deadline");
    }
}

fn keep(entries: &Receiver<Entry>) {
    // Two deadlines may be equal, so each has a number.
    let mut pending: BTreeMap<(Instant, u64), Weak<dyn Expire>> = BTreeMap::new();
    for number in 0.. {
        let received = match pending.first_key_value() {
            Some(((at, _), _)) => entries.recv_timeout(at.saturating_duration_since(Instant::now())),
            None => entries.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match received {
            Ok((at, who)) => drop(pending.insert((at, number), who)),
            Err(RecvTimeoutError::Timeout) => {
                let who = pending.pop_first().and_then(|(_, who)| who.upgrade());
                // Wakers are foreign code.
                if let Some(Err(panic)) = who.map(|who| catch(|| who.expire())) {
                    tracing::error!(panic, "telling the end of a stopped observation panicked");
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
