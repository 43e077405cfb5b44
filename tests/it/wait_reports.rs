//! A wait that was not met prints what a person needs to see why.

use tokio::time::Instant;

use crate::common::{Act, App, Call, at, each_second, ms};

//   0 s     1 s     2 s     3 s     4 s     5 s     6 s
//   init    ok      error   joined  panic   rebuilt ok
//              |________________ the window ___________|
#[tokio::test(start_paused = true)]
async fn not_met() {
    let app = App::new();
    app.then(Call::Poll, [Act::Ok(vec![]), Act::Err("connection refused")]);
    app.then(Call::Poll, [Act::Ok(vec![]), Act::Panic("boom")]);
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    at(start, 1_500).await;
    let wait = runtime.handle().eventually("all is well", |_| false).within(ms(5_000));
    at(start, 2_500).await;
    app.set(&["a", "b"]);
    let unmet = wait.await.unwrap_err();
    let report = r#"not met in time: "all is well" within 5s
  judged 3; the last snapshot, of cycle 6:
    View {
        polls: 1,
        sources: [
            "a",
            "b",
        ],
    }
  freshness: fresh
  lifecycle
    +0.000s idle, cycle 1
    +0.500s cycle 2 failed in poll: connection refused
    +1.500s sources joined: b
    +1.500s cycle 3 succeeded
    +2.500s cycle 4 failed in poll: panicked: boom
    +3.500s starting: the observer's state is built anew
    +4.500s cycles 5 to 6 succeeded
    +5.000s idle, cycle 6
  sources: a, b"#;
    assert_eq!(unmet.to_string(), report);
    assert_eq!(format!("{unmet:?}"), report, "`unwrap` shows the same");
    let failed: Vec<_> = unmet.failures().iter().map(|failure| failure.cycle).collect();
    assert_eq!(failed, [2, 4]);
}

#[tokio::test(start_paused = true)]
async fn inconclusive() {
    let app = App::new();
    app.then(Call::Poll, [Act::Ok(vec![]), Act::Err("down"), Act::Hang]);
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    at(start, 2_500).await;
    let wait = runtime.handle().eventually("b is there", |seen| seen.sources.len() == 2);
    let wait = wait.show(|seen| format!("{} polls\nof {}", seen.polls, seen.sources.join("+")));
    let wait = tokio::spawn(wait.within(ms(60_000)));
    at(start, 3_500).await;
    runtime.control().pause().await.unwrap();
    at(start, 4_000).await;
    let _ = runtime.stop().await;
    let report = r#"inconclusive (the runtime has stopped: stop was requested): "b is there" within 60s
  judged 0; the last snapshot, of cycle 1:
    1 polls
    of a
  freshness: stale from +1.500s
  lifecycle
    +0.000s failed (poll, 1 in a row), cycle 2
    +1.000s paused
    +1.500s stopped (stop was requested)
    +1.500s stopped (stop was requested), cycle 3
  sources: a"#;
    assert_eq!(wait.await.unwrap().unwrap_err().to_string(), report);
}

#[tokio::test(start_paused = true)]
async fn nothing_to_show() {
    let app = App::new();
    app.then(Call::Init, (0..5).map(|_| Act::Err("down")));
    let runtime =
        watchkeeper::ObservationRuntime::start_in_background(app.clone(), app, each_second()).unwrap();
    let unmet = runtime.handle().eventually("anything", |_| true).within(ms(1_500)).await.unwrap_err();
    let report = r#"inconclusive (no cycle that counts has succeeded): "anything" within 1.5s
  judged 0; there is no snapshot
  freshness: there was no success
  lifecycle
    +0.000s starting, cycle 0
    +0.000s sources joined: a
    +0.000s cycle 0 failed in init: down
    +1.000s starting: the observer's state is built anew
    +1.000s cycle 1 failed in init: down
    +1.500s failed (init, 2 in a row, to be rebuilt), cycle 1
  sources: a"#;
    assert_eq!(unmet.to_string(), report);
}

//                 | the window |
//   0 s     1 s     2 s     3 s     4 s     5 s        60 s
//   ok      error   ok      ok      error   joined ... first polled
#[tokio::test(start_paused = true)]
async fn a_report_tells_of_its_window_only() {
    let app = App::new();
    app.then(Call::Poll, [Act::Err("before"), Act::Ok(vec![]), Act::Ok(vec![]), Act::Err("behind")]);
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    let handle = runtime.handle();
    // The failure is known at this very instant, and the wait is made behind it.
    handle.reaches(watchkeeper::StateKind::Failed).within(ms(5_000)).await.unwrap();
    assert_eq!(start.elapsed(), ms(1_000));
    let wait = handle.eventually("the impossible", |_| false);
    let wait = wait.show(|seen| seen.polls.to_string()).within(ms(2_500));
    at(start, 4_500).await;
    app.set(&["a", "b"]);
    at(start, 60_500).await;
    let unmet = wait.await.unwrap_err();
    let report = r#"not met in time: "the impossible" within 2.5s
  judged 2; the last snapshot, of cycle 3:
    2
  freshness: fresh
  lifecycle
    +0.000s failed (poll, 1 in a row), cycle 1
    +2.000s cycles 2 to 3 succeeded
    +2.500s idle, cycle 3
  sources: a"#;
    assert_eq!(unmet.to_string(), report);
    assert!(unmet.failures().is_empty(), "{:?}", unmet.failures());
}

/// A run of successes that goes on behind the window is told as far as it lies inside.
#[tokio::test(start_paused = true)]
async fn a_run_of_successes_is_cut_at_both_ends() {
    let start = Instant::now();
    let runtime = App::new().start(each_second()).await;
    at(start, 2_500).await;
    let wait = runtime.handle().eventually("the impossible", |_| false);
    let wait = wait.show(|_| String::new()).within(ms(3_000));
    at(start, 60_500).await;
    let report = wait.await.unwrap_err().to_string();
    assert!(report.contains("    +2.500s cycles 3 to 5 succeeded\n"), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_large_snapshot_is_cut_and_a_long_story_says_that_it_was() {
    let app = App::new();
    app.then(Call::Poll, (0..600).map(|n| if n % 2 == 0 { Act::Ok(vec![]) } else { Act::Err("down") }));
    let runtime = app.start(each_second()).await;
    let wait = runtime.handle().eventually("the impossible", |_| false);
    let unmet = wait.show(|_| "ä".repeat(2_001)).within(ms(300_500)).await.unwrap_err();
    let report = unmet.to_string();
    assert!(report.contains(&format!("    {} ... (1 more characters)\n", "ä".repeat(2_000))), "{report}");
    assert!(report.contains("  lifecycle (older entries were dropped)\n"), "{report}");
}
