//! A wait before it has its window.

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

/// A wait shows snapshots by `Debug`.
pub struct ByDebug(());

/// A wait shows snapshots by the app's own function.
pub struct ByShow<'a, O: Observer>(Show<'a, O>);

/// A wait for something to happen: [`within`](WaitBuilder::within) a window.
#[derive(Debug)]
pub enum Eventually {}

/// A wait for something to hold: [`during`](WaitBuilder::during) all of a window.
#[derive(Debug)]
pub enum Throughout {}

/// A wait that still needs its window: `within(..)` or `during(..)`.
///
/// It has begun: what is asked from now on counts. Without a window it is no future, so that nobody waits for ever
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

    /// Shows snapshots in the report by `show`, for those that are too large for `Debug` or have none.
    ///
    /// It is called for the newest ten snapshots at most, once each, when the wait has failed. Of the text, 2,000
    /// bytes are shown, and 16 KiB compared with those of other snapshots. One that panics is noted in the report.
    pub fn show(
        self,
        show: impl Fn(&O::Snapshot) -> String + Send + 'a,
    ) -> WaitBuilder<'a, O, T, K, ByShow<'a, O>> {
        self.showing(Show::by(show))
    }

    /// Shows snapshots in the report as JSON: in its text, and in [`Unmet::to_json`](super::Unmet::to_json).
    /// Otherwise like [`show`](Self::show).
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
    /// Gives the window, counted from when the wait was made. The wait is then to be awaited.
    ///
    /// The result is [`Unmet`](super::Unmet) if the window is zero or over 24 h.
    pub fn within(self, window: Duration) -> Wait<'a, O, T> {
        self.showing(Show::debug()).within(window)
    }
}

impl<'a, O: Observer, T> WaitBuilder<'a, O, T, Eventually, ByShow<'a, O>> {
    /// Gives the window, counted from when the wait was made. The wait is then to be awaited.
    ///
    /// The result is [`Unmet`](super::Unmet) if the window is zero or over 24 h.
    pub fn within(self, window: Duration) -> Wait<'a, O, T> {
        self.unbounded().open(window)
    }
}

impl<'a, O: Observer, T> WaitBuilder<'a, O, T, Throughout>
where
    O::Snapshot: fmt::Debug,
{
    /// Gives the window, counted from when the wait was made. The wait is then to be awaited.
    ///
    /// The result is [`Unmet`](super::Unmet) if the window is zero or over 24 h.
    pub fn during(self, window: Duration) -> Wait<'a, O, T> {
        self.showing(Show::debug()).during(window)
    }
}

impl<'a, O: Observer, T> WaitBuilder<'a, O, T, Throughout, ByShow<'a, O>> {
    /// Gives the window, counted from when the wait was made. The wait is then to be awaited.
    ///
    /// The result is [`Unmet`](super::Unmet) if the window is zero or over 24 h.
    pub fn during(self, window: Duration) -> Wait<'a, O, T> {
        self.unbounded().open(window)
    }
}

impl<'a, O: Observer, T, K> WaitBuilder<'a, O, T, K, ByShow<'a, O>> {
    /// A wait that only its owner ends.
    pub(super) fn unbounded(self) -> Wait<'a, O, T> {
        let mut wait = self.wait;
        wait.shows(self.show.0.events(self.event));
        wait
    }
}

impl<O: Observer, T, K, V> WaitBuilder<'_, O, T, K, V> {
    pub(crate) fn refuse(&mut self, invalid: InvalidWait) {
        self.wait.refuse(invalid);
    }

    /// Accepts what is known already, whenever it was asked: the present snapshot if it is fresh, the present
    /// state and source set, and the outcome of a cycle in flight.
    ///
    /// Of several calls of this and of [`after`](Self::after) the last one counts.
    pub fn or_now(mut self) -> Self {
        self.wait.count_all();
        self
    }

    /// Counts what was asked after `mark`, before this wait as well: of the cycles between the mark and this wait
    /// the latest snapshot is judged, and every event that the history still holds. The mark may also be younger
    /// than the wait; the window begins with the wait in any case.
    ///
    /// Of several calls of this and of [`or_now`](Self::or_now) the last one counts.
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
