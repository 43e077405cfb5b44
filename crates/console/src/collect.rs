//! Reads observations into frames.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper::group::{AnyHandle, GroupStatus};
use watchkeeper::runtime::{State, StateKind};
use watchkeeper::source::SourceHealth;
use watchkeeper::{ObservationHandle, Observer};

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
}

/// The observations of a group.
pub(crate) struct Observations {
    pub(crate) members: Members,
    pub(crate) name: String,
    pub(crate) polling: Polling,
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

/// Since when each member of a group polls, as far as looks have found: the status of a member does not say.
#[derive(Default)]
pub(crate) struct Polling(HashMap<Arc<str>, (u64, Instant)>);

impl Polling {
    fn since(&mut self, status: &GroupStatus, now: Instant) -> Option<Instant> {
        if status.state.kind() != StateKind::Polling {
            self.0.remove(&status.name);
            return None;
        }
        let (cycle, since) = self.0.entry(Arc::clone(&status.name)).or_insert((status.cycle, now));
        if *cycle != status.cycle {
            (*cycle, *since) = (status.cycle, now);
        }
        Some(*since)
    }
}

impl<O: Observer> Watched for Sources<O> {
    fn frame(&mut self, now: Instant) -> Frame {
        let status = self.handle.status();
        self.seen.keep(&status.source_names);
        let stopped = matches!(status.state, State::Stopped { .. });
        // A probe that began with the poll in flight is in no snapshot yet.
        let polling = (status.state.kind() == StateKind::Polling).then_some(status.since);
        let snapshot = status.snapshot.as_deref().map(|snapshot| &snapshot.value);
        let stale = status.freshness.is_stale();
        let row = |name: &Arc<str>| {
            let health = snapshot.and_then(|snapshot| O::source_health(snapshot, name));
            let show = self.show.as_ref().zip(snapshot);
            let value = show.and_then(|(show, snapshot)| show(snapshot, name));
            let mut row = match &health {
                Some(health) => of_source(health, polling, now, &mut self.seen, name),
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
            at: Duration::ZERO,
            kind: Kind::Sources,
            state: said(status.state),
            paused: status.paused,
            generation: Some(status.generation),
            cycle: Some(status.cycle),
            fresh: (!status.freshness.never_succeeded()).then(|| status.freshness.is_fresh() && !stopped),
            age: status.freshness.age(),
            last_error: status.last_error.as_ref().map(ToString::to_string),
            late: None,
            was_late: None,
            rows: status.source_names.iter().map(row).collect(),
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
    polling: Option<Instant>,
    now: Instant,
    seen: &mut Seen,
    name: &Arc<str>,
) -> Row {
    let health = in_flight(health.clone(), polling);
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
        name: String::new(),
        state,
        value: None,
        age: freshness.age(),
        in_flight: facts.in_flight_since.map(|since| now.saturating_duration_since(since)),
        error: failure.map(ToString::to_string),
        latencies: seen.note(name, facts.answers, facts.last_elapsed),
    }
}

/// The probe of the poll in flight, if the snapshot has none.
fn in_flight(mut health: SourceHealth, polling: Option<Instant>) -> SourceHealth {
    health.facts.in_flight_since = health.facts.in_flight_since.or(polling);
    health
}

impl Watched for Observations {
    fn frame(&mut self, now: Instant) -> Frame {
        let members = (self.members)();
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
        let polling = self.polling.since(&status, now);
        let names = &status.source_names;
        let health = member.look(|seen| {
            let health = names.iter().filter_map(|name| seen.source_health(name));
            health.map(|health| in_flight(health, polling).is_answering(now)).collect::<Vec<bool>>()
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
            value: Some(format!("{}, cycle {}, {sources}", said(status.state), status.cycle)),
            age: status.freshness.age(),
            error: status.last_error.as_ref().map(ToString::to_string),
            ..Row::default()
        }
    }
}

/// An observation is no better than its data, and not fresh while a source of it does not answer.
fn of_observation(status: &GroupStatus, lacking: bool) -> RowState {
    match status.state {
        State::Stopped { .. } => RowState::Stopped,
        State::Failed { .. } => RowState::Failing,
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
        State::Failed { stage, consecutive, .. } if consecutive > 1 => {
            format!("failed in {stage}, {consecutive} consecutive times")
        }
        State::Failed { stage, .. } => format!("failed in {stage}"),
        other => other.kind().to_string(),
    }
}
