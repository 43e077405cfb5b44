//! A wait's queue and the publisher, in every order that loom finds.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use loom::future::block_on;
use loom::thread;

use crate::driver::core::loom_rig::{Rig, model};
use crate::publish::queue::Publication;
use crate::publish::shared::{Registered, Shared};

/// Takes publications until a snapshot has the value `events`.
async fn shows(shared: &Shared<u64, u64>, registered: &mut Registered, events: u64) {
    let mut taken = VecDeque::new();
    poll_fn(|context| {
        loop {
            shared.take(registered, &mut taken, context.waker());
            if taken.is_empty() {
                return Poll::Pending;
            }
            let snapshot = |publication: Publication<u64, u64>| publication.status.snapshot.clone();
            if taken.drain(..).filter_map(snapshot).any(|snapshot| snapshot.value == events) {
                return Poll::Ready(());
            }
        }
    })
    .await;
}

#[test]
fn loom_every_wait_is_woken() {
    model(3, || {
        let mut rig = Rig::new(64);
        let shared = Arc::clone(&rig.shared);
        let ((mut one, _), (mut another, _)) = (shared.register(true), shared.register(true));
        let driver = thread::spawn(move || {
            rig.cycle(1);
            rig
        });
        let shared_too = Arc::clone(&shared);
        let waiter = thread::spawn(move || block_on(shows(&shared_too, &mut one, 1)));
        block_on(shows(&shared, &mut another, 1));
        waiter.join().unwrap();
        drop(driver.join().unwrap());
    });
}

#[test]
fn loom_a_wait_that_leaves_disturbs_nobody() {
    model(5, || {
        let mut rig = Rig::new(64);
        let shared = Arc::clone(&rig.shared);
        let ((mut leaves, _), (mut stays, _)) = (shared.register(true), shared.register(true));
        let driver = thread::spawn(move || {
            rig.cycle(1);
            rig
        });
        shared.unregister(&mut leaves);
        block_on(shows(&shared, &mut stays, 1));
        drop(driver.join().unwrap());

        let mut queued = VecDeque::new();
        shared.take(&mut leaves, &mut queued, std::task::Waker::noop());
        assert!(queued.is_empty(), "what is closed holds nothing");
    });
}
