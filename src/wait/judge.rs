//! How each operator judges a publication.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper_fsm::StateKind;

use super::verdict::Verdict;
use crate::explain::{has_source, may_be_known_later};
use crate::observer::Observer;
use crate::panics::AppValue;
use crate::publish::history::ObservationBatch;
use crate::source::duplicates::health_of;
use crate::status::{ObservationSnapshot, Published};
use crate::text::{NAME, quoted};

/// An app's predicate with its type erased.
pub(crate) type Predicate<'a, T> = Box<dyn FnMut(&T) -> Verdict + Send + 'a>;

/// The condition that meets or violates a wait. Snapshots are judged without data from before the start.
pub(crate) enum Judge<'a, O: Observer> {
    /// Met by a snapshot that satisfies the predicate.
    Eventually(Predicate<'a, ObservationSnapshot<O::Snapshot>>),
    /// Violated by a snapshot whose verdict is not `wanted`; met at the end.
    Always { wanted: bool, predicate: Predicate<'a, ObservationSnapshot<O::Snapshot>> },
    /// Met when a value has been the same for at least `hold`.
    Stable { hold: Duration, run: Unchanged<'a, ObservationSnapshot<O::Snapshot>> },
    /// Met by an event that satisfies the predicate.
    Event(Predicate<'a, O::Event>),
    /// Met by the machine's state.
    State(StateKind),
    /// Violated when the data turns stale; met at the end.
    StaysFresh,
    /// Met when the data turns stale.
    BecomesStale,
    /// Met by the health of one source, or by its leaving the set. For `Vanished`, `known` is true if the source was
    /// ever in the set, and `left` if it left the set in a cycle that counts.
    Source { name: String, wish: SourceWish, known: bool, left: bool },
    /// Met by a source set that satisfies the predicate.
    Set(Predicate<'a, [Arc<str>]>),
}

/// The condition of a wait for one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SourceWish {
    Fresh,
    Stale,
    Failing,
    Vanished,
}

impl SourceWish {
    pub(crate) fn label(self, name: &str) -> String {
        let is = match self {
            Self::Fresh => "is fresh",
            Self::Stale => "is stale",
            Self::Failing => "is failing",
            Self::Vanished => "has vanished",
        };
        format!("source {} {is}", quoted(name, NAME))
    }
}

type Compare<'a, S> = Box<dyn FnMut(&S) -> Option<bool> + Send + 'a>;

/// How long a value has been the same.
pub(crate) struct Unchanged<'a, S> {
    /// Compares the snapshot's value with the previous one; `None` if the snapshot has no value.
    same: Compare<'a, S>,
    /// When the current run of equal values began.
    since: Option<Instant>,
    /// How many runs of equal values began.
    pub(crate) changes: u64,
}

impl<'a, S> Unchanged<'a, S> {
    pub(crate) fn new<K>(project: impl FnMut(&S) -> Option<K> + Send + 'a) -> Self
    where
        K: PartialEq + Send + 'a,
    {
        // The closure drops both of the app's values together.
        let mut project = AppValue::new(project);
        let mut last: Option<AppValue<K>> = None;
        let same = move |snapshot: &S| {
            let value = (*project)(snapshot).map(AppValue::new);
            let same = value.is_some().then(|| value.as_deref() == last.as_deref());
            last = value;
            same
        };
        Self { same: Box::new(same), since: None, changes: 0 }
    }

    /// Takes the snapshot of `at`; returns how long its value has been the same.
    fn extend(&mut self, at: Instant, value: &S) -> Duration {
        self.since = match ((self.same)(value), self.since) {
            (None, _) => None,
            (Some(true), Some(since)) => Some(since),
            (Some(_), _) => {
                self.changes += 1;
                Some(at)
            }
        };
        self.length(at)
    }

    /// How long the value has been the same at `at`, if it has not changed since the last snapshot.
    pub(crate) fn length(&self, at: Instant) -> Duration {
        self.since.map_or(Duration::ZERO, |since| at.saturating_duration_since(since))
    }

    /// Starts again: the value is unknown between the last snapshot and the next.
    pub(crate) fn interrupt(&mut self) {
        self.since = None;
    }
}

/// The result of judging one publication.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Not decided yet, with the reason if there is one.
    Open(Option<String>),
    Met,
    /// Met by this event of the batch.
    MetBy(usize),
    Violated(Option<String>),
    GaveUp(String),
    /// The observer keeps nothing by source.
    NoSourceHealth,
}

impl Finding {
    fn met_if(met: bool) -> Self {
        if met { Self::Met } else { Self::Open(None) }
    }
}

impl From<Verdict> for Finding {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Met => Self::Met,
            Verdict::NotYet(reason) => Self::Open(some(reason)),
            Verdict::GiveUp(reason) => Self::GaveUp(reason),
        }
    }
}

fn some(reason: String) -> Option<String> {
    (!reason.is_empty()).then_some(reason)
}

impl<O: Observer> Judge<'_, O> {
    /// For one source. `known` is set when the wait is made.
    pub(crate) fn source(name: &str, wish: SourceWish) -> Self {
        Self::Source { name: name.to_owned(), wish, known: false, left: false }
    }

    /// Judges a fresh snapshot that counts; `view` has only the data asked for since the start.
    pub(crate) fn snapshot(
        &mut self,
        at: Instant,
        status: &Published<O::Snapshot>,
        view: &Arc<ObservationSnapshot<O::Snapshot>>,
    ) -> Finding {
        match self {
            Self::Eventually(predicate) => predicate(view).into(),
            Self::Always { wanted, predicate } => match (predicate(view), *wanted) {
                (Verdict::Met, true) | (Verdict::NotYet(_), false) => Finding::Open(None),
                (Verdict::Met, false) => Finding::Violated(None),
                (Verdict::NotYet(reason), true) => Finding::Violated(some(reason)),
                (Verdict::GiveUp(reason), _) => Finding::GaveUp(reason),
            },
            Self::Stable { hold, run } => Finding::met_if(run.extend(at, view) >= *hold),
            Self::Source { name, wish, .. } => source::<O>(at, status, view, name, *wish),
            Self::Set(_) | Self::Event(_) | Self::State(_) | Self::StaysFresh | Self::BecomesStale => {
                Finding::Open(None)
            }
        }
    }

    /// Judges the events of a fresh cycle for which `asked` returns true.
    pub(crate) fn batch(
        &mut self,
        batch: &ObservationBatch<O::Event>,
        asked: impl Fn(&O::Event) -> bool,
    ) -> Finding {
        let mut said = None;
        if let Self::Event(predicate) = self {
            for (index, event) in batch.events.iter().enumerate().filter(|(_, event)| asked(event)) {
                match predicate(event) {
                    Verdict::Met => return Finding::MetBy(index),
                    Verdict::NotYet(reason) => said = some(reason),
                    Verdict::GiveUp(reason) => return Finding::GaveUp(reason),
                }
            }
        }
        Finding::Open(said)
    }

    /// Judges the source set; `counts` is true for the first judgement of a refresh in a cycle that counts.
    pub(crate) fn set(&mut self, status: &Published<O::Snapshot>, counts: bool) -> Finding {
        match self {
            Self::Set(predicate) if counts => predicate(&status.source_names).into(),
            Self::Source { name, wish: SourceWish::Vanished, known, left } => {
                let there = has_source(status, name);
                *known |= there;
                *left |= counts && *known && !there;
                Finding::met_if(*left)
            }
            _ => Finding::Open(None),
        }
    }

    /// Whether the condition is about time rather than about publications.
    pub(crate) fn is_about_freshness(&self) -> bool {
        matches!(self, Self::StaysFresh | Self::BecomesStale)
    }

    /// Whether the condition is about the source set, which is known before the poll.
    pub(crate) fn is_about_the_set(&self) -> bool {
        matches!(self, Self::Set(_) | Self::Source { wish: SourceWish::Vanished, .. })
    }

    /// Whether the condition needs all sources: a source that has not been asked yet must not violate it.
    pub(crate) fn needs_all_sources(&self) -> bool {
        matches!(self, Self::Always { .. } | Self::Stable { .. })
    }

    /// Whether the condition is met by reaching the end of the window.
    pub(crate) fn holds_at_the_end(&self) -> bool {
        matches!(self, Self::Always { .. } | Self::StaysFresh)
    }
}

/// Judges one source.
fn source<O: Observer>(
    at: Instant,
    status: &Published<O::Snapshot>,
    view: &ObservationSnapshot<O::Snapshot>,
    name: &str,
    wish: SourceWish,
) -> Finding {
    let Some(snapshot) = status.snapshot.as_ref().filter(|_| has_source(status, name)) else {
        return Finding::Open(None);
    };
    // A stale answer may be from before the start, and the view does not show such an answer.
    let shows = if wish == SourceWish::Stale { &**snapshot } else { view };
    match health_of::<O>(shows, name) {
        Some(health) => Finding::met_if(match wish {
            SourceWish::Fresh => health.is_answering(at),
            SourceWish::Stale => health.freshness(at).is_stale(),
            SourceWish::Failing => health.is_failing(),
            SourceWish::Vanished => false,
        }),
        None if may_be_known_later::<O>(status, snapshot) => Finding::Open(None),
        None => Finding::NoSourceHealth,
    }
}

/// The sources of the set that were not asked since `since`, or have neither answered, failed nor been silent long
/// enough by `at`. Empty if the observer keeps nothing by source.
pub(crate) fn unheard<O: Observer>(
    status: &Published<O::Snapshot>,
    since: Instant,
    at: Instant,
) -> Vec<Arc<str>> {
    let Some(snapshot) = &status.snapshot else { return Vec::new() };
    let mut kept = false;
    let mut is_unheard = |name: &&Arc<str>| {
        let health = O::source_health(&snapshot.value, name);
        kept |= health.is_some();
        health.is_none_or(|health| !health.was_heard(since, at))
    };
    let unheard: Vec<_> = status.source_names.iter().filter(&mut is_unheard).cloned().collect();
    if kept { unheard } else { Vec::new() }
}
