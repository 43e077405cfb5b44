//! Which sources there are is judged when it is published: before their poll, which may fail or hang.

use std::sync::Arc;

use tokio::time::Instant;
use watchkeeper::group::AnyHandle;
use watchkeeper::wait::{Inconclusive, UnmetOutcome};
use watchkeeper::{ObservationHandle, ObservationRuntime};

use crate::common::{Act, App, Call, at, each_second, ms};

fn is_empty(names: &[Arc<str>]) -> bool {
    names.is_empty()
}

/// When each of the waits for the leaving of the only source is met, in milliseconds.
async fn left_at(handle: &ObservationHandle<App>, start: Instant) -> [Option<u128>; 4] {
    let any = AnyHandle::new("app", handle);
    async fn when<T>(
        start: Instant,
        wait: impl Future<Output = Result<T, watchkeeper::wait::Unmet>>,
    ) -> Option<u128> {
        wait.await.ok().map(|_| start.elapsed().as_millis())
    }
    let (vanished, empty, any_vanished, any_empty) = tokio::join!(
        when(start, handle.source_vanished("a").within(ms(5_000))),
        when(start, handle.source_set("there are none", is_empty).within(ms(5_000))),
        when(start, any.source_vanished("a").within(ms(5_000))),
        when(start, any.source_set("there are none", is_empty).within(ms(5_000))),
    );
    [vanished, empty, any_vanished, any_empty]
}

//   0 s   0.5 s    1 s
//   a     leaves   refreshed: none; the poll fails, or hangs
#[tokio::test(start_paused = true)]
async fn the_last_source_has_left_though_its_cycle_fails_or_hangs() {
    let cases = [
        ("polls go well", vec![]),
        ("polls fail", (0..9).map(|_| Act::Err("no source is left")).collect()),
        ("the poll hangs", vec![Act::Hang]),
        ("the poll panics", vec![Act::Panic("scripted")]),
    ];
    for (name, polls) in cases {
        let app = App::new();
        app.then(Call::Poll, polls);
        let start = Instant::now();
        let runtime = app.start(each_second()).await;
        at(start, 500).await;
        app.set(&[]);
        assert_eq!(left_at(&runtime.handle(), start).await, [Some(1_000); 4], "{name}");
    }
}

/// It is away for one cycle, which fails: no snapshot ever shows it.
#[tokio::test(start_paused = true)]
async fn a_leaving_that_is_shorter_than_the_failing_cycles_is_seen() {
    let app = App::new();
    app.then(Call::Poll, (0..9).map(|_| Act::Err("down")));
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    let handle = runtime.handle();
    let back = async {
        at(start, 1_500).await;
        app.set(&[]);
        at(start, 2_500).await;
        app.set(&["a"]);
    };
    let (left, ()) = tokio::join!(left_at(&handle, start), back);
    assert_eq!(left, [Some(2_000); 4]);
}

//   0 s        0.5 s   1 s    1.5 s              2 s    2.5 s
//   a, mark 1  none    seen   mark 2, a is back  seen   the waits
#[tokio::test(start_paused = true)]
async fn a_source_that_left_since_the_mark_and_came_back_before_the_wait_has_vanished() {
    let app = App::new();
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    let (handle, any) = (runtime.handle(), AnyHandle::new("app", &runtime.handle()));
    let before = handle.mark();
    at(start, 500).await;
    app.set(&[]);
    at(start, 1_500).await;
    let after = handle.mark();
    app.set(&["a"]);
    at(start, 2_500).await;
    let back = handle.source_vanished("a").after(before).within(ms(900)).await.unwrap();
    assert_eq!((start.elapsed(), &*back.source_names[0]), (ms(2_500), "a"), "at once");
    any.source_vanished("a").after(before).within(ms(900)).await.unwrap();
    for wait in [handle.source_vanished("a").after(after), handle.source_vanished("a")] {
        assert_eq!(wait.within(ms(900)).await.unwrap_err().outcome(), UnmetOutcome::NotMet);
    }
    let never = handle.source_vanished("nobody").after(before).within(ms(900)).await.unwrap_err();
    assert_eq!(never.outcome(), UnmetOutcome::NotMet, "{never}");
}

#[tokio::test(start_paused = true)]
async fn what_is_returned_is_of_the_moment() {
    let app = App::new();
    app.then(Call::Poll, [Act::Hang]);
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    at(start, 500).await;
    app.set(&["b", "c"]);
    let handle = runtime.handle();
    let (set, left) = tokio::join!(
        handle.source_set("there are two", |names| names.len() == 2).within(ms(5_000)),
        handle.source_vanished("a").within(ms(5_000)),
    );
    let set = set.unwrap();
    assert_eq!((set.cycle, set.source_names.join(" ")), (1, "b c".to_owned()));
    let left = left.unwrap();
    assert_eq!((left.cycle, left.snapshot.unwrap().cycle), (1, 0), "the last snapshot there is");
}

#[tokio::test(start_paused = true)]
async fn each_refresh_is_judged_once_from_the_start_on() {
    let app = App::new();
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    let handle = runtime.handle();
    at(start, 1_500).await;
    let mark = handle.mark();
    app.set(&["a", "b"]);
    at(start, 2_500).await;
    let mut judged = Vec::new();
    let wait = handle.source_set("three", |names| {
        judged.push(names.len());
        if names.len() == 3 { Ok(()) } else { Err(format!("there are {}", names.len())) }
    });
    let unmet = wait.within(ms(2_000)).await.unwrap_err();
    assert_eq!(
        (unmet.outcome(), unmet.judged(), unmet.reason()),
        (UnmetOutcome::NotMet, 2, Some("there are 2"))
    );
    assert_eq!(judged, [2, 2]);
    for (name, wait, cycle) in [
        ("by default", handle.source_set("two", |names| names.len() == 2), 5),
        ("now", handle.source_set("two", |names| names.len() == 2).or_now(), 4),
        ("after the mark", handle.source_set("two", |names| names.len() == 2).after(mark), 4),
    ] {
        assert_eq!(wait.within(ms(1_000)).await.unwrap().cycle, cycle, "{name}");
    }
    assert_eq!(start.elapsed(), ms(5_000));
}

/// Nothing is known of the set before it was fetched: that is not the same as a set of none.
#[tokio::test(start_paused = true)]
async fn a_set_that_was_never_fetched_is_not_empty() {
    let app = App::new();
    app.then(Call::Sources, [Act::Hang]);
    let runtime = ObservationRuntime::start_in_background(app.clone(), app, each_second()).unwrap();
    let wait = runtime.handle().source_set("there are none", is_empty).or_now().within(ms(5_000));
    let unmet = wait.await.unwrap_err();
    assert_eq!(unmet.outcome(), UnmetOutcome::Inconclusive(Inconclusive::NothingObserved));
}

/// A set of none is news too, also while the first state is being built.
#[tokio::test(start_paused = true)]
async fn an_empty_set_is_known_while_the_first_init_hangs() {
    let app = App::new();
    app.set(&[]);
    app.then(Call::Init, [Act::Hang]);
    let start = Instant::now();
    let runtime = ObservationRuntime::start_in_background(app.clone(), app, each_second()).unwrap();
    let wait = runtime.handle().source_set("there are none", is_empty).within(ms(5_000));
    assert!(wait.await.unwrap().snapshot.is_none());
    assert_eq!(start.elapsed(), ms(0));
}

/// The set is known before any cycle has succeeded.
#[tokio::test(start_paused = true)]
async fn a_source_that_left_before_the_first_snapshot_has_vanished() {
    let app = App::new();
    app.then(Call::Init, [Act::Err("down"), Act::Err("down"), Act::Err("down")]);
    let start = Instant::now();
    let runtime = ObservationRuntime::start_in_background(app.clone(), app.clone(), each_second()).unwrap();
    let handle = runtime.handle();
    at(start, 500).await;
    app.set(&["b"]);
    let any = AnyHandle::new("app", &handle);
    let (met, any) = tokio::join!(
        handle.source_vanished("a").within(ms(5_000)),
        any.source_vanished("a").within(ms(5_000)),
    );
    let met = met.unwrap();
    assert_eq!((met.cycle, met.snapshot.is_none(), start.elapsed()), (1, true, ms(1_000)));
    assert!(any.is_ok());
}
