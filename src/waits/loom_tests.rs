//! A wait's queue beside the publisher, in every order that loom finds.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::Poll;

use loom::future::block_on;
use loom::thread;

use super::queue::{Publication, WaitQueue};
use crate::core::loom_rig::{Rig, model};

/// Takes publications until one shows a snapshot of so many events.
async fn shows(queue: &WaitQueue<u64, u64>, events: u64) {
    let mut taken = VecDeque::new();
    poll_fn(|context| {
        loop {
            queue.take(&mut taken, context.waker());
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
        let (one, another) = (WaitQueue::new(), WaitQueue::new());
        rig.shared.register(&one);
        rig.shared.register(&another);
        let driver = thread::spawn(move || {
            rig.cycle(1);
            rig
        });
        let waiter = thread::spawn(move || block_on(shows(&one, 1)));
        block_on(shows(&another, 1));
        waiter.join().unwrap();
        drop(driver.join().unwrap());
    });
}

#[test]
fn loom_a_wait_that_leaves_disturbs_nobody() {
    model(5, || {
        let mut rig = Rig::new(64);
        let (leaves, stays) = (WaitQueue::new(), WaitQueue::new());
        rig.shared.register(&leaves);
        rig.shared.register(&stays);
        let driver = thread::spawn(move || {
            rig.cycle(1);
            rig
        });
        leaves.close();
        block_on(shows(&stays, 1));
        drop(driver.join().unwrap());

        let mut behind = VecDeque::new();
        leaves.take(&mut behind, std::task::Waker::noop());
        assert!(behind.is_empty(), "what is closed holds nothing");
    });
}
