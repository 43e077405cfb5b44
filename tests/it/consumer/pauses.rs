//! How large the history has to be for the longest pause.

use tokio::time::{sleep, timeout};

use super::*;

/// How often a consumer had to start again: its history holds `history_limit` batches, and it pauses once, for `pause`,
/// `after_a_tick`. Each cycle emits a batch.
async fn starts_again(history_limit: usize, pause: Duration, after_a_tick: Duration) -> u64 {
    let (log, store) = (Log::default(), Arc::<Store>::default());
    let runtime = start(&log, &store, history_limit).await.unwrap();
    let orders = u64::try_from(pause.as_millis() / INTERVAL.as_millis()).unwrap() + 20;
    let feeding = tokio::spawn(async move {
        sleep(INTERVAL / 2).await;
        for amount in 1..=orders {
            log.append(amount);
            sleep(INTERVAL).await;
        }
    });
    sleep(INTERVAL * 2 + after_a_tick).await;
    assert!(!runtime.handle().latest_snapshot().unwrap().value.is_empty(), "it pauses at once");
    let consumer = tokio::spawn(consume(runtime.handle(), Arc::clone(&store), Trouble::Pauses(1, pause)));
    let mut committed = store.committed.subscribe();
    let all = committed.wait_for(|committed| *committed == orders);
    timeout(Duration::from_secs(600), all).await.unwrap().unwrap();
    let _ = runtime.stop().await;
    feeding.await.unwrap();
    assert_eq!(*store.handled.lock().unwrap(), (1..=orders).collect::<Vec<_>>());
    consumer.await.unwrap().unwrap().1
}

#[tokio::test(start_paused = true)]
async fn a_history_of_the_longest_pause_is_large_enough_and_a_smaller_one_is_not() {
    let longest = Duration::from_secs(30);
    let limit = history_limit(longest);
    assert_eq!(limit, 121);
    for after_a_tick in [0, 1, 125, 249, 250].map(Duration::from_millis) {
        for (held, pause, expected) in [
            (limit, longest, 0),
            // The one more is for a cycle that was in flight when the pause began; here none is.
            (limit - 2, longest, 1),
            (limit, longest + INTERVAL * 2, 1),
            (history_limit(longest + INTERVAL * 2), longest + INTERVAL * 2, 0),
        ] {
            let starts = starts_again(held, pause, after_a_tick).await;
            let case = format!("{held} batches, {pause:?}, {after_a_tick:?} after a tick");
            assert_eq!(starts, expected, "{case}");
        }
    }
}
