//! `Transactional`: a poll that fails in any way leaves no trace in the state.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::{Arc, Mutex};

use watchkeeper::runtime::{Cause, State, StateKind, Transactional};
use watchkeeper::subscription::RecvError;
use watchkeeper::{
    DynError, ObservationConfig, ObservationFailureStage, ObservationRuntime, ObservedSource, Observer,
    StaticSourceProvider, async_trait,
};

use crate::common::{each_second, ms, status_when};

/// Each poll books the next number and emits it; the test sets what happens after the booking.
#[derive(Clone, Default)]
struct Ledger {
    script: Arc<Mutex<VecDeque<Then>>>,
    calls: Arc<Mutex<Calls>>,
}

#[derive(Debug, Default)]
struct Calls {
    inits: u64,
    snapshots: u64,
    panic_in_snapshot: bool,
}

#[derive(Clone, Copy, Debug)]
enum Then {
    Ok,
    Err,
    Hang,
    Panic,
    PanicInSnapshot,
    PanicInClone,
    PanicInDrop,
    /// It hangs, and a destructor of the poll panics when it is cut off.
    HangBadly,
}

struct Bad;

impl Drop for Bad {
    fn drop(&mut self) {
        panic!("a bug");
    }
}

/// What was booked.
#[derive(Debug, Default)]
struct Booked {
    numbers: Vec<u64>,
    bug: Option<Then>,
}

impl Clone for Booked {
    fn clone(&self) -> Self {
        assert!(!matches!(self.bug, Some(Then::PanicInClone)), "a bug");
        Self { numbers: self.numbers.clone(), bug: None }
    }
}

impl Drop for Booked {
    fn drop(&mut self) {
        assert!(!matches!(self.bug, Some(Then::PanicInDrop)), "a bug");
    }
}

#[async_trait]
impl Observer for Ledger {
    type Source = ();
    type State = Booked;
    type Snapshot = Vec<u64>;
    type Event = u64;

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<Booked, DynError> {
        self.calls.lock().unwrap().inits += 1;
        Ok(Booked::default())
    }

    async fn poll(&self, _: &[ObservedSource<()>], booked: &mut Booked) -> Result<Vec<u64>, DynError> {
        let number = booked.numbers.len() as u64;
        booked.numbers.push(number);
        let then = self.script.lock().unwrap().pop_front();
        match then.unwrap_or(Then::Ok) {
            Then::Ok | Then::PanicInClone => {}
            Then::Err => return Err("no".into()),
            Then::Hang => pending().await,
            Then::HangBadly => {
                let _bad = Bad;
                pending::<()>().await;
            }
            Then::Panic => panic!("a bug"),
            Then::PanicInSnapshot => self.calls.lock().unwrap().panic_in_snapshot = true,
            bug @ Then::PanicInDrop => {
                booked.bug = Some(bug);
                return Err("no".into());
            }
        }
        Ok(vec![number])
    }

    fn snapshot(&self, booked: &Booked) -> Vec<u64> {
        let bug = {
            let mut calls = self.calls.lock().unwrap();
            calls.snapshots += 1;
            std::mem::take(&mut calls.panic_in_snapshot)
        };
        assert!(!bug, "a bug");
        booked.numbers.clone()
    }

    fn weight(snapshot: &Vec<u64>, events: &[u64]) -> usize {
        size_of_val(&**snapshot) + size_of_val(events)
    }
}

/// What is left of a run whose second poll fails: the events emitted, the snapshot, and how often the
/// state was built.
#[derive(Debug, PartialEq)]
struct Left {
    events: Vec<u64>,
    snapshot: Vec<u64>,
    generation: u64,
    inits: u64,
}

/// Three cycles after cycle 0, of which the second fails.
async fn run<O>(observer: O, ledger: &Ledger, failing: Then) -> (Left, Cause, String)
where
    O: Observer<Source = (), Snapshot = Vec<u64>, Event = u64>,
{
    ledger.script.lock().unwrap().extend([Then::Ok, failing]);
    let config = ObservationConfig { poll_timeout: ms(300), ..each_second() };
    let provider = StaticSourceProvider::new(Vec::new());
    let runtime = ObservationRuntime::start(provider, observer, config).await.unwrap();
    let mut subscription = runtime.handle().subscribe();

    let failed = status_when(&runtime, |status| status.state.kind() == StateKind::Failed).await;
    let failure = failed.last_error.unwrap();
    assert_eq!((failure.cycle, failure.stage), (2, ObservationFailureStage::Poll), "{failing:?}");
    assert_eq!(failed.snapshot.unwrap().value, [0], "{failing:?}: what was known stays");
    // A state that was lost takes a cycle to be rebuilt.
    let end = status_when(&runtime, |status| status.cycle == 4 && status.state == State::Idle).await;
    let snapshot = end.snapshot.unwrap();

    let mut events = Vec::new();
    while let Some(batch) = subscription.try_recv() {
        match batch {
            Ok(batch) => events.extend(&batch.events),
            Err(RecvError::Rebuilt { .. }) => events.clear(),
            Err(error) => panic!("{error}"),
        }
    }
    let (value, generation) = (snapshot.value.clone(), snapshot.generation);
    let inits = ledger.calls.lock().unwrap().inits;
    (Left { events, snapshot: value, generation, inits }, failure.cause, failure.message.clone())
}

#[tokio::test(start_paused = true)]
async fn the_next_poll_sees_the_old_state_and_emits_everything() {
    let cases = [
        (Then::Err, Cause::Error, "no"),
        (Then::Hang, Cause::TimedOut, "timed out after 300ms"),
        (Then::HangBadly, Cause::TimedOut, "timed out after 300ms"),
        (Then::Panic, Cause::Error, "panicked: a bug"),
        (Then::PanicInSnapshot, Cause::Error, "panicked: a bug"),
        (Then::PanicInDrop, Cause::Error, "panicked: a bug"),
    ];
    for (failing, cause, message) in cases {
        let ledger = Ledger::default();
        let (left, failed_by, text) = run(Transactional::new(ledger.clone()), &ledger, failing).await;
        let nothing_was_lost =
            Left { events: vec![0, 1, 2], snapshot: vec![0, 1, 2], generation: 1, inits: 1 };
        assert_eq!(left, nothing_was_lost, "{failing:?}");
        assert_eq!((failed_by, &*text), (cause, message), "{failing:?}");
    }
}

// Not a promise of `Transactional`, but the reason for it.
#[tokio::test(start_paused = true)]
async fn without_it_events_or_the_state_are_lost() {
    let lost_event = Left { events: vec![0, 2, 3], snapshot: vec![0, 1, 2, 3], generation: 1, inits: 1 };
    let rebuilt = Left { events: vec![0], snapshot: vec![0], generation: 2, inits: 2 };
    let cases = [
        (Then::Err, lost_event),
        (Then::Hang, Left { events: vec![0], snapshot: vec![0], ..rebuilt }),
        (Then::Panic, Left { events: vec![0], snapshot: vec![0], ..rebuilt }),
        (Then::PanicInSnapshot, Left { events: vec![0], snapshot: vec![0], ..rebuilt }),
    ];
    for (failing, expected) in cases {
        let ledger = Ledger::default();
        let (left, ..) = run(ledger.clone(), &ledger, failing).await;
        assert_eq!(left, expected, "{failing:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_state_that_cannot_be_copied_fails_the_poll_and_is_kept() {
    let ledger = Ledger::default();
    let observer = Transactional::new(ledger.clone());
    let mut booked = observer.init(&[]).await.unwrap();
    booked.bug = Some(Then::PanicInClone);
    let error = observer.poll(&[], &mut booked).await.unwrap_err();
    assert_eq!(error.to_string(), "panicked: a bug");
    assert!(booked.numbers.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_snapshot_of_a_kept_poll_is_taken_once() {
    let ledger = Ledger::default();
    let provider = StaticSourceProvider::new(Vec::new());
    let observer = Transactional::new(ledger.clone());
    let runtime = ObservationRuntime::start(provider, observer, each_second()).await.unwrap();
    let end = status_when(&runtime, |status| status.cycle == 3 && status.state == State::Idle).await;
    assert_eq!(end.snapshot.unwrap().value, [0, 1, 2]);
    assert_eq!(ledger.calls.lock().unwrap().snapshots, 1 + 3);
}

#[test]
fn a_tap_weighs_as_the_observer_inside_does() {
    let (snapshot, events) = (vec![1, 2, 3, 4, 5], [3]);
    assert_eq!(Transactional::<Ledger>::weight(&snapshot, &events), 6 * size_of::<u64>());
    assert_eq!(Ledger::weight(&snapshot, &events), 6 * size_of::<u64>());
}
