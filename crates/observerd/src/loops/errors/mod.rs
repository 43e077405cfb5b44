//! The analysis of errors: failed operations in clusters of one endpoint and one normalised message.
//!
//! The window has the newest operations, also those that succeeded. Counts are exact for it. An operation that is not analysed yet
//! changes nothing; how far the analysis is says [`Progress`](crate::loops::recent::Progress).
//!
//! Events are of one generation: a restart or a rebuild begins again with what is there. Recorded reports have the first ten clusters,
//! and say how many more there were: `not_recorded`.

mod report;
mod window;

use std::sync::Arc;

use tokio::sync::Notify;
use watchkeeper::{
    DynError, ObservationConfig, ObservationRuntime, ObservationRuntimeError, ObservedSource, Observer,
    async_trait,
};
use watchkeeper_journal::Journal;

use crate::config::ErrorsConfig;
use crate::loops::changes::{Change, Emitted};
use crate::loops::first;
use crate::loops::recent::{self, MAX_WINDOW, Recent, RecentError};
use crate::store::Store;

pub use report::{ClusterEvent, ClusterPage, Clusters, ErrorReport, MAX_FAILING};

use window::ErrorWindow;

/// The name of the observation.
pub const NAME: &str = "errors";

/// How the analysis is observed: give it a `parent`, and what it resumes from, before [`start`].
#[must_use]
pub fn observation(config: &ErrorsConfig) -> ObservationConfig {
    recent::observation(NAME, config.every)
}

/// Starts the analysis of a store's journal in the background.
///
/// # Errors
///
/// A setting is wrong: [`ObservationRuntimeError`] names it.
pub fn start(
    store: &Store,
    config: &ErrorsConfig,
    observation: ObservationConfig,
) -> Result<ObservationRuntime<ErrorAnalysis>, ObservationRuntimeError> {
    recent::start(store, ErrorAnalysis::new(config), observation)
}

/// The observer: its one source is the journal.
#[derive(Debug)]
pub struct ErrorAnalysis {
    window: usize,
    clusters: usize,
    wake: Option<Arc<Notify>>,
}

impl ErrorAnalysis {
    /// An analysis with these settings. The window has at least one operation, and at most [`MAX_WINDOW`].
    #[must_use]
    pub fn new(config: &ErrorsConfig) -> Self {
        Self { window: config.window.clamp(1, MAX_WINDOW), clusters: config.clusters, wake: None }
    }
}

/// What the analysis keeps. The report alone is published: it changes with the events, after the last step that can fail.
pub struct ErrorState {
    recent: Recent,
    window: ErrorWindow,
    emitted: Emitted,
    report: ErrorReport,
    /// Events of `init`, which the next poll returns.
    events: Vec<ClusterEvent>,
}

impl ErrorState {
    fn analyse(&mut self, most: usize) {
        let progress = self.recent.progress();
        if progress.next != self.report.progress.next || self.report.operations == 0 {
            let found = self.window.found(most);
            self.report = ErrorReport {
                not_recorded: first::left_out(found.clusters.len()),
                clusters: Arc::new(Clusters::new(found.clusters, found.failing)),
                operations: found.operations,
                failures: found.failures,
                other: found.other,
                other_clusters: found.other_clusters,
                progress,
            };
        }
        self.report.progress = progress;
        let list = &self.report.clusters;
        let changes = self.emitted.changes(list.iter().map(|cluster| (cluster.id.as_str(), cluster.count)));
        self.events.extend(changes.into_iter().map(|change| match change {
            Change::Appeared(place) => ClusterEvent::Appeared {
                id: list[place].id.clone(),
                endpoint: list[place].endpoint.clone(),
                message: list[place].message.clone(),
                count: list[place].count,
            },
            Change::Grew(place) => {
                ClusterEvent::Grew { id: list[place].id.clone(), count: list[place].count }
            }
            Change::Vanished(id) => ClusterEvent::Vanished { id },
        }));
    }
}

#[async_trait]
impl Observer for ErrorAnalysis {
    type Source = Journal;
    type State = ErrorState;
    type Snapshot = ErrorReport;
    type Event = ClusterEvent;

    fn configured(&mut self, config: &ObservationConfig) {
        self.wake.clone_from(&config.wake);
    }

    async fn init(&self, sources: &[ObservedSource<Journal>]) -> Result<ErrorState, DynError> {
        let journal = &sources.first().ok_or(RecentError::NoJournal)?.source;
        let mut window = ErrorWindow::new(self.window);
        let restart = |window: &mut ErrorWindow| *window = ErrorWindow::new(self.window);
        let recent = Recent::fill(journal, self.window, &mut window, restart, |window, at, operation| {
            window.push(at, operation);
            window.is_full()
        });
        let recent = recent.await?;
        let (report, emitted) = (ErrorReport::default(), Emitted::default());
        let mut state = ErrorState { recent, window, emitted, report, events: Vec::new() };
        state.analyse(self.clusters);
        Ok(state)
    }

    async fn poll(
        &self,
        _: &[ObservedSource<Journal>],
        state: &mut ErrorState,
    ) -> Result<Vec<ClusterEvent>, DynError> {
        let window = &mut state.window;
        state.recent.read(|at, operation| window.push(at, operation)).await?;
        // Nothing after this fails or waits.
        state.analyse(self.clusters);
        if let Some(wake) = self.wake.as_ref().filter(|_| state.report.progress.is_behind) {
            wake.notify_one();
        }
        Ok(std::mem::take(&mut state.events))
    }

    fn snapshot(&self, state: &ErrorState) -> ErrorReport {
        state.report.clone()
    }

    /// What a poll has read is in the window, and comes out with the next report.
    fn poll_is_cancel_safe(&self) -> bool {
        true
    }

    fn weight(snapshot: &ErrorReport, events: &[ClusterEvent]) -> usize {
        const EVENT: usize = 1_000;
        snapshot.clusters.weight().saturating_add(events.len().saturating_mul(EVENT))
    }
}

#[cfg(test)]
mod tests;
