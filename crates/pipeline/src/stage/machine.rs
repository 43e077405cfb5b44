//! The machine of a stage: pure, and compared with its table.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper::report::one_line;
use watchkeeper::supervise::{Delays, Failure, Machine, Out, Reaction};

use super::state::{OnError, StageFailure, StageFailureKind, StageState, StageStatus};

/// What happens to a stage.
#[derive(Clone, Debug)]
pub(crate) enum StageEvent {
    /// Asked for: open the store and the upstreams.
    Open,
    /// They are open.
    Opened,
    /// Asked for: run. Before it is open, it runs once it is.
    Start,
    /// Asked for: begin again after giving up.
    Restart,
    /// An attempt has failed.
    Failed(Arc<StageFailure>),
    /// The delay is over.
    Retry,
    /// All upstreams have ended and everything is committed.
    Ended,
    /// Asked for: answer the calls about dead letters, also after giving up.
    Letters,
    /// A stop was requested, or the last handle was dropped.
    Drain,
}

/// What the worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StageCommand {
    /// Load the store, open the upstreams, make the handler.
    Open,
    /// Handle items until there are none, or one fails.
    Run,
    /// Make the item that failed a dead letter, then as `Run`.
    DeadLetter,
    /// Answer the calls about dead letters.
    Letters,
}

/// What the machine asks of its supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Work(StageCommand),
    /// The work in flight is dropped.
    Cancel,
    Finish,
}

#[derive(Clone, Debug)]
pub(crate) struct StageMachine {
    pub(crate) state: StageState,
    opening: Opening,
    /// Store and upstreams have been opened, and stay so; a restart makes a handler alone.
    is_open: bool,
    /// Draining, it waits for its next attempt.
    waits: bool,
    failure: Option<Arc<StageFailure>>,
    retries: u64,
    on_error: OnError,
    delays: Delays,
    delay: Duration,
}

/// How far the store and the upstreams are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Opening {
    Closed,
    /// Being opened. Then it waits for the start, or runs at once.
    InProgress {
        starts: bool,
    },
    Open,
}

/// How an event was judged. `Moved` is a transition, also one to the same state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    Moved(Vec<Effect>),
    Stayed(Vec<Effect>),
    Rejected,
}

impl StageMachine {
    pub(crate) fn new(retries: u64, on_error: OnError, delays: Delays) -> Self {
        Self {
            state: StageState::Created,
            opening: Opening::Closed,
            is_open: false,
            waits: false,
            failure: None,
            retries,
            on_error,
            delays,
            delay: Duration::ZERO,
        }
    }

    pub(crate) fn judge(&mut self, event: StageEvent, now: Instant) -> Judged {
        use StageState::{BackingOff, Created, Drained, Draining, Failed, Poisoned, Running};
        let run = Effect::Work(StageCommand::Run);
        match (self.state, event) {
            (Created, StageEvent::Open) if self.opening == Opening::Closed => self.open(false),
            (Created, StageEvent::Start) if self.opening == Opening::Open => self.go(Running, vec![run]),
            (Created, StageEvent::Start) if self.opening == (Opening::InProgress { starts: false }) => {
                self.opening = Opening::InProgress { starts: true };
                Judged::Stayed(vec![])
            }
            (Created, StageEvent::Opened) => match self.opening {
                Opening::InProgress { starts } => {
                    (self.opening, self.is_open) = (Opening::Open, true);
                    if starts { self.go(Running, vec![run]) } else { Judged::Stayed(vec![]) }
                }
                Opening::Closed | Opening::Open => Judged::Rejected,
            },
            // It was restarted: what it had read goes through.
            (Created, StageEvent::Drain) if self.opening == (Opening::InProgress { starts: true }) => {
                self.delays.reset();
                self.go(Draining, vec![])
            }
            (Draining, StageEvent::Opened) if self.opening == (Opening::InProgress { starts: true }) => {
                self.opening = Opening::Open;
                Judged::Stayed(vec![run])
            }
            // Its loop takes the calls.
            (Running | BackingOff | Draining, StageEvent::Letters) | (Draining, StageEvent::Drain) => {
                Judged::Stayed(vec![])
            }
            (Failed | Poisoned, StageEvent::Failed(failure)) => {
                self.failure = Some(failure);
                Judged::Stayed(vec![])
            }
            (Failed | Poisoned, StageEvent::Letters) if self.is_open => {
                Judged::Stayed(vec![Effect::Work(StageCommand::Letters)])
            }
            (Created, StageEvent::Drain) | (Running | Draining, StageEvent::Ended) => {
                self.go(Drained, vec![Effect::Finish])
            }
            (Failed | Poisoned, StageEvent::Restart) => self.open(true),
            (Failed | Poisoned, StageEvent::Drain) => Judged::Stayed(vec![Effect::Finish]),
            (Running | BackingOff, StageEvent::Drain) => {
                let was_waiting = self.state == BackingOff;
                // A long delay would outlast the drain.
                self.delays.reset();
                // A unit of work in flight sees the state.
                self.go(Draining, if was_waiting { vec![run] } else { vec![] })
            }
            (BackingOff, StageEvent::Retry) => self.go(Running, vec![run]),
            (Draining, StageEvent::Retry) if self.waits => self.go(Draining, vec![run]),
            (Created, StageEvent::Failed(failure)) => {
                self.failure = Some(failure);
                self.give_up(Failed)
            }
            (Running | Draining, StageEvent::Failed(failure)) => self.failed(&failure, now),
            _ => Judged::Rejected,
        }
    }

    fn open(&mut self, starts: bool) -> Judged {
        self.opening = Opening::InProgress { starts };
        self.failure = None;
        self.delays.reset();
        if let OnError::Poison(window) = &mut self.on_error {
            window.clear();
        }
        // A call about a dead letter may be in flight.
        let cancels = self.state.has_given_up().then_some(Effect::Cancel);
        let open = Effect::Work(StageCommand::Open);
        self.go(StageState::Created, cancels.into_iter().chain([open]).collect())
    }

    fn go(&mut self, state: StageState, effects: Vec<Effect>) -> Judged {
        (self.state, self.waits) = (state, false);
        Judged::Moved(effects)
    }

    fn failed(&mut self, failure: &Arc<StageFailure>, now: Instant) -> Judged {
        let is_item = matches!(failure.kind, StageFailureKind::Item { .. });
        let has_retries = failure.attempt <= self.retries;
        if failure.attempt == 1 {
            self.delays.reset();
        }
        self.failure = Some(Arc::clone(failure));
        match (&mut self.on_error, &failure.kind) {
            (
                _,
                StageFailureKind::Open | StageFailureKind::Read | StageFailureKind::TooManyDeadLetters { .. },
            ) => self.give_up(StageState::Failed),
            (OnError::Poison(window), _) if is_item => {
                if window.failed(now) {
                    self.give_up(StageState::Poisoned)
                } else {
                    self.back_off(now)
                }
            }
            _ if has_retries => self.back_off(now),
            (OnError::DeadLetter, _) if is_item => {
                Judged::Stayed(vec![Effect::Work(StageCommand::DeadLetter)])
            }
            _ => self.give_up(StageState::Failed),
        }
    }

    fn back_off(&mut self, now: Instant) -> Judged {
        self.delay = self.delays.next(now);
        let is_draining = self.state == StageState::Draining;
        let judged = self.go(if is_draining { self.state } else { StageState::BackingOff }, vec![]);
        self.waits = is_draining;
        judged
    }

    fn give_up(&mut self, state: StageState) -> Judged {
        if self.opening != Opening::Open {
            self.opening = Opening::Closed;
        }
        let is_draining = self.state == StageState::Draining;
        if is_draining {
            return self.go(state, vec![Effect::Finish]);
        }
        // Calls that have come meanwhile are answered.
        let answer = Effect::Work(StageCommand::Letters);
        self.go(state, if self.is_open { vec![answer] } else { vec![] })
    }

    #[cfg(test)]
    pub(crate) fn key(&self) -> (StageState, Opening, [bool; 2]) {
        (self.state, self.opening, [self.waits, self.is_open])
    }
}

impl Machine for StageMachine {
    type State = StageStatus;
    type Event = StageEvent;
    type Command = StageCommand;

    fn state(&self) -> StageStatus {
        StageStatus { state: self.state, is_open: self.is_open, failure: self.failure.clone() }
    }

    fn handle(&mut self, event: StageEvent, out: &mut Out<StageCommand>) -> Reaction<StageEvent> {
        let (effects, reaction) = match self.judge(event.clone(), out.now()) {
            Judged::Moved(effects) => (effects, Reaction::Moved),
            Judged::Stayed(effects) => (effects, Reaction::Stayed),
            Judged::Rejected => return Reaction::Unhandled(event),
        };
        for effect in effects {
            match effect {
                Effect::Work(command) => out.run(command),
                Effect::Cancel => out.cancel(),
                Effect::Finish => out.finish(),
            }
        }
        reaction
    }

    fn timeout(&self) -> Option<(Duration, StageEvent)> {
        let is_waiting = self.state == StageState::BackingOff || self.waits;
        is_waiting.then_some((self.delay, StageEvent::Retry))
    }

    fn on_failure(&self, failure: &Failure) -> Option<StageEvent> {
        let known = failure.error().and_then(|error| error.downcast_ref::<StageFailure>());
        let failure = known.cloned().unwrap_or_else(|| {
            StageFailure::new(StageFailureKind::Read, 1, one_line(failure.message(), 1_024))
        });
        Some(StageEvent::Failed(Arc::new(failure)))
    }

    fn on_stop(&self) -> Option<StageEvent> {
        Some(StageEvent::Drain)
    }

    fn on_abandoned(&self) -> Option<StageEvent> {
        Some(StageEvent::Drain)
    }
}
