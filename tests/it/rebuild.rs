//! A lost state is rebuilt as a new generation, which subscribers get in order.

use tokio::time::Instant;
use watchkeeper::ObservationConfig;
use watchkeeper::runtime::{State, StateKind};
use watchkeeper::subscription::{RecvError, Subscription};

use crate::common::{Act, App, Call, at, each_second, ms, resume_after};

/// Everything that can be read now: `1/[7]` is a batch of generation 1.
fn read(subscription: &mut Subscription<u64>) -> Vec<String> {
    let mut read = Vec::new();
    while let Some(item) = subscription.try_recv() {
        read.push(match item {
            Ok(batch) => format!("{}/{:?}", batch.generation, batch.events),
            Err(RecvError::Rebuilt { generation }) => format!("rebuilt {generation}"),
            Err(RecvError::Lagged { missed, .. }) => format!("missed {missed}"),
            Err(RecvError::Closed(reason)) => panic!("closed: {reason}"),
        });
    }
    read
}

fn panics() -> Act {
    Act::Panic("boom")
}

fn finds(event: u64) -> Act {
    Act::Ok(vec![event])
}

//    0 s      1 s      2 s      3 s      4 s
//    init     [7]      panic    init     [8]
//    1        1        1        2        2       generation
#[tokio::test(start_paused = true)]
async fn a_rebuild_comes_between_the_old_batches_and_the_new_ones() {
    let app = App::new();
    app.then(Call::Poll, [finds(7), panics(), finds(8)]);
    let began = Instant::now();
    let runtime = app.start(each_second()).await;
    let handle = runtime.handle();
    let first = handle.latest_snapshot().unwrap().cursor;
    let mut early = handle.subscribe();

    at(began, 2500).await;
    assert_eq!(read(&mut early), ["1/[7]"], "a lost state is no new generation yet");
    assert_eq!((handle.status().generation, app.calls(Call::Init)), (1, 1));

    at(began, 3500).await;
    assert_eq!(read(&mut early), ["rebuilt 2"], "also when there is no batch yet");
    let rebuilt = handle.latest_snapshot().unwrap();
    assert_eq!((rebuilt.generation, rebuilt.cycle, rebuilt.value.polls), (2, 3, 0));
    let mut from_rebuilt = handle.subscribe_from(rebuilt.cursor).unwrap();
    assert_eq!(read(&mut from_rebuilt), [""; 0], "a reader that begins after the rebuild does not get it");

    at(began, 4500).await;
    assert_eq!(read(&mut early), ["2/[8]"]);
    assert_eq!(app.times(Call::Init, began), [0, 3000]);

    // Later readers read the same, wherever they begin.
    let mut from_first = handle.subscribe_from(first).unwrap();
    assert_eq!(read(&mut from_first), ["1/[7]", "rebuilt 2", "2/[8]"]);
    assert_eq!(read(&mut from_rebuilt), ["2/[8]"]);
    assert_eq!(read(&mut handle.subscribe()), [""; 0], "a new reader gets no older generation");
}

#[tokio::test(start_paused = true)]
async fn a_waiting_reader_is_woken_by_a_rebuild_without_a_batch() {
    let app = App::new();
    app.then(Call::Poll, [panics()]);
    let began = Instant::now();
    let runtime = app.start(each_second()).await;
    let mut subscription = runtime.handle().subscribe();
    assert_eq!(subscription.recv().await, Err(RecvError::Rebuilt { generation: 2 }));
    assert_eq!(Instant::now(), began + ms(2000));
    assert_eq!(subscription.cursor().generation(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_gets_each_rebuild_at_its_place() {
    // (limit of the history, what is read at the end)
    let everything = ["1/[1]", "rebuilt 2", "2/[2]", "rebuilt 3", "3/[3]"];
    let cases: [(usize, &[&str]); 4] = [
        (64, &everything),
        (2, &["missed 1", "rebuilt 2", "2/[2]", "rebuilt 3", "3/[3]"]),
        (1, &["missed 2", "rebuilt 3", "3/[3]"]),
        (0, &["missed 2", "rebuilt 3", "3/[3]"]),
    ];
    for (history_limit, expected) in cases {
        let app = App::new();
        app.then(Call::Poll, [finds(1), panics(), finds(2), panics(), finds(3)]);
        let began = Instant::now();
        let runtime = app.start(ObservationConfig { history_limit, ..each_second() }).await;
        let mut subscription = runtime.handle().subscribe();
        at(began, 7500).await;
        assert_eq!(read(&mut subscription), expected, "history_limit {history_limit}");
    }
}

#[tokio::test(start_paused = true)]
async fn generations_are_numbered_from_where_the_config_says_and_count_successes_alone() {
    let app = App::new();
    // The first build after the panic fails twice: that makes no generation.
    app.then(Call::Poll, [panics()])
        .then(Call::Init, [Act::Ok(Vec::new()), Act::Err("not yet"), Act::Panic("not yet")]);
    let began = Instant::now();
    let runtime = app.start(ObservationConfig { resume: Some(resume_after(40)), ..each_second() }).await;
    let handle = runtime.handle();
    let mut subscription = handle.subscribe();
    let mut seen = Vec::new();
    for second in 0..5 {
        at(began, second * 1000 + 500).await;
        let status = handle.status();
        seen.push((status.state.kind(), status.generation));
    }
    let (idle, failed) = (StateKind::Idle, StateKind::Failed);
    assert_eq!(seen, [(idle, 41), (failed, 41), (failed, 41), (failed, 41), (idle, 42)]);
    assert_eq!(read(&mut subscription), ["rebuilt 42"]);
}

/// A rebuild is a start: `Refreshing` and `Polling` are for cycles that have a state.
#[tokio::test(start_paused = true)]
async fn a_rebuild_goes_through_starting() {
    for call in [Call::Sources, Call::Init] {
        let app = App::new();
        let spared = if call == Call::Sources { 2 } else { 1 };
        app.then(Call::Poll, [panics()])
            .then(call, vec![Act::Ok(Vec::new()); spared])
            .then(call, [Act::slow(800)]);
        let began = Instant::now();
        let runtime = app.start(each_second()).await;
        let handle = runtime.handle();
        at(began, 2500).await;
        assert_eq!((handle.state(), handle.status().cycle), (State::Starting, 2), "{call:?}");
        assert_eq!(handle.latest_snapshot().unwrap().cycle, 0, "{call:?}: the last success stays readable");
        at(began, 2900).await;
        assert_eq!((handle.state(), handle.status().generation), (State::Idle, 2), "{call:?}");
    }
}
