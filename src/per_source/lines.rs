//! What is logged of sources: the first of consecutive failures warns, a recovery informs.

use crate::source::health::ProbeFailure;
use crate::text::one_line;

/// Lines of each kind in one cycle; the others are counted.
const LINES: u64 = 8;

/// Of a name, in bytes.
pub(super) const NAME: usize = 100;

/// Of an error, in bytes.
const ERROR: usize = 500;

/// The lines of one cycle.
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

    /// The cycle has ended: counts what had no line.
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
