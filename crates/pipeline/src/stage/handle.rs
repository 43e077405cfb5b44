//! The handle of one stage.

use std::fmt;
use std::sync::Arc;

use tokio::sync::oneshot;
use watchkeeper::report::debug_as_text;
use watchkeeper::supervise::{AskError, NotSent, Outcome, StateWaitBuilder, StateWatch, Transition};
use watchkeeper::wait::Verdict;
use watchkeeper::{ObservationHandle, Observer};

use super::StageCore;
use super::machine::StageEvent;
use super::shared::{DeadLetterView, LetterRefusal, LetterRequest, LetterWork};
use super::state::{StageFailure, StageFailureKind, StageState, StageStatus};
use crate::error::{OutputError, because, name};
use crate::output::StageOutput;

/// One stage of a running [`Pipeline`](crate::Pipeline); cloneable.
#[derive(Clone)]
pub struct StageHandle {
    core: Arc<StageCore>,
}

impl StageHandle {
    pub(crate) fn new(core: Arc<StageCore>) -> Self {
        Self { core }
    }

    /// The stage's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// The state with its newest failure.
    #[must_use]
    pub fn status(&self) -> StageStatus {
        self.core.machine.state()
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> StageState {
        self.status().state
    }

    /// How its task has ended; `None` while it can still do something. After an abort the state is the last one before.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        self.core.machine.outcome()
    }

    /// Follows the status.
    #[must_use]
    pub fn watch(&self) -> StateWatch<StageStatus> {
        self.core.machine.watch()
    }

    /// Waits for a status that satisfies `predicate`: see [`Supervised::wait_for`](watchkeeper::supervise::Supervised::wait_for).
    pub fn wait_for<'a, F, R>(
        &self,
        label: impl Into<String>,
        predicate: F,
    ) -> StateWaitBuilder<'a, StageStatus>
    where
        F: FnMut(&StageStatus) -> R + Send + 'a,
        R: Into<Verdict>,
    {
        self.core.machine.wait_for(label, predicate)
    }

    /// The newest 64 transitions, oldest first.
    #[must_use]
    pub fn transitions(&self) -> Vec<Transition<StageStatus>> {
        self.core.machine.transitions()
    }

    /// The outputs as an observation. Its snapshot is the [`StageProgress`](crate::StageProgress) of the newest commits.
    ///
    /// Nothing polls it: a wait on its snapshot judges what is published from then on. With
    /// [`or_now`](watchkeeper::wait::WaitBuilder::or_now) it judges the newest snapshot too, as a stage may be idle.
    ///
    /// # Errors
    ///
    /// [`OutputError`]: `O` is not the type of its outputs.
    pub fn output<O: Send + Sync + 'static>(&self) -> Result<ObservationHandle<StageOutput<O>>, OutputError>
    where
        StageOutput<O>: Observer,
    {
        let handle = self.core.handle.get().and_then(|handle| handle.downcast_ref());
        handle.cloned().ok_or_else(|| OutputError {
            stage: Arc::clone(&self.core.name),
            wanted: std::any::type_name::<O>(),
            found: self.core.output_name,
        })
    }

    /// The dead letters, in the order of their numbers.
    #[must_use]
    pub fn dead_letters(&self) -> Vec<DeadLetterView> {
        self.core.shared.dead_letters()
    }

    /// Handles the item of a dead letter again, between two batches, or while the stage has given up. Returns once that is
    /// committed, and the letter is gone. While the stage waits for a retry, or for room in the stages after it, the call
    /// waits too.
    ///
    /// # Errors
    ///
    /// [`DeadLetterError`]: the letter stays, unless the error says that nothing is settled. If the handler failed again, it
    /// has the new error.
    ///
    /// # Cancel safety
    ///
    /// A call that is dropped may still be done.
    pub async fn replay(&self, id: u64) -> Result<(), DeadLetterError> {
        self.request(id, LetterWork::Replay).await
    }

    /// Drops a dead letter, with a commit of its own.
    ///
    /// # Errors
    ///
    /// [`DeadLetterError`]: the letter stays, unless the error says that nothing is settled.
    ///
    /// # Cancel safety
    ///
    /// A call that is dropped may still be done.
    pub async fn discard(&self, id: u64) -> Result<(), DeadLetterError> {
        self.request(id, LetterWork::Discard).await
    }

    async fn request(&self, id: u64, what: LetterWork) -> Result<(), DeadLetterError> {
        let stage = Arc::clone(&self.core.name);
        let (reply, mut replied) = oneshot::channel();
        let request = LetterRequest { id, what, reply };
        let answer = async {
            let not_working = |_| self.core.machine.state().state;
            if self.is_closed() {
                return Err(self.state());
            }
            self.core.requests.send(request).await.map_err(not_working)?;
            // A stage that has given up does nothing by itself; one that works needs no event.
            let _ = self.core.machine.send(StageEvent::Letters).await;
            (&mut replied).await.map_err(|_| self.core.machine.state().state)
        };
        let mut watch = self.core.machine.watch();
        let not_working = async {
            while !self.is_closed() {
                if watch.changed().await.is_err() {
                    break;
                }
            }
            self.state()
        };
        let mut answer = tokio::select! {
            biased;
            answer = answer => answer,
            state = not_working => Err(state),
        };
        // It may have come with the end.
        if answer.is_err()
            && let Ok(last) = replied.try_recv()
        {
            answer = Ok(last);
        }
        match answer {
            Ok(Ok(())) => Ok(()),
            Ok(Err(LetterRefusal::Unknown)) => Err(DeadLetterError::Unknown { stage, id }),
            Ok(Err(LetterRefusal::Failed(message))) => Err(DeadLetterError::Failed { stage, id, message }),
            Ok(Err(LetterRefusal::NotCommitted(message))) => {
                Err(DeadLetterError::NotCommitted { stage, id, message })
            }
            Err(_) if self.outcome().is_some() => Err(DeadLetterError::Ended { stage, id }),
            Err(state) => Err(DeadLetterError::NotWorking { stage, id, state }),
        }
    }

    /// Whether no call about dead letters is answered any more, or yet.
    fn is_closed(&self) -> bool {
        let status = self.status();
        let answers = status.state.is_working() || (status.state != StageState::Drained && status.is_open);
        !answers || self.outcome().is_some()
    }

    /// Begins again with a new handler, after the stage has failed or is poisoned, at the item that failed; its failures
    /// do not count any more. With [`OnStageFailure::Stop`](crate::OnStageFailure::Stop) the pipeline has ended by then. A
    /// replay that is in flight is cancelled. Items that were handled and whose commit was refused are committed and not handled again.
    /// Returns once the stage runs.
    ///
    /// # Errors
    ///
    /// [`RestartStageError`]: the stage has not given up, or does not start.
    ///
    /// # Cancel safety
    ///
    /// A call that is dropped may still be done.
    pub async fn restart(&self) -> Result<(), RestartStageError> {
        let stage = Arc::clone(&self.core.name);
        let asked = self.core.machine.ask(StageEvent::Restart).await;
        if let Err(refused) = asked {
            let state = self.state();
            let not_sent =
                matches!(&refused, AskError::NotSent(error) if !matches!(error.reason, NotSent::Full { .. }));
            if not_sent || matches!(refused, AskError::Ended(_)) {
                return Err(RestartStageError::Ended { stage, state });
            }
            return Err(RestartStageError::NotGivenUp { stage, state });
        }
        match started(&self.core).await {
            Ok(()) => Ok(()),
            Err(status) => {
                Err(RestartStageError::NotStarted { stage, state: status.state, failure: status.failure })
            }
        }
    }
}

/// Waits until a stage runs; the error is the state in which it does not.
pub(crate) async fn started(core: &StageCore) -> Result<(), StageStatus> {
    until(core, |status| match status.state {
        StageState::Created => None,
        // What fails later has started: it may have failed before this look.
        StageState::Failed
            if status.failure.as_ref().is_none_or(|failure| failure.kind == StageFailureKind::Open) =>
        {
            Some(Err(status.clone()))
        }
        _ => Some(Ok(())),
    })
    .await
}

/// Waits until a stage is open; the error is the state in which it is not.
pub(crate) async fn opened(core: &StageCore) -> Result<(), StageStatus> {
    until(core, |status| match status.state {
        StageState::Created if !status.is_open => None,
        StageState::Created => Some(Ok(())),
        _ => Some(Err(status.clone())),
    })
    .await
}

async fn until(
    core: &StageCore,
    mut found: impl FnMut(&StageStatus) -> Option<Result<(), StageStatus>>,
) -> Result<(), StageStatus> {
    let mut watch = core.machine.watch();
    loop {
        let status = watch.state();
        if let Some(found) = found(&status) {
            return found;
        }
        if watch.changed().await.is_err() {
            return Err(status);
        }
    }
}

impl fmt::Debug for StageHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StageHandle")
            .field("name", &self.core.name)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

/// Why a dead letter stays.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeadLetterError {
    /// There is no such letter.
    #[error("stage {} has no dead letter {id}: it was replayed or discarded, or never was; list them with dead_letters", name(.stage))]
    Unknown {
        /// The stage.
        stage: Arc<str>,
        /// The letter.
        id: u64,
    },
    /// The handler has failed again.
    #[error("dead letter {id} of stage {} has failed again: {message}", name(.stage))]
    Failed {
        /// The stage.
        stage: Arc<str>,
        /// The letter.
        id: u64,
        /// The error with its causes.
        message: String,
    },
    /// The stage has given up and cannot commit. If the call was done before, the first commit after a restart of the stage
    /// has it.
    #[error(
        "dead letter {id} of stage {} is not settled, a commit was refused: {message}; restart the stage, then see \
         whether the letter is still there",
        name(.stage)
    )]
    NotCommitted {
        /// The stage.
        stage: Arc<str>,
        /// The letter.
        id: u64,
        /// The store's error.
        message: String,
    },
    /// The stage has ended with its pipeline. What was being committed then may be committed all the same.
    #[error("dead letter {id} stays: stage {} has ended with its pipeline, build the pipeline again", name(.stage))]
    Ended {
        /// The stage.
        stage: Arc<str>,
        /// The letter.
        id: u64,
    },
    /// The stage is not open.
    #[error(
        "dead letter {id} stays: stage {} is {state} and handles nothing; {}",
        name(.stage), if *state == StageState::Created { "wait until it has started" } else { "restart its pipeline" }
    )]
    NotWorking {
        /// The stage.
        stage: Arc<str>,
        /// The letter.
        id: u64,
        /// Its state.
        state: StageState,
    },
}

/// Why a stage was not restarted.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestartStageError {
    /// It is at work.
    #[error("stage {} is {state}: only a stage that has failed or is poisoned can be restarted", name(.stage))]
    NotGivenUp {
        /// The stage.
        stage: Arc<str>,
        /// Its state.
        state: StageState,
    },
    /// It has ended with its pipeline, or is ending.
    #[error("stage {} has ended with its pipeline, its last state was {state}: build the pipeline again", name(.stage))]
    Ended {
        /// The stage.
        stage: Arc<str>,
        /// Its last state.
        state: StageState,
    },
    /// It has failed again.
    #[error("stage {} was not started and is {state}{}", name(.stage), because(.failure.as_deref()))]
    NotStarted {
        /// The stage.
        stage: Arc<str>,
        /// Its state.
        state: StageState,
        /// Why.
        failure: Option<Arc<StageFailure>>,
    },
}

debug_as_text!(DeadLetterError, RestartStageError);
