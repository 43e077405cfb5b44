//! Why a source is stale: one sentence.

use std::sync::Arc;

use tokio::time::Instant;

use crate::handle::ObservationHandle;
use crate::observer::Observer;
use crate::source::duplicates::health_of;
use crate::source::health::seconds;
use crate::status::{ObservationSnapshot, Published};
use crate::text::{NAME, NAMES, names, one_line, quoted};

impl<O: Observer> ObservationHandle<O> {
    /// One sentence on the source called `name`, from what is known: how old its last answer is, what failed
    /// since, whether a probe is in flight. For one that is fresh it says so, for a name that no source has it
    /// lists those there are, as many as fit into 400 bytes. One line, escaped, of at most 4 KiB.
    ///
    /// Sources are distinguished by observers that keep what they know by source: [`Observer::source_health`].
    ///
    /// ```text
    /// n3 is stale: last answer 4.2 s ago; 7 consecutive failures, last 0.1 s ago: connection refused
    /// ```
    #[must_use]
    pub fn why_stale(&self, name: &str) -> String {
        let now = self.shared.clock.now();
        // An `Arc` is taken out: what is said of a snapshot is app code, not to run under the lock.
        let status = self.shared.read(Published::clone);
        why::<O>(&status, name, now)
    }
}

/// One sentence on a source.
pub(crate) fn why<O: Observer>(status: &Published<O::Snapshot>, name: &str, now: Instant) -> String {
    let health = status.snapshot.as_ref().and_then(|snapshot| health_of::<O>(snapshot, name));
    let shown = one_line(name, NAME);
    let said = match health {
        _ if !has_source(status, name) => unknown_source(name, &status.source_names),
        Some(health) => health.explain(name, now),
        None => match &status.snapshot {
            None => format!("nothing is known of {shown}: no cycle has succeeded"),
            Some(snapshot) if may_be_known_later::<O>(status, snapshot) => {
                format!("nothing is known of {shown} yet")
            }
            Some(_) => format!("nothing is known of {shown}: its observer keeps nothing by source"),
        },
    };
    if status.freshness(now).is_fresh() { said } else { format!("{said}; {}", of_the_runtime(status, now)) }
}

/// One sentence on the runtime.
pub(crate) fn of_the_runtime<S>(status: &Published<S>, now: Instant) -> String {
    let freshness = status.freshness(now);
    let data = match freshness.age() {
        None => "there is no data".to_owned(),
        Some(age) if freshness.is_fresh() => format!("the data is {} old", seconds(age)),
        Some(age) => format!("the data is stale, {} old", seconds(age)),
    };
    let since = seconds(now.saturating_duration_since(status.since));
    let paused = if status.paused { " and paused" } else { "" };
    let error = status.last_error.as_ref().map(|error| format!("; last error: {error}")).unwrap_or_default();
    format!("{data}; the runtime is {}{paused} for {since}{error}", status.state)
}

pub(crate) fn unknown_source(name: &str, known: &[Arc<str>]) -> String {
    let name = quoted(name, NAME);
    if known.is_empty() {
        return format!("no source is called {name}: there are none");
    }
    format!(
        "no source is called {name}; the sources are {}",
        names(known.iter().map(|known| &**known), NAMES)
    )
}

/// Whether a source of which nothing is known may be known later: it may have joined in a cycle after this snapshot,
/// the observer may have built its state and not polled yet, or it knows of other sources and has yet to look at this
/// one.
pub(crate) fn may_be_known_later<O: Observer>(
    status: &Published<O::Snapshot>,
    snapshot: &ObservationSnapshot<O::Snapshot>,
) -> bool {
    let is_of_an_older_set = snapshot.cycle < status.cycle;
    let keeps_health =
        || status.source_names.iter().any(|name| O::source_health(&snapshot.value, name).is_some());
    is_of_an_older_set || !snapshot.is_polled || keeps_health()
}

pub(crate) fn has_source<S>(status: &Published<S>, name: &str) -> bool {
    status.source_names.iter().any(|known| **known == *name)
}
