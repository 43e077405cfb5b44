//! Every way a cycle can fail is recorded with stage, cause and message, and the next cycle runs.

use std::error::Error;
use std::fmt;

use tokio::time::Instant;
use watchkeeper::runtime::{Cause, State};
use watchkeeper::{DynError, ObservationConfig, ObservationFailureStage as Stage, ObservationRuntime};

use crate::common::{Act, App, Call, at, ms};

/// An error and its cause.
#[derive(Debug)]
struct Because(&'static str, Option<Box<Because>>);

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Because {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.1.as_deref().map(|cause| cause as _)
    }
}

fn chained() -> DynError {
    let root = Because("connection refused", None);
    let middle = Because("no route", Some(Box::new(root)));
    Box::new(Because("cannot ask n1", Some(Box::new(middle))))
}

/// Which cycle fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// Cycle 0, started in the background.
    First,
    /// Cycle 1, after a success.
    Running,
    /// Cycle 2, which is to build the state that a panic in cycle 1 has cost.
    Rebuilding,
}

impl When {
    /// How many calls of this kind succeed before.
    fn spared(self, call: Call) -> usize {
        match (self, call) {
            (Self::First, _) | (_, Call::Poll) => 0,
            (Self::Rebuilding, Call::Sources) => 2,
            (Self::Running | Self::Rebuilding, _) => 1,
        }
    }
}

struct Case {
    when: When,
    call: Call,
    act: Act,
    stage: Stage,
    cause: Cause,
    message: &'static str,
    /// How long the cycle took, in milliseconds.
    elapsed: u64,
    /// Whether the next cycle rebuilds the state.
    rebuild: bool,
}

#[rustfmt::skip]
fn cases() -> Vec<Case> {
    use Call::{Init, Poll, Snapshot, Sources};
    use Cause::{Error, Panicked, TimedOut};
    use When::{First, Rebuilding, Running};
    let error = || Act::Fail(chained).after(100);
    let panic = || Act::Panic("boom").after(100);
    let at_once = || Act::Panic("boom");
    let hang = || Act::Hang;
    let (text, boom) = ("cannot ask n1: no route: connection refused", "panicked: boom");
    [
        (First,      Sources,  error(),   Stage::SourceRefresh, Error,    text,                    100, true),
        (First,      Sources,  hang(),    Stage::SourceRefresh, TimedOut, "timed out after 200ms", 200, true),
        (First,      Sources,  panic(),   Stage::SourceRefresh, Panicked, boom,                    100, true),
        (First,      Init,     error(),   Stage::Init,          Error,    text,                    100, true),
        (First,      Init,     hang(),    Stage::Init,          TimedOut, "timed out after 300ms", 300, true),
        (First,      Init,     panic(),   Stage::Init,          Panicked, boom,                    100, true),
        (First,      Snapshot, at_once(), Stage::Init,          Panicked, boom,                      0, true),
        (Running,    Sources,  error(),   Stage::SourceRefresh, Error,    text,                    100, false),
        (Running,    Sources,  hang(),    Stage::SourceRefresh, TimedOut, "timed out after 200ms", 200, false),
        (Running,    Sources,  panic(),   Stage::SourceRefresh, Panicked, boom,                    100, false),
        (Running,    Poll,     error(),   Stage::Poll,          Error,    text,                    100, false),
        (Running,    Poll,     hang(),    Stage::Poll,          TimedOut, "timed out after 400ms", 400, true),
        (Running,    Poll,     panic(),   Stage::Poll,          Panicked, boom,                    100, true),
        (Running,    Snapshot, at_once(), Stage::Poll,          Panicked, boom,                      0, true),
        (Rebuilding, Sources,  error(),   Stage::SourceRefresh, Error,    text,                    100, true),
        (Rebuilding, Sources,  hang(),    Stage::SourceRefresh, TimedOut, "timed out after 200ms", 200, true),
        (Rebuilding, Sources,  panic(),   Stage::SourceRefresh, Panicked, boom,                    100, true),
        (Rebuilding, Init,     error(),   Stage::Init,          Error,    text,                    100, true),
        (Rebuilding, Init,     hang(),    Stage::Init,          TimedOut, "timed out after 300ms", 300, true),
        (Rebuilding, Init,     panic(),   Stage::Init,          Panicked, boom,                    100, true),
        (Rebuilding, Snapshot, at_once(), Stage::Init,          Panicked, boom,                      0, true),
    ]
    .map(|(when, call, act, stage, cause, message, elapsed, rebuild)| {
        Case { when, call, act, stage, cause, message, elapsed, rebuild }
    })
    .into()
}

#[tokio::test(start_paused = true)]
async fn a_failed_cycle_says_what_happened_and_the_next_one_runs() {
    for case in cases() {
        check(case).await;
    }
}

async fn check(case: Case) {
    let Case { when, call, act, stage, cause, message, elapsed, rebuild } = case;
    let name = format!("{when:?}, {call:?}, {act:?}");
    let app = App::new();
    if when == When::Rebuilding {
        app.then(Call::Poll, [Act::Panic("the state is lost")]);
    }
    app.then(call, vec![Act::Ok(Vec::new()); when.spared(call)]).then(call, [act]);
    let config = ObservationConfig {
        refresh_timeout: ms(200),
        init_timeout: ms(300),
        poll_timeout: ms(400),
        ..ObservationConfig::default()
    };
    let began = Instant::now();
    let runtime = ObservationRuntime::start_in_background(app.clone(), app.clone(), config).unwrap();
    let handle = runtime.handle();
    let failing = when as u64;
    let consecutive = if when == When::Rebuilding { 2 } else { 1 };

    at(began, failing * 1000 + 500).await;
    let status = handle.status();
    let failure = status.last_error.clone().unwrap_or_else(|| panic!("{name}: {status:?}"));
    assert_eq!(status.state, State::Failed { stage, consecutive, rebuild }, "{name}");
    assert_eq!((failure.stage, failure.cause, failure.consecutive), (stage, cause, consecutive), "{name}");
    assert_eq!(failure.message, message, "{name}");
    assert_eq!(failure.elapsed, ms(elapsed), "{name}");
    assert_eq!(failure.observed_at, began + ms(failing * 1000 + elapsed), "{name}");
    assert_eq!(status.since, failure.observed_at, "{name}");
    assert_eq!((failure.cycle, failure.generation), (failing, 1), "{name}");
    let known = usize::from(when != When::First || call != Call::Sources);
    assert_eq!(failure.source_count, known, "{name}");
    assert_eq!(handle.failures().last(), Some(&failure), "{name}");
    assert_eq!(handle.failures().len() as u64, consecutive, "{name}");
    let kept = status.snapshot.map(|snapshot| snapshot.cycle);
    assert_eq!(kept, (when != When::First).then_some(0), "{name}: the snapshot");

    at(began, failing * 1000 + 1500).await;
    let status = handle.status();
    assert_eq!((status.state, status.last_error), (State::Idle, None), "{name}");
    assert_eq!(handle.failures().len() as u64, consecutive, "{name}: what failed is kept");
    let snapshot = status.snapshot.unwrap();
    assert_eq!((snapshot.cycle, snapshot.observed_at), (failing + 1, began + ms(failing * 1000 + 1000)));
    // A state that was kept has seen this one poll; a rebuilt one has seen none.
    assert_eq!(snapshot.value.polls, u64::from(!rebuild), "{name}");
    let generation = if when != When::First && rebuild { 2 } else { 1 };
    assert_eq!((snapshot.generation, status.generation), (generation, generation), "{name}");
}

#[tokio::test(start_paused = true)]
async fn a_cause_that_the_error_already_contains_is_not_repeated() {
    let app = App::new();
    app.then(
        Call::Poll,
        [Act::Fail(|| {
            Box::new(Because("cannot ask n1: no route", Some(Box::new(Because("no route", None)))))
        })],
    );
    let began = Instant::now();
    let runtime = app.start(ObservationConfig::default()).await;
    at(began, 1500).await;
    assert_eq!(runtime.handle().last_error().unwrap().message, "cannot ask n1: no route");
}

#[tokio::test(start_paused = true)]
async fn the_newest_64_failures_are_kept_and_counted_as_consecutive() {
    let app = App::new();
    app.then(Call::Poll, vec![Act::Err("down"); 70]);
    let began = Instant::now();
    let runtime = app.start(ObservationConfig::default()).await;
    at(began, 70_500).await;
    let failures = runtime.handle().failures();
    let numbers: Vec<_> = failures.iter().map(|failure| (failure.cycle, failure.consecutive)).collect();
    assert_eq!(numbers, (7..=70).map(|n| (n, n)).collect::<Vec<_>>());

    app.then(Call::Poll, [Act::Ok(Vec::new()), Act::Err("down")]);
    at(began, 72_500).await;
    let last = runtime.handle().last_error().unwrap();
    assert_eq!((last.cycle, last.consecutive), (72, 1), "a success resets the count");
}
