//! Feeds of an observer whose state is built anew.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use watchkeeper::subscription::RecvError;
use watchkeeper::{
    DynError, ObservationConfig, ObservationRuntime, ObservedSource, Observer, StaticSourceProvider,
    async_trait,
};
use watchkeeper_chain::ChainEvent;
use watchkeeper_chain::projection::feed::{BlockFeed, BlockStep, FeedError};

use super::observed::SOON;
use super::{Payment, Tree};
use crate::common::SECOND;

type Event = ChainEvent<Payment>;

/// Tells what it is given, cycle by cycle; where that is nothing, its state is lost.
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

/// Block 1 is told and not read; then the state is lost, and built anew without it. Who begins from the new
/// snapshot is not told of block 1 behind it.
#[tokio::test(start_paused = true)]
async fn steps_of_before_a_rebuild_are_not_told_behind_it() {
    let mut tree = Tree::<Payment>::new();
    let (one, two) = (tree.grow(0, Vec::new()), tree.grow(0, Vec::new()));
    let joined = |place: usize| ChainEvent::Committed { new: vec![Arc::clone(&tree.blocks[place])] };
    let script = [Some(joined(one)), None, Some(joined(two))];
    let observer = Scripted(Mutex::new(script.into()));
    let timing = ObservationConfig { interval: SECOND, ..Default::default() };
    let sources = StaticSourceProvider::new(Vec::new());
    let runtime = ObservationRuntime::start(sources, observer, timing).await.unwrap();
    let handle = runtime.handle();
    let mut feed = BlockFeed::new(&handle);
    let first = handle.status().generation;
    let rebuilt = handle.eventually("it is built anew", |()| handle.status().generation > first);
    rebuilt.within(SOON).await.unwrap();

    let missed = feed.wait_for_next_cycle(SOON).await.unwrap_err();
    assert!(matches!(missed, FeedError::Missed(RecvError::Rebuilt { .. })), "{missed}");
    assert_eq!(feed.next().await, Ok(BlockStep::Connected(Arc::clone(&tree.blocks[two]))));
}
