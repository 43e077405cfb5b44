//! One sentence on a source, on the runtime that observes it, and on a wait that is pending.

use tokio::time::Instant;
use watchkeeper::ObservationRuntime;
use watchkeeper::source::SharedSources;

use super::{Probes, Says, sources, start};
use crate::common::{Act, App, Call, at, each_second, ms};

//   0 s      1 s ... 7 s         7.5 s
//   answer   refused 7 times     asked
#[tokio::test(start_paused = true)]
async fn why_a_source_is_stale() {
    let refuse = || Says::Error("connection refused");
    let late = || Says::After(ms(400), 1);
    // (what it says at first, and from 0.5 s on; asked at; the sentence)
    let cases = [
        (Says::Value(1), Says::Value(1), 1_500, "n1 is fresh: last answer 0.5 s ago"),
        (
            refuse(),
            refuse(),
            500,
            "n1 has never answered; 1 consecutive failure, last 0.5 s ago: connection refused",
        ),
        (Says::Hang, Says::Hang, 3_600, "n1 has never answered; probe in flight for 3.6 s"),
        (
            Says::Value(1),
            refuse(),
            2_500,
            "n1 is failing: last answer 2.5 s ago; 2 consecutive failures, last 0.5 s ago: connection refused",
        ),
        (
            Says::Value(1),
            refuse(),
            7_500,
            "n1 is stale: last answer 7.5 s ago; 7 consecutive failures, last 0.5 s ago: connection refused",
        ),
        (Says::Value(1), Says::Hang, 4_200, "n1 is stale: last answer 4.2 s ago; probe in flight for 3.2 s"),
        (
            Says::Value(1),
            Says::Hang,
            8_000 - 1,
            "n1 is stale: last answer 8.0 s ago; 1 consecutive failure, last 2.0 s ago: no answer within 5s; \
             probe in flight for 2.0 s",
        ),
        (
            Says::Value(1),
            Says::Panic("boom"),
            1_500,
            "n1 is failing: last answer 1.5 s ago; 1 consecutive failure, last 0.5 s ago: panicked: boom",
        ),
        (late(), late(), 1_500, "n1 is fresh: last answer 0.5 s ago"),
    ];
    for (first, then, asked, expected) in cases {
        let name = format!("{first:?}, then {then:?}");
        let probes = Probes::new();
        probes.set("n1", first);
        let began = Instant::now();
        let (runtime, _) = start(&["n1"], probes.observer()).await;
        at(began, 500).await;
        probes.set("n1", then);
        at(began, asked).await;
        assert_eq!(runtime.handle().why_stale("n1"), expected, "{name}, at {asked} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_known_of_a_source() {
    let probes = Probes::new();
    let began = Instant::now();
    let (runtime, set) = start(&["n1", "n2"], probes.observer()).await;
    let handle = runtime.handle();
    assert_eq!(handle.why_stale("n9"), "no source is called \"n9\"; the sources are n1, n2");
    probes.set("n3", Says::Hang);
    set.insert("n3", 0);
    at(began, 1_200).await;
    assert_eq!(handle.why_stale("n3"), "nothing is known of n3 yet", "its first probe is in flight");
    at(began, 1_600).await;
    assert_eq!(handle.why_stale("n3"), "n3 has never answered; probe in flight for 0.6 s");
    set.replace(sources(&[]));
    at(began, 2_500).await;
    assert_eq!(handle.why_stale("n1"), "no source is called \"n1\": there are none");

    let began = Instant::now();
    let app = App::new().start(each_second()).await;
    assert_eq!(app.handle().why_stale("a"), "nothing is known of a yet", "the first poll is yet to come");
    at(began, 1_500).await;
    let expected = "nothing is known of a: its observer keeps nothing by source";
    assert_eq!(app.handle().why_stale("a"), expected);
}

/// Without a free slot, a source reports that it is not probed yet.
#[tokio::test(start_paused = true)]
async fn a_source_that_waits_for_its_first_probe() {
    let probes = Probes::new();
    probes.set("n1", Says::Hang);
    let (runtime, _) = start(&["n1", "n2"], probes.observer().concurrency(1)).await;
    assert_eq!(runtime.handle().why_stale("n2"), "n2 has never answered; not probed yet");
}

/// The sentence on a source includes the runtime that observes it.
#[tokio::test(start_paused = true)]
async fn a_runtime_that_is_stale_itself_is_explained_with_the_source() {
    let probes = Probes::new();
    let began = Instant::now();
    let (runtime, _) = start(&["n1"], probes.observer()).await;
    at(began, 1_500).await;
    runtime.control().pause().await.unwrap();
    at(began, 6_000).await;
    let expected = "n1 is stale: last answer 5.0 s ago; the data is stale, 5.0 s old; \
                    the runtime is idle and paused for 5.0 s";
    assert_eq!(runtime.handle().why_stale("n1"), expected);

    let set = SharedSources::new(sources(&["n1", "n1"]));
    let runtime = ObservationRuntime::start_in_background(set, probes.observer(), each_second()).unwrap();
    let handle = runtime.handle();
    let expected =
        "no source is called \"n1\": there are none; there is no data; the runtime is starting for 0.0 s";
    assert_eq!(handle.why_stale("n1"), expected);
}

#[tokio::test(start_paused = true)]
async fn a_pending_wait_explains_itself() {
    let app = App::new();
    app.then(Call::Poll, [Act::Ok(vec![]), Act::Err("down"), Act::Hang]);
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    at(start, 500).await;
    let mut wait = runtime.handle().eventually("the impossible", |_| false).within(ms(20_000));
    let cases = [
        (500, "nothing that counts was judged yet; the data is 0.5 s old; the runtime is idle for 0.5 s"),
        (1_500, "judged 1; the data is 0.5 s old; the runtime is idle for 0.5 s"),
        (
            2_500,
            "judged 1; the data is 1.5 s old; the runtime is failed (poll, 1 consecutive) for 0.5 s; \
             last error: cycle 2 failed in poll: down",
        ),
        (
            9_000,
            "judged 1; the data is stale, 8.0 s old; the runtime is polling for 6.0 s; \
             last error: cycle 2 failed in poll: down",
        ),
    ];
    for (millis, why) in cases {
        // Polled until then, and given up.
        assert!(tokio::time::timeout_at(start + ms(millis), &mut wait).await.is_err());
        let pending = ms(millis - 500).as_secs_f64();
        let expected = format!("\"the impossible\" is pending for {pending:.1} s of 20.0 s: {why}");
        assert_eq!(wait.explain(), expected, "at {millis} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_a_source_explains_it() {
    let probes = Probes::new();
    probes.set("n2", Says::Error("connection refused"));
    let began = Instant::now();
    let (runtime, _) = start(&["n1", "n2"], probes.observer()).await;
    let mut wait = runtime.handle().source_fresh("n2").within(ms(20_000));
    assert!(tokio::time::timeout_at(began + ms(3_100), &mut wait).await.is_err());
    let expected = "\"source \\\"n2\\\" is fresh\" is pending for 3.1 s of 20.0 s: judged 3; \
                    n2 has never answered; 4 consecutive failures, last 0.1 s ago: connection refused";
    assert_eq!(wait.explain(), expected);
}
