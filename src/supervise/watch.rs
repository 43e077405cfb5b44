//! Follows the state of a machine.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;

use super::board::{Condition, Found, StateBoard, ended};
use super::failure::Outcome;
use crate::waiting::WakerSlot;

/// Follows the newest state of a machine, and its end. Keeps no machine alive.
///
/// Between two calls of [`changed`](Self::changed) states may be passed over: to see each one, use
/// [`wait_for`](super::Supervised::wait_for).
pub struct StateWatch<S> {
    board: Arc<StateBoard<S>>,
    /// The version that was seen last.
    seen: u64,
}

impl<S: Clone> StateWatch<S> {
    pub(super) fn new(board: Arc<StateBoard<S>>) -> Self {
        let (_, seen) = board.state_and_version();
        Self { board, seen }
    }

    /// The newest state.
    #[must_use]
    pub fn state(&self) -> S {
        (**self.board.state()).clone()
    }

    /// Whether the machine lives, is stopping, waits for its next life, is poisoned, or has ended.
    #[must_use]
    pub fn condition(&self) -> Condition {
        self.board.read(Condition::clone)
    }

    /// Waits for a transition, a change of data inside the state, or another [`Condition`], since the last call or since
    /// the watch was made; returns the newest state.
    ///
    /// # Errors
    ///
    /// The [`Outcome`], once the last state was returned, and on each call after that. It comes on every path: also if the
    /// task was dropped or app code blocks it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a change is not missed when the call is dropped.
    pub async fn changed(&mut self) -> Result<S, Outcome> {
        let mut waiter = WatchPlace { board: &self.board, place: WakerSlot::default() };
        let seen = self.seen;
        let found =
            poll_fn(|context| waiter.board.poll_change(seen, &mut waiter.place, context.waker())).await;
        drop(waiter);
        match found {
            Found::News(_) => {
                let (state, version) = self.board.state_and_version();
                self.seen = version;
                Ok((**state).clone())
            }
            Found::Ended(outcome, _) => Err(outcome),
        }
    }

    /// Waits for the end.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the end is kept.
    pub async fn ended(&self) -> Outcome {
        ended(&self.board).await
    }
}

struct WatchPlace<'a, S> {
    board: &'a StateBoard<S>,
    place: WakerSlot,
}

impl<S> Drop for WatchPlace<'_, S> {
    fn drop(&mut self) {
        self.board.leave(&mut self.place);
    }
}

impl<S> Clone for StateWatch<S> {
    fn clone(&self) -> Self {
        Self { board: Arc::clone(&self.board), seen: self.seen }
    }
}

impl<S> fmt::Debug for StateWatch<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateWatch").field("seen", &self.seen).finish_non_exhaustive()
    }
}
