//! Each of any number of subscribers gets every batch exactly once and in order.

use watchkeeper::ObservationConfig;
use watchkeeper::runtime::StopReason;
use watchkeeper::subscription::{RecvError, Subscription};

use crate::common::threads::{Flavour, Tally, block_on, executor};
use crate::common::{Act, App, Call, each_second, ms};

const SUBSCRIBERS: usize = 1_000;
const BATCHES: u64 = 500;
const LIMIT: usize = 500;

/// All events up to the end; nothing may be missed.
async fn read_all(mut subscription: Subscription<u64>) -> Vec<u64> {
    let mut events = Vec::new();
    loop {
        match subscription.recv().await {
            Ok(batch) => events.extend(&batch.events),
            Err(RecvError::Closed(StopReason::Requested)) => return events,
            Err(other) => panic!("behind {} events: {other}", events.len()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_that_keep_up_need_no_history() {
    let app = App::new();
    app.then(Call::Poll, (0..50).map(|n| Act::Ok(vec![2 * n, 2 * n + 1])));
    let runtime = app.start(ObservationConfig { history_limit: 0, ..each_second() }).await;
    let handle = runtime.handle();
    let readers: Vec<_> = (0..SUBSCRIBERS).map(|_| tokio::spawn(read_all(handle.subscribe()))).collect();
    tokio::time::sleep(ms(60_500)).await;
    let _ = runtime.stop().await;
    let all: Vec<u64> = (0..100).collect();
    for reader in readers {
        assert_eq!(reader.await.unwrap(), all);
    }
}

/// On real threads, while batches are published faster than any reader reads.
#[test]
fn a_thousand_that_fall_behind_lose_nothing_that_history_holds() {
    let executor = executor(Flavour::MultiThread);
    let runtime = executor.block_on(Tally { at_most: BATCHES, ..Tally::default() }.start(LIMIT));
    let handle = runtime.handle();
    let first = handle.latest_snapshot().unwrap();
    let readers: Vec<_> = (0..SUBSCRIBERS)
        .map(|_| executor.spawn(read_all(handle.subscribe_from(first.cursor).unwrap())))
        .collect();
    block_on(handle.eventually("all batches", |n| *n == BATCHES).or_now().within(ms(60_000))).unwrap();
    let _ = block_on(runtime.stop());
    let all: Vec<u64> = (first.value + 1..=BATCHES).collect();
    for reader in readers {
        assert!(executor.block_on(reader).unwrap() == all);
    }
}

/// One that never reads costs the others nothing.
#[tokio::test(start_paused = true)]
async fn a_slow_one_blocks_nobody() {
    let app = App::new();
    app.then(Call::Poll, (0..50).map(|n| Act::Ok(vec![n])));
    let runtime = app.start(ObservationConfig { history_limit: 1, ..each_second() }).await;
    let handle = runtime.handle();
    let mut slow = handle.subscribe();
    let reader = tokio::spawn(read_all(handle.subscribe()));
    tokio::time::sleep(ms(60_500)).await;
    let _ = runtime.stop().await;
    assert_eq!(reader.await.unwrap(), (0..50).collect::<Vec<_>>());
    let Err(RecvError::Lagged { missed: 49, .. }) = slow.recv().await else { panic!("it missed 49") };
    assert_eq!(slow.recv().await.unwrap().events, [49]);
}
