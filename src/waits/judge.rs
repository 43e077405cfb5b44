//! What each operator makes of a publication.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper_fsm::StateKind;

use crate::history::ObservationBatch;
use crate::observer::Observer;
use crate::status::{ObservationSnapshot, Published};
use crate::text::{NAME, quoted};

/// What an app's predicate is, once its type is forgotten.
pub(crate) type Predicate<'a, T> = Box<dyn FnMut(&T) -> bool + Send + 'a>;

/// A predicate on answers from some moment on.
pub(crate) type AnswersPredicate<'a, S> = Box<dyn FnMut(&S, Option<Instant>) -> bool + Send + 'a>;

/// What meets or violates a wait.
pub(crate) enum Judge<'a, O: Observer> {
    /// Met by a snapshot that satisfies the predicate.
    Eventually(Predicate<'a, ObservationSnapshot<O::Snapshot>>),
    /// The same, told from when on the answers of single sources count; `None` for all.
    Answered(AnswersPredicate<'a, O::Snapshot>),
    /// Violated by a snapshot whose verdict is not `wanted`; met at the end.
    Always { wanted: bool, predicate: Predicate<'a, ObservationSnapshot<O::Snapshot>> },
    /// Met when the run of equal values is as long as `hold`.
    Stable { hold: Duration, run: Run<'a, ObservationSnapshot<O::Snapshot>> },
    /// Met by an event that satisfies the predicate.
    Event(Predicate<'a, O::Event>),
    /// Met by the machine's state.
    State(StateKind),
    /// Violated when the data turns stale; met at the end.
    StaysFresh,
    /// Met when the data turns stale.
    BecomesStale,
    /// Met by what is known of one source.
    Source { name: String, wish: SourceWish, known: bool },
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
pub(crate) struct Run<'a, S> {
    /// Whether the snapshot shows the value of the one before; `None` when it shows none.
    same: Compare<'a, S>,
    /// When the run began.
    since: Option<Instant>,
    /// How often another value was seen.
    pub(crate) changes: u64,
}

impl<'a, S> Run<'a, S> {
    pub(crate) fn new<K>(mut project: impl FnMut(&S) -> Option<K> + Send + 'a) -> Self
    where
        K: PartialEq + Send + 'a,
    {
        let mut last = None;
        let same = move |snapshot: &S| {
            let value = project(snapshot);
            let same = value.is_some().then(|| value == last);
            last = value;
            same
        };
        Self { same: Box::new(same), since: None, changes: 0 }
    }

    /// Takes a snapshot of this moment; returns how long its value has been the same.
    fn extend(&mut self, at: Instant, value: &S) -> Duration {
        let since = match ((self.same)(value), self.since) {
            (None, _) => None,
            (Some(true), Some(since)) => Some(since),
            (Some(_), _) => {
                self.changes += 1;
                Some(at)
            }
        };
        self.since = since;
        since.map_or(Duration::ZERO, |since| at.saturating_duration_since(since))
    }

    /// What lies between is not known.
    pub(crate) fn interrupt(&mut self) {
        self.since = None;
    }
}

/// What a publication says of a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Nothing yet.
    Open,
    Met,
    /// Met by this event of the batch.
    MetBy(usize),
    Violated,
    /// The observer keeps nothing by source.
    NoSourceHealth,
}

impl Finding {
    fn met_if(met: bool) -> Self {
        if met { Self::Met } else { Self::Open }
    }
}

impl<O: Observer> Judge<'_, O> {
    /// Judges a snapshot that counts and is fresh.
    pub(crate) fn snapshot(
        &mut self,
        at: Instant,
        since: Option<Instant>,
        status: &Published<O::Snapshot>,
        snapshot: &Arc<ObservationSnapshot<O::Snapshot>>,
    ) -> Finding {
        match self {
            Self::Eventually(predicate) => Finding::met_if(predicate(snapshot)),
            Self::Answered(predicate) => Finding::met_if(predicate(&snapshot.value, since)),
            Self::Always { wanted, predicate } => {
                if predicate(snapshot) == *wanted {
                    Finding::Open
                } else {
                    Finding::Violated
                }
            }
            Self::Stable { hold, run } => Finding::met_if(run.extend(at, snapshot) >= *hold),
            Self::Source { name, wish, known } => {
                let there = has_source(status, name);
                *known |= there;
                if *wish == SourceWish::Vanished {
                    return Finding::met_if(*known && !there);
                }
                match O::source_health(&snapshot.value, name) {
                    _ if !there => Finding::Open,
                    None if is_of_an_older_set(status, snapshot) => Finding::Open,
                    None => Finding::NoSourceHealth,
                    Some(health) => Finding::met_if(match wish {
                        SourceWish::Fresh => {
                            health.freshness(at).is_fresh() && counts(health.facts.last_success, since)
                        }
                        SourceWish::Stale => health.freshness(at).is_stale(),
                        _ => health.is_failing(),
                    }),
                }
            }
            Self::Event(_) | Self::State(_) | Self::StaysFresh | Self::BecomesStale => Finding::Open,
        }
    }

    /// Judges the events of a cycle that counts and is fresh.
    pub(crate) fn batch(&mut self, batch: &ObservationBatch<O::Event>) -> Finding {
        match self {
            Self::Event(predicate) => {
                batch.events.iter().position(predicate).map_or(Finding::Open, Finding::MetBy)
            }
            _ => Finding::Open,
        }
    }

    /// Whether it is about time rather than about what is published.
    pub(crate) fn is_about_freshness(&self) -> bool {
        matches!(self, Self::StaysFresh | Self::BecomesStale)
    }

    /// Whether it is met by reaching the end of its window.
    pub(crate) fn holds_at_the_end(&self) -> bool {
        matches!(self, Self::Always { .. } | Self::StaysFresh)
    }
}

/// A source may have joined in a cycle behind this snapshot.
pub(crate) fn is_of_an_older_set<S>(status: &Published<S>, snapshot: &ObservationSnapshot<S>) -> bool {
    snapshot.cycle < status.cycle
}

/// Whether what an answer says was so at `since`, or behind it.
pub(crate) fn counts(answered: Option<Instant>, since: Option<Instant>) -> bool {
    since.is_none_or(|since| answered.is_some_and(|answered| answered >= since))
}

pub(crate) fn has_source<S>(status: &Published<S>, name: &str) -> bool {
    status.source_names.iter().any(|known| **known == *name)
}
