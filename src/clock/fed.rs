//! The clock of a feed: it shows the time of the newest record.

use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::SystemTime;

use tokio::time::Instant;

use crate::sync::{Mutex, lock};
use crate::waiting::{Waiting, WakerSlot, drop_waker, wake_all};

/// A clock that is advanced from outside, with its waiters.
pub(crate) struct Fed {
    /// The same moment on both clocks.
    began: (Instant, SystemTime),
    state: Mutex<State>,
}

struct State {
    now: Instant,
    waiting: Waiting,
}

impl Fed {
    pub(crate) fn new(began: Instant, wall: SystemTime) -> Arc<Self> {
        let state = State { now: began, waiting: Waiting::default() };
        Arc::new(Self { began: (began, wall), state: Mutex::new(state) })
    }

    pub(crate) fn now(&self) -> Instant {
        lock(&self.state).now
    }

    /// Advances the time, never back.
    pub(crate) fn advance(&self, to: Instant) {
        let mut wakers = Vec::new();
        {
            let mut state = lock(&self.state);
            if to > state.now {
                state.now = to;
                state.waiting.take(&mut wakers);
            }
        }
        wake_all(&mut wakers);
    }

    pub(crate) fn wall(&self, instant: Instant) -> SystemTime {
        let (began, wall) = self.began;
        let later = wall.checked_add(instant.saturating_duration_since(began)).unwrap_or(wall);
        later.checked_sub(began.saturating_duration_since(instant)).unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

pub(super) struct FedTimer {
    fed: Arc<Fed>,
    deadline: Instant,
    place: WakerSlot,
}

impl FedTimer {
    pub(super) fn new(fed: Arc<Fed>, deadline: Instant) -> Self {
        Self { fed, deadline, place: WakerSlot::default() }
    }

    pub(super) fn poll(&mut self, waker: &Waker) -> Poll<()> {
        let mut state = lock(&self.fed.state);
        if state.now >= self.deadline {
            return Poll::Ready(());
        }
        let old = state.waiting.wait(&mut self.place, waker);
        drop(state);
        drop_waker(old);
        Poll::Pending
    }
}

impl Drop for FedTimer {
    fn drop(&mut self) {
        if self.place.is_taken() {
            let waker = lock(&self.fed.state).waiting.leave(&mut self.place);
            drop_waker(waker);
        }
    }
}
