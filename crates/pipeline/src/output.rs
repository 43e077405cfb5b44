//! The outputs of a stage as an observation.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper::feed::{Feed, FeedError, FeedSuccess};
use watchkeeper::runtime::StopReason;
use watchkeeper::subscription::Cursor;
use watchkeeper::{DynError, ObservationConfig, ObservationRuntimeError, ObservedSource, Observer, async_trait};

/// The observer's type of a stage's outputs: each commit publishes a [`StageProgress`] and, if there are any, the outputs
/// as a batch. Nothing is polled, and the progress goes stale only after 24 h without a commit: whether the
/// stage lives is in its [`StageMetrics`](crate::StageMetrics).
pub struct StageOutput<O> {
    /// It has no value: it is a type alone.
    never: Infallible,
    outputs: PhantomData<fn() -> O>,
}

/// What a stage has committed since the pipeline was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StageProgress {
    /// Items, also dead letters and those that were replayed.
    pub items: u64,
    /// Outputs.
    pub outputs: u64,
    /// Commits.
    pub commits: u64,
}

#[async_trait]
impl<O: Send + Sync + 'static> Observer for StageOutput<O> {
    type Source = Infallible;
    type State = Infallible;
    type Snapshot = StageProgress;
    type Event = O;

    async fn init(&self, _: &[ObservedSource<Infallible>]) -> Result<Infallible, DynError> {
        match self.never {}
    }

    async fn poll(&self, _: &[ObservedSource<Infallible>], _: &mut Infallible) -> Result<Vec<O>, DynError> {
        match self.never {}
    }

    fn snapshot(&self, _: &Infallible) -> StageProgress {
        match self.never {}
    }
}

impl<O> std::fmt::Debug for StageOutput<O> {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.never {}
    }
}

/// A day: the longest that a config takes.
const NEVER: Duration = watchkeeper::runtime::MAX_DURATION;

pub(crate) fn output_feed<O: Send + Sync + 'static>(
    name: &str,
    history: usize,
    cursor: Option<Cursor>,
) -> Result<Feed<StageOutput<O>>, ObservationRuntimeError> {
    let config = ObservationConfig {
        name: Some(name.to_owned()),
        interval: NEVER,
        stale_after: Some(NEVER),
        history_limit: history,
        ..ObservationConfig::default()
    };
    Feed::live(&config, cursor)
}

/// Publishes a commit.
pub(crate) fn publish<O: Send + Sync + 'static>(
    feed: &mut Feed<StageOutput<O>>,
    number: u64,
    value: StageProgress,
    events: Vec<O>,
) -> Result<(), FeedError> {
    let now = Instant::now();
    let generation = feed.cursor().generation();
    feed.success(now, FeedSuccess { cycle: number, generation, began: now, is_polled: true, value, events })
}

/// Publishes the end.
pub(crate) fn close<O: Send + Sync + 'static>(feed: &mut Feed<StageOutput<O>>) {
    // It may have ended already.
    let _ = feed.stop(Instant::now(), StopReason::Requested);
}
