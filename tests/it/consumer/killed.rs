//! Killed at any moment, it handles every event at least once.

use std::future::poll_fn;
use std::task::Poll;

use tokio::time::{sleep, timeout};

use super::*;

const ORDERS: u64 = 24;
/// While it pauses more batches come than the history holds.
const PAUSES: (u64, Duration) = (6, Duration::from_secs(3));
const HISTORY: usize = 8;

/// Polls a life at most `polls` times, then drops it at its present await.
async fn killed_after<F: Future>(polls: usize, life: F) -> Option<F::Output> {
    let mut life = Box::pin(life);
    let mut left = polls;
    poll_fn(|context| {
        left -= 1;
        match life.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Victim {
    /// The consumer alone: the next one goes on with the same runtime.
    Consumer,
    /// The process: the runtime goes too.
    Process,
}

/// Where lives were cut off.
#[derive(Debug, Default)]
struct Kills {
    in_the_first_replay: u64,
    between_handling_and_commit: u64,
    after_lagged: u64,
}

struct World {
    log: Log,
    store: Arc<Store>,
}

impl World {
    fn committed(&self) -> u64 {
        *self.store.committed.borrow()
    }

    /// A runtime whose snapshot holds what is not committed; it stops when everything is.
    async fn start(&self) -> ObservationRuntime<Tail> {
        let runtime = start(&self.log, &self.store, HISTORY).await.unwrap();
        let snapshot = runtime.poll_now_and_wait().await.unwrap();
        let open: Vec<u64> = snapshot.value.iter().map(|order| order.position).collect();
        let written = self.log.0.lock().unwrap().len() as u64;
        assert_eq!(open, (self.committed() + 1..=written).collect::<Vec<_>>());
        let (mut committed, control) = (self.store.committed.subscribe(), runtime.control());
        tokio::spawn(async move {
            let _ = committed.wait_for(|committed| *committed == ORDERS).await;
            control.stop().await
        });
        runtime
    }

    /// One consumer, up to its end or the kill. What it handles begins after what is committed, and leaves nothing out.
    async fn live(
        &self,
        observed: ObservationHandle<Tail>,
        polls: usize,
        kills: &mut Kills,
    ) -> Option<(StopReason, u64)> {
        let (begins, handled_before) = (self.committed(), self.store.handled.lock().unwrap().len());
        let life = consume(observed, Arc::clone(&self.store), Trouble::Pauses(PAUSES.0, PAUSES.1));
        let ended = timeout(Duration::from_secs(600), killed_after(polls, life)).await.expect("it goes on");
        let handled = self.store.handled.lock().unwrap()[handled_before..].to_vec();
        let committed = self.committed();
        let last = begins + handled.len() as u64;
        assert_eq!(handled, (begins + 1..=last).collect::<Vec<_>>());
        assert!(
            begins <= committed && (committed..=committed + 1).contains(&last),
            "{begins} {committed} {last}"
        );
        if ended.is_none() {
            kills.in_the_first_replay += u64::from(committed < 3);
            kills.between_handling_and_commit += u64::from(last > committed);
            kills.after_lagged += u64::from(begins < PAUSES.0 && committed > PAUSES.0);
        }
        ended.map(Result::unwrap)
    }
}

/// As many consumers as it takes, of which the first `lives` are killed after `polls` polls. Returns how many were,
/// and how often the last one had to start again.
async fn run(victim: Victim, polls: usize, lives: usize, kills: &mut Kills) -> (usize, u64) {
    let world = World { log: Log::default(), store: Arc::default() };
    (1..=3).for_each(|amount| world.log.append(amount));
    let log = world.log.clone();
    let feeding = tokio::spawn(async move {
        for amount in 4..=ORDERS {
            sleep(INTERVAL).await;
            log.append(amount);
        }
    });
    let mut runtime = world.start().await;
    let mut killed = 0;
    let (reason, starts) = loop {
        let polls = if killed < lives { polls } else { usize::MAX };
        if let Some(ended) = world.live(runtime.handle(), polls, kills).await {
            break ended;
        }
        killed += 1;
        assert!(killed < 1_000, "it gets on");
        if victim == Victim::Process && world.committed() < ORDERS {
            drop(runtime);
            runtime = world.start().await;
        }
    };
    assert_eq!((reason, world.committed()), (StopReason::Requested, ORDERS));
    assert_eq!(world.store.paid.lock().unwrap().values().sum::<u64>(), (1..=ORDERS).sum::<u64>());
    feeding.abort();
    (killed, starts)
}

#[tokio::test(start_paused = true)]
async fn at_every_await_it_is_killed_once() {
    for victim in [Victim::Consumer, Victim::Process] {
        let mut kills = Kills::default();
        let mut polls = 1;
        let starts = loop {
            match run(victim, polls, 1, &mut kills).await {
                (0, starts) => break starts,
                (killed, _) => assert_eq!(killed, 1),
            }
            polls += 1;
        };
        assert_eq!(starts, 1, "{victim:?}: its pause was longer than the history");
        // Four awaits for each order, and those for the batches and the pause.
        assert!(polls > 4 * 24, "{victim:?}: {polls} polls");
        let Kills { in_the_first_replay, between_handling_and_commit, after_lagged } = kills;
        assert!(in_the_first_replay >= 8, "{victim:?}: {kills:?}");
        assert_eq!(between_handling_and_commit, 2 * ORDERS, "{victim:?}: {kills:?}");
        assert!(after_lagged >= 4 * 8, "{victim:?}: {kills:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn again_and_again_until_one_ends_by_itself() {
    for victim in [Victim::Consumer, Victim::Process] {
        let mut kills = Kills::default();
        // With fewer none would get as far as its first commit, through an empty queue and the pause.
        for polls in 6.. {
            let (killed, _) = run(victim, polls, usize::MAX, &mut kills).await;
            if killed == 0 {
                break;
            }
        }
        assert!(kills.between_handling_and_commit > 100 && kills.after_lagged > 0, "{victim:?}: {kills:?}");
    }
}
