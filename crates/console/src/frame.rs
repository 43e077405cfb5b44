//! What a table shows at one moment, as data.

use std::collections::VecDeque;
use std::time::Duration;

/// One picture of an observation, or of a group of them. All ages are of the moment at which it was made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Frame {
    /// The name of the observation or of the group; may be empty.
    pub name: String,
    /// How long ago the table was made.
    pub at: Duration,
    /// What the rows are.
    pub kind: Kind,
    /// The state of the machine, such as "idle" or "polling"; of a group, how many observations there are.
    pub state: String,
    /// How many consecutive cycles have failed, if the last one did.
    pub failures: u64,
    /// Whether ticks are held back.
    pub paused: bool,
    /// The generation of the observer's state; `None` for a group.
    pub generation: Option<u64>,
    /// The cycle in flight, or the last one; `None` for a group.
    pub cycle: Option<u64>,
    /// Whether the data is fresh; `None` before the first success, and for a group.
    pub fresh: Option<bool>,
    /// The age of the last success.
    pub age: Option<Duration>,
    /// The last failure, if no success came after it.
    pub last_error: Option<String>,
    /// How long no later frame has come, if that is worth a line: the executor is blocked. Only on a table that is shown.
    pub old: Option<Duration>,
    /// How much later than planned this frame was drawn, if that is worth a line: the executor was blocked, the process
    /// suspended, or the terminal slow. Only on a table that is shown.
    pub late: Option<Duration>,
    /// The last frame of the newest 10 s that was late: by how much, and how long ago it was drawn. Only on a table that
    /// is shown.
    pub was_late: Option<(Duration, Duration)>,
    /// The rows, in the provider's order.
    pub rows: Vec<Row>,
}

/// What the rows of a frame are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// The sources of one observation.
    #[default]
    Sources,
    /// The observations of a group.
    Observations,
}

/// One source, or one observation of a group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: RowState,
    /// The value, as the app shows it.
    pub value: Option<String>,
    /// Of an observation: what its machine does, and in which cycle.
    pub activity: Option<String>,
    /// The age of the last answer.
    pub age: Option<Duration>,
    /// How long the probe in flight has taken so far, if there is one.
    pub in_flight: Option<Duration>,
    /// The last error, if no answer came after it; of an observation, its last failure.
    pub error: Option<String>,
    /// How long the last answers took.
    pub latencies: Latencies,
}

/// The state of a row. The worst comes first: that is the order in which rows are shown if not all fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowState {
    /// The observation has ended.
    Stopped,
    /// The last probe failed; of an observation, the last cycle that has ended.
    Failing,
    /// Asked, and without an answer for longer than is usual for it.
    Silent,
    /// The last answer is too old.
    Stale,
    /// Of an observation: a source of it does not answer.
    Partial,
    /// There was no answer yet.
    Never,
    /// Nothing is known by source.
    #[default]
    Unknown,
    /// The observation is paused.
    Paused,
    /// It answers.
    Fresh,
}

impl RowState {
    /// Its word in a table.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Failing => "failing",
            Self::Silent => "silent",
            Self::Stale => "stale",
            Self::Partial => "partial",
            Self::Never => "no answer",
            Self::Unknown => "unknown",
            Self::Paused => "paused",
            Self::Fresh => "fresh",
        }
    }
}

/// How long the newest answers took, at most 32.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latencies(VecDeque<Duration>);

impl Latencies {
    const KEPT: usize = 32;

    /// Adds the newest one.
    pub fn push(&mut self, latency: Duration) {
        if self.0.len() == Self::KEPT {
            self.0.pop_front();
        }
        self.0.push_back(latency);
    }

    /// The newest `width` as bars: the highest bar is the slowest answer shown.
    #[must_use]
    pub fn sparkline(&self, width: usize) -> String {
        const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let shown = self.0.iter().skip(self.0.len().saturating_sub(width));
        let slowest = shown.clone().max().map_or(0, Duration::as_nanos).max(1);
        let bar = |latency: &Duration| {
            let eighth = latency.as_nanos() * (BARS.len() as u128 - 1) / slowest;
            BARS[usize::try_from(eighth).map_or(BARS.len() - 1, |eighth| eighth.min(BARS.len() - 1))]
        };
        shown.map(bar).collect()
    }

    /// Whether there was no answer yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The newest one.
    #[must_use]
    pub fn last(&self) -> Option<Duration> {
        self.0.back().copied()
    }
}

impl Extend<Duration> for Latencies {
    fn extend<I: IntoIterator<Item = Duration>>(&mut self, latencies: I) {
        latencies.into_iter().for_each(|latency| self.push(latency));
    }
}
