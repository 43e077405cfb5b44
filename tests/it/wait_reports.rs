//! The report of a wait that was not met shows why.

use tokio::time::Instant;
use watchkeeper::{
    DynError, ObservationConfig, ObservationRuntime, ObservedSource, PerSource, StaticSourceProvider,
};

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
  changes
    +1.500s polls: 1 -> 2
    +1.500s sources: ["a"] -> ["a", "b"]
    +3.500s polls: 2 -> 0
    +4.500s polls: 0 -> 1
  freshness: fresh
  lifecycle
    +0.000s idle, cycle 1
    +0.500s cycle 2 failed in poll: connection refused
    +1.500s sources joined: b
    +1.500s cycle 3 succeeded
    +2.500s cycle 4 failed in poll: panicked: boom
    +3.500s starting: the observer's state is built again
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
    +0.000s failed (poll, 1 consecutive), cycle 2
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
    let runtime = ObservationRuntime::start_in_background(app.clone(), app, each_second()).unwrap();
    let unmet = runtime.handle().eventually("anything", |_| true).within(ms(1_500)).await.unwrap_err();
    let report = r#"inconclusive (no cycle that counts has succeeded): "anything" within 1.5s
  judged 0; there is no snapshot
  freshness: there was no success
  lifecycle
    +0.000s starting, cycle 0
    +0.000s sources joined: a
    +0.000s cycles 0 to 1 failed in init, 2 times in 1.000s: down
    +1.500s failed (init, 2 consecutive, to be rebuilt), cycle 1
  sources: a"#;
    assert_eq!(unmet.to_string(), report);
}

//                 | the window |
//   0 s     1 s     2 s     3 s     4 s     5 s        60 s
//   ok      error   ok      ok      error   joined ... first polled
#[tokio::test(start_paused = true)]
async fn a_report_covers_its_window_only() {
    let app = App::new();
    app.then(Call::Poll, [Act::Err("before"), Act::Ok(vec![]), Act::Ok(vec![]), Act::Err("after")]);
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    let handle = runtime.handle();
    // The failure is known at this very instant, and the wait is made behind it.
    handle.reaches(watchkeeper::runtime::StateKind::Failed).within(ms(5_000)).await.unwrap();
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
  changes
    +1.000s 0 -> 1
    +2.000s 1 -> 2
  freshness: fresh
  lifecycle
    +0.000s failed (poll, 1 consecutive), cycle 1
    +2.000s cycles 2 to 3 succeeded
    +2.500s idle, cycle 3
  sources: a"#;
    assert_eq!(unmet.to_string(), report);
    assert!(unmet.failures().is_empty(), "{:?}", unmet.failures());
}

/// Consecutive successes that go on after the window are reported as far as they lie inside.
#[tokio::test(start_paused = true)]
async fn consecutive_successes_are_cut_at_both_ends() {
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
async fn a_large_snapshot_and_a_long_lifecycle_are_cut_and_say_so() {
    let app = App::new();
    app.then(Call::Poll, (0..600).map(|n| if n % 2 == 0 { Act::Ok(vec![]) } else { Act::Err("down") }));
    let runtime = app.start(each_second()).await;
    let wait = runtime.handle().eventually("the impossible", |_| false);
    let unmet = wait.show(|_| "ä".repeat(1_000)).within(ms(300_500)).await.unwrap_err();
    let report = unmet.to_string();
    assert!(report.contains(&format!("    {} ... (4 more bytes)\n", "ä".repeat(998))), "{report}");
    let lifecycle = "  lifecycle (192 older entries are not shown, others were dropped)\n    \
                     +0.000s idle, cycle 0\n    +237.000s cycle 237 succeeded\n    \
                     +238.000s cycle 238 failed in poll: down\n    +239.000s cycle 239 succeeded\n    \
                     +240.000s cycle 240 failed in poll: as in cycle 238\n";
    assert!(report.contains(lifecycle), "{report}");
}

//   0 s    1 s   1.5 s   2 s     3 s   4 s     6 s     14 s        15 s
//   init   ok    made    error   ok    hangs   stale   timed out   violated
#[tokio::test(start_paused = true)]
async fn violated() {
    let app = App::new();
    app.then(Call::Poll, [Act::Ok(vec![]), Act::Err("connection refused"), Act::Ok(vec![]), Act::Hang]);
    let start = Instant::now();
    let runtime = app.interruptible().start(each_second()).await;
    let handle = runtime.handle();
    at(start, 1_500).await;
    let wait = handle.always("fewer than four polls", |seen| seen.polls < 3).during(ms(60_000));
    let wait = tokio::spawn(wait);
    at(start, 20_000).await;
    let unmet = wait.await.unwrap().unwrap_err();
    let report = r#"violated: "fewer than four polls" during 60s
  first violation at +13.500s, in cycle 5:
    View {
        polls: 3,
        sources: [
            "a",
        ],
    }
  judged 2; that was the last snapshot
  changes
    +1.500s polls: 1 -> 2
    +13.500s polls: 2 -> 3
  freshness: stale from +4.500s to +13.500s
  lifecycle
    +0.000s idle, cycle 1
    +0.500s cycle 2 failed in poll: connection refused
    +1.500s cycle 3 succeeded
    +12.500s cycle 4 failed in poll: timed out after 10s
    +13.500s cycle 5 succeeded
    +13.500s idle, cycle 5
  sources: a"#;
    assert_eq!(unmet.to_string(), report);
    assert_eq!((unmet.first_violation(), unmet.failures().len()), (Some(5), 2));
}

/// Sources that never answered, that fail, that hang and that answer, in one report.
async fn of_four_nodes() -> watchkeeper::wait::Unmet {
    let start = Instant::now();
    let node = move |node: ObservedSource<&'static str>| async move {
        match node.source {
            "hangs" if start.elapsed() >= ms(1_000) => std::future::pending().await,
            "refuses" => Err(DynError::from("connection refused")),
            "recovers" if start.elapsed() < ms(2_000) => Err(DynError::from("starting up")),
            _ => Ok(1_u32),
        }
    };
    let set = ["answers", "hangs", "refuses", "recovers"].map(|name| ObservedSource::new(name, name));
    let set = StaticSourceProvider::new(set.to_vec());
    let observer = PerSource::new(node);
    let runtime = ObservationRuntime::start(set, observer, each_second()).await.unwrap();
    let wait = runtime.handle().all_sources("all answer 1", |value| *value == 1);
    wait.show(|nodes| format!("{} nodes", nodes.len())).within(ms(4_200)).await.unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn sources_that_are_in_trouble() {
    let report = r#"not met in time: "all answer 1" within 4.2s
  judged 4; the last snapshot, of cycle 4:
    4 nodes
  freshness: fresh
  lifecycle
    +0.000s idle, cycle 0
    +4.000s cycles 1 to 4 succeeded
    +4.200s idle, cycle 4
  sources: answers, hangs, refuses, recovers
    hangs is stale: last answer 4.2 s ago; probe in flight for 3.2 s
    refuses has never answered; 5 consecutive failures, last 0.2 s ago: connection refused
    recovers has failed 1 time and is fresh"#;
    // One more line may note the paused clock; its time depends on the machine.
    let printed = of_four_nodes().await.to_string();
    let of_the_clock = |line: &&str| line.starts_with("  tokio's clock ran 4.2 s in ");
    assert!(printed.lines().filter(of_the_clock).count() <= 1, "{printed}");
    let rest: Vec<_> = printed.lines().filter(|line| !of_the_clock(line)).collect();
    assert_eq!(rest.join("\n"), report);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_awaited_late_reports_how_old_an_answer_was_at_its_end() {
    let set = StaticSourceProvider::new(vec![ObservedSource::new("n1", ())]);
    let observer = PerSource::new(|_| async { Err::<u32, _>(DynError::from("down")) });
    let start = Instant::now();
    let runtime = ObservationRuntime::start(set, observer, each_second()).await.unwrap();
    let wait = runtime.handle().source_fresh("n1").within(ms(2_500));
    at(start, 60_500).await;
    let report = wait.await.unwrap_err().to_string();
    assert!(
        report.contains("\n  n1 has never answered; 3 consecutive failures, last 0.5 s ago: down\n"),
        "{report}"
    );
}

//   0 s   1 s .. 4 s   5 s   6 s .. 9 s   10 s   ...   50 s
//   ok    errors       ok    errors       ok           ok
//         stale from 3 s     stale from 8 s
#[tokio::test(start_paused = true)]
async fn data_that_was_stale_more_than_eight_times() {
    let app = App::new();
    for _ in 0..10 {
        app.then(Call::Poll, [Act::Err("down"), Act::Err("down"), Act::Err("down"), Act::Err("down")]);
        app.then(Call::Poll, [Act::Ok(vec![])]);
    }
    let config = ObservationConfig { stale_after: Some(ms(3_000)), ..each_second() };
    let runtime = app.start(config).await;
    let wait = |window| runtime.handle().eventually("the impossible", |_| false).within(ms(window));
    let (eight, ten) = tokio::join!(wait(40_500), wait(50_500));
    let (eight, ten) = (eight.unwrap_err(), ten.unwrap_err());
    let spans: Vec<_> =
        (0..8).map(|n| format!("stale from +{}.000s to +{}.000s", 5 * n + 3, 5 * n + 5)).collect();
    let spans = format!("\n  freshness: {}", spans.join(", "));
    assert!(eight.to_string().contains(&format!("{spans}\n")), "{eight}");
    assert!(ten.to_string().contains(&format!("{spans} and 2 more times\n")), "{ten}");
    #[cfg(feature = "json")]
    assert_eq!([&eight, &ten].map(|unmet| unmet.to_json()["stale_not_shown"].clone()), [0, 2]);
}

/// Of 300 failures the newest 256 are kept. Those of the window are not among them, and their number is known.
#[tokio::test(start_paused = true)]
async fn failures_that_are_no_longer_kept_are_counted_up_to_the_end_of_the_window() {
    let app = App::new();
    app.then(Call::Poll, (0..400).map(|_| Act::Err("down")));
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    let wait = runtime.handle().eventually("the impossible", |_| false).within(ms(10_500));
    at(start, 300_500).await;
    let unmet = wait.await.unwrap_err();
    assert_eq!((unmet.failures().len(), unmet.failures_cut()), (0, 10), "{unmet}");
}

/// The report counts all its failures in the window, not only the last consecutive ones.
#[tokio::test(start_paused = true)]
async fn a_source_that_failed_answered_and_fails_again() {
    let start = Instant::now();
    let node = move |_| async move {
        match start.elapsed().as_secs() {
            1 | 2 | 4 => Err(DynError::from("connection refused")),
            _ => Ok(1_u32),
        }
    };
    let set = StaticSourceProvider::new(vec![ObservedSource::new("n1", ())]);
    let runtime = ObservationRuntime::start(set, PerSource::new(node), each_second()).await.unwrap();
    let report =
        runtime.handle().eventually("the impossible", |_| false).within(ms(4_500)).await.unwrap_err();
    let report = report.to_string();
    let (_, sources) = report.split_once("\n  sources: n1\n    ").unwrap();
    assert!(
        sources.starts_with("n1 is failing: ") && sources.ends_with("; failed 3 times in the window"),
        "{sources}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_debug_of_a_wait_names_its_label() {
    let runtime = App::new().start(each_second()).await;
    let builder = runtime.handle().eventually("all is\nwell", |_| true);
    let expected = r#"WaitBuilder { wait: Wait { label: "all is\nwell", window: None, .. }, .. }"#;
    assert_eq!(format!("{builder:?}"), expected);
    let expected = r#"Wait { label: "all is\nwell", window: Some(1s), .. }"#;
    assert_eq!(format!("{:?}", builder.within(ms(1_000))), expected);
}

#[cfg(feature = "json")]
mod json {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use serde_json::json;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_of_it_in_fields() {
        let app = App::new();
        app.then(Call::Poll, [Act::Ok(vec![]), Act::Err("connection refused"), Act::Ok(vec![]), Act::Hang]);
        let start = Instant::now();
        let runtime = app.interruptible().start(each_second()).await;
        at(start, 1_500).await;
        let wait = runtime.handle().always("fewer than four polls", |seen| seen.polls < 3);
        let wait = tokio::spawn(wait.show_json(|seen| json!({ "polls": seen.polls })).during(ms(60_000)));
        at(start, 20_000).await;
        let last = json!({ "cycle": 5, "value": { "polls": 3 } });
        let expected = json!({
            "label": "fewer than four polls",
            "outcome": "violated",
            "reason": "violated",
            "window_s": 60.0,
            "judged": 2,
            "predicate_reason": null,
            "note": null,
            "last": last,
            "first_violation": { "at_s": 13.5, "cycle": 5, "value": { "polls": 3 } },
            "changes": [
                { "at_s": 1.5, "cycle": 3, "what": "polls: 1 -> 2" },
                { "at_s": 13.5, "cycle": 5, "what": "polls: 2 -> 3" },
            ],
            "changes_not_shown": 0,
            "snapshots_not_compared": 0,
            "events": null,
            "never_succeeded": false,
            "stale": [{ "from_s": 4.5, "until_s": 13.5 }],
            "stale_not_shown": 0,
            "lifecycle": [
                { "at_s": 0.0, "what": "idle, cycle 1" },
                { "at_s": 0.5, "what": "cycle 2 failed in poll: connection refused" },
                { "at_s": 1.5, "what": "cycle 3 succeeded" },
                { "at_s": 12.5, "what": "cycle 4 failed in poll: timed out after 10s" },
                { "at_s": 13.5, "what": "cycle 5 succeeded" },
                { "at_s": 13.5, "what": "idle, cycle 5" },
            ],
            "lifecycle_not_shown": 0,
            "lifecycle_cut": false,
            "failures": [
                { "cycle": 2, "stage": "poll", "cause": "error", "message": "connection refused" },
                { "cycle": 4, "stage": "poll", "cause": "timed out", "message": "timed out after 10s" },
            ],
            "failures_not_shown": 0,
            "failures_cut": 0,
            "sources": [{ "name": "a", "failures": 0, "consecutive_failures": 0, "trouble": null }],
            "sources_not_shown": 0,
        });
        assert_eq!(wait.await.unwrap().unwrap_err().to_json(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn sources_and_snapshots_that_are_shown_as_text() {
        let report = of_four_nodes().await.to_json();
        let refuses =
            "refuses has never answered; 5 consecutive failures, last 0.2 s ago: connection refused";
        let hangs = "hangs is stale: last answer 4.2 s ago; probe in flight for 3.2 s";
        let sources = json!([
            { "name": "answers", "failures": 0, "consecutive_failures": 0, "trouble": null },
            { "name": "hangs", "failures": 0, "consecutive_failures": 0, "trouble": hangs },
            { "name": "refuses", "failures": 4, "consecutive_failures": 5, "trouble": refuses },
            { "name": "recovers", "failures": 1, "consecutive_failures": 0, "trouble": null },
        ]);
        assert_eq!(report["sources"], sources);
        assert_eq!(report["last"], json!({ "cycle": 4, "value": "4 nodes" }));
        assert_eq!((&report["outcome"], &report["first_violation"]), (&json!("not_met"), &json!(null)));
    }

    /// Of long errors, the newest that 3,500 bytes hold.
    #[tokio::test(start_paused = true)]
    async fn a_lifecycle_is_bounded_in_bytes_as_well() {
        fn differs_each_time() -> DynError {
            static NTH: AtomicU64 = AtomicU64::new(0);
            format!("{} {}", NTH.fetch_add(1, Relaxed), "x".repeat(500)).into()
        }
        let app = App::new();
        app.then(Call::Poll, (0..50).flat_map(|_| [Act::Fail(differs_each_time), Act::Ok(vec![])]));
        let runtime = app.start(each_second()).await;
        let wait = runtime.handle().eventually("the impossible", |_| false).within(ms(100_500));
        let json = wait.await.unwrap_err().to_json();
        let lines = json["lifecycle"].as_array().unwrap();
        let inside = &lines[1..lines.len() - 1];
        let bytes: usize = inside.iter().map(|line| line["what"].as_str().unwrap().len() + 16).sum();
        assert!((3_500 - 600..=3_500).contains(&bytes), "{bytes} bytes");
        assert_eq!(json["lifecycle_not_shown"], 100 - inside.len());
    }

    /// As many as 8 KiB hold, first of all those in trouble.
    #[tokio::test(start_paused = true)]
    async fn of_many_sources_those_that_fit_are_shown() {
        for fails in [false, true] {
            let node = move |_| async move { if fails { Err(DynError::from("down")) } else { Ok(1_u32) } };
            // 128 bytes each, of which 8 KiB hold 64.
            let set = (0..300).map(|n| ObservedSource::new(format!("n{n:047}"), ())).collect();
            let set = StaticSourceProvider::new(set);
            let runtime = ObservationRuntime::start(set, PerSource::new(node), each_second()).await.unwrap();
            let wait = runtime.handle().eventually("the impossible", |_| false).within(ms(2_500));
            let json = wait.await.unwrap_err().to_json();
            let bytes = |source: &serde_json::Value| {
                let text = |field: &str| source[field].as_str().map_or(0, str::len);
                text("name") + text("trouble") + 80
            };
            let shown = json["sources"].as_array().unwrap();
            assert_eq!(json["sources_not_shown"], 300 - shown.len());
            let (one, all) = (bytes(&shown[0]), shown.iter().map(bytes).sum::<usize>());
            assert!(shown.iter().all(|source| bytes(source) == one), "they are all alike");
            // The last one of those in trouble may not fit any more.
            let room = 8 * 1_024 / one * one + if fails { one } else { 0 };
            assert_eq!((all, shown[0]["trouble"].is_string()), (room, fails));
        }
    }

    /// What each kind of outcome is called.
    #[tokio::test(start_paused = true)]
    async fn the_names_of_outcomes() {
        let runtime = App::new().start(each_second()).await;
        let handle = runtime.handle();
        let event = handle.event("seven", |event| *event == 7).within(ms(2_500));
        let invalid = handle.eventually("nothing", |_| false).within(ms(0));
        let early = handle.eventually("nothing", |_| false).within(ms(500));
        let (event, invalid, early) = tokio::join!(event, invalid, early);
        let names = |unmet: watchkeeper::wait::Unmet| {
            (unmet.to_json()["outcome"].clone(), unmet.to_json()["reason"].clone())
        };
        let (event, invalid, early) = (event.unwrap_err(), invalid.unwrap_err(), early.unwrap_err());
        assert_eq!(event.to_json()["events"], json!({ "count": 0, "last": [] }));
        assert_eq!(names(event), (json!("not_met"), json!("not met in time")));
        let why = "invalid wait (the window must be more than zero and at most 24 h)";
        assert_eq!(names(invalid), (json!("invalid"), json!(why)));
        let why = "inconclusive (no cycle that counts has succeeded)";
        assert_eq!(names(early), (json!("inconclusive"), json!(why)));
    }
}

/// What comes at the very instant of a violation, and after it, is not of its window.
#[tokio::test(start_paused = true)]
async fn a_story_ends_with_the_publication_that_decided() {
    let runtime = App::new().start(each_second()).await;
    let wait = runtime.handle().never("any poll", |seen| seen.polls > 0).during(ms(9_000));
    for _ in 0..2 {
        runtime.poll_now_and_wait().await.unwrap();
    }
    let report = wait.await.unwrap_err().to_string();
    assert!(report.contains("cycle 1 succeeded") && !report.contains("cycles 1 to 2"), "{report}");
}
