//! What is known of each source.

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

/// All sources of the set, with their values and facts; cheap to clone.
///
/// Values sit in a persistent map behind `Arc`s: two snapshots share all that did not change.
///
/// In the predicate and the result of a wait it holds nothing that was asked before the wait's start: see
/// [`Observer::asked_since`](crate::Observer::asked_since).
pub struct PerSourceSnapshot<V> {
    pub(super) layout: Arc<Layout>,
    pub(super) values: HashTrieMapSync<Arc<str>, SafeToDrop<V>>,
    pub(super) facts: Arc<[SourceFacts]>,
    /// When the oldest of what it shows was asked for.
    pub(super) oldest: Option<Instant>,
    pub(super) stale_after: Duration,
    pub(super) collect_for: Duration,
    pub(super) taken_at: Instant,
    /// What a value takes beside itself, if the app says so.
    pub(super) weighs: Option<Weighs<V>>,
}

/// How many bytes a value owns elsewhere.
pub(super) type Weighs<V> = Arc<dyn Fn(&V) -> usize + Send + Sync>;

/// Which source has which place; shared until the set changes.
#[derive(Debug, Default)]
pub(super) struct Layout {
    pub(super) names: Vec<Arc<str>>,
    pub(super) places: HashMap<Arc<str>, usize>,
}

/// One source in a [`PerSourceSnapshot`].
#[derive(Debug)]
pub struct SourceView<'a, V> {
    /// Its name.
    pub name: &'a Arc<str>,
    /// Its last answer, however old; `None` if it never answered, or not since it was replaced.
    /// [`answering_value`](Self::answering_value) is what can be relied on.
    pub value: Option<&'a Arc<V>>,
    /// When it answered, and how often it did not.
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
    /// Whether it answered when the snapshot was taken: its value is fresh, no probe has failed since, and none is in
    /// flight for longer than [`collect_for`](crate::PerSource::collect_for) or twice what its last answer took,
    /// whichever is longer.
    ///
    /// A source that has just died is *fresh* for seconds yet; it is *answering* no more once a probe was refused,
    /// or not answered in time.
    #[must_use]
    pub fn is_answering(&self) -> bool {
        self.facts.is_answering(self.taken_at, self.stale_after(), self.collect_for)
    }

    /// Its value, if it [is answering](Self::is_answering).
    #[must_use]
    pub fn answering_value(&self) -> Option<&'a Arc<V>> {
        self.value.filter(|_| self.is_answering())
    }

    /// How old its value is at `now`, counted from when the answering probe began. It says nothing of what the source
    /// did since: see [`is_answering`](Self::is_answering).
    #[must_use]
    pub fn freshness(&self, now: Instant) -> Freshness {
        let stale_after = self.stale_after();
        Freshness { last_success: self.facts.last_success, stale_after, read_at: now }
    }

    /// An answer that took long is as much older when it comes.
    fn stale_after(&self) -> Duration {
        self.stale_after.saturating_add(self.facts.last_elapsed.unwrap_or_default())
    }

    /// Its value, if it is fresh at `now`, whether it answers or not.
    #[must_use]
    pub fn fresh_value(&self, now: Instant) -> Option<&'a Arc<V>> {
        self.value.filter(|_| self.freshness(now).is_fresh())
    }

    /// Whether the last probe that ended has failed.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.facts.consecutive_failures > 0
    }

    /// What is known of it, to keep.
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

    /// When this was taken, on tokio's clock.
    #[must_use]
    pub fn taken_at(&self) -> Instant {
        self.taken_at
    }

    /// The age from which on a source is stale, beside the time its last answer took: see
    /// [`PerSource::stale_after`](crate::PerSource::stale_after).
    #[must_use]
    pub fn stale_after(&self) -> Duration {
        self.stale_after
    }

    /// How long its cycle waited for an answer: see [`PerSource::collect_for`](crate::PerSource::collect_for).
    #[must_use]
    pub fn collect_for(&self) -> Duration {
        self.collect_for
    }

    /// The source called `name`, if it is in the set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<SourceView<'_, V>> {
        self.layout.places.get(name).map(|place| self.view(*place))
    }

    /// All sources, in the provider's order.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = SourceView<'_, V>> {
        (0..self.len()).map(|place| self.view(place))
    }

    /// The sources that answered when this was taken, with their values: see
    /// [`SourceView::is_answering`]. What a predicate looks at.
    pub fn answering(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<V>)> {
        self.iter().filter_map(|source| source.answering_value().map(|value| (source.name, value)))
    }

    /// The value of the source called `name`, if it answered when this was taken: see [`SourceView::is_answering`].
    ///
    /// `None` for a source that does not, and for a name that no source has.
    #[must_use]
    pub fn answer(&self, name: &str) -> Option<&V> {
        self.get(name)?.answering_value().map(|value| &**value)
    }

    /// The sources whose values are fresh at `now`, with these values. One that has just died is among them: see
    /// [`answering`](Self::answering).
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

    /// The same without what was asked before `since`; `None` if there is none of it.
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

    /// About how many bytes it takes, with what it shares with others.
    pub(super) fn weight(&self) -> usize {
        /// What map and layout take for a source, beside its name.
        const ENTRY: usize = 200;
        let owned = |value: &V| self.weighs.as_ref().map_or(0, |weighs| weighs(value));
        let values = self.values.values().map(|value| size_of::<V>().saturating_add(owned(value.get())));
        let names = self.layout.names.iter().map(|name| name.len() + ENTRY + size_of::<SourceFacts>());
        values.chain(names).fold(size_of::<Self>(), usize::saturating_add)
    }
}

/// When the oldest of what is known of the sources was asked for.
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

/// One line a source: its value, and what is wrong with it if something is. Names are escaped and cut.
impl<V: fmt::Debug> fmt::Debug for PerSourceSnapshot<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = 0..self.len();
        f.debug_map().entries(places.map(|place| (Name(self, place), SourceLine(self, place)))).finish()
    }
}

// By place: a formatter that has had enough goes through all the same, and looks nothing up.
struct Name<'a, V>(&'a PerSourceSnapshot<V>, usize);

impl<V> fmt::Debug for Name<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&one_line(&self.0.layout.names[self.1], NAME))
    }
}

struct SourceLine<'a, V>(&'a PerSourceSnapshot<V>, usize);

impl<V: fmt::Debug> fmt::Debug for SourceLine<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Bytes of a value and of an error where two snapshots are compared.
        const LARGE: usize = 1_024;
        const SHORT: usize = 80;
        let (source, at) = (self.0.view(self.1), self.0.taken_at);
        match source.value {
            // Of a large value as much as leaves room for the other sources.
            Some(value) if f.sign_minus() => {
                f.write_str(&rendered(LARGE, |out| write!(out, "{value:-#?}")))?;
            }
            Some(value) => value.fmt(f)?,
            None => f.write_str("no value")?,
        }
        // The reports of waits ask for no ages and no counts: these differ always, and are said elsewhere.
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
