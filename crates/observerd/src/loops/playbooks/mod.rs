//! The consolidation of playbooks: sequences of two and three endpoints that succeed repeatedly.
//!
//! - A thread of work is a `staffer_id`; of operations that have none, a source. Its operations are read in the order of their
//!   sequence, and those of other threads do not matter.
//! - Consecutive operations of a thread are a sequence if each but the last succeeded. If the last one succeeded too, it is a success
//!   of these endpoints, otherwise an attempt alone.
//! - Two operations are too far apart if their timestamps differ by more than the gap, in either direction: a clock that goes
//!   backwards a little changes nothing, and equal times are near. A time that is none counts as the epoch.
//! - Immediate repeats of an endpoint are one step, the last of them. A repeat that fails is no attempt, and ends the sequence.
//! - A playbook has a number of successes within the window, at least one. Counts are exact for it: a success counts while the
//!   last operation of its first step is in the window.
//! - A pair is folded into a triple that is a playbook if each success of the pair is a part of a success of the triple. The triple
//!   begins with the pair, and one success of the pair may be over if it is the newest of its thread; or it ends with the pair, and
//!   one may be over that begins with the oldest operation of its thread.
//!
//! Events are of one generation: a restart or a rebuild begins again with what is there. Recorded reports have the first ten
//! playbooks, and say how many more there were: `not_recorded`.
//!
//! Threads and sequences are bounded by the window, of which both are computed again in each cycle that has read something.

mod consolidate;
mod playbook;
mod report;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use watchkeeper::{
    DynError, ObservationConfig, ObservationRuntime, ObservationRuntimeError, ObservedSource, Observer,
    async_trait,
};
use watchkeeper_journal::Journal;

use crate::config::PlaybooksConfig;
use crate::loops::changes::{Change, Emitted};
use crate::loops::first;
use crate::loops::intern::Interner;
use crate::loops::recent::{self, MAX_WINDOW, Recent, RecentError};
use crate::operation::Operation;
use crate::store::Store;

pub use playbook::Playbook;
pub use report::{PlaybookEvent, PlaybookPage, PlaybookReport};

use consolidate::{Step, Thread, consolidate};

/// The name of the observation.
pub const NAME: &str = "playbooks";

/// How the consolidation is observed: give it a `parent`, and what it resumes from, before [`start`].
#[must_use]
pub fn observation(config: &PlaybooksConfig) -> ObservationConfig {
    recent::observation(NAME, config.every)
}

/// Starts the consolidation of a store's journal in the background.
///
/// # Errors
///
/// A setting is wrong: [`ObservationRuntimeError`] names it.
pub fn start(
    store: &Store,
    config: &PlaybooksConfig,
    observation: ObservationConfig,
) -> Result<ObservationRuntime<Consolidation>, ObservationRuntimeError> {
    recent::start(store, Consolidation::new(config), observation)
}

/// The observer: its one source is the journal.
#[derive(Debug)]
pub struct Consolidation {
    window: usize,
    occurrences: u64,
    playbooks: usize,
    gap: Duration,
    wake: Option<Arc<Notify>>,
}

impl Consolidation {
    /// A consolidation with these settings. The window has at least one operation, and at most [`MAX_WINDOW`].
    #[must_use]
    pub fn new(config: &PlaybooksConfig) -> Self {
        Self {
            window: config.window.clamp(1, MAX_WINDOW),
            occurrences: config.occurrences.max(1) as u64,
            playbooks: config.playbooks,
            gap: config.gap,
            wake: None,
        }
    }

    fn consolidate(&self, state: &mut PlaybookState) {
        let progress = state.recent.progress();
        if progress.next != state.report.progress.next || state.report.operations == 0 {
            let mut found = consolidate(state.window.steps.iter(), self.gap, self.occurrences);
            let other = found.playbooks.len().saturating_sub(self.playbooks) as u64;
            found.playbooks.truncate(self.playbooks);
            state.report = PlaybookReport {
                not_recorded: first::left_out(found.playbooks.len()),
                playbooks: Arc::new(found.playbooks),
                operations: state.window.steps.len() as u64,
                threads: found.threads,
                other,
                progress,
            };
        }
        state.report.progress = progress;
        let list = &state.report.playbooks;
        let counts = list.iter().map(|playbook| (playbook.id.as_str(), playbook.successes));
        let changes = state.emitted.changes(counts);
        state.events.extend(changes.into_iter().map(|change| match change {
            Change::Appeared(place) => PlaybookEvent::Appeared {
                id: list[place].id.clone(),
                steps: list[place].steps.clone(),
                successes: list[place].successes,
            },
            Change::Grew(place) => {
                PlaybookEvent::Grew { id: list[place].id.clone(), successes: list[place].successes }
            }
            Change::Vanished(id) => PlaybookEvent::Vanished { id },
        }));
    }
}

/// What the consolidation keeps. The report alone is published: it changes with the events, after the last step that can fail.
pub struct PlaybookState {
    recent: Recent,
    window: Window,
    emitted: Emitted,
    report: PlaybookReport,
    /// Events of `init`, which the next poll returns.
    events: Vec<PlaybookEvent>,
}

/// The newest operations.
struct Window {
    most: usize,
    steps: VecDeque<Step>,
    texts: Interner,
}

impl Window {
    fn new(most: usize) -> Self {
        Self { most, steps: VecDeque::new(), texts: Interner::default() }
    }

    fn push(&mut self, sequence: u64, operation: Operation) {
        let thread = if operation.staffer.is_empty() {
            Thread::Source(self.texts.share(&operation.source))
        } else {
            Thread::Staffer(self.texts.share(&operation.staffer))
        };
        self.steps.push_back(Step {
            sequence,
            endpoint: self.texts.share(&operation.endpoint),
            thread,
            timestamp: operation.timestamp,
            timestamp_text: operation.timestamp_text.into(),
            is_success: operation.success,
            duration_ms: operation.duration_ms.filter(|duration| duration.is_finite()),
        });
        while self.steps.len() > self.most {
            let Some(Step { endpoint, thread, .. }) = self.steps.pop_front() else { break };
            let (Thread::Staffer(thread) | Thread::Source(thread)) = thread;
            self.texts.release(endpoint);
            self.texts.release(thread);
        }
    }
}

#[async_trait]
impl Observer for Consolidation {
    type Source = Journal;
    type State = PlaybookState;
    type Snapshot = PlaybookReport;
    type Event = PlaybookEvent;

    fn configured(&mut self, config: &ObservationConfig) {
        self.wake.clone_from(&config.wake);
    }

    async fn init(&self, sources: &[ObservedSource<Journal>]) -> Result<PlaybookState, DynError> {
        let journal = &sources.first().ok_or(RecentError::NoJournal)?.source;
        let mut window = Window::new(self.window);
        let restart = |window: &mut Window| *window = Window::new(self.window);
        let recent = Recent::fill(journal, self.window, &mut window, restart, |window, at, operation| {
            window.push(at, operation);
            window.steps.len() >= window.most
        });
        let recent = recent.await?;
        let (report, emitted) = (PlaybookReport::default(), Emitted::default());
        let mut state = PlaybookState { recent, window, emitted, report, events: Vec::new() };
        self.consolidate(&mut state);
        Ok(state)
    }

    async fn poll(
        &self,
        _: &[ObservedSource<Journal>],
        state: &mut PlaybookState,
    ) -> Result<Vec<PlaybookEvent>, DynError> {
        let window = &mut state.window;
        state.recent.read(|at, operation| window.push(at, operation)).await?;
        // Nothing after this fails or waits.
        self.consolidate(state);
        if let Some(wake) = self.wake.as_ref().filter(|_| state.report.progress.is_behind) {
            wake.notify_one();
        }
        Ok(std::mem::take(&mut state.events))
    }

    fn snapshot(&self, state: &PlaybookState) -> PlaybookReport {
        state.report.clone()
    }

    /// What a poll has read is in the window, and comes out with the next report.
    fn poll_is_cancel_safe(&self) -> bool {
        true
    }

    fn weight(snapshot: &PlaybookReport, events: &[PlaybookEvent]) -> usize {
        const PLAYBOOK: usize = 500;
        (snapshot.playbooks.len() + events.len()).saturating_mul(PLAYBOOK)
    }
}

#[cfg(test)]
mod tests;
