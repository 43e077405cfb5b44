//! The checks of expectations, in flight and due.

use tokio::time::Instant;

use crate::Application;
use crate::jobs::Jobs;
use crate::part::Part;
use crate::report::Phase;

/// The checks of expectations. They run beside the workloads and beside each other: a slow one holds up neither a
/// failure, nor a limit, nor another check.
pub(crate) struct Checks<A: Application> {
    pub(crate) jobs: Jobs<A>,
    /// Those in flight.
    pub(crate) begun: Vec<Check>,
    /// How many there ever were: the number of the next one.
    pub(crate) count: u64,
    /// By the place of an expectation, when its next check is due; those that are missing wait for the first.
    pub(crate) due: Vec<(usize, Instant)>,
    pub(crate) first: Option<Instant>,
}

/// A check in flight.
#[derive(Clone, Copy)]
pub(crate) struct Check {
    pub(crate) number: u64,
    /// Of its expectation.
    pub(crate) place: usize,
    /// The phase it began in.
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
    /// When the expectation at `place` is to be checked again. `None` before the workloads.
    pub(crate) fn due(&self, place: usize) -> Option<Instant> {
        self.due.iter().find(|(of, _)| *of == place).map(|(_, due)| *due).or(self.first)
    }

    /// When the next check is over its limit, or is to begin: that of one of the `waiting`.
    pub(crate) fn next(&self, waiting: &[Part<A>]) -> Option<Instant> {
        let deadlines = self.begun.iter().filter(|check| !check.is_late).map(|check| check.deadline);
        let due = waiting.iter().filter(|part| part.checks).filter_map(|part| self.due(part.place));
        deadlines.chain(due).min()
    }
}
