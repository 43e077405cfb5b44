//! What an error prints where it is not formatted on purpose: `Error: {error:?}`, as `main` and `unwrap` do.

use std::error::Error;
use std::time::Duration;

use watchkeeper::group::GroupError;
use watchkeeper::per_source::PerSourceError;
use watchkeeper::report::error_chain;
use watchkeeper::runtime::{ControlError, StopReason};
use watchkeeper::source::SourceSetError;
use watchkeeper::subscription::{Cursor, CursorError, RecvError};
use watchkeeper::wait::WatchError;
use watchkeeper::{ObservationRuntime, ObservationRuntimeError};

use crate::common::{Act, App, Call, each_second, ms, status_when};

const ZERO: Duration = Duration::ZERO;

/// Each public error, what it prints, and its type.
#[rustfmt::skip]
fn errors() -> Vec<(Box<dyn Error + Send + Sync>, &'static str)> {
    use ObservationRuntimeError as Start;
    let reason = StopReason::Requested;
    let cause = || "connection refused".into();
    vec![
        (Start::InvalidInterval { value: ZERO }.into(),
         "ObservationConfig::interval is 0ns: it must be more than zero and at most 24 h"),
        (Start::InvalidTimeout { field: "poll_timeout", value: ZERO }.into(),
         "ObservationConfig::poll_timeout is 0ns: it must be more than zero and at most 24 h"),
        (Start::InvalidStaleAfter { value: ZERO }.into(),
         "ObservationConfig::stale_after is 0ns: it must be more than zero and at most 24 h, or None for the default"),
        (Start::InvalidOffset { value: Duration::MAX }.into(),
         "ObservationConfig::offset is 18446744073709551615.999999999s: it must be at most 24 h"),
        (Start::InvalidMinGap { value: ZERO }.into(),
         "ObservationConfig::min_gap is 0ns: it must be more than zero and at most 24 h"),
        (Start::InvalidRetry { field: "jitter", value: "2".into() }.into(),
         "Backoff::jitter is 2: `first` must be more than zero, `max` at least `first` and at most 24 h, `jitter` \
          between 0 and 1"),
        (Start::InvalidResume { field: "cycle", value: u64::MAX }.into(),
         "ObservationConfig::resume: its cycle is 18446744073709551615: it must be at most 9223372036854775807, because \
          the runtime counts on from it; resume from another record, or start without one"),
        (Start::NoTokioRuntime.into(),
         "no tokio runtime here: start the observation from inside one, or enter its handle first"),
        (Start::SourceRefresh { source: cause() }.into(),
         "the first source refresh failed: make the sources reachable, or start in the background to keep retrying: \
          connection refused"),
        (Start::ObserverInit { source: PerSourceError::NoConcurrency.into() }.into(),
         "the observer's init failed: fix its cause, or start in the background to keep retrying: \
          PerSource::concurrency is 0: at least one probe must be allowed at once"),
        (Start::Ended { reason }.into(),
         "the runtime ended before its first cycle did (stop was requested): start another one, with a `parent` \
          that is not cancelled if it has one"),
        (ControlError::Full { capacity: 16 }.into(),
         "16 controls are queued: await the earlier ones, then try again"),
        (ControlError::Stopped { reason }.into(), "the runtime has stopped (stop was requested): start another one"),
        (ControlError::Dead { reason: StopReason::Shutdown }.into(),
         "the runtime is dead (the executor shut down): start another one"),
        (CursorError::Foreign.into(),
         "this cursor is from another runtime: take one from this runtime's snapshots, batches or marks"),
        (CursorError::Future { seq: 7, published: 3 }.into(),
         "this cursor stands at batch 7, but only 3 were published: take cursors from this runtime's snapshots, \
          batches or marks"),
        ("x".parse::<Cursor>().unwrap_err().into(),
         "not a cursor: at byte 0: the instance is not 32 lower-case hexadecimal digits; write it as `Display` does, \
          without spaces: INSTANCE.GENERATION.SEQ"),
        (SourceSetError::DuplicateName { name: "n1".into() }.into(),
         "two sources are named \"n1\": give every source a name of its own"),
        (SourceSetError::EmptyName { position: 2 }.into(),
         "source number 2 has an empty name: give every source a name of its own"),
        (PerSourceError::InvalidDuration { setting: "collect_for", value: ZERO }.into(),
         "PerSource::collect_for is 0ns: it must be more than zero and at most 24 h"),
        (PerSourceError::NoConcurrency.into(),
         "PerSource::concurrency is 0: at least one probe must be allowed at once"),
        (GroupError::DuplicateName { name: "raft".into() }.into(),
         "the group already has a member named \"raft\": give each a name of its own"),
        (GroupError::EmptyName.into(), "a member needs a name: it may not be empty"),
        (RecvError::Rebuilt { generation: 2 }.into(),
         "the observer's state was rebuilt as generation 2: start over from the latest snapshot"),
        (RecvError::Closed(reason).into(),
         "the runtime has stopped (stop was requested): start another one, and subscribe to that"),
        (WatchError::Closed(reason).into(),
         "the runtime has stopped (stop was requested): start another one, and watch that"),
    ]
}

// A derived Debug printed `InvalidInterval { value: 0ns }` in place of the sentence.
#[test]
fn every_error_prints_its_sentence_and_its_causes() {
    for (error, expected) in errors() {
        assert_eq!(format!("{error:?}"), expected);
        assert_eq!(format!("{error:#?}"), expected, "there is no other form");
        assert_eq!(error_chain(&*error), expected);
        assert!(expected.starts_with(&error.to_string()), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_start_under_a_question_mark_prints_what_to_do() {
    async fn main() -> Result<(), Box<dyn Error>> {
        let app = App::new();
        app.then(Call::Init, [Act::Err("connection refused\nby \u{1b}[2J")]);
        drop(ObservationRuntime::start(app.clone(), app, each_second()).await?);
        Ok(())
    }
    let expected = "the observer's init failed: fix its cause, or start in the background to keep retrying: \
                    connection refused\\nby \\u{1b}[2J";
    assert_eq!(format!("Error: {:?}", main().await.unwrap_err()), format!("Error: {expected}"));
}

#[tokio::test(start_paused = true)]
async fn what_only_a_runtime_makes_prints_its_sentence_as_well() {
    let app = App::new();
    app.then(Call::Poll, [Act::Err("down")]);
    let config = watchkeeper::ObservationConfig { history_limit: 1, ..each_second() };
    app.then(Call::Poll, (0..5).map(|n| Act::Ok(vec![n])));
    let runtime = ObservationRuntime::start(app.clone(), app, config).await.unwrap();
    let mut subscription = runtime.handle().subscribe();
    let failed = status_when(&runtime, |status| status.last_error.is_some()).await;
    assert_eq!(format!("{:?}", failed.last_error.unwrap()), "cycle 1 failed in poll: down");

    tokio::time::sleep(ms(4_500)).await;
    let lagged = subscription.recv().await.unwrap_err();
    let expected = "missed 3 batches: read faster, or raise ObservationConfig::history_limit";
    assert_eq!(format!("{lagged:?}"), expected);

    // A report keeps its lines, also as a cause.
    let unmet = runtime.handle().eventually("never", |_| false).within(ms(10)).await.unwrap_err();
    let report = unmet.to_string();
    assert!(report.lines().count() > 2);
    assert_eq!(format!("{unmet:?}"), report);
    let outer = ObservationRuntimeError::SourceRefresh { source: unmet.into() };
    assert!(format!("{outer:?}").ends_with(&format!("to keep retrying: {report}")), "{outer:?}");

    // What only looks like one does not: neither its lines nor a break at its end.
    let forged = format!("{report}\n");
    let outer = ObservationRuntimeError::SourceRefresh { source: forged.clone().into() };
    let shown = watchkeeper::report::one_line(&forged, 1_000);
    assert!(format!("{outer:?}").ends_with(&format!("to keep retrying: {shown}")), "{outer:?}");
}
