//! The loop: it executes the machine's commands, and begins its lives. The worker is awaited only here.

use std::sync::Arc;

use tokio::task::consume_budget;

use super::board::{End, Published, StateBoard};
use super::failure::Outcome;
use super::handle::WeakSupervised;
use super::machine::Machine;
use super::supervisor::{Envelope, Supervisor};
use super::worker::Worker;
use crate::error::DynError;
use crate::panics::{AppValue, catch};
use crate::task::inbox::{Inbox, Machine as _};
use crate::task::lifetime::Lifetime;

/// Makes the machine and the worker of a life.
pub(super) type Factory<M, W> = Box<dyn FnMut() -> (M, W) + Send>;

/// The parts of one supervised machine, in drop order.
pub(super) struct Lives<M: Machine, W> {
    pub(super) inbox: Inbox<Envelope<M>, End>,
    /// `None` after the end.
    pub(super) supervisor: Option<Supervisor<M>>,
    /// `None` between two lives.
    pub(super) worker: Option<AppValue<W>>,
    pub(super) factory: Option<AppValue<Factory<M, W>>>,
    pub(super) handle: WeakSupervised<M>,
    pub(super) board: Arc<StateBoard<M::State>>,
    pub(super) life: Arc<Lifetime<End>>,
}

/// Runs all lives, then publishes the end: when it is known, machine and worker have been dropped.
#[expect(clippy::manual_async_fn, reason = "an `async fn` would have room for its argument twice")]
pub(super) fn run<M: Machine, W: Worker<M>>(mut lives: Lives<M, W>) -> impl Future<Output = ()> + Send {
    async move { run_in_place(&mut lives).await }
}

async fn run_in_place<M: Machine, W: Worker<M>>(lives: &mut Lives<M, W>) {
    let Lives { inbox, supervisor, worker, factory, handle, board, life } = lives;
    while let Some(supervisor) = supervisor {
        if let Some(worker) = worker {
            one_life(inbox, supervisor, worker, handle).await;
        }
        // Before the next one is made.
        drop(worker.take());
        if !supervisor.after_life() {
            break;
        }
        supervisor.flush();
        while !supervisor.is_due_to_live() && !supervisor.is_over() {
            inbox.wait(supervisor).await;
        }
        if supervisor.is_over() {
            break;
        }
        let Some(factory) = factory else { break };
        match made(factory) {
            Ok(made) => {
                *worker = Some(made.worker);
                supervisor.live_again(made.machine, made.state);
            }
            Err(panic) => supervisor.not_made(&panic),
        }
    }
    let outcome = supervisor.as_mut().map_or(Outcome::Cancelled, Supervisor::outcome);
    // Callers whose events were not judged get the end, which is published after everything is dropped.
    drop(supervisor.take());
    drop(factory.take());
    if let Some(failure) = outcome.failure() {
        tracing::warn!(%failure, "machine ended");
    } else {
        tracing::info!(%outcome, "machine ended");
    }
    board.end(outcome);
    life.end(End::Over);
}

/// One life, until it ends.
async fn one_life<M: Machine, W: Worker<M>>(
    inbox: &mut Inbox<Envelope<M>, End>,
    supervisor: &mut Supervisor<M>,
    worker: &mut AppValue<W>,
    handle: &WeakSupervised<M>,
) {
    let worker: &mut W = worker;
    match catch(|| worker.attach(handle.clone())) {
        Ok(()) => supervisor.start(),
        Err(panic) => supervisor.crash("Worker::attach", &panic),
    }
    loop {
        let was_due = inbox.look(supervisor);
        if supervisor.is_over() {
            break;
        }
        supervisor.flush();
        if was_due {
            consume_budget().await;
            continue;
        }
        let Some(command) = supervisor.next_command() else {
            inbox.wait(supervisor).await;
            continue;
        };
        let timeout = supervisor.work_timeout();
        let ended = inbox.race(supervisor, timeout, run_command(worker, command)).await;
        supervisor.work_ended(ended);
        // Work that is always ready must not starve other tasks.
        consume_budget().await;
    }
    supervisor.flush();
}

/// The call is inside the future, so that its panic is caught too.
async fn run_command<M: Machine, W: Worker<M>>(
    worker: &mut W,
    command: M::Command,
) -> Result<Option<M::Event>, DynError> {
    worker.run(command).await
}

/// A machine with its first state, and its worker.
pub(super) struct Made<M: Machine, W> {
    pub(super) machine: AppValue<M>,
    pub(super) state: Published<M::State>,
    pub(super) worker: AppValue<W>,
}

/// Makes a life. The error is that of a panic.
pub(super) fn made<M: Machine, W>(factory: &mut Factory<M, W>) -> Result<Made<M, W>, String> {
    let (machine, worker) = catch(factory).map_err(|panic| format!("the factory panicked: {panic}"))?;
    first_state(AppValue::new(machine), AppValue::new(worker))
}

pub(super) fn first_state<M: Machine, W>(
    machine: AppValue<M>,
    worker: AppValue<W>,
) -> Result<Made<M, W>, String> {
    match catch(|| machine.state()) {
        Ok(state) => Ok(Made { machine, state: Arc::new(AppValue::new(state)), worker }),
        Err(panic) => Err(format!("Machine::state panicked: {panic}")),
    }
}
