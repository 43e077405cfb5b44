//! The check of an observer finds each fault that it looks for, and none in observers without one.

use std::collections::BTreeMap;

use tokio::task::yield_now;
use watchkeeper::check::{Check, CheckError, Checked, Folding};
use watchkeeper::per_source::SourceEvent;
use watchkeeper::runtime::Transactional;
use watchkeeper::{DynError, ObservedSource, Observer, PerSource, async_trait};

use crate::common::ms;

/// What a faulty observer does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// Emits nothing for the second source.
    Forgets,
    /// Changes its state before the work that can fail.
    Early,
    /// Changes its state before an await, and emits after it.
    Cut,
    /// Changes its state before an await, and restores it after the await if nothing failed.
    Hides,
    Panics,
    Hangs,
    InitFails,
}

/// Adds up the answers of its sources.
struct Sum(Fault);

#[async_trait]
impl Observer for Sum {
    type Source = Result<u64, &'static str>;
    type State = u64;
    type Snapshot = u64;
    type Event = u64;

    async fn init(&self, _: &[ObservedSource<Self::Source>]) -> Result<u64, DynError> {
        if self.0 == Fault::InitFails { Err("not ready".into()) } else { Ok(0) }
    }

    async fn poll(
        &self,
        sources: &[ObservedSource<Self::Source>],
        sum: &mut u64,
    ) -> Result<Vec<u64>, DynError> {
        let mut events = Vec::new();
        for source in sources {
            if self.0 == Fault::Early {
                *sum += source.source.unwrap_or_default();
            }
            let more = source.source?;
            if self.0 == Fault::Cut {
                *sum += more;
            }
            yield_now().await;
            events.push(more);
        }
        match self.0 {
            Fault::Panics => panic!("a bug\nin poll"),
            Fault::Hangs => std::future::pending().await,
            Fault::Cut | Fault::Early => {}
            _ => *sum += events.iter().sum::<u64>(),
        }
        if self.0 == Fault::Forgets {
            events.truncate(1);
        }
        if self.0 == Fault::Hides {
            *sum += 1;
            yield_now().await;
            *sum -= 1;
        }
        Ok(events)
    }

    fn snapshot(&self, sum: &u64) -> u64 {
        *sum
    }

    fn poll_is_cancel_safe(&self) -> bool {
        true
    }
}

fn sum(fault: Fault) -> Folding<Sum, u64> {
    Check::new(move || Sum(fault))
        .poll(|| [("a", Ok(1))])
        .poll(|| [("a", Ok(2)), ("b", Ok(3))])
        .poll(|| vec![("a", Ok(2)), ("b", Err("down"))])
        .poll(|| vec![ObservedSource::new("a", Ok(4))])
        .folding(|sum| *sum, |sum, event| *sum += event)
}

#[tokio::test(start_paused = true)]
async fn each_fault_is_reported_with_its_step() {
    let cases = [
        (
            Fault::Forgets,
            "poll 2: the events so far add up to 3, and the snapshot shows 6; emit an event for each change of the \
             state, in the poll that makes it",
        ),
        (
            Fault::Early,
            "poll 3 failed and changed the state: the snapshot showed 6 before and shows 8 after; change the state \
             only after the last step that can fail (the error: down)",
        ),
        (
            Fault::Cut,
            "poll 3 failed and changed the state: the snapshot showed 6 before and shows 8 after; change the state \
             only after the last step that can fail (the error: down)",
        ),
        (Fault::Panics, "poll 1 panicked: a bug\\nin poll"),
        (Fault::Hangs, "poll 1 did not end within 10s"),
        (Fault::InitFails, "init failed: not ready; give poll 1 a set with which it succeeds"),
    ];
    for (fault, expected) in cases {
        let found = sum(fault).run().await.unwrap_err();
        assert_eq!(found.to_string(), expected, "{fault:?}");
        assert_eq!(format!("{found:?}"), expected, "{fault:?}");
    }
}

/// Reads logs from its position, which no snapshot shows.
struct Reads {
    early: bool,
}

#[derive(Default)]
struct Lines {
    read: usize,
    all: Vec<u64>,
}

#[async_trait]
impl Observer for Reads {
    type Source = Result<&'static [u64], &'static str>;
    type State = Lines;
    type Snapshot = Vec<u64>;
    type Event = u64;

    async fn init(&self, _: &[ObservedSource<Self::Source>]) -> Result<Lines, DynError> {
        Ok(Lines::default())
    }

    async fn poll(
        &self,
        logs: &[ObservedSource<Self::Source>],
        lines: &mut Lines,
    ) -> Result<Vec<u64>, DynError> {
        let (mut read, mut new) = (lines.read, Vec::new());
        for log in logs {
            let log = log.source?;
            new.extend(&log[read..]);
            read = log.len();
            if self.early {
                lines.read = read;
            }
        }
        lines.read = read;
        lines.all.extend(&new);
        Ok(new)
    }

    fn snapshot(&self, lines: &Lines) -> Vec<u64> {
        lines.all.clone()
    }
}

/// The snapshot after the failure equals the one before it: the loss shows only at the end.
#[tokio::test(start_paused = true)]
async fn a_failed_poll_that_changes_state_no_snapshot_shows_is_found() {
    let check = |early| {
        Check::new(move || Reads { early })
            .poll(|| [("log", Ok(&[1][..]))])
            .poll(|| [("log", Ok(&[1, 2][..])), ("other", Err("refused"))])
            .poll(|| [("log", Ok(&[1, 2, 3][..]))])
            .folding(Vec::clone, |lines: &mut Vec<u64>, line| lines.push(*line))
    };
    assert_eq!(check(false).run().await.unwrap().failed, 1);
    assert_eq!(
        check(true).run().await.unwrap_err().to_string(),
        "poll 2 failed and lost what it had found: the script ended with [1, 3], and without that poll with [1, 2, 3]; \
         change the state, also what the snapshot does not show of it, only after the last step that can fail (the \
         error: refused)"
    );
}

/// It shows only after an interruption.
#[tokio::test(start_paused = true)]
async fn a_false_claim_to_be_cancel_safe_is_found_at_the_await() {
    let check = |fault| {
        Check::new(move || Sum(fault))
            .poll(|| [("a", Ok(1))])
            .poll(|| [("a", Ok(2)), ("b", Ok(3))])
            .folding(|sum| *sum, |sum, event: &u64| *sum += event)
    };
    let found = check(Fault::Cut).run().await.unwrap_err();
    assert_eq!(
        found.to_string(),
        "poll 1, after poll 1 was dropped at its await 1: the events so far add up to 1, and the snapshot shows 2; \
         emit an event for each change of the state, in the poll that makes it"
    );
    let CheckError::EventsDiffer { step, .. } = found else { panic!("{found}") };
    assert_eq!((step.poll, step.interrupted), (1, Some((1, 1))));
    let found = check(Fault::Hides).run().await.unwrap_err();
    assert!(
        matches!(&found, CheckError::EventsDiffer { step, .. } if step.interrupted == Some((1, 2))),
        "{found}"
    );
    // An observer without events that loses what it has found.
    let lost = Check::new(|| Loses).poll(|| [("a", 1)]).poll(|| [("a", 2)]);
    let found = lost.folding(|_| (), |(), (): &()| {}).run().await;
    assert!(found.is_ok(), "the view leaves out what is lost");
    let lost = Check::new(|| Loses).poll(|| [("a", 1)]).poll(|| [("a", 2)]);
    let found = lost.folding(Clone::clone, |seen: &mut Vec<u64>, (): &()| seen.push(0)).run().await;
    assert!(matches!(found, Err(CheckError::EventsDiffer { .. })), "{found:?}");
}

/// Takes the state out while it polls.
struct Loses;

#[async_trait]
impl Observer for Loses {
    type Source = u64;
    type State = Vec<u64>;
    type Snapshot = Vec<u64>;
    type Event = ();

    async fn init(&self, _: &[ObservedSource<u64>]) -> Result<Vec<u64>, DynError> {
        Ok(Vec::new())
    }

    async fn poll(&self, _: &[ObservedSource<u64>], seen: &mut Vec<u64>) -> Result<Vec<()>, DynError> {
        let mut taken = std::mem::take(seen);
        yield_now().await;
        taken.push(0);
        *seen = taken;
        Ok(vec![()])
    }

    fn snapshot(&self, seen: &Vec<u64>) -> Vec<u64> {
        seen.clone()
    }

    fn poll_is_cancel_safe(&self) -> bool {
        true
    }
}

/// State and events are lost together and still agree: the loss shows only at the end.
struct LosesBoth;

#[async_trait]
impl Observer for LosesBoth {
    type Source = u64;
    type State = (u64, bool);
    type Snapshot = u64;
    type Event = u64;

    async fn init(&self, _: &[ObservedSource<u64>]) -> Result<(u64, bool), DynError> {
        Ok((0, false))
    }

    async fn poll(
        &self,
        sources: &[ObservedSource<u64>],
        (sum, asked): &mut (u64, bool),
    ) -> Result<Vec<u64>, DynError> {
        // A queue that is emptied before the await.
        let found = if std::mem::replace(asked, true) { 0 } else { sources[0].source };
        yield_now().await;
        *sum += found;
        *asked = false;
        Ok(vec![found])
    }

    fn snapshot(&self, (sum, _): &(u64, bool)) -> u64 {
        *sum
    }

    fn poll_is_cancel_safe(&self) -> bool {
        true
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_together_with_its_events_is_found_at_the_end() {
    let check = Check::new(|| LosesBoth).poll(|| [("a", 1)]).poll(|| [("a", 2)]);
    let found = check.folding(|sum| *sum, |sum, event| *sum += event).run().await.unwrap_err();
    let expected = "poll 2, after poll 1 was dropped at its await 1: the script ended with 2, and without the \
                    interruption with 3; ";
    assert!(found.to_string().starts_with(expected), "{found}");
}

#[tokio::test(start_paused = true)]
async fn observers_without_a_fault_pass_and_the_checks_are_counted() {
    let checked = sum(Fault::None).run().await.unwrap();
    let Checked { succeeded, failed, events, interruptions, .. } = checked;
    assert_eq!((succeeded, failed, events, interruptions), (3, 1, 4, 1 + 2 + 1 + 1));
    // A copy makes up for a change that comes too early.
    let mended = Check::new(|| Transactional::new(Sum(Fault::Early)))
        .poll(|| [("a", Ok(1)), ("b", Ok(1))])
        .poll(|| [("a", Ok(2)), ("b", Err("down"))])
        .poll(|| [("a", Ok(2)), ("b", Ok(1))]);
    mended.folding(|sum| *sum, |sum, event| *sum += event).run().await.unwrap();
    let empty = Check::new(|| Sum(Fault::None)).folding(|sum| *sum, |sum, event| *sum += event);
    assert_eq!(empty.run().await.unwrap_err(), CheckError::EmptyScript);
}

/// Answers after the given milliseconds, or fails.
async fn answer(source: ObservedSource<(u64, Result<u32, &'static str>)>) -> Result<u32, &'static str> {
    tokio::time::sleep(ms(source.source.0)).await;
    source.source.1
}

#[tokio::test(start_paused = true)]
async fn per_source_passes() {
    let checked = Check::new(|| PerSource::new(answer))
        .poll(|| [("a", (10, Ok(1))), ("b", (20, Ok(1)))])
        .poll(|| [("a", (10, Ok(2))), ("b", (700, Ok(2)))])
        .poll(|| [("a", (0, Err("down"))), ("c", (10, Ok(3)))])
        .poll(|| [("a", (5, Ok(4))), ("c", (10, Ok(3)))])
        .poll(|| [("a", (5, Ok(4))), ("c", (10, Ok(3)))])
        .folding(
            |sources| {
                let values =
                    sources.iter().filter_map(|source| Some((source.name.to_string(), **source.value?)));
                values.collect::<BTreeMap<String, u32>>()
            },
            |values, event| match event {
                SourceEvent::Appeared { source, value, .. } => _ = values.insert(source.to_string(), **value),
                SourceEvent::Changed { source, new, .. } => _ = values.insert(source.to_string(), **new),
                SourceEvent::Replaced { source, .. } | SourceEvent::Vanished { source, .. } => {
                    values.remove(&**source);
                }
                _ => {}
            },
        )
        .run()
        .await
        .unwrap();
    assert!(checked.interruptions >= 5, "{checked:?}");
}
