//! Waits for a state of a machine.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::board::{Found, Published, StateBoard};
use crate::clock::Timer;
use crate::config::MAX_DURATION;
use crate::panics::discard_logged;
use crate::text::render::debug_line;
use crate::time::later;
use crate::wait::{Inconclusive, InvalidWait, StateStory, Unmet, UnmetOutcome, Verdict};
use crate::waiting::WakerSlot;

/// States that the report shows.
const SHOWN: usize = 8;
/// Bytes of a state in the report.
const STATE: usize = 400;

/// Ready with how long the executor has given no turn.
type NoTurn = Pin<Box<dyn Future<Output = Duration> + Send>>;

type StatePredicate<'a, S> = Box<dyn FnMut(&S) -> Verdict + Send + 'a>;

/// A wait that still needs its window. It has begun: see [`Supervised::wait_for`](super::Supervised::wait_for).
#[must_use = "a wait without a window does nothing: add `.within(..)`, then `.await`"]
pub struct StateWaitBuilder<'a, S> {
    board: Arc<StateBoard<S>>,
    id: u64,
    began: Instant,
    label: String,
    predicate: Option<StatePredicate<'a, S>>,
}

impl<'a, S> StateWaitBuilder<'a, S> {
    pub(super) fn new(board: Arc<StateBoard<S>>, label: String, predicate: StatePredicate<'a, S>) -> Self {
        let began = board.clock.now();
        let id = board.register(began);
        Self { board, id, began, label, predicate: Some(predicate) }
    }

    /// Sets the window, counted from when the wait was made. Zero or over 24 h is [`Unmet`].
    pub fn within(mut self, window: Duration) -> StateWait<'a, S> {
        StateWait {
            predicate: self.predicate.take(),
            timer: None,
            window,
            taken: VecDeque::new(),
            place: WakerSlot::default(),
            judged: 0,
            reason: None,
            states: VecDeque::new(),
            more: 0,
            last: None,
            over: false,
            wait: self,
        }
    }
}

impl<S> Drop for StateWaitBuilder<'_, S> {
    fn drop(&mut self) {
        self.board.unregister(self.id);
        discard_logged(self.predicate.take(), "the predicate of a wait");
    }
}

impl<S> fmt::Debug for StateWaitBuilder<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateWaitBuilder").field("label", &self.label).finish_non_exhaustive()
    }
}

/// A pending wait for a state: a future of that state, or of the report ([`Unmet`]).
///
/// The report's outcome is `NotMet` after the window, `GaveUp` if the predicate gave up, `Ended` if the machine ended
/// before, and `Inconclusive` if the wait fell behind, or if the machine's executor gave no turn by the end of the window.
/// A panic of the predicate is the caller's.
///
/// # Cancel safety
///
/// Cancel safe when polled by reference. States queue up while the wait is not polled, up to 1,024; after more it has
/// fallen behind. Dropping the wait unregisters it.
#[must_use = "a wait does nothing unless it is awaited"]
pub struct StateWait<'a, S> {
    predicate: Option<StatePredicate<'a, S>>,
    /// The end of the window: on the machine's executor, and if that gives no turn.
    timer: Option<(Timer, NoTurn)>,
    window: Duration,
    taken: VecDeque<(Instant, Published<S>)>,
    place: WakerSlot,
    judged: u64,
    reason: Option<String>,
    /// The texts of the newest judged states, each other than the one before it.
    states: VecDeque<(Instant, String)>,
    more: u64,
    last: Option<Published<S>>,
    over: bool,
    wait: StateWaitBuilder<'a, S>,
}

impl<S: Clone + PartialEq + fmt::Debug> StateWait<'_, S> {
    fn deadline(&self) -> Instant {
        later(self.wait.began, self.window)
    }

    /// Judges what was taken. `Some` ends the wait.
    fn judge(&mut self) -> Option<Result<S, Unmet>> {
        while let Some((at, state)) = self.taken.pop_front() {
            if at > self.deadline() {
                return Some(Err(self.unmet(UnmetOutcome::NotMet, None)));
            }
            let predicate = self.predicate.as_mut()?;
            let verdict = predicate(&**state);
            self.judged += 1;
            if self.last.as_ref().is_none_or(|last| ***last != **state) {
                if self.states.len() == SHOWN {
                    self.states.pop_front();
                    self.more += 1;
                }
                self.states.push_back((at, debug_line(&**state, STATE)));
            }
            self.last = Some(Arc::clone(&state));
            match verdict {
                Verdict::Met => return Some(Ok((**state).clone())),
                Verdict::NotYet(reason) => self.reason = Some(reason).filter(|reason| !reason.is_empty()),
                Verdict::GiveUp(reason) => {
                    self.reason = Some(reason);
                    return Some(Err(self.unmet(UnmetOutcome::GaveUp, None)));
                }
            }
        }
        None
    }

    fn unmet(&mut self, outcome: UnmetOutcome, note: Option<String>) -> Unmet {
        let began = self.wait.began;
        let since = |at: Instant| at.saturating_duration_since(began);
        let states = self.states.iter().map(|(at, text)| (since(*at), text.clone())).collect();
        let (judged, more) = (self.judged, self.more);
        let story = StateStory { judged, states, more, reason: self.reason.take() };
        Unmet::of_states(&self.wait.label, self.window, outcome, note, story)
    }

    fn poll_outcome(&mut self, context: &mut Context<'_>) -> Poll<Result<S, Unmet>> {
        if self.over {
            let note = "this wait has ended: make another one".to_owned();
            let outcome = UnmetOutcome::Invalid(InvalidWait::PolledAgain);
            return Poll::Ready(Err(self.unmet(outcome, Some(note))));
        }
        if self.window.is_zero() || self.window > MAX_DURATION {
            return Poll::Ready(Err(self.unmet(UnmetOutcome::Invalid(InvalidWait::Window), None)));
        }
        loop {
            let found =
                self.wait.board.poll_wait(self.wait.id, &mut self.taken, &mut self.place, context.waker());
            match found {
                Poll::Ready(Found::News(missed)) => {
                    if let Some(outcome) = self.judge() {
                        return Poll::Ready(outcome);
                    }
                    if missed > 0 {
                        let outcome = UnmetOutcome::Inconclusive(Inconclusive::FellBehind { missed });
                        return Poll::Ready(Err(self.unmet(outcome, None)));
                    }
                }
                Poll::Ready(Found::Ended(_, at)) if at.is_some_and(|at| at > self.deadline()) => {
                    return Poll::Ready(Err(self.unmet(UnmetOutcome::NotMet, None)));
                }
                Poll::Ready(Found::Ended(outcome, _)) => {
                    let note = format!("the machine has ended: {outcome}");
                    return Poll::Ready(Err(self.unmet(UnmetOutcome::Ended, Some(note))));
                }
                Poll::Pending => break,
            }
        }
        let deadline = self.deadline();
        let (timer, no_turn) = self.timer.get_or_insert_with(|| {
            let clock = &self.wait.board.clock;
            let pulse = Arc::clone(clock.pulse());
            (clock.timer(deadline), Box::pin(async move { pulse.no_turn_at(deadline, true).await }))
        });
        let outcome = if Pin::new(timer).poll(context).is_ready() {
            UnmetOutcome::NotMet
        } else {
            let no_turn_for = std::task::ready!(no_turn.as_mut().poll(context));
            UnmetOutcome::Inconclusive(Inconclusive::NotDriven { no_turn_for })
        };
        Poll::Ready(Err(self.unmet(outcome, None)))
    }
}

impl<S: Clone + PartialEq + fmt::Debug> Future for StateWait<'_, S> {
    type Output = Result<S, Unmet>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = std::task::ready!(self.poll_outcome(context));
        self.over = true;
        self.wait.board.unregister(self.wait.id);
        Poll::Ready(outcome)
    }
}

impl<S> Unpin for StateWait<'_, S> {}

impl<S> Drop for StateWait<'_, S> {
    fn drop(&mut self) {
        self.wait.board.leave(&mut self.place);
        discard_logged(self.predicate.take(), "the predicate of a wait");
        for (_, state) in self.taken.drain(..) {
            discard_logged(state, "a state");
        }
    }
}

impl<S> fmt::Debug for StateWait<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateWait")
            .field("label", &self.wait.label)
            .field("window", &self.window)
            .field("judged", &self.judged)
            .finish_non_exhaustive()
    }
}
