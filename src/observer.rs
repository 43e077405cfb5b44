//! The trait that an app implements to be observed by the runtime.

use async_trait::async_trait;
use tokio::time::Instant;

use crate::config::ObservationConfig;
use crate::error::DynError;
use crate::source::ObservedSource;
use crate::source::health::SourceHealth;

/// App code that turns sources into state, snapshots and events.
///
/// The runtime calls one method at a time: `init` in cycle 0 and after a lost state, `poll` in every other cycle, and
/// `snapshot` after each success. It owns the state between the calls, and turns an error, a time-out or a panic into an
/// [`ObservationFailure`](crate::ObservationFailure).
///
/// # The contract of `poll`
///
/// Change `state` only when the events of the change are returned. If `poll` changes `state` and then fails, the next
/// poll starts from the changed state, and those events are never emitted.
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
/// If the state is cheap to clone, [`Transactional`](crate::runtime::Transactional) keeps the contract. For one probe
/// per source [`PerSource`](crate::PerSource) keeps it. [`check`](crate::check) checks it over a script of source
/// sets:
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
/// The runtime drops sources, states, snapshots, events and errors one by one, and logs a panic in a destructor. If
/// the destructors of two fields of one value panic, Rust aborts the process.
///
/// # Blocking
///
/// These methods run on the async executor. Code that blocks its thread cannot be timed out or cancelled: put it into
/// [`tokio::task::spawn_blocking`]. On a current-thread executor it blocks everything, also the stop.
#[async_trait]
pub trait Observer: Send + Sync + 'static {
    /// The app's access to one source, such as a client.
    type Source: Send + Sync + 'static;
    /// The observer's state, kept between cycles. Only the observer reads it.
    type State: Send + Sync + 'static;
    /// The view that is published after a success, in an `Arc`; the runtime never clones it.
    type Snapshot: Send + Sync + 'static;
    /// One change. The events of one cycle are published together, as a batch.
    type Event: Send + Sync + 'static;

    /// Receives the runtime's validated config, once, before every other call. Default: nothing.
    ///
    /// A panic here, or in [`poll_is_cancel_safe`](Self::poll_is_cancel_safe), which is called next, fails the start
    /// with [`ObserverPanicked`](crate::ObservationRuntimeError::ObserverPanicked). Wrappers forward this call: see
    /// [Wrappers](#wrappers).
    fn configured(&mut self, config: &ObservationConfig) {
        let _ = config;
    }

    /// Builds the state, in cycle 0 and after the state was lost. The first `poll` returns the events that are found
    /// here.
    ///
    /// # Errors
    ///
    /// Any error that prevents building the state. The next cycle tries again.
    async fn init(&self, sources: &[ObservedSource<Self::Source>]) -> Result<Self::State, DynError>;

    /// Polls the sources, advances the state and returns the events.
    ///
    /// # Errors
    ///
    /// Any error that prevents a correct result. The state must then be unchanged: see the contract above.
    async fn poll(
        &self,
        sources: &[ObservedSource<Self::Source>],
        state: &mut Self::State,
    ) -> Result<Vec<Self::Event>, DynError>;

    /// Returns the view to publish. It runs inside the init or the poll; a panic here is a failure of that stage.
    fn snapshot(&self, state: &Self::State) -> Self::Snapshot;

    /// Whether `poll` may be dropped at any of its awaits and leaves the state consistent. Default: `false`.
    ///
    /// With `true` a time-out keeps the state. Otherwise the next cycle builds a new generation. A panic always drops
    /// the state.
    fn poll_is_cancel_safe(&self) -> bool {
        false
    }

    /// The health of the source `name`, for waits by source, `why_stale` and reports. Default: nothing is kept by
    /// source.
    ///
    /// An observer that is built on [`PerSource`](crate::PerSource) returns
    /// [`SourceView::health`](crate::per_source::SourceView::health). Any other observer keeps
    /// [`SourceFacts`](crate::source::SourceFacts) for each source, and calls `began`, then `answered` or `failed`.
    ///
    /// # Examples
    ///
    /// Two sources, of which the second fails; `examples/own_observer.rs` is a complete program.
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

    /// Returns `snapshot` without the answers that were asked before `since`. `None` if all were asked at `since` or
    /// later, or if the times are not kept.
    ///
    /// A wait counts only answers that were asked after it, or its mark, was made: an earlier probe cannot show a
    /// later write. By default a snapshot counts by the begin of its cycle. Implement this method if snapshots also
    /// show answers of earlier cycles, or of probes in flight when the cycle began. Removed values become unknown,
    /// not false.
    ///
    /// [`PerSource`](crate::PerSource) implements it. An observer built on `PerSource` filters its own view with
    /// [`SourceHealth::asked_since`]; a wrapper forwards the call.
    #[must_use]
    fn asked_since(snapshot: &Self::Snapshot, since: Instant) -> Option<Self::Snapshot>
    where
        Self: Sized,
    {
        let _ = (snapshot, since);
        None
    }

    /// When the answer behind `event` was asked. `None` if the event counts by the begin of its cycle.
    ///
    /// Waits for events use it as other waits use [`asked_since`](Self::asked_since).
    #[must_use]
    fn asked_at(event: &Self::Event) -> Option<Instant>
    where
        Self: Sized,
    {
        let _ = event;
        None
    }

    /// The approximate memory of one success in bytes, its snapshot and its events, for
    /// [`TapLimits::bytes`](crate::subscription::TapLimits). Called only while there is a
    /// [`Tap`](crate::subscription::Tap).
    ///
    /// Default: the shallow size, without owned memory such as the text of a `String`. With `PerSource` use
    /// [`weighing`](crate::PerSource::weighing). Memory that several snapshots share counts in each.
    #[must_use]
    fn weight(snapshot: &Self::Snapshot, events: &[Self::Event]) -> usize
    where
        Self: Sized,
    {
        size_of_val(snapshot).saturating_add(size_of_val(events))
    }
}
