//! What each operator makes of a publication.

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

/// What an app's predicate is, once its type is forgotten.
pub(crate) type Predicate<'a, T> = Box<dyn FnMut(&T) -> Verdict + Send + 'a>;

/// What meets or violates a wait. Whatever looks at a snapshot is given the view of it that counts.
pub(crate) enum Judge<'a, O: Observer> {
    /// Met by a snapshot that satisfies the predicate.
    Eventually(Predicate<'a, ObservationSnapshot<O::Snapshot>>),
    /// Violated by a snapshot whose verdict is not `wanted`; met at the end.
    Always { wanted: bool, predicate: Predicate<'a, ObservationSnapshot<O::Snapshot>> },
    /// Met when the run of equal values is as long as `hold`.
    Stable { hold: Duration, run: Unchanged<'a, ObservationSnapshot<O::Snapshot>> },
    /// Met by an event that satisfies the predicate.
    Event(Predicate<'a, O::Event>),
    /// Met by the machine's state.
    State(StateKind),
    /// Violated when the data turns stale; met at the end.
    StaysFresh,
    /// Met when the data turns stale.
    BecomesStale,
    /// Met by what is known of one source. Of one that is to vanish, `known`: it was in the set at some time;
    /// `left`: it has left it in a cycle that counts.
    Source { name: String, wish: SourceWish, known: bool, left: bool },
    /// Met by a source set that satisfies the predicate.
    Set(Predicate<'a, [Arc<str>]>),
}

/// What is waited for of one source.
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
    /// Whether the snapshot shows the value of the one before; `None` when it shows none.
    same: Compare<'a, S>,
    /// When the run began.
    since: Option<Instant>,
    /// How often another value was seen.
    pub(crate) changes: u64,
}

impl<'a, S> Unchanged<'a, S> {
    pub(crate) fn new<K>(project: impl FnMut(&S) -> Option<K> + Send + 'a) -> Self
    where
        K: PartialEq + Send + 'a,
    {
        // Both are the app's, and the closure drops them in one go.
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

    /// Takes a snapshot of this moment; returns how long its value has been the same.
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

    /// How long it is at this moment, if nothing has changed since the last snapshot.
    pub(crate) fn length(&self, at: Instant) -> Duration {
        self.since.map_or(Duration::ZERO, |since| at.saturating_duration_since(since))
    }

    /// What lies between is not known.
    pub(crate) fn interrupt(&mut self) {
        self.since = None;
    }
}

/// The result of judging one publication.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Nothing yet, for this reason if there is one.
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
    /// For one source. Whether it is known is seen when the wait is made.
    pub(crate) fn source(name: &str, wish: SourceWish) -> Self {
        Self::Source { name: name.to_owned(), wish, known: false, left: false }
    }

    /// Judges a snapshot that counts and is fresh: `view` is what was asked of it since the start.
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

    /// Judges those events of a fresh cycle that count: `asked` says which.
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

    /// Judges the source set; `counts` says whether it was refreshed in a cycle that counts, and was not judged
    /// before.
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

    /// Whether it is about time rather than about what is published.
    pub(crate) fn is_about_freshness(&self) -> bool {
        matches!(self, Self::StaysFresh | Self::BecomesStale)
    }

    /// Whether it is about the source set, which is known before anything is polled.
    pub(crate) fn is_about_the_set(&self) -> bool {
        matches!(self, Self::Set(_) | Self::Source { wish: SourceWish::Vanished, .. })
    }

    /// Whether a part of the sources is not enough: what has not been asked yet must not break it.
    pub(crate) fn needs_all_sources(&self) -> bool {
        matches!(self, Self::Always { .. } | Self::Stable { .. })
    }

    /// Whether it is met by reaching the end of its window.
    pub(crate) fn holds_at_the_end(&self) -> bool {
        matches!(self, Self::Always { .. } | Self::StaysFresh)
    }
}

/// What is known of one source.
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
    // To be stale is a fact of now about an answer of before: the view has no answer of before.
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

/// The sources of the set that were not asked since then, or of which nothing is known yet: neither an answer nor
/// a failure, nor that they are silent. None where the observer keeps nothing by source.
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
