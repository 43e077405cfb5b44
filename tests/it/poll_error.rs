//! A poll that returns an error costs its cycle and nothing else.

use std::sync::Arc;

use tokio::time::Instant;
use watchkeeper::runtime::State;

use crate::common::{Act, App, Call, at, each_second, ms};

//    0 s      1 s      2 s      3 s
//    init     [7]      error    [8]
#[tokio::test(start_paused = true)]
async fn snapshot_state_and_history_are_kept() {
    let app = App::new();
    app.then(Call::Poll, [Act::Ok(vec![7]), Act::Err("down"), Act::Ok(vec![8])]);
    let began = Instant::now();
    let runtime = app.start(each_second()).await;
    let handle = runtime.handle();
    at(began, 1500).await;
    let good = handle.status();
    assert_eq!(good.last_error, None);

    at(began, 2500).await;
    let status = handle.status();
    assert_eq!((status.cycle, status.generation), (2, 1), "the failed cycle has used its number");
    assert_eq!(status.last_error.unwrap().to_string(), "cycle 2 failed in poll: down");
    assert!(Arc::ptr_eq(&good.snapshot.unwrap(), &status.snapshot.unwrap()));
    assert_eq!(status.freshness.last_success(), Some(began + ms(1000)), "a failure renews nothing");
    assert_eq!(handle.history().len(), 1);

    at(began, 3500).await;
    let status = handle.status();
    assert_eq!((status.state, status.last_error), (State::Idle, None));
    assert_eq!(status.snapshot.unwrap().value.polls, 2, "the state went on from where it was");
    assert_eq!(status.freshness.last_success(), Some(began + ms(3000)));
    let batches: Vec<_> = handle.history().iter().map(|it| (it.seq, it.cycle, it.events.clone())).collect();
    assert_eq!(batches, [(0, 1, vec![7]), (1, 3, vec![8])], "no batch was made of the failure");
    assert_eq!(app.calls(Call::Init), 1);
    assert_eq!(handle.failures().len(), 1);
}
