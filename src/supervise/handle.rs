//! The handle of a supervised machine.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{TryAcquireError, oneshot};

use super::board::{Condition, End, Signals, StateBoard, ended, until};
use super::failure::{Failure, Outcome};
use super::machine::Machine;
use super::name::VariantName;
use super::supervisor::{Envelope, Refusal};
use super::transition::Transition;
use super::wait::StateWaitBuilder;
use super::watch::StateWatch;
use crate::report::debug_as_text;
use crate::shield::shielded;
use crate::task::inbox::{ItemSender, NotPut};
use crate::wait::Verdict;

/// How long after the drain, or after an abort, a task may take to end before it counts as detached.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// A running machine: events go in, state and end come out. Cloneable.
///
/// When the last handle is dropped, the machine gets [`Machine::on_abandoned`]. Watches, waits and
/// [`WeakSupervised`] are no handles. All methods may be used from any thread and executor.
#[must_use = "a machine whose handles are all dropped ends: see `Machine::on_abandoned`"]
pub struct Supervised<M: Machine> {
    strong: Arc<Strong<M>>,
}

/// All handles share one; its drop is the end of the last handle.
struct Strong<M: Machine> {
    sender: ItemSender<Envelope<M>, End>,
    board: Arc<StateBoard<M::State>>,
    capacity: usize,
    has_factory: bool,
}

impl<M: Machine> Drop for Strong<M> {
    fn drop(&mut self) {
        self.board.signal(Signals::ABANDONED);
        self.sender.life.wake_driver();
    }
}

impl<M: Machine> Supervised<M> {
    pub(super) fn new(
        sender: ItemSender<Envelope<M>, End>,
        board: Arc<StateBoard<M::State>>,
        capacity: usize,
        has_factory: bool,
    ) -> Self {
        Self { strong: Arc::new(Strong { sender, board, capacity, has_factory }) }
    }

    /// Sends an event, and waits for room in the channel. `Ok` does not say how the event is judged: see
    /// [`ask`](Self::ask). Between two lives, events wait in the channel.
    ///
    /// # Errors
    ///
    /// [`SendError`] with the event: the machine is stopping, has ended or is poisoned.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped before it is done, the event is dropped and not sent. Callers get room in the order of
    /// their calls.
    pub async fn send(&self, event: M::Event) -> Result<(), SendError<M::Event>> {
        self.put_when_there_is_room(Envelope { event, reply: None }).await
    }

    /// Sends an event if there is room.
    ///
    /// # Errors
    ///
    /// [`SendError`] with the event: the channel is full, or as for [`send`](Self::send).
    pub fn try_send(&self, event: M::Event) -> Result<(), SendError<M::Event>> {
        self.try_put(Envelope { event, reply: None }).map_err(|(envelope, reason)| envelope.not_sent(reason))
    }

    /// Sends an event, waits until it is judged, and returns the state after that. A deferred event is judged after a
    /// later transition. Does not wait for the work that the event commands.
    ///
    /// # Errors
    ///
    /// [`AskError`]: the event was not sent, is unhandled, was refused while work was in flight, or the machine ended
    /// before it was judged. While a worker blocks the machine's thread, or nobody drives its executor, there is no
    /// answer: use [`tokio::time::timeout`].
    ///
    /// # Cancel safety
    ///
    /// Dropped while it waits for room, the event is not sent; dropped later, the event is judged all the same.
    pub async fn ask(&self, event: M::Event) -> Result<M::State, AskError<M::Event>> {
        let (reply, replied) = oneshot::channel();
        self.put_when_there_is_room(Envelope { event, reply: Some(reply) })
            .await
            .map_err(AskError::NotSent)?;
        let board = &self.strong.board;
        // No shield: the supervisor catches what a waker does.
        let replied = async {
            tokio::select! {
                biased;
                replied = replied => replied.map_err(|_| None),
                // A machine that is detached replies no more.
                outcome = ended(board) => Err(Some(outcome)),
            }
        };
        match replied.await {
            Ok(Ok(state)) => Ok((**state).clone()),
            Ok(Err(Refusal::Unhandled(event))) => Err(AskError::Unhandled(event)),
            Ok(Err(Refusal::NoRoomToDefer(event))) => Err(AskError::NoRoomToDefer(event)),
            Ok(Err(Refusal::Busy(event))) => Err(AskError::Busy(event)),
            Ok(Err(Refusal::Lost(failure))) => Err(AskError::Lost(failure)),
            Err(Some(outcome)) => Err(AskError::Ended(outcome)),
            // The mailbox closes a moment before the end is published.
            Err(None) => Err(AskError::Ended(self.ended().await)),
        }
    }

    /// The state that was published last.
    #[must_use]
    pub fn state(&self) -> M::State {
        (**self.strong.board.state()).clone()
    }

    /// Whether the machine lives, is stopping, waits for its next life, is poisoned, or has ended.
    #[must_use]
    pub fn condition(&self) -> Condition {
        self.strong.board.read(Condition::clone)
    }

    /// Follows the state, from now on.
    #[must_use]
    pub fn watch(&self) -> StateWatch<M::State> {
        StateWatch::new(Arc::clone(&self.strong.board))
    }

    /// Waits for a state that satisfies `predicate`: the present one, or a later one even if it is only between two
    /// polls of the waiting task. Every state is judged, none is conflated.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use watchkeeper::supervise::{Machine, Supervised};
    /// # use watchkeeper::wait::Unmet;
    /// # async fn example<M: Machine<State = u32>>(counter: Supervised<M>) -> Result<(), Unmet> {
    /// let count = counter.wait_for("it counts to 3", |count| *count >= 3).within(Duration::from_secs(5)).await?;
    /// # let _ = count;
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait_for<'a, F, R>(
        &self,
        label: impl Into<String>,
        mut predicate: F,
    ) -> StateWaitBuilder<'a, M::State>
    where
        F: FnMut(&M::State) -> R + Send + 'a,
        R: Into<Verdict>,
    {
        let predicate = Box::new(move |state: &M::State| predicate(state).into());
        StateWaitBuilder::new(Arc::clone(&self.strong.board), label.into(), predicate)
    }

    /// The newest transitions, oldest first: as many as the builder's `trace`.
    #[must_use]
    pub fn transitions(&self) -> Vec<Transition<M::State>> {
        let transitions = self.strong.board.transitions();
        let owned = transitions.into_iter().map(|Transition { at, from, to, trigger, event }| Transition {
            at,
            from: (**from).clone(),
            to: (**to).clone(),
            trigger,
            event,
        });
        owned.collect()
    }

    /// The end, if the machine has ended. It can be read again.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        self.strong.board.outcome()
    }

    /// Waits for the end. Machine and worker have been dropped then, except after [`Outcome::Detached`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the end is kept.
    pub async fn ended(&self) -> Outcome {
        ended(&self.strong.board).await
    }

    /// Stops the machine and returns its end: lets it drain ([`Machine::on_stop`]), at most for the builder's `drain`,
    /// then cancels it. It may be called again, and by several tasks.
    ///
    /// A machine that blocks its thread for 5 s more than the drain has ended as [`Outcome::Detached`].
    ///
    /// # Cancel safety
    ///
    /// Dropped after its first poll, it stops the machine all the same.
    pub async fn stop(&self) -> Outcome {
        self.strong.board.room.close();
        self.strong.sender.life.request_stop(End::Stop);
        self.ended().await
    }

    /// Cancels the machine without a drain, also while it drains. A machine that blocks its thread for 5 s has ended as
    /// [`Outcome::Detached`].
    ///
    /// # Cancel safety
    ///
    /// As for [`stop`](Self::stop).
    pub async fn abort(&self) -> Outcome {
        let Strong { sender, board, .. } = &*self.strong;
        board.room.close();
        board.signal(Signals::ABORT);
        sender.life.request_stop(End::Abort);
        sender.life.wake_driver();
        sender.life.give_up_after(GRACE);
        self.ended().await
    }

    /// Ends the present life, and begins a new one without a delay, also if the machine is poisoned. Work in flight is
    /// dropped; the failures so far still count. A machine that is stopping does not restart.
    ///
    /// # Errors
    ///
    /// [`RestartError`]: the machine has no factory, is stopping, or has ended.
    pub fn restart(&self) -> Result<(), RestartError> {
        self.request(Signals::RESTART)
    }

    /// Begins a new life of a poisoned machine without a delay, and forgets its failures. Events are accepted again
    /// from now on.
    ///
    /// # Errors
    ///
    /// [`RestartError`]: the machine is not poisoned, is stopping, or has ended.
    pub fn unpoison(&self) -> Result<(), RestartError> {
        if self.strong.board.poison().is_none() && self.outcome().is_none() {
            return Err(RestartError::NotPoisoned);
        }
        self.request(Signals::UNPOISON)
    }

    /// A handle that keeps no machine alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakSupervised<M> {
        WeakSupervised { strong: Arc::downgrade(&self.strong) }
    }

    fn request(&self, signal: Signals) -> Result<(), RestartError> {
        if let Some(outcome) = self.outcome() {
            return Err(RestartError::Ended(outcome));
        }
        if !self.strong.has_factory {
            return Err(RestartError::NoFactory);
        }
        if self.strong.board.room.is_closed() {
            return Err(RestartError::Stopping);
        }
        self.strong.board.leave_poison();
        self.strong.board.signal(signal);
        self.strong.sender.life.wake_driver();
        Ok(())
    }

    async fn put_when_there_is_room(&self, envelope: Envelope<M>) -> Result<(), SendError<M::Event>> {
        let (mut envelope, mut reason) = match self.try_put(envelope) {
            Ok(()) => return Ok(()),
            Err(not_put) => not_put,
        };
        while let NotSent::Full { .. } = reason {
            let board = &self.strong.board;
            let room = shielded(async {
                tokio::select! {
                    biased;
                    () = until(board, |condition| matches!(condition, Condition::Poisoned(_)).then_some(())) => None,
                    permit = board.room.acquire() => Some(permit),
                }
            });
            reason = match room.await {
                None | Some(Err(_)) => self.refusal(),
                Some(Ok(permit)) => {
                    permit.forget();
                    match self.strong.sender.put(envelope, usize::MAX) {
                        Ok(()) => return Ok(()),
                        Err(NotPut::Full(given_back) | NotPut::Closed(given_back)) => {
                            envelope = given_back;
                            self.refusal_of_the_end()
                        }
                    }
                }
            };
        }
        Err(envelope.not_sent(reason))
    }

    fn try_put(&self, envelope: Envelope<M>) -> Result<(), (Envelope<M>, NotSent)> {
        let Strong { sender, board, capacity, .. } = &*self.strong;
        match board.room.try_acquire() {
            Ok(permit) => {
                if self.strong.has_factory
                    && let Some(failure) = board.poison()
                {
                    return Err((envelope, NotSent::Poisoned(failure)));
                }
                permit.forget();
            }
            Err(TryAcquireError::NoPermits) => {
                let reason = board.poison().map_or(NotSent::Full { capacity: *capacity }, NotSent::Poisoned);
                return Err((envelope, reason));
            }
            Err(TryAcquireError::Closed) => return Err((envelope, self.refusal())),
        }
        sender.put(envelope, usize::MAX).map_err(|not_put| match not_put {
            NotPut::Full(envelope) | NotPut::Closed(envelope) => (envelope, self.refusal_of_the_end()),
        })
    }

    /// Why no event is accepted.
    fn refusal(&self) -> NotSent {
        self.strong.board.read(|condition| match condition {
            Condition::Ended(outcome) => NotSent::Ended(outcome.clone()),
            Condition::Poisoned(failure) => NotSent::Poisoned(Arc::clone(failure)),
            _ if self.strong.board.room.is_closed() => NotSent::Stopping,
            // The poison has been left meanwhile.
            _ => NotSent::Full { capacity: self.strong.capacity },
        })
    }

    /// The mailbox closes a moment before the end is published.
    fn refusal_of_the_end(&self) -> NotSent {
        match self.refusal() {
            NotSent::Full { .. } => NotSent::Stopping,
            refusal => refusal,
        }
    }
}

impl<M: Machine> Envelope<M> {
    fn not_sent(self, reason: NotSent) -> SendError<M::Event> {
        SendError { event: self.event, reason }
    }
}

impl<M: Machine> Clone for Supervised<M> {
    fn clone(&self) -> Self {
        Self { strong: Arc::clone(&self.strong) }
    }
}

impl<M: Machine> fmt::Debug for Supervised<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervised")
            .field("state", &self.state())
            .field("condition", &self.condition())
            .finish_non_exhaustive()
    }
}

/// A handle that keeps no machine alive: for workers that send to their own machine, and for machines that know each
/// other.
pub struct WeakSupervised<M: Machine> {
    strong: Weak<Strong<M>>,
}

impl<M: Machine> WeakSupervised<M> {
    /// The handle, unless all handles have been dropped.
    #[must_use]
    pub fn upgrade(&self) -> Option<Supervised<M>> {
        self.strong.upgrade().map(|strong| Supervised { strong })
    }
}

impl<M: Machine> Clone for WeakSupervised<M> {
    fn clone(&self) -> Self {
        Self { strong: Weak::clone(&self.strong) }
    }
}

impl<M: Machine> fmt::Debug for WeakSupervised<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakSupervised").finish_non_exhaustive()
    }
}

/// An event that was not sent, which is given back.
///
/// `Display` and `Debug` print the name of the event, without its fields.
pub struct SendError<E> {
    /// The event.
    pub event: E,
    /// Why it was not sent.
    pub reason: NotSent,
}

/// Why an event was not sent.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum NotSent {
    /// The channel is full.
    Full {
        /// For how many events there is room.
        capacity: usize,
    },
    /// A stop was requested.
    Stopping,
    /// The machine has ended.
    Ended(Outcome),
    /// The machine is poisoned.
    Poisoned(Arc<Failure>),
}

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { capacity } => {
                write!(
                    f,
                    "{capacity} events wait in the channel: use send, which waits for room, or drop the event"
                )
            }
            Self::Stopping => f.write_str("the machine is stopping and accepts no further event"),
            Self::Ended(outcome) => write!(f, "the machine has ended ({outcome}): spawn another one"),
            Self::Poisoned(failure) => {
                write!(f, "the machine is poisoned, call unpoison or restart; its last failure: {failure}")
            }
        }
    }
}

impl<E: fmt::Debug> fmt::Display for SendError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} was not sent: {}", VariantName::of(&self.event), self.reason)
    }
}

impl<E: fmt::Debug> fmt::Debug for SendError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<E: fmt::Debug> std::error::Error for SendError<E> {}

/// Why an ask has no answer.
///
/// `Display` and `Debug` print the name of the event, without its fields.
#[non_exhaustive]
pub enum AskError<E> {
    /// The event was not sent.
    NotSent(SendError<E>),
    /// The machine has no use for the event in its state.
    Unhandled(E),
    /// The machine deferred the event, and the builder's `capacity` of events are deferred already.
    NoRoomToDefer(E),
    /// The state refuses events while work is in flight.
    Busy(E),
    /// The machine panicked while it judged the event. Another life follows, or the machine is poisoned.
    Lost(Arc<Failure>),
    /// The machine ended before the event was judged, or by a panic while it was.
    Ended(Outcome),
}

impl<E: fmt::Debug> fmt::Display for AskError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent(error) => fmt::Display::fmt(error, f),
            Self::Unhandled(event) => {
                write!(f, "{} is unhandled in the machine's state", VariantName::of(event))
            }
            Self::NoRoomToDefer(event) => {
                let event = VariantName::of(event);
                write!(
                    f,
                    "{event} is to be judged later, and too many events are already: raise the capacity"
                )
            }
            Self::Busy(event) => {
                let event = VariantName::of(event);
                write!(f, "{event} was refused: work is in flight, ask again when it is done")
            }
            Self::Lost(failure) => write!(f, "the life ended while the event was judged: {failure}"),
            Self::Ended(outcome) => write!(f, "the machine ended before the event had a result: {outcome}"),
        }
    }
}

impl<E: fmt::Debug> fmt::Debug for AskError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<E: fmt::Debug> std::error::Error for AskError<E> {}

/// Why no new life begins.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RestartError {
    /// The machine was made without a factory.
    #[error("the machine has no factory: spawn it with supervise_with")]
    NoFactory,
    /// A stop was requested.
    #[error("the machine is stopping: spawn another one")]
    Stopping,
    /// The machine is not poisoned.
    #[error("the machine is not poisoned: to begin a new life anyway, call restart")]
    NotPoisoned,
    /// The machine has ended.
    #[error("the machine has ended ({0}): spawn another one")]
    Ended(Outcome),
}

debug_as_text!(RestartError);
