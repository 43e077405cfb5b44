//! Publishing concurrently with registering, watching and declaring the end, in every order that loom explores.

use std::future::poll_fn;

use loom::future::block_on;
use loom::thread;
use watchkeeper_fsm::StateKind;

use super::*;
use crate::driver::core::loom_rig::{App, Rig, model};
use crate::publish::queue::Publication;
use crate::status::ObservationStatus;
use crate::status::is_over;
use crate::subscription::{RecvError, Subscription};
use crate::watch::Watch;

/// All publications in a wait's queue until the end is published.
fn until_the_end(shared: &Shared<u64, u64>, registered: &mut Registered) -> Vec<Publication<u64, u64>> {
    let mut all = Vec::new();
    let mut taken = VecDeque::new();
    block_on(poll_fn(|context| {
        loop {
            shared.take(registered, &mut taken, context.waker());
            if taken.is_empty() {
                return Poll::Pending;
            }
            all.extend(taken.drain(..));
            if all.last().is_some_and(|last| is_over(last.status.state)) {
                return Poll::Ready(());
            }
        }
    }));
    all
}

#[test]
fn loom_each_publication_is_in_the_status_a_wait_starts_from_or_in_its_queue() {
    model(5, || {
        let mut rig = Rig::new(64);
        let shared = Arc::clone(&rig.shared);
        let driver = thread::spawn(move || rig.cycle(1));

        let (mut registered, first) = shared.register(true);
        if is_over(first.state) {
            // A registration after the end gets no publication.
            shared.unregister(&mut registered);
        } else {
            let queued = until_the_end(&shared, &mut registered);
            let numbers = queued.iter().map(|publication| publication.status.number);
            assert!(numbers.eq((1..).map(|n| first.number + n).take(queued.len())), "each once, in order");
        }
        driver.join().unwrap();
    });
}

#[test]
fn loom_nothing_is_published_behind_the_end_and_nothing_before_it_is_lost() {
    model(4, || {
        // A new batch displaces the one before.
        let mut rig = Rig::new(1);
        rig.cycle(1);
        let (shared, life) = (Arc::clone(&rig.shared), Arc::clone(&rig.life));
        let (mut registered, _) = shared.register(true);
        let mut subscription = Subscription::from_now(Arc::clone(&shared.history));
        let driver = thread::spawn(move || rig.cycle(1));

        // Like the deadline of a stop while app code blocks the driver's thread.
        life.end(StopReason::Requested);
        let end = shared.read(Published::clone);
        assert_eq!(end.state, State::Stopped { reason: StopReason::Requested });
        let mut batches = 1;
        let closed = loop {
            match block_on(subscription.recv()) {
                Ok(_) => batches += 1,
                Err(end) => break end,
            }
        };
        assert_eq!(closed, RecvError::Closed(StopReason::Requested));
        assert_eq!(batches, end.snapshot.as_ref().unwrap().cursor.seq(), "of those that were published");
        let kept = shared.history.kept();
        let queued = until_the_end(&shared, &mut registered);
        assert_eq!(queued.last().unwrap().status.number, end.number);

        driver.join().unwrap();
        let later = shared.read(Published::clone);
        assert_eq!((later.number, later.state, later.cycle), (end.number, end.state, end.cycle));
        let mut after = VecDeque::new();
        shared.take(&mut registered, &mut after, Waker::noop());
        assert!(after.is_empty(), "queued after the end");
        assert!(matches!(subscription.try_recv(), Some(Err(RecvError::Closed(_)))), "read after the end");
        assert_eq!(shared.history.kept(), kept);
    });
}

#[test]
fn loom_a_watch_is_woken_until_it_has_seen_the_end() {
    model(3, || {
        let mut rig = Rig::new(64);
        let mut watch = Watch::<App>::new(Arc::clone(&rig.shared));
        let driver = thread::spawn(move || {
            rig.cycle(1);
            rig.cycle(1);
        });

        let mut last = None;
        while let Ok(status) = block_on(watch.changed()) {
            let now = (status.cycle, status.snapshot.map(|snapshot| snapshot.value), status.state.kind());
            assert_ne!(Some(now), last, "published twice");
            last = Some(now);
        }
        assert_eq!(last, Some((2, Some(2), StateKind::Stopped)));
        driver.join().unwrap();
    });
}

/// The end would wake everyone. While the runtime lives on, each publication has to wake by itself.
#[test]
fn loom_a_watch_is_woken_while_the_runtime_lives_on() {
    model(4, || {
        let mut rig = Rig::new(64);
        let shared = Arc::clone(&rig.shared);
        let driver = thread::spawn(move || {
            rig.cycle(1);
            rig.cycle(1);
            rig
        });

        let mut watch = Watch::<App>::new(shared);
        let seen = |status: &ObservationStatus<App>| status.snapshot.as_ref().unwrap().value == 2;
        assert!(block_on(watch.wait_for(seen)).is_ok());
        drop(driver.join().unwrap());
    });
}

/// A wait that is made, and first polled, at any step of the driver.
#[test]
fn loom_a_queue_that_is_registered_late_is_woken_while_the_runtime_lives_on() {
    model(5, || {
        let mut rig = Rig::new(64);
        let shared = Arc::clone(&rig.shared);
        let driver = thread::spawn(move || {
            rig.cycle(1);
            rig.cycle(1);
            rig
        });

        let (mut registered, first) = shared.register(true);
        if first.snapshot.as_ref().unwrap().value < 2 {
            let mut taken = VecDeque::new();
            block_on(poll_fn(|context| {
                loop {
                    shared.take(&mut registered, &mut taken, context.waker());
                    let Some(last) = taken.drain(..).last() else { return Poll::Pending };
                    if last.status.snapshot.as_ref().unwrap().value == 2 {
                        return Poll::Ready(());
                    }
                }
            }));
        }
        drop(driver.join().unwrap());
    });
}
