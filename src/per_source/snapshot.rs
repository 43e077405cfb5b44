//! Snapshots of all sources.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rpds::HashTrieMapSync;
use tokio::time::Instant;

use crate::source::health::{SourceFacts, SourceHealth};
use crate::status::freshness::Freshness;
use crate::text::render::rendered;
use crate::text::{NAME, beginning, one_line};

use super::kept::SafeToDrop;

/// All sources of the set with their values and facts; cheap to clone.
///
/// Values are kept in a persistent map behind `Arc`s: two snapshots share all unchanged values.
///
/// In the predicate and the result of a wait it contains no data asked for before the wait's start: see
/// [`Observer::asked_since`](crate::Observer::asked_since).
pub struct PerSourceSnapshot<V> {
    pub(super) layout: Arc<Layout>,
    pub(super) values: HashTrieMapSync<Arc<str>, SafeToDrop<V>>,
    pub(super) facts: Arc<[SourceFacts]>,
    /// When the oldest data in the snapshot was asked for.
    pub(super) oldest: Option<Instant>,
    pub(super) stale_after: Duration,
    pub(super) collect_for: Duration,
    pub(super) taken_at: Instant,
    /// The app's function for the bytes that a value owns.
    pub(super) weighs: Option<Weighs<V>>,
}

/// How many bytes a value owns beside itself.
pub(super) type Weighs<V> = Arc<dyn Fn(&V) -> usize + Send + Sync>;

/// The place of each source; shared until the set changes.
#[derive(Debug, Default)]
pub(super) struct Layout {
    pub(super) names: Vec<Arc<str>>,
    pub(super) places: HashMap<Arc<str>, usize>,
}

/// One source in a [`PerSourceSnapshot`].
#[derive(Debug)]
pub struct SourceView<'a, V> {
    /// The source's name.
    pub name: &'a Arc<str>,
    /// The last answer, regardless of its age; `None` without an answer since the source appeared or was replaced.
    /// Prefer [`answering_value`](Self::answering_value).
    pub value: Option<&'a Arc<V>>,
    /// When the source answered, and how often it failed.
    pub facts: &'a SourceFacts,
    stale_after: Duration,
    collect_for: Duration,
    taken_at: Instant,
}

impl<V> Clone for SourceView<'_, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for SourceView<'_, V> {}

impl<'a, V> SourceView<'a, V> {
    /// Whether the source answered when the snapshot was taken.
    ///
    /// Its value is fresh, no probe has failed since, and no probe is in flight for longer than
    /// [`collect_for`](crate::PerSource::collect_for) or twice the time that its last answer took, whichever is
    /// longer. A
    /// source that has just died stays *fresh* for seconds; it stops *answering* once a probe fails or is not
    /// answered in time.
    #[must_use]
    pub fn is_answering(&self) -> bool {
        self.facts.is_answering(self.taken_at, self.stale_after(), self.collect_for)
    }

    /// The value, if the source [is answering](Self::is_answering).
    #[must_use]
    pub fn answering_value(&self) -> Option<&'a Arc<V>> {
        self.value.filter(|_| self.is_answering())
    }

    /// The age of the value at `now`, counted from the begin of its probe. A fresh source may be failing: see
    /// [`is_answering`](Self::is_answering).
    #[must_use]
    pub fn freshness(&self, now: Instant) -> Freshness {
        let stale_after = self.stale_after();
        Freshness { last_success: self.facts.last_success, stale_after, read_at: now }
    }

    /// The time that the answer took is added, since the age counts from the begin of the probe.
    fn stale_after(&self) -> Duration {
        self.stale_after.saturating_add(self.facts.last_elapsed.unwrap_or_default())
    }

    /// The value, if it is fresh at `now`, even if the source is not answering.
    #[must_use]
    pub fn fresh_value(&self, now: Instant) -> Option<&'a Arc<V>> {
        self.value.filter(|_| self.freshness(now).is_fresh())
    }

    /// Whether the last probe that ended failed.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.facts.consecutive_failures > 0
    }

    /// The source's health, as an owned value.
    #[must_use]
    pub fn health(&self) -> SourceHealth {
        SourceHealth::new(self.facts.clone(), self.stale_after()).collecting_for(self.collect_for)
    }
}

impl<V> PerSourceSnapshot<V> {
    /// How many sources there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.layout.names.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.layout.names.is_empty()
    }

    /// When the snapshot was taken, on tokio's clock.
    #[must_use]
    pub fn taken_at(&self) -> Instant {
        self.taken_at
    }

    /// The age at which an answer is stale, in addition to the time the answer took: see
    /// [`PerSource::stale_after`](crate::PerSource::stale_after).
    #[must_use]
    pub fn stale_after(&self) -> Duration {
        self.stale_after
    }

    /// How long the cycle waits for an answer: see [`PerSource::collect_for`](crate::PerSource::collect_for).
    #[must_use]
    pub fn collect_for(&self) -> Duration {
        self.collect_for
    }

    /// The source `name`, if it is in the set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<SourceView<'_, V>> {
        self.layout.places.get(name).map(|place| self.view(*place))
    }

    /// All sources, in the provider's order.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = SourceView<'_, V>> {
        (0..self.len()).map(|place| self.view(place))
    }

    /// The sources that answered when the snapshot was taken ([`SourceView::is_answering`]), with their values. Use
    /// this in predicates.
    pub fn answering(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<V>)> {
        self.iter().filter_map(|source| source.answering_value().map(|value| (source.name, value)))
    }

    /// The value of the source `name`, if it answered when the snapshot was taken: see [`SourceView::is_answering`].
    /// `None` also for a name that is not in the set.
    #[must_use]
    pub fn answer(&self, name: &str) -> Option<&V> {
        self.get(name)?.answering_value().map(|value| &**value)
    }

    /// The sources with a value that is fresh at `now`, and these values. A source that has just died is included:
    /// see [`answering`](Self::answering).
    pub fn fresh(&self, now: Instant) -> impl Iterator<Item = (&Arc<str>, &Arc<V>)> {
        self.iter().filter_map(move |source| source.fresh_value(now).map(|value| (source.name, value)))
    }

    fn view(&self, place: usize) -> SourceView<'_, V> {
        let name = &self.layout.names[place];
        let facts = &self.facts[place];
        let Self { stale_after, collect_for, taken_at, .. } = *self;
        let value = self.values.get(name).map(SafeToDrop::get);
        SourceView { name, value, facts, stale_after, collect_for, taken_at }
    }

    /// The snapshot without data asked for before `since`; `None` if it has no such data.
    pub(super) fn asked_since(&self, since: Instant) -> Option<Self> {
        if self.oldest.is_none_or(|oldest| oldest >= since) {
            return None;
        }
        let mut values = self.values.clone();
        let asked_since = |(name, facts): (&Arc<str>, &SourceFacts)| {
            let facts = facts.asked_since(since).unwrap_or_else(|| facts.clone());
            if facts.last_success.is_none() {
                values.remove_mut(name);
            }
            facts
        };
        let facts: Arc<[SourceFacts]> = self.layout.names.iter().zip(&*self.facts).map(asked_since).collect();
        let (layout, oldest) = (Arc::clone(&self.layout), oldest(&facts));
        Some(Self { layout, values, facts, oldest, weighs: self.weighs.clone(), ..*self })
    }

    /// The approximate bytes of the snapshot, including those it shares with others.
    pub(super) fn weight(&self) -> usize {
        /// Bytes of a source in map and layout, beside its name.
        const ENTRY: usize = 200;
        let owned = |value: &V| self.weighs.as_ref().map_or(0, |weighs| weighs(value));
        let values = self.values.values().map(|value| size_of::<V>().saturating_add(owned(value.get())));
        let names = self.layout.names.iter().map(|name| name.len() + ENTRY + size_of::<SourceFacts>());
        values.chain(names).fold(size_of::<Self>(), usize::saturating_add)
    }
}

/// When the oldest fact was asked for.
pub(super) fn oldest(facts: &[SourceFacts]) -> Option<Instant> {
    facts.iter().filter_map(SourceFacts::oldest).min()
}

impl<V> Clone for PerSourceSnapshot<V> {
    fn clone(&self) -> Self {
        Self {
            layout: Arc::clone(&self.layout),
            values: self.values.clone(),
            facts: Arc::clone(&self.facts),
            weighs: self.weighs.clone(),
            ..*self
        }
    }
}

/// One line a source: its value, and what is wrong with the source, if anything. Names are escaped and truncated.
impl<V: fmt::Debug> fmt::Debug for PerSourceSnapshot<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = 0..self.len();
        f.debug_map().entries(places.map(|place| (Name(self, place), SourceLine(self, place)))).finish()
    }
}

// By place, without a lookup: `debug_map` visits all entries even if the formatter is full.
struct Name<'a, V>(&'a PerSourceSnapshot<V>, usize);

impl<V> fmt::Debug for Name<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&one_line(&self.0.layout.names[self.1], NAME))
    }
}

struct SourceLine<'a, V>(&'a PerSourceSnapshot<V>, usize);

impl<V: fmt::Debug> fmt::Debug for SourceLine<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Bytes of a value, and of an error, for comparing snapshots.
        const LARGE: usize = 1_024;
        const SHORT: usize = 80;
        let (source, at) = (self.0.view(self.1), self.0.taken_at);
        match source.value {
            // A large value is truncated, to leave room for the other sources.
            Some(value) if f.sign_minus() => {
                f.write_str(&rendered(LARGE, |out| write!(out, "{value:-#?}")))?;
            }
            Some(value) => value.fmt(f)?,
            None => f.write_str("no value")?,
        }
        // A wait's report wants no ages and counts here: they always differ, and are reported elsewhere.
        if f.sign_minus() {
            let stale = if source.freshness(at).is_stale() { "stale" } else { "" };
            return match source.facts.last_failure.as_ref().filter(|_| source.is_failing()) {
                Some(failure) => {
                    let and = if stale.is_empty() { "" } else { " and " };
                    write!(f, " ({stale}{and}failing: {})", beginning(&failure.message, SHORT))
                }
                None if stale.is_empty() => Ok(()),
                None => write!(f, " ({stale})"),
            };
        }
        if !source.is_answering() {
            write!(f, " ({})", source.health().explain(source.name, at))?;
        }
        Ok(())
    }
}
