//! What the runtime shows, in the words of the model.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper::runtime::{ControlError, ObservationStatus};
use watchkeeper::subscription::{Cursor, RecvError};
use watchkeeper::wait::{Mark, Unmet, Wait, WaitBuilder};
use watchkeeper::{
    ObservationBatch, ObservationControl, ObservationFailure, ObservationHandle, ObservationSnapshot,
};

use crate::app::{App, View};
use crate::reference::{Batch, Control, Failure, Position, Snapshot, Status};
use crate::waiting::{Item, NoPollsBy, Verdict, Want, Wish};

fn millis(duration: Duration) -> u64 {
    assert_eq!(duration.subsec_nanos() % 1_000_000, 0, "the paused clock goes in milliseconds");
    u64::try_from(duration.as_millis()).unwrap()
}

pub(crate) fn status(status: &ObservationStatus<App>, began: Instant) -> Status {
    Status {
        state: status.state,
        since: millis(status.since - began),
        paused: status.paused,
        generation: status.generation,
        cycle: status.cycle,
        snapshot: status.snapshot.as_ref().map(|shown| Rc::new(snapshot(shown, began))),
        last_error: status.last_error.as_ref().map(|error| failure(error, began)),
        last_success: status.freshness.last_success().map(|success| millis(success - began)),
        stale_after: millis(status.freshness.stale_after()),
        names: status.source_names.iter().map(ToString::to_string).collect(),
        missed_ticks: status.missed_ticks,
    }
}

fn snapshot(snapshot: &ObservationSnapshot<View>, began: Instant) -> Snapshot {
    Snapshot {
        generation: snapshot.generation,
        cycle: snapshot.cycle,
        cursor: position(snapshot.cursor),
        at: millis(snapshot.observed_at - began),
        elapsed: millis(snapshot.elapsed),
        source_count: snapshot.source_count,
        event_count: snapshot.event_count,
        answered: snapshot.value.memory.answered.map(|answered| millis(answered - began)),
        view: snapshot.value.clone(),
    }
}

pub(crate) fn position(cursor: Cursor) -> Position {
    Position { generation: cursor.generation(), seq: cursor.seq() }
}

pub(crate) fn batch(batch: &ObservationBatch<u64>, began: Instant) -> Batch {
    Batch {
        generation: batch.generation,
        seq: batch.seq,
        cycle: batch.cycle,
        at: millis(batch.observed_at - began),
        source_count: batch.source_count,
        events: batch.events.clone(),
    }
}

pub(crate) fn failure(failure: &ObservationFailure, began: Instant) -> Failure {
    Failure {
        generation: failure.generation,
        cycle: failure.cycle,
        at: millis(failure.observed_at - began),
        elapsed: millis(failure.elapsed),
        source_count: failure.source_count,
        stage: failure.stage,
        cause: failure.cause,
        consecutive: failure.consecutive,
    }
}

pub(crate) fn item(item: Result<Arc<ObservationBatch<u64>>, RecvError>, began: Instant) -> Item {
    match item {
        Ok(item) => Item::Batch(batch(&item, began)),
        Err(RecvError::Lagged { missed, resume }) => Item::Lagged { missed, resume: position(resume) },
        Err(RecvError::Rebuilt { generation }) => Item::Rebuilt(generation),
        Err(RecvError::Closed(reason)) => Item::Closed(reason),
    }
}

/// The answer to a control: to a `PollNow`, a cycle.
pub(crate) type Answer = Result<Option<u64>, ControlError>;

pub(crate) async fn ask(to: ObservationControl, control: Control) -> Answer {
    match control {
        Control::Pause => to.pause().await.map(|()| None),
        Control::Resume => to.resume().await.map(|()| None),
        Control::PollNow => to.poll_now().await.map(Some),
    }
}

/// The verdict of a wait, whenever it comes.
pub(crate) type Judged = Pin<Box<dyn Future<Output = Verdict> + Send>>;

/// Makes a wait, now.
pub(crate) fn verdict(
    handle: &ObservationHandle<App>,
    want: Want,
    from: (bool, Option<Mark>),
    window: Duration,
) -> Judged {
    match want {
        Want::Polls(divisor, rest) => {
            let wait = handle.eventually("so many polls", move |view| view.memory.done % divisor == rest);
            snapshot_of(started(wait, from).within(window))
        }
        Want::NoPolls(divisor, rest, NoPollsBy::Always) => {
            let wait = handle.always("not so many polls", move |view| view.memory.done % divisor != rest);
            snapshot_of(started(wait, from).during(window))
        }
        Want::NoPolls(divisor, rest, NoPollsBy::Never) => {
            let wait = handle.never("so many polls", move |view| view.memory.done % divisor == rest);
            snapshot_of(started(wait, from).during(window))
        }
        Want::Stable(divisor, hold) => {
            let part = move |view: &View| Want::part(divisor, view.memory.done);
            let wait = handle.stable_for("as many polls", Duration::from_millis(hold), part);
            snapshot_of(started(wait, from).within(window))
        }
        Want::Event(divisor, rest) => {
            let wait =
                handle.event("such an event", move |event| Want::is_such_an_event(divisor, rest, *event));
            judged(started(wait, from).within(window), |met| (met.batch.cycle, Some(met.index)))
        }
        Want::State(kind) => judged(started(handle.reaches(kind), from).within(window), move |status| {
            assert_eq!(status.state.kind(), kind, "a wait for another state");
            (status.cycle, None)
        }),
        Want::StaysFresh => judged(started(handle.stays_fresh(), from).during(window), |status| {
            assert!(status.freshness.is_fresh(), "stale at the end");
            (status.cycle, None)
        }),
        Want::BecomesStale => judged(started(handle.becomes_stale(), from).within(window), |status| {
            assert!(status.freshness.is_stale(), "met by data that is not stale");
            (status.cycle, None)
        }),
        Want::Source(name, wish) => {
            let wait = match wish {
                Wish::Fresh => handle.source_fresh(name),
                Wish::Stale => handle.source_stale(name),
                Wish::Failing => handle.source_failing(name),
                Wish::Vanished => {
                    let wait = started(handle.source_vanished(name), from).within(window);
                    return judged(wait, |status| (status.cycle, None));
                }
            };
            snapshot_of(started(wait, from).within(window))
        }
        Want::Answer => {
            let wait = handle.eventually("an answer", |view| view.memory.answered.is_some());
            snapshot_of(started(wait, from).within(window))
        }
        Want::Set(count) => {
            let wait = handle.source_set("so many", move |names| names.len() == count);
            judged(started(wait, from).within(window), |status| (status.cycle, None))
        }
    }
}

type Builder<T, K> = WaitBuilder<'static, App, T, K>;

/// Of several starts the last one counts.
fn started<T, K>(wait: Builder<T, K>, (now, mark): (bool, Option<Mark>)) -> Builder<T, K> {
    match mark {
        Some(mark) if now => wait.after(mark).or_now(),
        Some(mark) => wait.after(mark).or_now().after(mark).after(mark),
        None if now => wait.or_now(),
        None => wait,
    }
}

fn snapshot_of(wait: Wait<'static, App, Arc<ObservationSnapshot<View>>>) -> Judged {
    judged(wait, |snapshot| (snapshot.cycle, None))
}

fn judged<T: 'static>(
    wait: Wait<'static, App, T>,
    met: impl FnOnce(T) -> (u64, Option<usize>) + Send + 'static,
) -> Judged {
    Box::pin(async move {
        match wait.await {
            Ok(value) => {
                let (cycle, event) = met(value);
                Verdict::Met { cycle, event }
            }
            Err(unmet) => Verdict::Unmet {
                outcome: unmet.outcome(),
                judged: unmet.judged(),
                violation: violation(&unmet),
            },
        }
    })
}

/// When the first violation was, in milliseconds from the wait's begin, and its cycle if a snapshot made it.
fn violation(unmet: &Unmet) -> Option<(u64, Option<u64>)> {
    let report = unmet.to_string();
    let (_, rest) = report.split_once("  first violation at +")?;
    let (seconds, _) = rest.split_once('s').unwrap();
    let millis = seconds.replace('.', "").parse().unwrap();
    Some((millis, unmet.first_violation()))
}
