//! The board of a machine and its readers, in every order that loom finds.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, LazyLock};
use std::task::Poll;

use loom::future::block_on;
use loom::thread;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use super::{Found, StateBoard, ended};
use crate::clock::Clock;
use crate::driver::core::loom_rig::model;
use crate::panics::AppValue;
use crate::supervise::failure::Outcome;
use crate::supervise::name::VariantName;
use crate::supervise::transition::{TraceRow, Trigger};
use crate::waiting::WakerSlot;

/// Provides the clock; no task runs on it.
static EXECUTOR: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("an executor for its clock"));

type Board = Arc<StateBoard<u32>>;

fn board() -> (Board, Instant) {
    let clock = Clock::of(EXECUTOR.handle().clone());
    let at = clock.now();
    (Arc::new(StateBoard::new(clock, Arc::new(AppValue::new(0)), 1, 2)), at)
}

/// Publishes as the supervisor does: readers are woken after it.
fn publish(board: &Board, at: Instant, state: u32) {
    let row = |from| TraceRow { at, from, trigger: Trigger::Sent, event: VariantName::default() };
    board.publish(&Arc::new(AppValue::new(state)), row);
    board.wake();
}

#[test]
fn loom_a_watch_misses_neither_the_last_state_nor_the_end() {
    model(3, || {
        let (board, at) = board();
        let (_, first) = board.state_and_version();
        let publisher = thread::spawn({
            let board = Arc::clone(&board);
            move || {
                publish(&board, at, 1);
                board.end(Outcome::Finished);
            }
        });
        let mut seen = first;
        let mut states = Vec::new();
        block_on(poll_fn(|context| {
            let mut place = WakerSlot::default();
            loop {
                match board.poll_change(seen, &mut place, context.waker()) {
                    Poll::Ready(Found::News(version)) => {
                        seen = version;
                        states.push(**board.state());
                    }
                    Poll::Ready(Found::Ended(..)) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
        }));
        assert_eq!(states, [1]);
        publisher.join().unwrap();
    });
}

#[test]
fn loom_a_wait_gets_each_state_once_and_then_the_end() {
    model(3, || {
        let (board, at) = board();
        let publisher = thread::spawn({
            let board = Arc::clone(&board);
            move || {
                publish(&board, at, 1);
                publish(&board, at, 2);
                board.end(Outcome::Finished);
            }
        });
        let id = board.register(at);
        let (mut taken, mut place) = (VecDeque::new(), WakerSlot::default());
        block_on(poll_fn(|context| {
            loop {
                match board.poll_wait(id, &mut taken, &mut place, context.waker()) {
                    Poll::Ready(Found::News(missed)) => assert_eq!(missed, 0),
                    Poll::Ready(Found::Ended(..)) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
        }));
        let states: Vec<u32> = taken.iter().map(|(_, state)| ***state).collect();
        assert!([&[0, 1, 2][..], &[1, 2], &[2]].contains(&&states[..]), "{states:?}");
        publisher.join().unwrap();
    });
}

#[test]
fn loom_all_who_wait_for_the_end_are_woken_and_a_wait_that_leaves_disturbs_nobody() {
    model(3, || {
        let (board, at) = board();
        let leaves = board.register(at);
        let waiter = thread::spawn({
            let board = Arc::clone(&board);
            move || block_on(ended(&board))
        });
        let publisher = thread::spawn({
            let board = Arc::clone(&board);
            move || board.end(Outcome::Finished)
        });
        board.unregister(leaves);
        assert!(matches!(block_on(ended(&board)), Outcome::Finished));
        assert!(matches!(waiter.join().unwrap(), Outcome::Finished));
        publisher.join().unwrap();
    });
}
