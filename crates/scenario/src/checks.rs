//! The checks of expectations: which are in flight, and which are due.

use tokio::time::Instant;

use crate::Application;
use crate::jobs::Jobs;
use crate::part::Part;
use crate::report::Phase;

/// The checks of expectations. They run concurrently with the workloads and with each other: a slow check delays
/// neither a failure, nor a limit, nor another check.
pub(crate) struct Checks<A: Application> {
    pub(crate) jobs: Jobs<A>,
    /// The checks in flight.
    pub(crate) begun: Vec<Check>,
    /// How many checks have begun: the number of the next one.
    pub(crate) count: u64,
    /// When the next check of an expectation is due, by its place. The others are due at `first`.
    pub(crate) due: Vec<(usize, Instant)>,
    pub(crate) first: Option<Instant>,
}

/// A check in flight.
#[derive(Clone, Copy)]
pub(crate) struct Check {
    pub(crate) number: u64,
    /// The place of its expectation.
    pub(crate) place: usize,
    /// The phase in which it began.
    pub(crate) phase: Phase,
    pub(crate) deadline: Instant,
    /// Its time-out was recorded.
    pub(crate) is_late: bool,
}

impl<A: Application> Default for Checks<A> {
    fn default() -> Self {
        Self { jobs: Jobs::default(), begun: Vec::new(), count: 0, due: Vec::new(), first: None }
    }
}

impl<A: Application> Checks<A> {
    /// When the next check of the expectation at `place` is due. `None` before the workloads.
    pub(crate) fn due(&self, place: usize) -> Option<Instant> {
        self.due.iter().find(|(of, _)| *of == place).map(|(_, due)| *due).or(self.first)
    }

    /// When the next deadline of a check in flight passes, or the next check of one of the `waiting` is due.
    pub(crate) fn next(&self, waiting: &[Part<A>]) -> Option<Instant> {
        let deadlines = self.begun.iter().filter(|check| !check.is_late).map(|check| check.deadline);
        let due = waiting.iter().filter(|part| part.checks).filter_map(|part| self.due(part.place));
        deadlines.chain(due).min()
    }
}
