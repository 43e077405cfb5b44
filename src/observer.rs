//! What an app gives the runtime.

use async_trait::async_trait;
use tokio::time::Instant;

use crate::config::ObservationConfig;
use crate::error::DynError;
use crate::source::ObservedSource;
use crate::source::health::SourceHealth;

/// App code that turns sources into state, snapshots and events.
///
/// The runtime calls one method at a time: `init` once, then `poll` in every cycle, `snapshot`
/// after each success. It owns the state between the calls, times each call, and turns an error, a
/// time-out or a panic into an [`ObservationFailure`](crate::ObservationFailure).
///
/// # The contract of `poll`
///
/// State may advance only with what is returned. After a change of `state`, an early `?` loses the
/// events of that change for good: the next poll starts from the changed state and never reports
/// them.
///
/// ```
/// # use watchkeeper::{DynError, ObservedSource};
/// # struct Client;
/// # impl Client { async fn height(&self) -> Result<u64, DynError> { Ok(0) } }
/// async fn wrong(sources: &[ObservedSource<Client>], seen: &mut u64) -> Result<Vec<u64>, DynError> {
///     let mut events = Vec::new();
///     for source in sources {
///         let height = source.source.height().await?; // a failing second source ...
///         events.extend(*seen + 1..=height);
///         *seen = height.max(*seen); // ... and what the first one answered is lost
///     }
///     Ok(events)
/// }
///
/// async fn right(sources: &[ObservedSource<Client>], seen: &mut u64) -> Result<Vec<u64>, DynError> {
///     let mut highest = *seen;
///     for source in sources {
///         highest = highest.max(source.source.height().await?);
///     }
///     let events = (*seen + 1..=highest).collect(); // nothing after this can fail
///     *seen = highest;
///     Ok(events)
/// }
/// # let _ = (wrong, right);
/// ```
///
/// Where that is hard to keep and the state is cheap to clone, wrap the observer in
/// [`Transactional`](crate::runtime::Transactional). For one probe per source use
/// [`PerSource`](crate::PerSource), which keeps the contract for you.
///
/// [`check`](crate::check) finds out whether an observer keeps the contract, over a script of source sets:
///
/// ```
/// # use watchkeeper::check::Check;
/// # use watchkeeper::{DynError, ObservedSource, PerSource};
/// # use watchkeeper::per_source::SourceEvent;
/// # async fn height(node: ObservedSource<u64>) -> Result<u64, DynError> { Ok(node.source) }
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), watchkeeper::check::CheckError> {
/// let checked = Check::new(|| PerSource::new(height))
///     .poll(|| [("n1", 1), ("n2", 1)])
///     .poll(|| [("n1", 2), ("n2", 1)])
///     .folding(
///         |nodes| nodes.iter().filter_map(|node| node.value).map(|height| **height).sum::<u64>(),
///         |sum, event| match event {
///             SourceEvent::Appeared { value, .. } => *sum += **value,
///             SourceEvent::Changed { old, new, .. } => *sum += **new - **old,
///             _ => {}
///         },
///     )
///     .run()
///     .await?;
/// assert_eq!((checked.succeeded, checked.events), (2, 3));
/// # Ok(())
/// # }
/// ```
///
/// # Wrappers
///
/// An observer that wraps another, or is built on one, forwards these six to it, beside `init`, `poll` and `snapshot`:
///
/// | method | left out |
/// |---|---|
/// | [`configured`](Self::configured) | `init` of [`PerSource`](crate::PerSource) fails with an error that says so |
/// | [`poll_is_cancel_safe`](Self::poll_is_cancel_safe) | a time-out loses the state |
/// | [`source_health`](Self::source_health) | nothing is known by source: waits by source are refused |
/// | [`asked_since`](Self::asked_since) | waits count answers that were asked before their start |
/// | [`asked_at`](Self::asked_at) | the same, of events |
/// | [`weight`](Self::weight) | a tap counts the shallow size of snapshots and events |
///
/// # Destructors
///
/// Sources, states, snapshots, events and errors are dropped one by one, so a destructor that panics is a line in the
/// log. A single value whose destructor panics twice, in two of its own fields for example, aborts the process: that
/// is how Rust unwinds, and no library can catch it.
///
/// # Blocking
///
/// These methods run on the async executor. Code that blocks its thread cannot be timed out or
/// cancelled: put it into [`tokio::task::spawn_blocking`]. On a current-thread executor a blocked
/// thread blocks everything, the stop included.
#[async_trait]
pub trait Observer: Send + Sync + 'static {
    /// How a source is reached.
    type Source: Send + Sync + 'static;
    /// What the observer remembers from cycle to cycle. Nobody else sees it.
    type State: Send + Sync + 'static;
    /// The view that is published after a success; shared behind an `Arc`, never cloned by the
    /// runtime.
    type Snapshot: Send + Sync + 'static;
    /// One change. The events of a cycle are published together as a batch.
    type Event: Send + Sync + 'static;

    /// Takes over what the runtime was configured with. Called once, before everything else, by the call that
    /// starts the runtime. Default: nothing.
    ///
    /// The config has been validated: every field is in its range. A panic here, or in
    /// [`poll_is_cancel_safe`](Self::poll_is_cancel_safe), which is asked next, is the error
    /// [`ObserverPanicked`](crate::ObservationRuntimeError::ObserverPanicked) of the start.
    ///
    /// An observer that wraps another forwards this: see [Wrappers](#wrappers).
    fn configured(&mut self, config: &ObservationConfig) {
        let _ = config;
    }

    /// Builds the state: in cycle 0, and again after a state was lost.
    ///
    /// Events found here belong into the first `poll`.
    ///
    /// # Errors
    ///
    /// Whatever keeps the state from being built. The next cycle tries again.
    async fn init(&self, sources: &[ObservedSource<Self::Source>]) -> Result<Self::State, DynError>;

    /// Looks at the sources, advances the state and returns what changed.
    ///
    /// # Errors
    ///
    /// Whatever keeps this cycle from a true answer. The state is kept, so it must not have
    /// been changed: see the contract above.
    async fn poll(
        &self,
        sources: &[ObservedSource<Self::Source>],
        state: &mut Self::State,
    ) -> Result<Vec<Self::Event>, DynError>;

    /// The view to publish. Runs inside the init or the poll: its panic is that stage's failure.
    fn snapshot(&self, state: &Self::State) -> Self::Snapshot;

    /// Whether `poll` may be dropped at any of its awaits without leaving the state half changed.
    ///
    /// If so, a time-out keeps the state. By default it is dropped and built again, in a new
    /// generation. A panic always drops it.
    fn poll_is_cancel_safe(&self) -> bool {
        false
    }

    /// What is known of the source called `name`, for waits by source, for `why_stale` and for reports.
    ///
    /// By default nothing is kept by source. [`PerSource`](crate::PerSource) keeps it; an observer built on one
    /// answers with [`SourceView::health`](crate::per_source::SourceView::health). One that asks its sources itself
    /// keeps [`SourceFacts`](crate::source::SourceFacts) of each: `began`, then `answered` or `failed`.
    ///
    /// # Examples
    ///
    /// An observer of its own, whose second source refuses; `examples/own_observer.rs` is a whole one.
    ///
    /// ```
    /// use std::{collections::BTreeMap, time::Duration};
    ///
    /// use tokio::time::Instant;
    /// use watchkeeper::{
    ///     DynError, ObservationConfig, ObservationRuntime, ObservedSource, Observer, StaticSourceProvider,
    ///     async_trait,
    /// };
    /// use watchkeeper::runtime::Cause;
    /// use watchkeeper::source::{ProbeFailure, SourceFacts, SourceHealth};
    ///
    /// struct Ports;
    /// type Known = BTreeMap<String, SourceFacts>;
    ///
    /// #[async_trait]
    /// impl Observer for Ports {
    ///     type Source = Result<(), &'static str>;
    ///     type State = Known;
    ///     type Snapshot = Known;
    ///     type Event = ();
    ///
    ///     async fn init(&self, ports: &[ObservedSource<Self::Source>]) -> Result<Known, DynError> {
    ///         let mut known = Known::new();
    ///         self.poll(ports, &mut known).await?;
    ///         Ok(known)
    ///     }
    ///
    ///     async fn poll(&self, ports: &[ObservedSource<Self::Source>], known: &mut Known) -> Result<Vec<()>, DynError> {
    ///         for port in ports {
    ///             let facts = known.entry(port.name.clone()).or_default();
    ///             let began = Instant::now();
    ///             facts.began(began);
    ///             match port.source {
    ///                 Ok(()) => _ = facts.answered(began, Instant::now()),
    ///                 Err(why) => _ = facts.failed(ProbeFailure::new(began, Instant::now(), Cause::Error, why)),
    ///             }
    ///         }
    ///         Ok(Vec::new())
    ///     }
    ///
    ///     fn snapshot(&self, known: &Known) -> Known {
    ///         known.clone()
    ///     }
    ///
    ///     fn source_health(known: &Known, name: &str) -> Option<SourceHealth> {
    ///         known.get(name).map(|facts| SourceHealth::new(facts.clone(), Duration::from_secs(2)))
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), DynError> {
    /// let ports = vec![ObservedSource::new("a", Ok(())), ObservedSource::new("b", Err("connection refused"))];
    /// let runtime =
    ///     ObservationRuntime::start(StaticSourceProvider::new(ports), Ports, ObservationConfig::default()).await?;
    /// let handle = runtime.handle();
    /// handle.source_fresh("a").within(Duration::from_secs(2)).await?;
    /// let unmet = handle.source_fresh("b").within(Duration::from_secs(2)).await.unwrap_err();
    /// assert!(unmet.to_string().contains("connection refused"));
    /// assert!(handle.why_stale("b").ends_with("connection refused"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    fn source_health(snapshot: &Self::Snapshot, name: &str) -> Option<SourceHealth>
    where
        Self: Sized,
    {
        let _ = (snapshot, name);
        None
    }

    /// What `snapshot` shows without anything that was asked before `since`; `None` if all of it was asked at
    /// `since` or later, or if that is not kept.
    ///
    /// A wait counts what was asked since it was made, or since its mark. By default a snapshot counts by when
    /// its cycle began. That is right where each cycle asks for all that it shows. An observer whose snapshots
    /// also show answers of earlier cycles, or of probes that were in flight when the cycle began, takes them out
    /// here: a probe that was asked before a write cannot show it. What it takes out becomes unknown, not false.
    ///
    /// [`PerSource`](crate::PerSource) does so. An observer built on one filters its own view with
    /// [`SourceHealth::asked_since`]; one that wraps another passes this on.
    #[must_use]
    fn asked_since(snapshot: &Self::Snapshot, since: Instant) -> Option<Self::Snapshot>
    where
        Self: Sized,
    {
        let _ = (snapshot, since);
        None
    }

    /// When that was asked for which `event` was found; `None` if it counts by when its cycle began.
    ///
    /// The same as [`asked_since`](Self::asked_since), for waits for events.
    #[must_use]
    fn asked_at(event: &Self::Event) -> Option<Instant>
    where
        Self: Sized,
    {
        let _ = event;
        None
    }

    /// About how many bytes a success takes in memory: its snapshot with its events. For
    /// [`TapLimits::bytes`](crate::subscription::TapLimits); asked only while there is a
    /// [`Tap`](crate::subscription::Tap).
    ///
    /// By default what the values themselves take, without what they own elsewhere, such as the text of a `String`. An
    /// observer whose snapshots or events own much says more here; of [`PerSource`](crate::PerSource) the app says it by
    /// [`weighing`](crate::PerSource::weighing). What snapshots share counts in each.
    #[must_use]
    fn weight(snapshot: &Self::Snapshot, events: &[Self::Event]) -> usize
    where
        Self: Sized,
    {
        size_of_val(snapshot).saturating_add(size_of_val(events))
    }
}
