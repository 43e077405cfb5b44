//! The observers of a run or of a manual cluster.

use std::any::{Any, type_name};
use std::fmt;
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;
use watchkeeper::runtime::{PollNowError, StopOutcome};
use watchkeeper::{
    ObservationConfig, ObservationControl, ObservationHandle, ObservationRuntime, ObservationRuntimeError,
    Observer, SourceProvider,
};

use crate::ObserverTimeline;
use crate::any_watched::AnyWatched;
use crate::guarded::{Guarded, Panics};
use crate::in_flight::{InFlight, Ticket};
use crate::panics::{catch, discard};
use crate::subject::Subject;
use crate::sync::lock;
use crate::text::{bounded, listed, quoted};
use watchkeeper::report::debug_as_text;

/// How many names of cut-off starts are kept.
const MANY: usize = 100;

/// Owns the runtimes, by name.
///
/// Unlike in a group of the core, observers can be removed, and their handles are found by name and type.
///
/// Each start has a guard in its own task: the caller may be dropped before the start has ended, and the nodes must not
/// go down before that.
pub(crate) struct Observers {
    held: Arc<Mutex<ObserverSet>>,
    starts: InFlight,
    /// Cancelled when no observer is accepted any more.
    over: CancellationToken,
    /// The task that waits for the parent, if there is one.
    child: Option<AbortOnDropHandle<()>>,
    panics: Panics,
    began: Instant,
}

#[derive(Default)]
struct ObserverSet {
    entries: Vec<Guarded<NamedObserver>>,
    /// How many observers were added: the number of the last one.
    added: u64,
    /// The names of the observers whose start was cut off.
    cut_off: Vec<String>,
    /// Observers that were removed, and whose code blocked its thread when they were stopped.
    blocked: Vec<(String, ObservationControl)>,
    over: bool,
    /// When it is cancelled, no observer is accepted any more.
    parent: Option<CancellationToken>,
}

struct NamedObserver {
    /// Distinguishes it from a later one with the same name.
    number: u64,
    name: String,
    type_name: &'static str,
    /// An `ObservationHandle<O>`.
    handle: Box<dyn Any + Send + Sync>,
    watched: AnyWatched,
    control: ObservationControl,
    timeline: Arc<dyn Fn() -> ObserverTimeline + Send + Sync>,
    /// The `ObservationRuntime<O>`: dropping it requests the stop.
    runtime: Option<Box<dyn Any + Send>>,
}

/// Guards a start, in its own task: the caller may be dropped before the start has ended.
struct StartGuard {
    name: String,
    control: ObservationControl,
    held: Arc<Mutex<ObserverSet>>,
    over: CancellationToken,
    /// Dropped last.
    _ticket: Ticket,
}

/// Why an observer was not started or not found.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ObserverError {
    /// No observer has this name.
    #[error("no observer is called {}; the observers are: {}", quoted(name), listed(known))]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// The names of the observers, each with its type.
        known: Vec<String>,
    },
    /// The observer of this name has another type.
    #[error("the observer {} is a {is}, not a {wanted}: ask for its own type", quoted(name))]
    OtherType {
        /// The name.
        name: String,
        /// The type that was asked for.
        wanted: &'static str,
        /// The type it has.
        is: &'static str,
    },
    /// The snapshots of the observer of this name have another type.
    #[error(
        "the snapshots of the observer {} are of the type {is}, not {wanted}: let the predicate take that type",
        quoted(name)
    )]
    OtherSnapshot {
        /// The name.
        name: String,
        /// The type that was asked for.
        wanted: &'static str,
        /// The type they have.
        is: &'static str,
    },
    /// The name is taken.
    #[error("there is an observer called {} already: give each its own name", quoted(name))]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// The name is empty.
    #[error("an observer needs a name: it may not be empty")]
    EmptyName,
    /// Its runtime did not start.
    #[error("the observer {} did not start", quoted(name))]
    NotStarted {
        /// The name.
        name: String,
        /// Why.
        source: ObservationRuntimeError,
    },
    /// It panicked when it was about to start.
    #[error("the observer {} panicked when it was about to start: {}", quoted(name), bounded(message))]
    Panicked {
        /// The name.
        name: String,
        /// The message of the panic.
        message: String,
    },
    /// The requested cycle has not succeeded.
    #[error("the requested cycle of the observer {} has not succeeded", quoted(name))]
    NotPolled {
        /// The name.
        name: String,
        /// Why.
        source: PollNowError,
    },
    /// The run is over, and no observer can be started.
    #[error(
        "the run or cluster is over, or its parent was cancelled: start the observer {} before that, and await its start",
        quoted(name)
    )]
    Over {
        /// The name.
        name: String,
    },
}

debug_as_text!(ObserverError);

impl Observers {
    pub(crate) fn new(panics: &Panics, began: Instant) -> Self {
        Self {
            held: Arc::default(),
            starts: InFlight::default(),
            over: CancellationToken::new(),
            child: None,
            panics: panics.clone(),
            began,
        }
    }

    /// Stops all observers when `parent` is cancelled, also those that are being started.
    pub(crate) fn stopped_by(&mut self, parent: CancellationToken) {
        let (held, over) = (Arc::clone(&self.held), self.over.clone());
        lock(&held).parent = Some(parent.clone());
        let stopping = async move {
            parent.cancelled().await;
            over.cancel();
            let mut stops = JoinSet::new();
            for entry in &lock(&held).entries {
                let control = entry.control.clone();
                stops.spawn(async move { control.stop().await });
            }
            while stops.join_next().await.is_some() {}
        };
        self.child = Some(AbortOnDropHandle::new(tokio::spawn(stopping.in_current_span())));
    }

    /// Starts an observer in a step of `of`. Cancel-safe: when the future is dropped, the guard cuts the start off.
    pub(crate) async fn start<O, P>(
        &self,
        name: &str,
        provider: P,
        observer: O,
        mut config: ObservationConfig,
        of: Option<&Subject>,
    ) -> Result<ObservationHandle<O>, ObserverError>
    where
        O: Observer<Snapshot: fmt::Debug, Event: fmt::Debug>,
        P: SourceProvider<O::Source>,
    {
        let subject = Subject::Observer(name.to_owned());
        let provider = self.panics.guard(subject.clone(), provider);
        let observer = self.panics.guard(subject, observer);
        let ticket = {
            let held = lock(&self.held);
            held.accepts(name)?;
            // The core requests the stop in the thread that cancels the parent; `child` waits until they have stopped.
            if config.parent.is_none() {
                config.parent.clone_from(&held.parent);
            }
            self.starts.begin(name, of)
        };
        let begun = catch(|| {
            ObservationRuntime::start_with_control(provider.into_inner(), observer.into_inner(), config)
        });
        let not_started = |source| ObserverError::NotStarted { name: name.to_owned(), source };
        let (control, starting) = match begun {
            Ok(begun) => begun.map_err(not_started)?,
            Err(message) => return Err(ObserverError::Panicked { name: name.to_owned(), message }),
        };
        // `true`: the observer was added. Dropped: this future was dropped.
        let (added, answer) = oneshot::channel();
        let guard = StartGuard {
            name: name.to_owned(),
            control: control.clone(),
            held: Arc::clone(&self.held),
            over: self.over.clone(),
            _ticket: ticket,
        };
        tokio::spawn(guard.until(answer).in_current_span());
        let runtime = match starting.await {
            Ok(runtime) => runtime,
            Err(source) => {
                let _ = added.send(false);
                let is_over = self.over.is_cancelled();
                return Err(if is_over {
                    ObserverError::Over { name: name.to_owned() }
                } else {
                    not_started(source)
                });
            }
        };
        let handle = runtime.handle();
        match self.add(name, runtime) {
            Ok(()) => {
                let _ = added.send(true);
                Ok(handle)
            }
            Err(refused) => {
                let _ = added.send(false);
                let _ = control.stop().await;
                Err(refused)
            }
        }
    }

    /// Fails if another observer has taken the name during the start, or the run has ended.
    fn add<O>(&self, name: &str, runtime: ObservationRuntime<O>) -> Result<(), ObserverError>
    where
        O: Observer<Snapshot: fmt::Debug, Event: fmt::Debug>,
    {
        let handle = runtime.handle();
        let timeline = {
            let (name, handle, began) = (name.to_owned(), handle.clone(), self.began);
            Arc::new(move || ObserverTimeline::of(&name, &handle, began))
        };
        let entry = NamedObserver {
            number: 0,
            name: name.to_owned(),
            type_name: type_name::<O>(),
            watched: AnyWatched::new(handle.clone()),
            handle: Box::new(handle),
            control: runtime.control(),
            timeline,
            runtime: Some(Box::new(runtime)),
        };
        // A refused entry is dropped after the lock, since it is declared before.
        let mut entry = self.panics.guard(Subject::Observer(name.to_owned()), entry);
        let mut held = lock(&self.held);
        held.accepts(name)?;
        held.added += 1;
        entry.number = held.added;
        held.entries.push(entry);
        Ok(())
    }

    pub(crate) fn get<O: Observer>(&self, name: &str) -> Option<ObservationHandle<O>> {
        self.require(name).ok()
    }

    pub(crate) fn require<O: Observer>(&self, name: &str) -> Result<ObservationHandle<O>, ObserverError> {
        let held = lock(&self.held);
        let entry = held.find(name)?;
        entry.handle.downcast_ref::<ObservationHandle<O>>().cloned().ok_or_else(|| ObserverError::OtherType {
            name: name.to_owned(),
            wanted: type_name::<O>(),
            is: entry.type_name,
        })
    }

    pub(crate) fn watched(&self, name: &str) -> Result<AnyWatched, ObserverError> {
        lock(&self.held).find(name).map(|entry| entry.watched.clone())
    }

    pub(crate) fn control(&self, name: &str) -> Result<ObservationControl, ObserverError> {
        lock(&self.held).find(name).map(|entry| entry.control.clone())
    }

    pub(crate) async fn poll_now_and_wait(&self, name: &str) -> Result<u64, ObserverError> {
        let polled = self.control(name)?.poll_now_and_wait().await;
        polled.map_err(|source| ObserverError::NotPolled { name: name.to_owned(), source })
    }

    pub(crate) fn names(&self) -> Vec<String> {
        lock(&self.held).entries.iter().map(|entry| entry.name.clone()).collect()
    }

    pub(crate) fn timelines(&self) -> Vec<ObserverTimeline> {
        // After the lock: `Debug` of snapshots and events is app code.
        let timelines: Vec<_> =
            lock(&self.held).entries.iter().map(|entry| Arc::clone(&entry.timeline)).collect();
        timelines.into_iter().map(|timeline| timeline()).collect()
    }

    /// The observers that are being started: all, or those that a step of `subject` starts.
    pub(crate) fn starting(&self, subject: Option<&Subject>) -> Vec<String> {
        subject.map_or_else(|| self.starts.names(), |subject| self.starts.names_of(subject))
    }

    /// The observers whose start was cut off.
    pub(crate) fn cut_off(&self) -> Vec<String> {
        lock(&self.held).cut_off.clone()
    }

    /// Stops an observer, then removes it. If this is dropped half-way, `stop_all` still awaits the stop.
    pub(crate) async fn detach(&self, name: &str) -> Result<StopOutcome, ObserverError> {
        let (number, control) = {
            let held = lock(&self.held);
            let entry = held.find(name)?;
            (entry.number, entry.control.clone())
        };
        let outcome = control.stop().await;
        let entry = {
            let mut held = lock(&self.held);
            let at = held.entries.iter().position(|entry| entry.number == number);
            let entry = at.map(|at| held.entries.remove(at));
            if entry.is_some() && outcome == StopOutcome::Detached {
                held.blocked.push((name.to_owned(), control));
            }
            entry
        };
        drop(entry);
        Ok(outcome)
    }

    /// Stops all observers at once, cuts off those that are being started, and accepts no more. Returns
    /// those that had not stopped at `deadline` (`None`), and those whose code blocks its thread.
    pub(crate) async fn stop_all(&self, deadline: Option<Instant>) -> Vec<(String, Option<StopOutcome>)> {
        let mut stops = JoinSet::new();
        let mut left = Vec::new();
        {
            let mut held = lock(&self.held);
            held.over = true;
            for entry in &held.entries {
                let (number, name, control) = (entry.number, entry.name.clone(), entry.control.clone());
                left.push((Some(number), name, None));
                stops.spawn(async move { (number, control.stop().await) });
            }
        }
        self.over.cancel();
        let stopping = async {
            while let Some(stopped) = stops.join_next().await {
                let Ok((number, outcome)) = stopped else { continue };
                match outcome {
                    StopOutcome::Stopped => left.retain(|(of, ..)| *of != Some(number)),
                    StopOutcome::Detached => {
                        let detached = left.iter_mut().filter(|(of, ..)| *of == Some(number));
                        detached.for_each(|(_, _, known)| *known = Some(outcome));
                    }
                }
            }
        };
        let all = async { tokio::join!(self.starts.none(|_| true), stopping) };
        match deadline {
            Some(deadline) => drop(timeout_at(deadline, all).await),
            None => drop(all.await),
        }
        let mut left: Vec<_> = left.into_iter().map(|(_, name, outcome)| (name, outcome)).collect();
        left.extend(self.starts.names().into_iter().map(|name| (name, None)));
        let blocked = std::mem::take(&mut lock(&self.held).blocked);
        for (name, control) in blocked {
            // Returns at once, since it was stopped before. It may have ended since.
            if control.stop().await == StopOutcome::Detached {
                left.push((name, Some(StopOutcome::Detached)));
            }
        }
        left
    }

    /// Requests the stop of all that still run, and cuts off those that are being started. Needs no tokio
    /// context, and waits for nothing.
    pub(crate) fn release(&self) {
        self.over.cancel();
        let runtimes: Vec<_> = {
            let mut held = lock(&self.held);
            held.over = true;
            held.entries.iter_mut().filter_map(|entry| entry.runtime.take()).collect()
        };
        runtimes.into_iter().for_each(discard);
    }
}

impl StartGuard {
    /// Returns when the observer was added, or has stopped.
    async fn until(self, answer: oneshot::Receiver<bool>) {
        let cut_off = tokio::select! {
            biased;
            answer = answer => match answer {
                Ok(true) => return,
                Ok(false) => false,
                Err(_) => true,
            },
            () = self.over.cancelled() => true,
        };
        if cut_off {
            let mut held = lock(&self.held);
            if held.cut_off.len() < MANY && !held.cut_off.contains(&self.name) {
                held.cut_off.push(self.name.clone());
            }
        }
        if self.control.stop().await == StopOutcome::Detached {
            lock(&self.held).blocked.push((self.name.clone(), self.control.clone()));
        }
    }
}

impl ObserverSet {
    fn accepts(&self, name: &str) -> Result<(), ObserverError> {
        let is_over = self.over || self.parent.as_ref().is_some_and(CancellationToken::is_cancelled);
        let name_taken = || self.entries.iter().any(|entry| entry.name == name);
        match name {
            "" => Err(ObserverError::EmptyName),
            _ if is_over => Err(ObserverError::Over { name: name.to_owned() }),
            _ if name_taken() => Err(ObserverError::DuplicateName { name: name.to_owned() }),
            _ => Ok(()),
        }
    }

    fn find(&self, name: &str) -> Result<&NamedObserver, ObserverError> {
        let entry = self.entries.iter().find(|entry| entry.name == name);
        entry.map(|entry| &**entry).ok_or_else(|| self.unknown(name))
    }

    fn unknown(&self, name: &str) -> ObserverError {
        let known = self.entries.iter().map(|entry| format!("{} ({})", entry.name, entry.type_name));
        ObserverError::Unknown { name: name.to_owned(), known: known.collect() }
    }
}
