//! Log lines of sources: a warning for the first of consecutive failures, an info line for a recovery.

use crate::source::health::ProbeFailure;
use crate::text::one_line;

/// Lines of each kind in one cycle; further ones are counted.
const LINES: u64 = 8;

/// Bytes of a name.
pub(super) const NAME: usize = 100;

/// Bytes of an error.
const ERROR: usize = 500;

/// The log lines of one cycle.
#[derive(Debug, Default)]
pub(super) struct Lines {
    failed: u64,
    recovered: u64,
}

impl Lines {
    /// The first of consecutive failed probes.
    pub(super) fn failed(&mut self, source: &str, failure: &ProbeFailure) {
        self.failed += 1;
        if self.failed <= LINES {
            let (source, error) = (one_line(source, NAME), one_line(&failure.message, ERROR));
            tracing::warn!(source, cause = %failure.cause, error, "source failed");
        }
    }

    /// The first answer after `failures` failed probes.
    pub(super) fn recovered(&mut self, source: &str, failures: u64) {
        self.recovered += 1;
        if self.recovered <= LINES {
            tracing::info!(source = one_line(source, NAME), after_failures = failures, "source recovered");
        }
    }

    /// Ends the cycle: logs the count of the omitted lines.
    pub(super) fn end(&mut self) {
        let Self { failed, recovered } = std::mem::take(self);
        if failed > LINES {
            tracing::warn!("and {} more sources failed", failed - LINES);
        }
        if recovered > LINES {
            tracing::info!("and {} more sources recovered", recovered - LINES);
        }
    }
}
