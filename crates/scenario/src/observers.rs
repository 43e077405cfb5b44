//! The observers of a run or of a manual cluster.

use std::any::{Any, type_name};
use std::fmt;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use watchkeeper::{
    ObservationConfig, ObservationControl, ObservationHandle, ObservationRuntime, ObservationRuntimeError,
    Observer, SourceProvider, StopOutcome,
};

use crate::ObserverTimeline;
use crate::panics::discard;
use crate::sync::lock;
use crate::text::listed;

/// Owns the runtimes, by name.
///
/// A group of the core takes members in and keeps them; here they also leave, and their handles are
/// found again with their type.
pub(crate) struct Observers {
    held: Mutex<Held>,
    /// Told whenever a start has ended.
    start_ended: Notify,
    began: Instant,
}

#[derive(Default)]
struct Held {
    entries: Vec<Entry>,
    /// The starts in flight, each with its number.
    starting: Vec<(u64, String)>,
    /// How many starts there were.
    starts: u64,
    over: bool,
}

struct Entry {
    /// Tells it from a later one of its name.
    number: u64,
    name: String,
    type_name: &'static str,
    /// An `ObservationHandle<O>`.
    handle: Box<dyn Any + Send + Sync>,
    control: ObservationControl,
    timeline: Arc<dyn Fn() -> ObserverTimeline + Send + Sync>,
    /// The `ObservationRuntime<O>`: dropping it asks for the stop.
    runtime: Option<Box<dyn Any + Send>>,
}

/// Why an observer was not started or not found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ObserverError {
    /// No observer is called so.
    #[error("no observer is called {name:?}; the observers are: {}", listed(known))]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// The observers there are, each with its type.
        known: Vec<String>,
    },
    /// The observer of this name is of another type.
    #[error("the observer {name:?} is a {is}, not a {wanted}: ask for its own type")]
    OtherType {
        /// The name.
        name: String,
        /// The type that was asked for.
        wanted: &'static str,
        /// The type it has.
        is: &'static str,
    },
    /// The name is taken.
    #[error("there is an observer called {name:?} already: give each a name of its own")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// The name is empty.
    #[error("an observer needs a name: it may not be empty")]
    EmptyName,
    /// Its runtime did not start.
    #[error("the observer {name:?} did not start")]
    NotStarted {
        /// The name.
        name: String,
        /// Why.
        source: ObservationRuntimeError,
    },
    /// The run is over, and takes no observer in any more.
    #[error("the run is over: the observer {name:?} can no longer be started")]
    Over {
        /// The name.
        name: String,
    },
}

impl Observers {
    pub(crate) fn new(began: Instant) -> Self {
        Self { held: Mutex::default(), start_ended: Notify::new(), began }
    }

    pub(crate) async fn start<O, P>(
        &self,
        name: &str,
        provider: P,
        observer: O,
        config: ObservationConfig,
    ) -> Result<ObservationHandle<O>, ObserverError>
    where
        O: Observer<Snapshot: fmt::Debug, Event: fmt::Debug>,
        P: SourceProvider<O::Source>,
    {
        let starting = Starting::begin(self, name)?;
        let runtime = ObservationRuntime::start(provider, observer, config)
            .await
            .map_err(|source| ObserverError::NotStarted { name: name.to_owned(), source })?;
        let (handle, control) = (runtime.handle(), runtime.control());
        let timeline = {
            let (name, handle, began) = (name.to_owned(), handle.clone(), self.began);
            Arc::new(move || ObserverTimeline::of(&name, &handle, began))
        };
        let entry = Entry {
            number: starting.number,
            name: name.to_owned(),
            type_name: type_name::<O>(),
            handle: Box::new(handle.clone()),
            control: control.clone(),
            timeline,
            runtime: Some(Box::new(runtime)),
        };
        // While it started, another may have taken the name, or the run may have ended.
        let refused = {
            let mut held = lock(&self.held);
            match held.accepts(name) {
                Ok(()) => {
                    held.entries.push(entry);
                    return Ok(handle);
                }
                Err(refused) => refused,
            }
        };
        let _ = control.stop().await;
        Err(refused)
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

    pub(crate) fn control(&self, name: &str) -> Result<ObservationControl, ObserverError> {
        lock(&self.held).find(name).map(|entry| entry.control.clone())
    }

    pub(crate) fn names(&self) -> Vec<String> {
        lock(&self.held).entries.iter().map(|entry| entry.name.clone()).collect()
    }

    pub(crate) fn timelines(&self) -> Vec<ObserverTimeline> {
        // Behind the lock: showing what was observed is app code.
        let tellers: Vec<_> =
            lock(&self.held).entries.iter().map(|entry| Arc::clone(&entry.timeline)).collect();
        tellers.into_iter().map(|tell| tell()).collect()
    }

    /// Stops one, then takes it out: when this is dropped half-way, the end still waits for it.
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
            at.map(|at| held.entries.remove(at))
        };
        discard(entry);
        Ok(outcome)
    }

    /// Stops all at once, those that are still being started included, and takes no more in. Returns
    /// those that had not stopped by `deadline` (`None`), and those whose code blocks its thread.
    pub(crate) async fn stop_all(&self, deadline: Option<Instant>) -> Vec<(String, Option<StopOutcome>)> {
        let mut stops = JoinSet::new();
        let mut left = Vec::new();
        {
            let mut held = lock(&self.held);
            held.over = true;
            for entry in &held.entries {
                let (name, control) = (entry.name.clone(), entry.control.clone());
                left.push((name.clone(), None));
                stops.spawn(async move { (name, control.stop().await) });
            }
        }
        let stopping = async {
            while let Some(stopped) = stops.join_next().await {
                let Ok((name, outcome)) = stopped else { continue };
                match outcome {
                    StopOutcome::Stopped => left.retain(|(of, _)| *of != name),
                    StopOutcome::Detached => {
                        left.iter_mut()
                            .filter(|(of, _)| *of == name)
                            .for_each(|(_, known)| *known = Some(outcome));
                    }
                }
            }
        };
        let all = async { tokio::join!(self.no_start_in_flight(), stopping) };
        match deadline {
            Some(deadline) => drop(timeout_at(deadline, all).await),
            None => drop(all.await),
        }
        left.extend(lock(&self.held).starting.iter().map(|(_, name)| (name.clone(), None)));
        left
    }

    /// Waits until every start has ended. One that comes too late for the run ends with its observer's
    /// stop.
    async fn no_start_in_flight(&self) {
        loop {
            let ended = self.start_ended.notified();
            if lock(&self.held).starting.is_empty() {
                return;
            }
            ended.await;
        }
    }

    /// Asks those that still run for their stop. Needs no tokio context, and waits for nothing.
    pub(crate) fn release(&self) {
        let runtimes: Vec<_> = {
            let mut held = lock(&self.held);
            held.over = true;
            held.entries.iter_mut().filter_map(|entry| entry.runtime.take()).collect()
        };
        runtimes.into_iter().for_each(discard);
    }
}

/// A start in flight: counted until this is dropped.
struct Starting<'a> {
    observers: &'a Observers,
    number: u64,
}

impl<'a> Starting<'a> {
    fn begin(observers: &'a Observers, name: &str) -> Result<Self, ObserverError> {
        let mut held = lock(&observers.held);
        held.accepts(name)?;
        held.starts += 1;
        let number = held.starts;
        held.starting.push((number, name.to_owned()));
        Ok(Self { observers, number })
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        lock(&self.observers.held).starting.retain(|(number, _)| *number != self.number);
        self.observers.start_ended.notify_waiters();
    }
}

impl Held {
    fn accepts(&self, name: &str) -> Result<(), ObserverError> {
        let name_taken = || self.entries.iter().any(|entry| entry.name == name);
        match name {
            "" => Err(ObserverError::EmptyName),
            _ if self.over => Err(ObserverError::Over { name: name.to_owned() }),
            _ if name_taken() => Err(ObserverError::DuplicateName { name: name.to_owned() }),
            _ => Ok(()),
        }
    }

    fn find(&self, name: &str) -> Result<&Entry, ObserverError> {
        self.entries.iter().find(|entry| entry.name == name).ok_or_else(|| self.unknown(name))
    }

    fn unknown(&self, name: &str) -> ObserverError {
        let known = self.entries.iter().map(|entry| format!("{} ({})", entry.name, entry.type_name));
        ObserverError::Unknown { name: name.to_owned(), known: known.collect() }
    }
}
