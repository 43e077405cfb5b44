//! Feeds of an observer whose state is rebuilt.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use watchkeeper::subscription::RecvError;
use watchkeeper::{
    DynError, ObservationConfig, ObservationRuntime, ObservedSource, Observer, StaticSourceProvider,
    async_trait,
};
use watchkeeper_chain::projection::feed::{BlockFeed, BlockStep, TransactionFeed, TransactionStep};
use watchkeeper_chain::{Block, ChainEvent};

use super::observed::{SOON, pay};
use super::{Payment, Tree};
use crate::common::SECOND;

type Event = ChainEvent<Payment>;

/// Emits one scripted event a cycle; at `None` it panics and loses its state.
struct Scripted(Mutex<VecDeque<Option<Event>>>);

#[async_trait]
impl Observer for Scripted {
    type Source = ();
    type State = ();
    type Snapshot = ();
    type Event = Event;

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<(), DynError> {
        Ok(())
    }

    async fn poll(&self, _: &[ObservedSource<()>], (): &mut ()) -> Result<Vec<Event>, DynError> {
        let next = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        match next {
            Some(Some(event)) => Ok(vec![event]),
            Some(None) => panic!("its state is lost"),
            None => Ok(Vec::new()),
        }
    }

    fn snapshot(&self, (): &()) {}
}

async fn start(script: Vec<Option<Event>>) -> ObservationRuntime<Scripted> {
    let observer = Scripted(Mutex::new(script.into()));
    let timing = ObservationConfig { interval: SECOND, ..Default::default() };
    ObservationRuntime::start(StaticSourceProvider::new(Vec::new()), observer, timing).await.unwrap()
}

/// Block 1 is emitted and not read; then the state is lost, and rebuilt without block 1. A reader gets block 1 before the
/// error that says so, and never after it.
#[tokio::test(start_paused = true)]
async fn steps_from_before_a_rebuild_are_not_returned_after_it() {
    let mut tree = Tree::<Payment>::new();
    let (one, two) = (tree.grow(0, Vec::new()), tree.grow(0, Vec::new()));
    let connected = |place: usize| ChainEvent::Committed { new: vec![Arc::clone(&tree.blocks[place])] };
    let script = vec![Some(connected(one)), None, Some(connected(two))];
    let runtime = start(script).await;
    let handle = runtime.handle();
    let mut feed = BlockFeed::new(&handle);
    let first = handle.status().generation;
    let rebuilt = handle.eventually("it is rebuilt", |()| handle.status().generation > first);
    rebuilt.within(SOON).await.unwrap();

    assert_eq!(feed.next().await, Ok(BlockStep::Connected(Arc::clone(&tree.blocks[one]))));
    let missed = feed.next().await;
    assert!(matches!(missed, Err(RecvError::Rebuilt { .. })), "{missed:?}");
    assert_eq!(feed.next().await, Ok(BlockStep::Connected(Arc::clone(&tree.blocks[two]))));
}

/// Block 1 is not read, and block 2 is. Both are disconnected and connected again, block 1 with its transactions.
#[tokio::test(start_paused = true)]
async fn the_transactions_of_a_block_that_was_not_read_are_unknown() {
    let (p, q) = (pay(11, 'a', 0, 'b', 5), pay(12, 'a', 1, 'b', 5));
    let mut tree = Tree::<Payment>::new();
    let one = tree.grow(0, vec![p.clone()]);
    let two = tree.grow(one, vec![q.clone()]);
    let read = Arc::clone(&tree.blocks[one]);
    tree.blocks[one] = Arc::new(Block::unread(read.header));
    let mut script = vec![tree.lead_to(two), tree.lead_to(0)];
    tree.blocks[one] = read;
    script.extend([tree.lead_to(two), tree.lead_to(0)]);
    let runtime = start(script).await;
    let mut feed = TransactionFeed::new(&runtime.handle());
    let (one, two) = (tree.header(one), tree.header(two));
    let connected = |block, transaction: &Payment| {
        let transaction = transaction.clone();
        TransactionStep::Connected { block, transaction }
    };
    let disconnected = |block, transaction: &Payment| {
        let transaction = transaction.clone();
        TransactionStep::Disconnected { block, transaction }
    };
    let unknown = TransactionStep::Unknown { block: one };
    for expected in [
        unknown.clone(),
        connected(two, &q),
        disconnected(two, &q),
        unknown,
        connected(one, &p),
        connected(two, &q),
        disconnected(two, &q),
        disconnected(one, &p),
    ] {
        assert_eq!(feed.next().await, Ok(expected));
    }
}
