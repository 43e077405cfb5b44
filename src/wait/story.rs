//! The lifecycle of the runtime and of its sources inside a window.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper_fsm::State;

use super::evidence::Evidence;
use crate::error::ObservationFailure;
use crate::observer::Observer;
use crate::panics::catch;
use crate::publish::log::{Entry, LogEvent, is_same};
use crate::publish::shared::Logged;
use crate::source::duplicates::health_of;
use crate::status::Published;
use crate::text::{MESSAGE, NAME, NAMES, names, one_line};

/// Bytes of a lifecycle in a report.
const LIFECYCLE: usize = 3_500;
/// Lines of a lifecycle in a report.
const LINES: usize = 64;
/// Bytes of the kept sources.
const SOURCES: usize = 8 * 1_024;

/// The runtime's lifecycle, for a report.
#[derive(Clone, Debug, Default)]
pub(super) struct Lifecycle {
    pub(super) lines: Vec<(Duration, String)>,
    /// How many older entries are known but not shown.
    pub(super) more: u64,
    /// Older entries are no longer known.
    pub(super) cut: bool,
}

/// The first and last status with the log entries between them; if these are too long, the newest ones.
pub(super) fn lifecycle<S, E>(
    evidence: &Evidence<S, E>,
    logged: &Logged,
    began: Instant,
    ended: Instant,
) -> Lifecycle {
    let entries: Vec<_> =
        logged.entries.iter().filter_map(|entry| inside(evidence, logged, entry, (began, ended))).collect();
    let first = (began, describe(&evidence.first));
    let last = (ended, describe(&evidence.status));
    let mut from = entries.len().saturating_sub(LINES);
    let lines = loop {
        let lines = in_words(&entries[from..]);
        if from == entries.len() || lines.iter().map(|(_, what)| what.len() + 16).sum::<usize>() <= LIFECYCLE
        {
            break lines;
        }
        from += 1;
    };
    let lines = std::iter::once(first).chain(lines).chain([last]);
    let lines = lines.map(|(at, what)| (at.saturating_duration_since(began), what)).collect();
    Lifecycle { lines, more: from as u64, cut: logged.cut }
}

/// The part of a log entry that lies inside the window.
enum Part {
    Text(String),
    Failed { first: u64, last: u64, last_at: Instant, failure: Arc<ObservationFailure> },
}

/// Entries as text. A repeated error is printed once.
fn in_words(entries: &[(Instant, Part)]) -> Vec<(Instant, String)> {
    let mut failures: Vec<(u64, &ObservationFailure)> = Vec::new();
    let mut lines = Vec::with_capacity(entries.len());
    for (at, part) in entries {
        let what = match part {
            Part::Text(said) => said.clone(),
            Part::Failed { first, last, last_at, failure } => {
                let known = failures.iter().find(|(_, known)| is_same(known, failure));
                let why = match known {
                    Some((cycle, _)) => format!("as in cycle {cycle}"),
                    None => one_line(&failure.message, MESSAGE),
                };
                if known.is_none() {
                    failures.push((*first, failure));
                }
                let stage = failure.stage;
                if first == last {
                    format!("cycle {first} failed in {stage}: {why}")
                } else {
                    let times = last - first + 1;
                    let after = last_at.saturating_duration_since(*at).as_secs_f64();
                    format!("cycles {first} to {last} failed in {stage}, {times} times in {after:.3}s: {why}")
                }
            }
        };
        lines.push((*at, what));
    }
    lines
}

/// The part of an entry between the begin and the end of the wait.
fn inside<S, E>(
    evidence: &Evidence<S, E>,
    logged: &Logged,
    entry: &Entry,
    (start, ended): (Instant, Instant),
) -> Option<(Instant, Part)> {
    // An entry may have begun before the window and may continue after it.
    let (first, last) = (&evidence.first, &evidence.status);
    match &entry.what {
        &LogEvent::Succeeded { first: began, last: cycle } => {
            let known = first.snapshot.as_ref().map_or(0, |snapshot| snapshot.cycle + 1);
            let began = began.max(known);
            let (at, cycle) = match &last.snapshot {
                Some(snapshot) if entry.number > last.number => {
                    (snapshot.observed_at, cycle.min(snapshot.cycle))
                }
                _ => (entry.at, cycle),
            };
            let said = if began == cycle {
                format!("cycle {cycle} succeeded")
            } else {
                format!("cycles {began} to {cycle} succeeded")
            };
            (began <= cycle && at <= ended).then_some((at, Part::Text(said)))
        }
        LogEvent::Failed { first: failure, last: cycle } => {
            let known = first.last_error.as_ref().map_or(0, |known| known.cycle + 1);
            let began = failure.cycle.max(known);
            let (last_at, cycle) = match &last.last_error {
                Some(newest) if entry.number > last.number => {
                    (newest.observed_at, (*cycle).min(newest.cycle))
                }
                _ => (entry.at, *cycle),
            };
            // The failure of this cycle may be no longer kept.
            let of_began = logged.failures.iter().find(|failure| failure.cycle == began);
            let at = of_began.map_or(failure.observed_at.max(start), |failure| failure.observed_at);
            let failure = Arc::clone(failure);
            let part = Part::Failed { first: began, last: cycle, last_at, failure };
            (began <= cycle && last_at <= ended).then_some((at, part))
        }
        _ if entry.at > ended => None,
        LogEvent::Sources(change) => Some((entry.at, Part::Text(change.said.to_string()))),
        LogEvent::Paused => Some((entry.at, Part::Text("paused".to_owned()))),
        LogEvent::Resumed => Some((entry.at, Part::Text("resumed".to_owned()))),
        LogEvent::Entered(State::Starting) => {
            let said = "starting: the observer's state is built again".to_owned();
            Some((entry.at, Part::Text(said)))
        }
        LogEvent::Entered(state) => Some((entry.at, Part::Text(state.to_string()))),
    }
}

fn describe<S>(status: &Published<S>) -> String {
    let paused = if status.paused { ", paused" } else { "" };
    format!("{}, cycle {}{paused}", status.state, status.cycle)
}

/// The sources at the end of a window, for a report.
#[derive(Clone, Debug, Default)]
pub(super) struct Sources {
    #[cfg_attr(not(feature = "json"), allow(dead_code, reason = "for JSON"))]
    pub(super) count: usize,
    pub(super) names: String,
    /// The kept sources, in the provider's order. Sources in trouble are kept first.
    pub(super) known: Vec<SourceStory>,
    /// How many sources are in trouble.
    pub(super) troubled: usize,
    /// The panic of the observer when it was asked for the health of a source.
    pub(super) panicked: Option<String>,
}

#[derive(Clone, Debug)]
pub(super) struct SourceStory {
    pub(super) name: String,
    /// How many probes failed inside the window.
    pub(super) failures: u64,
    /// How many probes have failed since the last answer.
    pub(super) consecutive: u64,
    /// Why the source is in trouble.
    pub(super) trouble: Option<String>,
}

impl SourceStory {
    pub(super) fn is_troubled(&self) -> bool {
        self.trouble.is_some() || self.failures > 0
    }

    fn bytes(&self) -> usize {
        self.name.len() + self.trouble.as_ref().map_or(0, String::len) + 80
    }
}

/// Asks the observer for the health of each source, which is app code.
pub(super) fn sources<O: Observer>(
    first: &Published<O::Snapshot>,
    last: &Published<O::Snapshot>,
    ended: Instant,
) -> Sources {
    let mut sources = Sources {
        count: last.source_names.len(),
        names: names(last.source_names.iter().map(|name| &**name), NAMES),
        ..Sources::default()
    };
    if let Err(panic) = catch(|| look::<O>(first, last, ended, &mut sources)) {
        sources.panicked = Some(one_line(&panic, MESSAGE));
    }
    sources
}

fn look<O: Observer>(
    first: &Published<O::Snapshot>,
    last: &Published<O::Snapshot>,
    ended: Instant,
    sources: &mut Sources,
) {
    let health = |status: &Published<O::Snapshot>, name: &str| {
        status.snapshot.as_ref().and_then(|snapshot| health_of::<O>(snapshot, name))
    };
    let mut room = SOURCES;
    let mut kept = Vec::new();
    let mut quiet = Vec::new();
    for (place, name) in last.source_names.iter().enumerate() {
        let now = health(last, name);
        let before = health(first, name).map_or(0, |health| health.facts.failures);
        let failures = now.as_ref().map_or(0, |health| health.facts.failures.saturating_sub(before));
        let consecutive = now.as_ref().map_or(0, |health| health.facts.consecutive_failures);
        let trouble = now.filter(|health| health.is_failing() || !health.freshness(ended).is_fresh());
        if trouble.is_none() && failures == 0 {
            quiet.push(place);
            continue;
        }
        sources.troubled += 1;
        if room > 0 {
            let trouble = trouble.map(|health| health.explain(name, ended));
            let source = SourceStory { name: one_line(name, NAME), failures, consecutive, trouble };
            room = room.saturating_sub(source.bytes());
            kept.push((place, source));
        }
    }
    for place in quiet {
        let name = one_line(&last.source_names[place], NAME);
        let source = SourceStory { name, failures: 0, consecutive: 0, trouble: None };
        if room < source.bytes() {
            break;
        }
        room -= source.bytes();
        kept.push((place, source));
    }
    kept.sort_by_key(|(place, _)| *place);
    sources.known = kept.into_iter().map(|(_, source)| source).collect();
}
