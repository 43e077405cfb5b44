//! What is known of each source.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rpds::HashTrieMapSync;
use tokio::time::Instant;

use crate::freshness::Freshness;
use crate::source_health::{SourceFacts, SourceHealth};
use crate::text::{NAME, beginning, one_line, rendered};

/// All sources of the set, with their values and facts; cheap to clone.
///
/// Values sit in a persistent map behind `Arc`s: two snapshots share all that did not change.
pub struct PerSourceSnapshot<V> {
    pub(super) layout: Arc<Layout>,
    pub(super) values: HashTrieMapSync<Arc<str>, Arc<V>>,
    pub(super) facts: Arc<[SourceFacts]>,
    pub(super) stale_after: Duration,
    pub(super) taken_at: Instant,
}

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
    /// Its last answer; `None` if it never answered, or not since it was replaced.
    pub value: Option<&'a Arc<V>>,
    /// When it answered, and how often it did not.
    pub facts: &'a SourceFacts,
    stale_after: Duration,
}

impl<V> Clone for SourceView<'_, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for SourceView<'_, V> {}

impl<'a, V> SourceView<'a, V> {
    /// How old its value is at `now`, counted from when the answering probe began.
    #[must_use]
    pub fn freshness(&self, now: Instant) -> Freshness {
        Freshness {
            last_success: self.facts.last_success,
            stale_after: self.stale_after.saturating_add(self.facts.last_elapsed.unwrap_or_default()),
            read_at: now,
        }
    }

    /// Its value, if it is fresh at `now`.
    #[must_use]
    pub fn fresh_value(&self, now: Instant) -> Option<&'a Arc<V>> {
        self.value.filter(|_| self.freshness(now).is_fresh())
    }

    /// Whether the last probe that ended has failed.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.facts.failures_in_a_row > 0
    }

    /// What is known of it, to keep.
    #[must_use]
    pub fn health(&self) -> SourceHealth {
        let stale_after = self.stale_after.saturating_add(self.facts.last_elapsed.unwrap_or_default());
        SourceHealth::new(self.facts.clone(), stale_after)
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
    ///
    /// The `now` for a predicate: what was fresh then, however late the snapshot is looked at.
    #[must_use]
    pub fn taken_at(&self) -> Instant {
        self.taken_at
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

    /// The sources that are fresh at `now`, with their values.
    pub fn fresh(&self, now: Instant) -> impl Iterator<Item = (&Arc<str>, &Arc<V>)> {
        self.iter().filter_map(move |source| source.fresh_value(now).map(|value| (source.name, value)))
    }

    fn view(&self, place: usize) -> SourceView<'_, V> {
        let name = &self.layout.names[place];
        let facts = &self.facts[place];
        SourceView { name, value: self.values.get(name), facts, stale_after: self.stale_after }
    }
}

impl<V> Clone for PerSourceSnapshot<V> {
    fn clone(&self) -> Self {
        Self {
            layout: Arc::clone(&self.layout),
            values: self.values.clone(),
            facts: Arc::clone(&self.facts),
            stale_after: self.stale_after,
            taken_at: self.taken_at,
        }
    }
}

/// One line a source: its value, and what is wrong with it if something is. Names are escaped and cut.
impl<V: fmt::Debug> fmt::Debug for PerSourceSnapshot<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = 0..self.len();
        f.debug_map().entries(places.map(|place| (Name(self, place), Said(self, place)))).finish()
    }
}

// By place: a formatter that has had enough goes through all the same, and looks nothing up.
struct Name<'a, V>(&'a PerSourceSnapshot<V>, usize);

impl<V> fmt::Debug for Name<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&one_line(&self.0.layout.names[self.1], NAME))
    }
}

struct Said<'a, V>(&'a PerSourceSnapshot<V>, usize);

impl<V: fmt::Debug> fmt::Debug for Said<'_, V> {
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
        if source.is_failing() || !source.freshness(at).is_fresh() {
            write!(f, " ({})", source.health().explain(source.name, at))?;
        }
        Ok(())
    }
}
