//! One sentence on why a source is stale.

use std::sync::Arc;

use tokio::time::Instant;

use crate::handle::ObservationHandle;
use crate::observer::Observer;
use crate::source::duplicates::health_of;
use crate::source::health::seconds;
use crate::status::{ObservationSnapshot, Published};
use crate::text::{NAME, NAMES, names, one_line, quoted};

impl<O: Observer> ObservationHandle<O> {
    /// Explains the state of the source `name` in one sentence: the age of its last answer, the failures since, and a
    /// probe in flight.
    ///
    /// A fresh source is reported as fresh. For an unknown name the known names are listed, up to 400 bytes. The text
    /// is one escaped line of at most 4 KiB.
    ///
    /// It needs an observer that keeps health by source: [`Observer::source_health`].
    ///
    /// ```text
    /// n3 is stale: last answer 4.2 s ago; 7 consecutive failures, last 0.1 s ago: connection refused
    /// ```
    #[must_use]
    pub fn why_stale(&self, name: &str) -> String {
        let now = self.shared.clock.now();
        // Clone the `Arc`s: the sentence on a snapshot is app code, which must not run under the lock.
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

/// Whether the health of an unknown source may become known: its set may be newer than this snapshot, the state may
/// have been built and not polled yet, or the observer keeps health of other sources and has not polled this one yet.
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
