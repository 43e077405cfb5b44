//! A poll that is cut off loses nothing: what it had collected is emitted by the next one.

use tracing::Level;
use watchkeeper::runtime::{Cause, StateKind};
use watchkeeper::source::SharedSources;
use watchkeeper::{
    ObservationConfig, ObservationFailureStage, ObservationRuntime, Observer, StaticSourceProvider,
};

use super::{Probes, SECOND, Says, by_hand, cycle, emitted, in_words, sources, values};
use crate::common::listener::Listener;
use crate::common::{each_second, ms, status_when};

//  a:      2           3
//  h:      |==================...
//  poll:   |====x      |
//          1   1.2     2 s     (the time-out is 200 ms, collecting would take 500)
#[tokio::test(start_paused = true)]
async fn a_time_out_keeps_the_events_and_the_state() {
    let probes = Probes::new();
    let set = SharedSources::new(sources(&["a", "gone", "h"]));
    let config = ObservationConfig { poll_timeout: ms(200), ..each_second() };
    let runtime = ObservationRuntime::start(set.clone(), probes.observer(), config).await.unwrap();
    let mut subscription = runtime.handle().subscribe();

    probes.set("a", Says::Value(2)).set("h", Says::Hang).set("new", Says::Error("no"));
    set.remove("gone");
    set.insert("new", 0);
    let failed = status_when(&runtime, |status| status.state.kind() == StateKind::Failed).await;
    let failure = failed.last_error.unwrap();
    assert_eq!(
        (failure.cycle, failure.stage, failure.cause, failure.elapsed),
        (1, ObservationFailureStage::Poll, Cause::TimedOut, ms(200))
    );
    assert_eq!(values(&failed.snapshot.unwrap().value), "a=1 gone=1 h=1", "a failure keeps the snapshot");
    assert!(emitted(&mut subscription).is_empty());

    probes.set("a", Says::Value(3));
    let snapshot = cycle(&runtime, 2).await;
    assert_eq!((snapshot.generation, &*values(&snapshot.value)), (1, "a=3 h=1 new=-"));
    assert!(snapshot.elapsed.is_zero(), "what hangs was begun by another cycle");
    let expected = [
        "a appeared: 1",
        "gone appeared: 1",
        "h appeared: 1",
        "gone vanished: Some(1)",
        "a changed: 1 to 2",
        "new failed: no",
        "a changed: 2 to 3",
    ];
    assert_eq!(emitted(&mut subscription), expected, "in the order in which it happened");
    assert_eq!(probes.most_of_one(), 1, "the probe in flight was kept as well");
}

//  a, b:   |======|    |======|            (300 ms)
//  poll:   |====x      |==|      |==|
//          1   1.2     2  2.1    3  3.1    (half the time of the one that was cut off)
#[tokio::test(start_paused = true)]
async fn after_a_poll_that_was_cut_off_others_are_not() {
    let listener = Listener::default();
    let _listening = tracing::subscriber::set_default(listener.clone());
    let probes = Probes::new();
    probes.set("a", Says::After(ms(300), 1)).set("b", Says::After(ms(300), 1));
    let config = ObservationConfig { poll_timeout: ms(200), ..each_second() };
    let provider = StaticSourceProvider::new(sources(&["a", "b"]));
    let runtime = ObservationRuntime::start(provider, probes.observer(), config).await.unwrap();
    let mut subscription = runtime.handle().subscribe();
    status_when(&runtime, |status| status.state.kind() == StateKind::Failed).await;
    for n in 2..=20 {
        probes.set("a", Says::After(ms(300), u32::try_from(n).unwrap()));
        let snapshot = cycle(&runtime, n).await;
        assert_eq!((snapshot.generation, snapshot.elapsed), (1, ms(100)), "cycle {n}");
    }
    assert_eq!(runtime.handle().failures().len(), 1);
    assert_eq!(emitted(&mut subscription).len(), 2 + 18, "each change of a was emitted");
    let expected = "a poll was cut off after 200ms, while PerSource collected answers: it collects for 100ms from \
                    now on; set PerSource::collect_for (500ms) below poll_timeout and init_timeout";
    assert_eq!(listener.lines(Level::WARN, "a poll"), [expected]);
}

#[tokio::test(start_paused = true)]
async fn an_init_that_is_cut_off_is_followed_by_one_that_is_not() {
    let probes = Probes::new();
    probes.set("a", Says::Hang);
    let config = ObservationConfig { init_timeout: ms(200), ..each_second() };
    let provider = StaticSourceProvider::new(sources(&["a", "b"]));
    let runtime = ObservationRuntime::start_in_background(provider, probes.observer(), config).unwrap();
    assert_eq!(values(&cycle(&runtime, 1).await.value), "a=- b=1");
}

/// A wrapper may give up one poll after the other, each sooner than the one before.
#[tokio::test(start_paused = true)]
async fn the_events_that_wait_after_many_cut_off_polls_are_bounded() {
    let probes = Probes::new();
    let observer = by_hand(probes.observer().collect_for(3_000 * SECOND).probe_timeout(80_000 * SECOND));
    let mut state = observer.init(&sources(&["a"])).await.unwrap();
    let mut limit = 1_000 * SECOND;
    let mut values = 0;
    for n in 0..12 {
        let hangs = format!("h{n}");
        probes.set(&hangs, Says::Hang);
        probes.set("a", if n % 3 == 0 { Says::Error("no") } else { Says::Value(n) });
        values += u32::from(n % 3 > 0);
        let set = sources(&["a", &hangs]);
        assert!(tokio::time::timeout(limit, observer.poll(&set, &mut state)).await.is_err(), "poll {n}");
        limit /= 3;
    }
    probes.set("a", Says::Value(99));
    let events = observer.poll(&sources(&["a"]), &mut state).await.unwrap();
    let words: Vec<String> = events.iter().map(in_words).collect();
    // Those of this poll come as they happened.
    let of_a: Vec<&str> = words.iter().map(String::as_str).filter(|word| word.starts_with("a ")).collect();
    let expected = ["a failed: no", "a recovered: 1", "a appeared: 11", "a changed: 11 to 99"];
    assert_eq!((of_a, values), (expected.to_vec(), 8));
    assert_eq!(words.iter().filter(|word| word.ends_with("vanished: None")).count(), 12);
}
