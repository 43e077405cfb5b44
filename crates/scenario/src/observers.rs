//! The observers of a run or of a manual cluster.

use std::any::{Any, type_name};
use std::fmt;
use std::sync::{Arc, Mutex};

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
    began: Instant,
}

#[derive(Default)]
struct Held {
    entries: Vec<Entry>,
    over: bool,
}

struct Entry {
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
        Self { held: Mutex::default(), began }
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
        lock(&self.held).accepts(name)?;
        let runtime = ObservationRuntime::start(provider, observer, config)
            .await
            .map_err(|source| ObserverError::NotStarted { name: name.to_owned(), source })?;
        let (handle, control) = (runtime.handle(), runtime.control());
        let timeline = {
            let (name, handle, began) = (name.to_owned(), handle.clone(), self.began);
            Arc::new(move || ObserverTimeline::of(&name, &handle, began))
        };
        let entry = Entry {
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

    /// Takes one out and stops it.
    pub(crate) async fn detach(&self, name: &str) -> Result<StopOutcome, ObserverError> {
        let entry = {
            let mut held = lock(&self.held);
            let at = held.entries.iter().position(|entry| entry.name == name);
            let at = at.ok_or_else(|| held.unknown(name))?;
            held.entries.remove(at)
        };
        Ok(entry.control.stop().await)
    }

    /// Stops all at once, and takes no more in. Returns those that had not stopped by `deadline`
    /// (`None`), and those whose code blocks its thread.
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
        match deadline {
            Some(deadline) => drop(timeout_at(deadline, stopping).await),
            None => stopping.await,
        }
        left
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
