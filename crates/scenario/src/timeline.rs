//! The timeline of an observer, for a report.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper::report::{debug, debug_line, one_line};
use watchkeeper::runtime::{Freshness, ObservationStatus, State};
use watchkeeper::source::SourceHealth;
use watchkeeper::{ObservationHandle, Observer};

use crate::panics::catch;
use crate::text::{listed, quoted, seconds, shown};

/// How many bytes of a value a report shows.
const SHOWN: usize = 2_000;
/// How many bytes of one event.
const SHOWN_EVENT: usize = 200;
/// How many events of one cycle.
const EVENTS: usize = 20;
/// How many bytes of a failure.
const SHOWN_FAILURE: usize = 1_000;
/// How many moments are shown.
const MOMENTS: usize = 40;
/// How many failures an observation keeps.
const KEPT: usize = 64;

/// What one observer saw, and its status, when the report was made.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ObserverTimeline {
    /// Its name.
    pub name: String,
    /// The type of the observer.
    pub observer: &'static str,
    /// The state of its machine.
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
    /// How many of its sources have ever answered, by its last snapshot. `None` if the observer does
    /// not keep that: see [`Observer::source_health`].
    pub answered: Option<usize>,
    /// How many of its sources were answering at that moment: see [`SourceHealth::is_answering`]. `None` as above.
    pub answering: Option<usize>,
    /// How many cycles have ended.
    pub cycles: u64,
    /// How many of them have failed, counted up to the 64 failures that an observation keeps.
    pub failed_cycles: usize,
    /// The newest batches of events and the newest failures, in order of time: at most 40.
    pub moments: Vec<Moment>,
    /// How many older ones the observer still had, which are not shown.
    pub older: usize,
    /// The cycle and the `Debug` text of the last snapshot, truncated at 2,000 bytes.
    pub last_snapshot: Option<(u64, String)>,
}

/// One entry of a timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Moment {
    /// When it was, counted from the beginning of the run.
    pub at: Duration,
    /// Its cycle.
    pub cycle: u64,
    /// The failure, or the events by `Debug`.
    pub what: Seen,
}

/// The content of a moment of a timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Seen {
    /// The first 20 events of one cycle, and the number of the others if there are more.
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
            what: Seen::Events(events(&batch.events)),
        });
        let failed = handle.failures();
        let failed_cycles = failed.len();
        let last_has_ended = matches!(status.state, State::Idle | State::Failed { .. });
        let failures = failed.into_iter().map(|failure| Moment {
            at: since(failure.observed_at),
            cycle: failure.cycle,
            what: Seen::Failure(one_line(&shown(SHOWN_FAILURE, &failure), SHOWN_FAILURE)),
        });
        let mut moments: Vec<_> = batches.chain(failures).collect();
        moments.sort_by_key(|moment| moment.cycle);
        let older = moments.len().saturating_sub(MOMENTS);
        moments.drain(..older);
        let (answered, answering) = answers::<O>(&status).unzip();
        let last_snapshot = status.snapshot.map(|snapshot| (snapshot.cycle, debug(&snapshot.value, SHOWN)));
        Self {
            name: name.to_owned(),
            observer: std::any::type_name::<O>(),
            state: status.state,
            paused: status.paused,
            generation: status.generation,
            cycle: status.cycle,
            freshness: status.freshness,
            sources: status.source_names.iter().map(ToString::to_string).collect(),
            answered,
            answering,
            cycles: status.cycle + u64::from(last_has_ended),
            failed_cycles,
            moments,
            older,
            last_snapshot,
        }
    }
}

/// The events of one cycle as a report shows them.
fn events<E: fmt::Debug>(events: &[E]) -> Vec<String> {
    let mut shown: Vec<_> = events.iter().take(EVENTS).map(|event| debug_line(event, SHOWN_EVENT)).collect();
    if let Some(more @ 1..) = events.len().checked_sub(EVENTS) {
        shown.push(format!("and {more} more events"));
    }
    shown
}

/// How many sources have ever answered, and how many answer now.
fn answers<O: Observer>(status: &ObservationStatus<O>) -> Option<(usize, usize)> {
    let snapshot = status.snapshot.as_ref()?;
    // The moment of the status, on the clock of the runtime.
    let now = status.freshness.last_success()? + status.freshness.age()?;
    let health = |name| catch(|| O::source_health(&snapshot.value, name)).ok().flatten();
    let known: Vec<SourceHealth> = status.source_names.iter().filter_map(|name| health(name)).collect();
    let count = |which: &dyn Fn(&SourceHealth) -> bool| known.iter().filter(|health| which(health)).count();
    let answered = count(&|health| health.facts.last_success.is_some());
    (!known.is_empty()).then(|| (answered, count(&|health| health.is_answering(now))))
}

impl fmt::Display for ObserverTimeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, observer, state, cycle, generation, cycles, failed_cycles: failed, .. } = self;
        let paused = if self.paused { ", paused" } else { "" };
        let data = match self.freshness.age() {
            None => "no data yet".to_owned(),
            _ if self.answered == Some(0) => "NO DATA: none of its sources ever answered".to_owned(),
            Some(age) if self.freshness.is_stale() => format!("STALE, data of {} ago", seconds(age)),
            _ if self.answering == Some(0) => "SILENT: none of its sources answers now".to_owned(),
            Some(age) => format!("fresh, data of {} ago", seconds(age)),
        };
        writeln!(f, "observer {} ({observer})", quoted(name))?;
        writeln!(f, "  {state}{paused}, cycle {cycle}, generation {generation}; {data}")?;
        let cycles = if *cycles == 1 { "1 cycle".to_owned() } else { format!("{cycles} cycles") };
        let or_more = if *failed < KEPT { "" } else { " or more" };
        write!(f, "  {cycles}, {failed}{or_more} failed; sources: ")?;
        match (self.sources.len(), self.answered) {
            (0, _) => writeln!(f, "NONE, so every statement about all sources holds")?,
            (_, None) => writeln!(f, "{}", listed(&self.sources))?,
            (all, Some(answered)) => {
                let now = self.answering.unwrap_or_default();
                let answer = if now == 1 { "answers" } else { "answer" };
                writeln!(f, "{}; {answered} of {all} answered, {now} {answer} now", listed(&self.sources))?;
            }
        }
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
