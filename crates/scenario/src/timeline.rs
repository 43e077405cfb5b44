//! What an observer saw, for a report.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper::{Freshness, ObservationHandle, Observer, State};

use crate::text::{listed, seconds, shown};

/// How many characters of a value a report shows.
const SHOWN: usize = 2_000;
/// How many characters of one event.
const SHOWN_EVENT: usize = 200;
/// How many moments.
const MOMENTS: usize = 40;

/// What one observer saw, and how it stood, when the report was made.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ObserverTimeline {
    /// Its name.
    pub name: String,
    /// The type of the observer.
    pub observer: &'static str,
    /// What its machine was doing.
    pub state: State,
    /// Whether it was paused.
    pub paused: bool,
    /// The generation of its state.
    pub generation: u64,
    /// The cycle in flight, or the last one.
    pub cycle: u64,
    /// How old its data was.
    pub freshness: Freshness,
    /// The names of its sources.
    pub sources: Vec<String>,
    /// The newest batches of events and the newest failures, in order of time: at most 40.
    pub moments: Vec<Moment>,
    /// How many older ones are not shown, of those that the observer still knew.
    pub older: usize,
    /// The last snapshot by its cycle, as `Debug` shows it, cut at 2,000 characters.
    pub last_snapshot: Option<(u64, String)>,
}

/// One entry of a timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Moment {
    /// When, counted from the begin of the run.
    pub at: Duration,
    /// In which cycle.
    pub cycle: u64,
    /// The failure, or the events, as `Debug` shows them.
    pub what: Seen,
}

/// What a moment of a timeline holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Seen {
    /// The events of one cycle.
    Events(Vec<String>),
    /// A failed cycle.
    Failure(String),
}

impl ObserverTimeline {
    pub(crate) fn of<O>(name: &str, handle: &ObservationHandle<O>, began: Instant) -> Self
    where
        O: Observer<Snapshot: fmt::Debug, Event: fmt::Debug>,
    {
        let status = handle.status();
        let since = |at: Instant| at.saturating_duration_since(began);
        let batches = handle.history().into_iter().map(|batch| Moment {
            at: since(batch.observed_at),
            cycle: batch.cycle,
            what: Seen::Events(
                batch.events.iter().map(|event| shown(SHOWN_EVENT, format_args!("{event:?}"))).collect(),
            ),
        });
        let failures = handle.failures().into_iter().map(|failure| Moment {
            at: since(failure.observed_at),
            cycle: failure.cycle,
            what: Seen::Failure(failure.to_string()),
        });
        let mut moments: Vec<_> = batches.chain(failures).collect();
        moments.sort_by_key(|moment| moment.cycle);
        let older = moments.len().saturating_sub(MOMENTS);
        moments.drain(..older);
        let last_snapshot = status
            .snapshot
            .map(|snapshot| (snapshot.cycle, shown(SHOWN, format_args!("{:#?}", snapshot.value))));
        Self {
            name: name.to_owned(),
            observer: std::any::type_name::<O>(),
            state: status.state,
            paused: status.paused,
            generation: status.generation,
            cycle: status.cycle,
            freshness: status.freshness,
            sources: status.source_names.iter().map(ToString::to_string).collect(),
            moments,
            older,
            last_snapshot,
        }
    }
}

impl fmt::Display for ObserverTimeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, observer, state, cycle, generation, .. } = self;
        let paused = if self.paused { ", paused" } else { "" };
        let data = match self.freshness.age() {
            None => "no data yet".to_owned(),
            Some(age) if self.freshness.is_stale() => format!("STALE, data of {} ago", seconds(age)),
            Some(age) => format!("fresh, data of {} ago", seconds(age)),
        };
        writeln!(f, "observer {name:?} ({observer})")?;
        writeln!(f, "  {state}{paused}, cycle {cycle}, generation {generation}; {data}")?;
        writeln!(f, "  sources: {}", listed(&self.sources))?;
        if self.older > 0 {
            writeln!(f, "  ... {} older moments", self.older)?;
        }
        for moment in &self.moments {
            let at = seconds(moment.at);
            match &moment.what {
                Seen::Failure(failure) => writeln!(f, "  +{at} FAILED {failure}")?,
                Seen::Events(events) => {
                    writeln!(f, "  +{at} cycle {}: {}", moment.cycle, events.join("; "))?;
                }
            }
        }
        match &self.last_snapshot {
            None => write!(f, "  there is no snapshot"),
            Some((cycle, value)) => {
                write!(f, "  the last snapshot, of cycle {cycle}:")?;
                value.lines().try_for_each(|line| write!(f, "\n    {line}"))
            }
        }
    }
}
