//! The typed handle inside an erased one.

use std::any::Any;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper_fsm::{StateKind, StopReason};

use super::AnySnapshot;
#[cfg(feature = "json")]
use super::json::{EventJson, JsonSubscription, JsonSubscriptionError};
use crate::cursor::Cursor;
use crate::error::ObservationFailure;
use crate::group::status::GroupStatus;
use crate::handle::ObservationHandle;
use crate::mark::Mark;
use crate::observer::Observer;
#[cfg(feature = "json")]
use crate::panics::discard_logged;
use crate::source::duplicates::health_of;
use crate::source::health::SourceHealth;
use crate::status::{ObservationSnapshot, ObservationStatus};
use crate::wait::judge::{Judge, Predicate, SourceWish, Unchanged};
use crate::wait::show::Show;
use crate::wait::{ByShow, Eventually, Invariant, Unmet, Verdict, Wait, WaitBuilder};

#[cfg(feature = "json")]
pub(super) type ToJson<O> = Arc<dyn Fn(&<O as Observer>::Snapshot) -> serde_json::Value + Send + Sync>;

pub(super) type AnyPredicate<'a> = Box<dyn FnMut(AnySnapshot<'_>) -> Verdict + Send + 'a>;
pub(super) type EventPredicate<'a> = Box<dyn FnMut(&dyn Any) -> Verdict + Send + 'a>;
pub(super) type BoxedBuilder<'a> = Box<dyn ErasedBuilder<'a> + Send + 'a>;

/// An operator without the observer's types.
pub(super) enum Operator<'a> {
    Eventually(AnyPredicate<'a>),
    Always(bool, AnyPredicate<'a>),
    StableFor(Duration, Box<dyn FnMut(AnySnapshot<'_>) -> Option<u64> + Send + 'a>),
    Event(EventPredicate<'a>),
    Reaches(StateKind),
    StaysFresh,
    BecomesStale,
    Source(String, SourceWish),
    Set(Predicate<'a, [Arc<str>]>),
}

pub(super) fn of_any<'a, R: Into<Verdict>>(
    mut predicate: impl FnMut(AnySnapshot<'_>) -> R + Send + 'a,
) -> AnyPredicate<'a> {
    Box::new(move |snapshot| predicate(snapshot).into())
}

/// A handle without its observer's types.
pub(super) trait Erased: Send + Sync {
    fn status(&self, name: &Arc<str>) -> GroupStatus;
    fn failures(&self) -> Vec<Arc<ObservationFailure>>;
    fn mark(&self) -> Mark;
    fn why_stale(&self, source: &str) -> String;
    fn look(&self, look: &mut dyn FnMut(AnySnapshot<'_>));
    fn stopped(&self) -> Pin<Box<dyn Future<Output = StopReason> + Send + '_>>;
    fn wait<'a>(&self, label: String, operator: Operator<'a>) -> BoxedBuilder<'a>;
    fn invariant(&self, label: String, predicate: AnyPredicate<'static>) -> Invariant;
    #[cfg(feature = "json")]
    fn subscribe_json(&self, from: Option<Cursor>) -> Result<JsonSubscription, JsonSubscriptionError>;
}

pub(super) trait ErasedSnapshot {
    fn cycle(&self) -> u64;
    fn generation(&self) -> u64;
    fn observed_at(&self) -> Instant;
    fn source_count(&self) -> usize;
    fn cursor(&self) -> Cursor;
    fn event_count(&self) -> u64;
    fn value(&self) -> &dyn Any;
    fn source_health(&self, source: &str) -> Option<SourceHealth>;
    #[cfg(feature = "json")]
    fn to_json(&self) -> Option<serde_json::Value>;
}

pub(super) trait ErasedBuilder<'a> {
    fn or_now(self: Box<Self>) -> BoxedBuilder<'a>;
    fn after(self: Box<Self>, mark: Mark) -> BoxedBuilder<'a>;
    fn open(self: Box<Self>, window: Duration) -> Pin<Box<dyn ErasedWait + Send + 'a>>;
}

pub(super) trait ErasedWait {
    fn poll_erased(
        self: Pin<&mut Self>,
        name: &Arc<str>,
        context: &mut Context<'_>,
    ) -> Poll<Result<GroupStatus, Unmet>>;
    fn explain(&self) -> String;
}

/// How snapshots and events of one observer are converted.
pub(super) struct SnapshotView<O: Observer> {
    #[cfg(feature = "json")]
    pub(super) json: Option<ToJson<O>>,
    #[cfg(feature = "json")]
    pub(super) event: Option<EventJson<O::Event>>,
    pub(super) observer: PhantomData<fn() -> O>,
}

/// Both are app values, so they are dropped separately.
#[cfg(feature = "json")]
impl<O: Observer> Drop for SnapshotView<O> {
    fn drop(&mut self) {
        if let Some(json) = self.json.take() {
            discard_logged(json, "what shows snapshots as JSON");
        }
        if let Some(event) = self.event.take() {
            discard_logged(event, "what shows events as JSON");
        }
    }
}

impl<O: Observer> Clone for SnapshotView<O> {
    fn clone(&self) -> Self {
        Self {
            #[cfg(feature = "json")]
            json: self.json.clone(),
            #[cfg(feature = "json")]
            event: self.event.clone(),
            observer: PhantomData,
        }
    }
}

pub(super) struct TypedHandle<O: Observer> {
    pub(super) handle: ObservationHandle<O>,
    pub(super) lens: SnapshotView<O>,
}

struct View<'a, O: Observer> {
    snapshot: &'a ObservationSnapshot<O::Snapshot>,
    #[allow(dead_code, reason = "shows JSON, with that feature")]
    lens: &'a SnapshotView<O>,
}

impl<O: Observer> SnapshotView<O> {
    fn look<T>(
        &self,
        snapshot: &ObservationSnapshot<O::Snapshot>,
        look: impl FnOnce(AnySnapshot<'_>) -> T,
    ) -> T {
        look(AnySnapshot { inner: &View::<O> { snapshot, lens: self } })
    }

    fn predicate<'a>(
        &self,
        mut predicate: AnyPredicate<'a>,
    ) -> impl FnMut(&ObservationSnapshot<O::Snapshot>) -> Verdict + Send + use<'a, O> {
        let lens = self.clone();
        move |snapshot: &ObservationSnapshot<O::Snapshot>| lens.look(snapshot, &mut predicate)
    }

    #[allow(clippy::unused_self, reason = "shows JSON, with that feature")]
    fn show<'a>(&self) -> Show<'a, O> {
        #[cfg(feature = "json")]
        if let Some(json) = self.json.clone() {
            return Show::json(move |snapshot| json(snapshot));
        }
        Show::by(|_| "(this handle was given no way to show it: see AnyHandle::with_json)".to_owned())
    }
}

impl<O: Observer> Erased for TypedHandle<O> {
    fn status(&self, name: &Arc<str>) -> GroupStatus {
        GroupStatus::of(name, self.handle.status())
    }

    fn failures(&self) -> Vec<Arc<ObservationFailure>> {
        self.handle.failures()
    }

    fn mark(&self) -> Mark {
        self.handle.mark()
    }

    fn why_stale(&self, source: &str) -> String {
        self.handle.why_stale(source)
    }

    fn stopped(&self) -> Pin<Box<dyn Future<Output = StopReason> + Send + '_>> {
        Box::pin(self.handle.stopped())
    }

    fn look(&self, look: &mut dyn FnMut(AnySnapshot<'_>)) {
        if let Some(snapshot) = self.handle.latest_snapshot() {
            self.lens.look(&snapshot, look);
        }
    }

    fn wait<'a>(&self, label: String, operator: Operator<'a>) -> BoxedBuilder<'a> {
        let lens = &self.lens;
        let judge = match operator {
            Operator::Eventually(predicate) => Judge::Eventually(Box::new(lens.predicate(predicate))),
            Operator::Always(wanted, predicate) => {
                Judge::Always { wanted, predicate: Box::new(lens.predicate(predicate)) }
            }
            Operator::StableFor(hold, mut number) => {
                let lens = lens.clone();
                let run = Unchanged::new(move |snapshot: &ObservationSnapshot<O::Snapshot>| {
                    lens.look(snapshot, &mut number)
                });
                Judge::Stable { hold, run }
            }
            Operator::Event(mut predicate) => {
                Judge::Event(Box::new(move |event: &O::Event| predicate(event)))
            }
            Operator::Reaches(state) => Judge::State(state),
            Operator::StaysFresh => Judge::StaysFresh,
            Operator::BecomesStale => Judge::BecomesStale,
            Operator::Source(name, wish) => Judge::source(&name, wish),
            Operator::Set(predicate) => Judge::Set(predicate),
        };
        Box::new(self.handle.judging(label, judge).showing(lens.show()))
    }

    fn invariant(&self, label: String, predicate: AnyPredicate<'static>) -> Invariant {
        let predicate = Box::new(self.lens.predicate(predicate));
        let judge = Judge::Always { wanted: true, predicate };
        self.handle.invariant_of(label, judge, self.lens.show())
    }

    #[cfg(feature = "json")]
    fn subscribe_json(&self, from: Option<Cursor>) -> Result<JsonSubscription, JsonSubscriptionError> {
        let event = self.lens.event.clone().ok_or(JsonSubscriptionError::NoEventJson)?;
        let batches = match from {
            Some(cursor) => self.handle.subscribe_from(cursor)?,
            None => self.handle.subscribe(),
        };
        Ok(JsonSubscription::new(batches, event))
    }
}

impl<O: Observer> ErasedSnapshot for View<'_, O> {
    fn cycle(&self) -> u64 {
        self.snapshot.cycle
    }

    fn generation(&self) -> u64 {
        self.snapshot.generation
    }

    fn observed_at(&self) -> Instant {
        self.snapshot.observed_at
    }

    fn source_count(&self) -> usize {
        self.snapshot.source_count
    }

    fn cursor(&self) -> Cursor {
        self.snapshot.cursor
    }

    fn event_count(&self) -> u64 {
        self.snapshot.event_count
    }

    fn value(&self) -> &dyn Any {
        &self.snapshot.value
    }

    fn source_health(&self, source: &str) -> Option<SourceHealth> {
        health_of::<O>(self.snapshot, source)
    }

    #[cfg(feature = "json")]
    fn to_json(&self) -> Option<serde_json::Value> {
        self.lens.json.as_ref().map(|json| json(&self.snapshot.value))
    }
}

impl<'a, O: Observer> ErasedBuilder<'a>
    for WaitBuilder<'a, O, ObservationStatus<O>, Eventually, ByShow<'a, O>>
{
    fn or_now(self: Box<Self>) -> BoxedBuilder<'a> {
        Box::new(WaitBuilder::or_now(*self))
    }

    fn after(self: Box<Self>, mark: Mark) -> BoxedBuilder<'a> {
        Box::new(WaitBuilder::after(*self, mark))
    }

    fn open(self: Box<Self>, window: Duration) -> Pin<Box<dyn ErasedWait + Send + 'a>> {
        Box::pin(self.within(window))
    }
}

impl<O: Observer> ErasedWait for Wait<'_, O, ObservationStatus<O>> {
    fn poll_erased(
        self: Pin<&mut Self>,
        name: &Arc<str>,
        context: &mut Context<'_>,
    ) -> Poll<Result<GroupStatus, Unmet>> {
        self.poll(context).map_ok(|status| GroupStatus::of(name, status))
    }

    fn explain(&self) -> String {
        Wait::explain(self)
    }
}
