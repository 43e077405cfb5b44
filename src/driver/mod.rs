//! The loop: it executes the machine's commands. App code is awaited only here.

pub(crate) mod core;
pub(crate) mod publisher;
mod schedule;

use tokio::task::consume_budget;
use watchkeeper_fsm::{Stage, StopReason};

use crate::control::Request;
use crate::driver::core::{Core, InitOutput, PollOutput, RefreshOutput};
use crate::observer::Observer;
use crate::panics::{AppValue, AppValues, catch, holding, log_panic};
use crate::source::{ObservedSource, Provider, SourceProvider};
use crate::task::inbox::{Inbox, Machine};

/// The parts of one observation, in drop order.
pub(crate) struct Driver<P: SourceProvider<O::Source>, O: Observer> {
    pub(crate) inbox: Inbox<Request, StopReason>,
    pub(crate) core: Core<O>,
    pub(crate) observer: AppValue<O>,
    pub(crate) provider: Provider<O::Source, P>,
}

/// Drives one observation from its start to its end.
///
/// Sources and state are locals, so that the future of a unit of work can borrow them while the core takes controls.
/// App values are dropped one by one, wherever the future is dropped.
#[expect(clippy::manual_async_fn, reason = "an `async fn` would have room for its argument twice")]
pub(crate) fn drive<P, O>(mut driver: Driver<P, O>) -> impl Future<Output = ()> + Send
where
    P: SourceProvider<O::Source>,
    O: Observer,
{
    async move { drive_in_place(&mut driver).await }
}

async fn drive_in_place<P, O>(Driver { inbox, core, observer, provider }: &mut Driver<P, O>)
where
    P: SourceProvider<O::Source>,
    O: Observer,
{
    let mut sources = AppValues::new(Vec::new());
    let mut state: Option<AppValue<O::State>> = None;
    // The revision of `sources`, if the provider has one.
    let mut known = None;
    core.start();
    loop {
        let next = core.work();
        match (next, &mut state) {
            (Some((Stage::SourceRefresh, work)), _) => {
                // Read before the set: a set that changes in between is fetched again.
                let revision = if inbox.is_stopping() { None } else { revision(provider) };
                if known.is_some() && revision == known {
                    core.unchanged(work, &mut state);
                } else {
                    let timeout = core.pace().refresh_timeout;
                    let ended = inbox.race(core, Some(timeout), run_refresh(provider)).await;
                    let accepted = core.refreshed(work, ended, &mut sources, &mut state);
                    known = revision.filter(|_| accepted);
                }
            }
            (Some((Stage::Init, work)), _) => {
                let timeout = core.pace().init_timeout;
                let ended = inbox.race(core, Some(timeout), run_init(&**observer, &sources)).await;
                core.initialized(work, ended, &mut state);
            }
            (Some((Stage::Poll, work)), Some(current)) => {
                let timeout = core.pace().poll_timeout;
                let ended = inbox.race(core, Some(timeout), run_poll(&**observer, &sources, current)).await;
                core.polled(work, ended, &mut state);
            }
            (Some((Stage::Poll, _)), None) => unreachable!("the machine polls only a state that was built"),
            (None, _) if core.is_over() => break,
            (None, _) => inbox.wait(core).await,
        }
        if !matches!(core.work(), Some((Stage::Init | Stage::Poll, _))) {
            core.flush();
            if next.is_some() {
                // A cycle has ended. Work that is always ready must not starve the tasks that it wakes.
                consume_budget().await;
            }
        }
    }
}

/// A panic here counts as `None`: the set is then fetched, and a panic there is a failure.
fn revision<S, P: SourceProvider<S>>(provider: &Provider<S, P>) -> Option<u64> {
    catch(|| provider.revision()).unwrap_or_else(|panic| {
        log_panic("SourceProvider::revision", &panic);
        None
    })
}

/// The call is inside the future, so that its panic is caught too.
async fn run_refresh<S, P: SourceProvider<S>>(provider: &Provider<S, P>) -> RefreshOutput<S> {
    Ok(AppValues::new(provider.sources().await?))
}

async fn run_init<O: Observer>(observer: &O, sources: &[ObservedSource<O::Source>]) -> InitOutput<O> {
    let state = AppValue::new(observer.init(sources).await?);
    Ok(holding(state, |state| AppValue::new(observer.snapshot(state))))
}

async fn run_poll<O: Observer>(
    observer: &O,
    sources: &[ObservedSource<O::Source>],
    state: &mut O::State,
) -> PollOutput<O> {
    let events = AppValues::new(observer.poll(sources, state).await?);
    let (events, snapshot) = holding(events, |_| AppValue::new(observer.snapshot(state)));
    Ok((snapshot, events))
}
