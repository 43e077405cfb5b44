//! What the runtime shows, in the words of the model.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper::{
    ControlError, Cursor, Mark, ObservationBatch, ObservationControl, ObservationFailure, ObservationHandle,
    ObservationSnapshot, ObservationStatus, RecvError, Unmet, WaitBuilder,
};

use crate::app::{App, View};
use crate::reference::{Batch, Control, Failure, Position, Snapshot, Status};
use crate::waiting::{Item, Verdict, Want};

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
        in_a_row: failure.in_a_row,
    }
}

pub(crate) fn item(item: Result<std::sync::Arc<ObservationBatch<u64>>, RecvError>, began: Instant) -> Item {
    match item {
        Ok(told) => Item::Batch(batch(&told, began)),
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

/// Makes a wait, now.
pub(crate) fn verdict(
    handle: &ObservationHandle<App>,
    want: Want,
    (now, mark): (bool, Option<Mark>),
    window: Duration,
) -> std::pin::Pin<Box<dyn Future<Output = Verdict>>> {
    fn unmet(unmet: &Unmet) -> Verdict {
        Verdict::Unmet { outcome: unmet.outcome(), judged: unmet.judged() }
    }
    match want {
        Want::Polls(divisor, rest) => {
            let wait = handle.eventually("so many polls", move |view| view.memory.done % divisor == rest);
            let wait = if now { wait.or_now() } else { wait };
            let wait = mark.into_iter().fold(wait, WaitBuilder::after).within(window);
            Box::pin(async move {
                wait.await.map_or_else(|error| unmet(&error), |snapshot| Verdict::Met(snapshot.cycle))
            })
        }
        Want::State(kind) => {
            let wait = handle.reaches(kind);
            let wait = if now { wait.or_now() } else { wait };
            let wait = mark.into_iter().fold(wait, WaitBuilder::after).within(window);
            Box::pin(async move {
                wait.await.map_or_else(
                    |error| unmet(&error),
                    |status| {
                        assert_eq!(status.state.kind(), kind, "a wait for another state");
                        Verdict::Met(status.cycle)
                    },
                )
            })
        }
    }
}
