//! A stop is answered at once in every state; work in flight has been dropped by then.

use tokio::time::Instant;
use watchkeeper::ObservationRuntime;
use watchkeeper::runtime::{State, StateKind, StopOutcome, StopReason};

use crate::common::{Act, App, Call, at, each_second};

#[tokio::test(start_paused = true)]
async fn in_every_state_also_while_app_code_hangs() {
    use StateKind::{Failed, Idle, Polling, Refreshing, Starting};
    type Script = (Call, Vec<Act>);
    let ok = || Act::Ok(vec![]);
    // What the app does, and the state that it has led to when the first tick is past.
    let cases: [(&str, &[Script], StateKind); 9] = [
        ("after a success", &[], Idle),
        ("the first refresh hangs", &[(Call::Sources, vec![Act::Hang])], Starting),
        ("init hangs", &[(Call::Init, vec![Act::Hang])], Starting),
        ("init failed", &[(Call::Init, vec![Act::Err("down"), Act::Err("down")])], Failed),
        ("refresh hangs", &[(Call::Sources, vec![ok(), Act::Hang])], Refreshing),
        ("refresh failed", &[(Call::Sources, vec![ok(), Act::Err("down")])], Failed),
        ("poll hangs", &[(Call::Poll, vec![Act::Hang])], Polling),
        ("poll panicked", &[(Call::Poll, vec![Act::Panic("boom")])], Failed),
        ("poll was slow", &[(Call::Poll, vec![Act::slow(400)])], Idle),
    ];
    for (name, scripts, state) in cases {
        for paused in [false, true] {
            check(&format!("{name}, paused: {paused}"), scripts, state, paused).await;
        }
    }
}

//    0 s             1 s           1.5 s
//    cycle 0 ......  cycle 1 ....  [pause] stop
async fn check(name: &str, scripts: &[(Call, Vec<Act>)], state: StateKind, paused: bool) {
    let app = App::new();
    for (call, acts) in scripts {
        app.then(*call, acts.clone());
    }
    let start = Instant::now();
    let runtime = ObservationRuntime::start_in_background(app.clone(), app.clone(), each_second()).unwrap();
    let handle = runtime.handle();
    at(start, 1_500).await;
    if paused {
        runtime.control().pause().await.unwrap();
    }
    let before = handle.status();
    assert_eq!((before.state.kind(), before.paused), (state, paused), "{name}");
    let hangs =
        usize::from(matches!(state, StateKind::Starting | StateKind::Refreshing | StateKind::Polling));
    assert_eq!(app.running(), hangs, "{name}: calls in flight");

    assert_eq!(runtime.stop().await, StopOutcome::Stopped, "{name}");

    assert_eq!(start.elapsed().as_millis(), 1_500, "{name}: answered at once");
    assert_eq!(app.running(), 0, "{name}: the work's future was dropped");
    let after = handle.status();
    assert_eq!(after.state, State::Stopped { reason: StopReason::Requested }, "{name}");
    assert_eq!((after.since, after.cycle), (Instant::now(), before.cycle), "{name}");
    assert_eq!(after.snapshot, before.snapshot, "{name}: the last snapshot stays");
    assert_eq!(after.last_error, before.last_error, "{name}: the last error stays");
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_has_not_begun_never_calls_the_app() {
    let app = App::new();
    let runtime = ObservationRuntime::start_in_background(app.clone(), app.clone(), each_second()).unwrap();
    assert_eq!(runtime.stop().await, StopOutcome::Stopped);
    assert_eq!(runtime.handle().state(), State::Stopped { reason: StopReason::Requested });
    assert_eq!([Call::Sources, Call::Init].map(|call| app.calls(call)), [0, 0]);
}

#[tokio::test(start_paused = true)]
async fn while_a_lost_state_is_rebuilt() {
    let app = App::new();
    app.then(Call::Init, [Act::Ok(vec![]), Act::Hang]).then(Call::Poll, [Act::Panic("boom")]);
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    at(start, 2_500).await;
    assert_eq!((runtime.handle().state(), app.running()), (State::Starting, 1));
    assert_eq!(runtime.stop().await, StopOutcome::Stopped);
    assert_eq!((start.elapsed().as_millis(), app.running()), (2_500, 0));
}
