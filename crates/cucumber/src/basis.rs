//! How much a run has run and observed, over all its scenarios.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use cucumber::gherkin::{Feature, Scenario};
use tokio::time::Instant;
use watchkeeper::group::{AnyHandle, AnySnapshot};
use watchkeeper::report::{names, one_line};
use watchkeeper::source::SourceHealth;

use crate::shown::LIST;

/// Of the name of an observer or source.
const NAME: usize = 100;

/// The sum over all scenarios of this process that have ended since the last [`take`]. It is static because a World
/// cannot pass anything to the code after the run.
static RUN: Mutex<Basis> = Mutex::new(Basis::new());

#[derive(Debug, Default)]
pub(crate) struct Basis {
    /// By feature, the lines of its scenarios.
    features: BTreeMap<String, BTreeSet<usize>>,
    /// How many times a step has waited on, checked or controlled an observer.
    pub(crate) asked: u64,
    pub(crate) cycles: u64,
    /// How many snapshots invariants have judged.
    pub(crate) judged: u64,
    /// How many invariants were broken in scenarios that no hook has ended.
    pub(crate) unreported: u64,
    /// By `observer/source`, whether it has answered.
    sources: BTreeMap<String, bool>,
    /// By observer, whether it had sources when its scenario ended.
    observers: BTreeMap<String, bool>,
}

impl Basis {
    const fn new() -> Self {
        Self {
            features: BTreeMap::new(),
            asked: 0,
            cycles: 0,
            judged: 0,
            unreported: 0,
            sources: BTreeMap::new(),
            observers: BTreeMap::new(),
        }
    }

    /// Records which sources of an observer have answered a probe that began after `since`. Sources without health
    /// are left out.
    pub(crate) fn note(&mut self, observer: &AnyHandle, since: Option<Instant>) {
        let name = one_line(observer.name(), NAME);
        *self.observers.entry(name.clone()).or_default() |= !observer.status().source_names.is_empty();
        for (source, health) in healths(observer) {
            let is_ours = |asked: Instant| since.is_none_or(|since| asked > since);
            let answered = health.facts.last_success.is_some_and(is_ours);
            let answered_before =
                self.sources.entry(format!("{name}/{}", one_line(&source, NAME))).or_default();
            *answered_before |= answered;
        }
    }

    fn add(&mut self, other: Self) {
        for (feature, lines) in other.features {
            self.features.entry(feature).or_default().extend(lines);
        }
        for (source, answered) in other.sources {
            *self.sources.entry(source).or_default() |= answered;
        }
        for (observer, had_sources) in other.observers {
            *self.observers.entry(observer).or_default() |= had_sources;
        }
        self.asked += other.asked;
        self.cycles += other.cycles;
        self.judged += other.judged;
        self.unreported += other.unreported;
    }

    /// The summary, in one line.
    pub(crate) fn line(&self, passed: usize, skipped: usize) -> String {
        let scenarios: usize = self.features.values().map(BTreeSet::len).sum();
        let mut ran = Vec::new();
        if scenarios > 0 {
            ran.extend([counted(&self.features.len(), "feature"), counted(&scenarios, "scenario")]);
        }
        let skipped = if skipped > 0 { format!(" ({skipped} skipped)") } else { String::new() };
        ran.push(format!("{} that passed{skipped}", counted(&passed, "step")));
        if self.asked + self.judged == 0 {
            return format!(
                "this run rests on {}; no step has waited on an observer or checked one, so it proves nothing about \
                 what they saw",
                ran.join(", ")
            );
        }
        let checks = counted(&self.asked, "check");
        ran.push(format!("{checks} of observers by steps and {} by invariants", self.judged));
        ran.push(format!("in {}", counted(&self.cycles, "cycle")));
        let sources = |has_answered: bool| {
            let which = self.sources.iter().filter(|(_, has)| **has == has_answered);
            names(which.map(|(source, _)| &**source), LIST)
        };
        let silent = if self.sources.values().all(|answered| *answered) {
            String::new()
        } else {
            format!("; sources that never answered: {}", sources(false))
        };
        let empty = self.observers.iter().filter(|(_, had_sources)| !**had_sources);
        let empty: Vec<&str> = empty.map(|(name, _)| &**name).collect();
        let empty = if empty.is_empty() {
            String::new()
        } else {
            format!("; observers without sources: {}", names(empty, LIST))
        };
        format!(
            "this run rests on {}; sources that answered: {}{silent}{empty}",
            ran.join(", "),
            sources(true)
        )
    }
}

/// Records a scenario that was run. A scenario that is retried counts once.
pub(crate) fn scenario(feature: &Feature, scenario: &Scenario) {
    let path = feature.path.as_ref().map_or_else(|| feature.name.clone(), |path| path.display().to_string());
    with(|run| run.features.entry(path).or_default().insert(scenario.position.line));
}

/// Adds the numbers of one scenario.
pub(crate) fn add(basis: Basis) {
    with(|run| run.add(basis));
}

/// The sum over the scenarios that have ended since the last call.
pub(crate) fn take() -> Basis {
    with(std::mem::take)
}

fn with<T>(change: impl FnOnce(&mut Basis) -> T) -> T {
    // A panic under the lock leaves no number half changed.
    change(&mut RUN.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The health of each source for which the observer keeps it.
fn healths(observer: &AnyHandle) -> Vec<(Arc<str>, SourceHealth)> {
    healths_of(observer, &observer.status().source_names)
}

pub(crate) fn healths_of(observer: &AnyHandle, sources: &[Arc<str>]) -> Vec<(Arc<str>, SourceHealth)> {
    let look = || observer.look(|snapshot| healths_in(sources, snapshot));
    // Code of the observer: its panic must not keep a scenario from ending.
    catch_unwind(AssertUnwindSafe(look)).ok().flatten().unwrap_or_default()
}

pub(crate) fn healths_in(sources: &[Arc<str>], snapshot: AnySnapshot<'_>) -> Vec<(Arc<str>, SourceHealth)> {
    let health = |name: &Arc<str>| Some((Arc::clone(name), snapshot.source_health(name)?));
    sources.iter().filter_map(health).collect()
}

fn counted(count: &impl ToString, what: &str) -> String {
    let count = count.to_string();
    let plural = if count == "1" { "" } else { "s" };
    format!("{count} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_prints_what_it_rests_on() {
        let mut basis = Basis { asked: 3, cycles: 12, judged: 1, ..Basis::default() };
        basis.sources =
            [("raft/n1", true), ("raft/n2", false)].map(|(name, has)| (name.to_owned(), has)).into();
        let mut other = Basis { asked: 1, cycles: 1, ..Basis::default() };
        other.sources = [("raft/n1".to_owned(), false)].into();
        other.observers = [("raft".to_owned(), true), ("empty".to_owned(), false)].into();
        other.features = [("a.feature".to_owned(), BTreeSet::from([3, 9]))].into();
        basis.add(other);
        assert_eq!(
            basis.line(8, 0),
            "this run rests on 1 feature, 2 scenarios, 8 steps that passed, 4 checks of observers by steps and 1 by \
             invariants, in 13 cycles; sources that answered: raft/n1; sources that never answered: raft/n2; observers without sources: empty"
        );
        assert_eq!(
            Basis::default().line(1, 2),
            "this run rests on 1 step that passed (2 skipped); no step has waited on an observer or checked one, \
             so it proves nothing about what they saw"
        );
    }
}
