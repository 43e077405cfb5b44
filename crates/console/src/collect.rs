//! Reads observations into frames.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper::group::{AnyHandle, GroupStatus};
use watchkeeper::runtime::State;
use watchkeeper::source::SourceHealth;
use watchkeeper::{ObservationFailure, ObservationFailureStage, ObservationHandle, Observer};

use crate::frame::{Frame, Kind, Latencies, Row, RowState};

/// Shows the value of a source.
pub(crate) type Show<S> = Box<dyn Fn(&S, &str) -> Option<String> + Send + Sync>;

/// Returns the observations of a group.
pub(crate) type Members = Box<dyn Fn() -> Vec<AnyHandle> + Send + Sync>;

/// What a frame is made of.
pub(crate) trait Watched: Send {
    fn frame(&mut self, now: Instant) -> Frame;
}

/// The sources of one observation.
pub(crate) struct Sources<O: Observer> {
    pub(crate) handle: ObservationHandle<O>,
    pub(crate) show: Option<Show<O::Snapshot>>,
    pub(crate) seen: Seen,
    pub(crate) asked: Asked,
}

/// The observations of a group.
pub(crate) struct Observations {
    pub(crate) members: Members,
    pub(crate) name: String,
    /// By member: its status does not say since when it polls.
    pub(crate) asked: HashMap<Arc<str>, Asked>,
}

/// What earlier looks have found: a snapshot holds only the newest latency.
#[derive(Default)]
pub(crate) struct Seen(HashMap<Arc<str>, (u64, Latencies)>);

impl Seen {
    /// Adds `latency` if it is of another answer than at the last look.
    fn note(&mut self, name: &Arc<str>, answers: u64, latency: Option<Duration>) -> Latencies {
        let (known, latencies) = self.0.entry(Arc::clone(name)).or_default();
        if answers != *known {
            *known = answers;
            latencies.extend(latency);
        }
        latencies.clone()
    }

    fn keep(&mut self, names: &[Arc<str>]) {
        if self.0.len() > names.len() {
            let names: HashSet<&Arc<str>> = names.iter().collect();
            self.0.retain(|name, _| names.contains(name));
        }
    }
}

/// Since when the sources of an observation have been asked without a publication after it, as far as looks have found.
///
/// A poll that hangs is cut off: then its state is failed, and then starting, and the last snapshot is still the one of
/// before.
#[derive(Default)]
pub(crate) struct Asked {
    since: Option<Instant>,
    /// The begin of the newest success when that was found.
    last_success: Option<Instant>,
}

impl Asked {
    fn look(
        &mut self,
        state: State,
        entered: Instant,
        last_success: Option<Instant>,
        failure: Option<&ObservationFailure>,
    ) -> Option<Instant> {
        if self.last_success != last_success {
            *self = Self { since: None, last_success };
        }
        let asks = match state {
            State::Polling | State::Starting => Some(entered),
            // A provider that fails is before any source is asked.
            State::Failed { stage, .. } if stage != ObservationFailureStage::SourceRefresh => {
                let began = failure.and_then(|failure| failure.observed_at.checked_sub(failure.elapsed));
                Some(began.unwrap_or(entered))
            }
            State::Failed { .. } | State::Refreshing => None,
            State::Idle | State::Stopped { .. } => {
                self.since = None;
                None
            }
        };
        self.since = self.since.or(asks);
        self.since
    }
}

impl<O: Observer> Watched for Sources<O> {
    fn frame(&mut self, now: Instant) -> Frame {
        let status = self.handle.status();
        self.seen.keep(&status.source_names);
        let stopped = matches!(status.state, State::Stopped { .. });
        // A probe that began with the poll in flight is in no snapshot yet.
        let failure = status.last_error.as_deref();
        let asked = self.asked.look(status.state, status.since, status.freshness.last_success(), failure);
        let snapshot = status.snapshot.as_deref().map(|snapshot| &snapshot.value);
        let stale = status.freshness.is_stale();
        let row = |name: &Arc<str>| {
            let health = snapshot.and_then(|snapshot| O::source_health(snapshot, name));
            let show = self.show.as_ref().zip(snapshot);
            let value = show.and_then(|(show, snapshot)| show(snapshot, name));
            let mut row = match &health {
                Some(health) => of_source(health, asked, now, &mut self.seen, name),
                None => Row { state: unheard(snapshot.is_some(), stale), ..Row::default() },
            };
            row.name = name.to_string();
            row.value = value;
            if stopped {
                row.state = RowState::Stopped;
            }
            row
        };
        Frame {
            name: self.handle.name().map_or_else(String::new, ToString::to_string),
            kind: Kind::Sources,
            state: said(status.state),
            failures: failures(status.state),
            paused: status.paused,
            generation: Some(status.generation),
            cycle: Some(status.cycle),
            fresh: (!status.freshness.never_succeeded()).then(|| status.freshness.is_fresh() && !stopped),
            age: status.freshness.age(),
            last_error: failure.map(reason),
            rows: status.source_names.iter().map(row).collect(),
            ..Frame::default()
        }
    }
}

/// A source of which nothing is known by itself.
fn unheard(polled: bool, stale: bool) -> RowState {
    match (polled, stale) {
        (false, _) => RowState::Never,
        (true, true) => RowState::Stale,
        (true, false) => RowState::Unknown,
    }
}

/// Judges by the library's own rule of what is *answering*, at `now` and not at the time of the snapshot.
fn of_source(
    health: &SourceHealth,
    asked: Option<Instant>,
    now: Instant,
    seen: &mut Seen,
    name: &Arc<str>,
) -> Row {
    let health = in_flight(health.clone(), asked);
    let (facts, freshness) = (&health.facts, health.freshness(now));
    let state = match () {
        () if health.is_failing() => RowState::Failing,
        () if freshness.never_succeeded() => RowState::Never,
        () if freshness.is_stale() => RowState::Stale,
        () if health.is_answering(now) => RowState::Fresh,
        () => RowState::Silent,
    };
    let failure = facts.last_failure.as_ref().filter(|_| health.is_failing());
    Row {
        state,
        age: freshness.age(),
        in_flight: facts.in_flight_since.map(|since| now.saturating_duration_since(since)),
        error: failure.map(ToString::to_string),
        latencies: seen.note(name, facts.answers, facts.last_elapsed),
        ..Row::default()
    }
}

/// The probe that began after the snapshot, if the snapshot has none in flight.
fn in_flight(mut health: SourceHealth, asked: Option<Instant>) -> SourceHealth {
    health.facts.in_flight_since = health.facts.in_flight_since.or(asked);
    health
}

impl Watched for Observations {
    fn frame(&mut self, now: Instant) -> Frame {
        let members = (self.members)();
        if self.asked.len() > members.len() {
            let names: HashSet<&Arc<str>> = members.iter().map(AnyHandle::name).collect();
            self.asked.retain(|name, _| names.contains(name));
        }
        let rows: Vec<Row> = members.iter().map(|member| self.row(member, now)).collect();
        let observations = if rows.len() == 1 { "observation" } else { "observations" };
        Frame {
            name: self.name.clone(),
            kind: Kind::Observations,
            state: format!("{} {observations}", rows.len()),
            rows,
            ..Frame::default()
        }
    }
}

impl Observations {
    fn row(&mut self, member: &AnyHandle, now: Instant) -> Row {
        let status = member.status();
        let asked = self.asked.entry(Arc::clone(&status.name)).or_default();
        let failure = status.last_error.as_deref();
        let asked = asked.look(status.state, now, status.freshness.last_success(), failure);
        let names = &status.source_names;
        let health = member.look(|seen| {
            let health = names.iter().filter_map(|name| seen.source_health(name));
            health.map(|health| in_flight(health, asked).is_answering(now)).collect::<Vec<bool>>()
        });
        let health = health.unwrap_or_default();
        let answering = health.iter().filter(|answers| **answers).count();
        let sources = match (health.len(), names.len()) {
            (0, 1) => "1 source".to_owned(),
            (0, all) => format!("{all} sources"),
            (_, all) => format!("{answering} of {all} answer"),
        };
        Row {
            name: member.name().to_string(),
            state: of_observation(&status, answering < health.len()),
            value: Some(sources),
            activity: Some(format!("{}, cycle {}", said(status.state), status.cycle)),
            age: status.freshness.age(),
            error: failure.map(reason),
            ..Row::default()
        }
    }
}

/// An observation is no better than its data, and not fresh while a source of it does not answer.
fn of_observation(status: &GroupStatus, lacking: bool) -> RowState {
    match status.state {
        State::Stopped { .. } => RowState::Stopped,
        _ if status.last_error.is_some() => RowState::Failing,
        _ if status.freshness.never_succeeded() => RowState::Never,
        _ if status.freshness.is_stale() => RowState::Stale,
        _ if status.paused => RowState::Paused,
        _ if lacking => RowState::Partial,
        _ => RowState::Fresh,
    }
}

fn said(state: State) -> String {
    match state {
        State::Stopped { reason } => format!("stopped: {reason}"),
        State::Failed { stage, .. } => format!("failed in {stage}"),
        other => other.kind().to_string(),
    }
}

fn failures(state: State) -> u64 {
    if let State::Failed { consecutive, .. } = state { consecutive } else { 0 }
}

/// Without the cycle: the same failure again is no other one.
fn reason(failure: &ObservationFailure) -> String {
    format!("failed in {}: {}", failure.stage, failure.message)
}
