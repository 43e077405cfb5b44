//! A wait that has no window yet.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use super::Read;
use super::judge::Judge;
use super::outcome::InvalidWait;
use super::pending::Wait;
use super::show::Show;
use crate::mark::Mark;
use crate::observer::Observer;
use crate::publish::shared::Shared;

/// The report shows snapshots by `Debug`.
pub struct ByDebug(());

/// The report shows snapshots by the app's own function.
pub struct ByShow<'a, O: Observer>(Show<'a, O>);

/// A wait for something to happen [`within`](WaitBuilder::within) a window.
#[derive(Debug)]
pub enum Eventually {}

/// A wait for something to hold [`during`](WaitBuilder::during) a whole window.
#[derive(Debug)]
pub enum Throughout {}

/// A wait that still needs its window: `within(..)` or `during(..)`.
///
/// It has begun: data asked for from now on counts. Without a window it is not a future, so that no wait is unbounded
/// by mistake:
///
/// ```compile_fail,E0277
/// # use watchkeeper::{ObservationHandle, Observer};
/// # async fn example<O: Observer<Snapshot = Vec<u64>>>(handle: ObservationHandle<O>) {
/// handle.eventually("three nodes answer", |heights| heights.len() == 3).await;
/// # }
/// ```
///
/// ```
/// # use std::time::Duration;
/// # use watchkeeper::{ObservationHandle, Observer};
/// # async fn example<O: Observer<Snapshot = Vec<u64>>>(handle: ObservationHandle<O>) {
/// # let _ =
/// handle.eventually("three nodes answer", |heights| heights.len() == 3).within(Duration::from_secs(5)).await;
/// # }
/// ```
#[must_use = "a wait without a window does nothing: add `.within(..)` or `.during(..)`, then `.await`"]
pub struct WaitBuilder<'a, O: Observer, T, K = Eventually, V = ByDebug> {
    wait: Wait<'a, O, T>,
    event: Option<fn(&O::Event) -> String>,
    show: V,
    kind: PhantomData<K>,
}

impl<'a, O: Observer, T, K> WaitBuilder<'a, O, T, K> {
    pub(super) fn new(
        shared: &Arc<Shared<O::Snapshot, O::Event>>,
        label: String,
        judge: Judge<'a, O>,
        read: Read<'a, O, T>,
    ) -> Self {
        let wait = Wait::register(Arc::clone(shared), label, judge, read);
        Self { wait, event: None, show: ByDebug(()), kind: PhantomData }
    }

    pub(super) fn showing_events(self, event: fn(&O::Event) -> String) -> Self {
        Self { event: Some(event), ..self }
    }

    pub(crate) fn showing(self, show: Show<'a, O>) -> WaitBuilder<'a, O, T, K, ByShow<'a, O>> {
        WaitBuilder { wait: self.wait, event: self.event, show: ByShow(show), kind: PhantomData }
    }

    /// Shows snapshots in the report by `show`, for snapshots that are too large for `Debug` or do not implement it.
    ///
    /// When the wait has failed, `show` is called for the newest ten snapshots at most, and for eight older ones of an
    /// observer without events. The report shows
    /// 2,000 bytes of a text, compares 16 KiB of it with other snapshots, and notes a panic of `show`.
    pub fn show(
        self,
        show: impl Fn(&O::Snapshot) -> String + Send + 'a,
    ) -> WaitBuilder<'a, O, T, K, ByShow<'a, O>> {
        self.showing(Show::by(show))
    }

    /// Shows snapshots as JSON in the report's text and in [`Unmet::to_json`](super::Unmet::to_json). Otherwise like
    /// [`show`](Self::show).
    #[cfg(feature = "json")]
    pub fn show_json(
        self,
        show: impl Fn(&O::Snapshot) -> serde_json::Value + Send + 'a,
    ) -> WaitBuilder<'a, O, T, K, ByShow<'a, O>> {
        self.showing(Show::json(show))
    }
}

impl<'a, O: Observer, T> WaitBuilder<'a, O, T, Eventually>
where
    O::Snapshot: fmt::Debug,
{
    /// Sets the window, counted from when the wait was made. Zero or over 24 h is [`Unmet`](super::Unmet).
    pub fn within(self, window: Duration) -> Wait<'a, O, T> {
        self.showing(Show::debug()).within(window)
    }
}

impl<'a, O: Observer, T> WaitBuilder<'a, O, T, Eventually, ByShow<'a, O>> {
    /// Sets the window, counted from when the wait was made. Zero or over 24 h is [`Unmet`](super::Unmet).
    pub fn within(self, window: Duration) -> Wait<'a, O, T> {
        self.unbounded().open(window)
    }
}

impl<'a, O: Observer, T> WaitBuilder<'a, O, T, Throughout>
where
    O::Snapshot: fmt::Debug,
{
    /// Sets the window, counted from when the wait was made. Zero or over 24 h is [`Unmet`](super::Unmet).
    pub fn during(self, window: Duration) -> Wait<'a, O, T> {
        self.showing(Show::debug()).during(window)
    }
}

impl<'a, O: Observer, T> WaitBuilder<'a, O, T, Throughout, ByShow<'a, O>> {
    /// Sets the window, counted from when the wait was made. Zero or over 24 h is [`Unmet`](super::Unmet).
    pub fn during(self, window: Duration) -> Wait<'a, O, T> {
        self.unbounded().open(window)
    }
}

impl<'a, O: Observer, T, K> WaitBuilder<'a, O, T, K, ByShow<'a, O>> {
    /// A wait without a window: its owner ends it.
    pub(super) fn unbounded(self) -> Wait<'a, O, T> {
        let mut wait = self.wait;
        wait.shows(self.show.0.events(self.event));
        wait
    }
}

impl<O: Observer, T, K, V> WaitBuilder<'_, O, T, K, V> {
    /// Ends the wait as invalid, at once. For crates that add waits with the rules of this one; not for apps.
    #[doc(hidden)]
    pub fn refuse(&mut self, invalid: InvalidWait) {
        self.wait.refuse(invalid);
    }

    /// Also accepts what is known already, regardless of when it was asked for: the present snapshot if it is fresh,
    /// the present state and source set, and the outcome of a cycle in flight.
    ///
    /// The last call of this or of [`after`](Self::after) counts.
    pub fn or_now(mut self) -> Self {
        self.wait.count_all();
        self
    }

    /// Counts what was asked after `mark`, including before this wait. Of the cycles between the mark and this wait,
    /// the latest snapshot is judged, and every event that the history still holds.
    ///
    /// The mark may be younger than the wait. The window always begins with the wait. The last call of this or of
    /// [`or_now`](Self::or_now) counts.
    pub fn after(mut self, mark: Mark) -> Self {
        self.wait.count_from(mark);
        self
    }
}

impl<O: Observer, T, K, V> fmt::Debug for WaitBuilder<'_, O, T, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitBuilder").field("wait", &self.wait).finish_non_exhaustive()
    }
}
