//! Snapshots that are built from recorded or foreign data.

use std::sync::Arc;
use std::time::Duration;

use rpds::HashTrieMapSync;
use tokio::time::Instant;

use super::PerSourceSnapshot;
use super::kept::SafeToDrop;
use super::snapshot::{Layout, oldest};
use crate::config::MAX_DURATION;
use crate::report::debug_as_text;
use crate::source::health::SourceFacts;
use crate::text::{MESSAGE, NAME, quoted};

/// The longest `stale_after`: three of the longest intervals.
const STALE_AFTER: Duration = MAX_DURATION.saturating_mul(3);

/// Why a [`PerSourceSnapshot`] was not built from recorded data.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PerSourceSnapshotError {
    /// `stale_after` is zero or over 72 h, or `collect_for` is over 24 h.
    #[error(
        "{field} is {value:?}: it must be what PerSourceSnapshot::{field} was, more than zero and at most {most:?}"
    )]
    InvalidDuration {
        /// The field: `stale_after` or `collect_for`.
        field: &'static str,
        /// The given value.
        value: Duration,
        /// The largest valid value.
        most: Duration,
    },
    /// A source has no name.
    #[error("source {position} of the snapshot has no name: each source has one")]
    EmptyName {
        /// The source's position, counted from 1.
        position: usize,
    },
    /// Two sources have one name.
    #[error("two sources of the snapshot are called {}: record each once", quoted(name, NAME))]
    DuplicateName {
        /// The name.
        name: Arc<str>,
    },
    /// The facts of a source contradict each other.
    #[error(
        "what is known of the source {} cannot be: {what}; record its value and all of its facts",
        quoted(name, NAME)
    )]
    Contradiction {
        /// The source's name.
        name: Arc<str>,
        /// The contradiction.
        what: &'static str,
    },
}

debug_as_text!(PerSourceSnapshotError);

impl<V> PerSourceSnapshot<V> {
    /// Builds a snapshot from recorded data, or from another process, for a [`Feed`](crate::feed::Feed). `sources`
    /// has the name, last answer and facts of each source, in the provider's order.
    ///
    /// [`taken_at`](Self::taken_at), [`stale_after`](Self::stale_after) and [`collect_for`](Self::collect_for) are
    /// those of the recorded snapshot: waits use them to judge whether a source answers. Instants are on the feed's
    /// clock.
    ///
    /// # Errors
    ///
    /// [`PerSourceSnapshotError`] names the duration that is out of range, or the first invalid source: its name is
    /// empty or a duplicate; it has an answer without a time, or the reverse; it is failing without a failure; or it
    /// has a fact that is later than the snapshot.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::time::Duration;
    ///
    /// use tokio::time::Instant;
    /// use watchkeeper::per_source::PerSourceSnapshot;
    /// use watchkeeper::source::SourceFacts;
    ///
    /// let (began, took) = (Instant::now(), Duration::from_millis(3));
    /// let mut facts = SourceFacts::default();
    /// facts.last_success = Some(began);
    /// facts.last_elapsed = Some(took);
    /// facts.changed_at = Some(began + took);
    /// facts.answers = 1;
    ///
    /// let (stale_after, collect_for) = (Duration::from_secs(2), Duration::from_millis(125));
    /// let sources = [("n1", Some(Arc::new(7)), facts), ("n2", None, SourceFacts::default())];
    /// let snapshot = PerSourceSnapshot::new(began + took, stale_after, collect_for, sources)?;
    /// assert_eq!((snapshot.answer("n1"), snapshot.answer("n2")), (Some(&7), None));
    /// # Ok::<(), watchkeeper::per_source::PerSourceSnapshotError>(())
    /// ```
    pub fn new<N: Into<Arc<str>>>(
        taken_at: Instant,
        stale_after: Duration,
        collect_for: Duration,
        sources: impl IntoIterator<Item = (N, Option<Arc<V>>, SourceFacts)>,
    ) -> Result<Self, PerSourceSnapshotError> {
        let durations =
            [("stale_after", stale_after, STALE_AFTER), ("collect_for", collect_for, MAX_DURATION)];
        let wrong = |(_, value, most): &(_, Duration, Duration)| value > most;
        if let Some((field, value, most)) = durations.into_iter().find(wrong) {
            return Err(PerSourceSnapshotError::InvalidDuration { field, value, most });
        }
        if stale_after.is_zero() {
            let (field, value, most) = durations[0];
            return Err(PerSourceSnapshotError::InvalidDuration { field, value, most });
        }
        let (mut layout, mut values, mut all) = (Layout::default(), HashTrieMapSync::new_sync(), Vec::new());
        for (place, (name, value, facts)) in sources.into_iter().enumerate() {
            let (name, value) = (name.into(), value.map(SafeToDrop::new));
            if name.is_empty() {
                return Err(PerSourceSnapshotError::EmptyName { position: place + 1 });
            }
            if let Some(what) = contradiction(value.is_some(), &facts, taken_at) {
                return Err(PerSourceSnapshotError::Contradiction { name, what });
            }
            if layout.places.insert(Arc::clone(&name), place).is_some() {
                return Err(PerSourceSnapshotError::DuplicateName { name });
            }
            if let Some(value) = value {
                values.insert_mut(Arc::clone(&name), value);
            }
            layout.names.push(name);
            all.push(facts);
        }
        let (layout, oldest) = (Arc::new(layout), oldest(&all));
        let facts = Arc::from(all);
        Ok(Self { layout, values, facts, oldest, stale_after, collect_for, taken_at, weighs: None })
    }
}

/// The first contradiction among the facts of a source with or without a value.
fn contradiction(has_value: bool, facts: &SourceFacts, taken_at: Instant) -> Option<&'static str> {
    let SourceFacts { last_success, last_elapsed, changed_at, consecutive_failures, in_flight_since, .. } =
        *facts;
    let failure = facts.last_failure.as_deref();
    let answered = last_success.zip(last_elapsed).map(|(began, took)| began.checked_add(took));
    let is_later = |at: Instant| at > taken_at;
    let checks = [
        (has_value != last_success.is_some(), "a value and `last_success` come together"),
        (last_success.is_some() != last_elapsed.is_some(), "`last_success` and `last_elapsed` come together"),
        (changed_at.is_some() && !has_value, "`changed_at` is of a value, and there is none"),
        (consecutive_failures > 0 && failure.is_none(), "`consecutive_failures` without a `last_failure`"),
        (consecutive_failures > facts.failures, "more `consecutive_failures` than `failures`"),
        (failure.is_some() && facts.failures == 0, "a `last_failure` without `failures`"),
        (has_value && facts.answers == 0, "a value without `answers`"),
        (
            answered.is_some_and(|at| at.is_none_or(is_later)),
            "its last answer came after the snapshot was taken",
        ),
        (changed_at.is_some_and(is_later), "`changed_at` is after the snapshot was taken"),
        (
            failure.is_some_and(|failure| is_later(failure.at)),
            "`last_failure` is after the snapshot was taken",
        ),
        (in_flight_since.is_some_and(is_later), "`in_flight_since` is after the snapshot was taken"),
        (
            last_success.is_some_and(|at| facts.since.is_some_and(|since| at < since)),
            "`last_success` is before `since`",
        ),
        (
            failure.is_some_and(|failure| failure.message.len() > MESSAGE),
            "the message of `last_failure` has more than 1 KiB: make it by `ProbeFailure::new`",
        ),
    ];
    checks.into_iter().find_map(|(is_wrong, what)| is_wrong.then_some(what))
}
