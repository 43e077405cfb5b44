//! Several processes are one run.

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper::runtime::StopReason;
use watchkeeper::subscription::{Cursor, CursorError, RecvError};
use watchkeeper::{ObservationConfig, ObservationRuntimeError};
use watchkeeper_journal::run::{
    Replay, ReplayError, RunError, RunJournal, RunRecvError, RunSubscription, RunSubscriptionError,
    SerdeFormat,
};
use watchkeeper_journal::{Journal, JournalConfig};

use super::app::{App, config, ms, run};
use crate::common::{self, small_segments};

type Journaled = RunJournal<App>;

async fn open(path: &Path) -> Journaled {
    RunJournal::open(path, "app", common::config(), SerdeFormat).await.unwrap()
}

/// A process that observes for `time`, and is stopped.
async fn process(journal: &Journaled, time: Duration) {
    let config = ObservationConfig { resume: journal.resume().await.unwrap(), ..config() };
    let running = run(Instant::now(), vec![], config.clone());
    let recording = journal.record(&running.runtime.handle(), &config).unwrap();
    tokio::time::sleep(time).await;
    let _ = running.runtime.stop().await;
    assert!(recording.finished().await.is_ok());
}

/// What a subscription returns up to the end of the run.
async fn all(mut batches: RunSubscription<App, SerdeFormat>) -> Vec<String> {
    let mut items = Vec::new();
    loop {
        match batches.recv().await {
            Ok(batch) => {
                assert_eq!(batch.cursor, batches.cursor());
                items.push(format!("{}: {:?}", batch.seq, batch.events));
            }
            Err(RunRecvError::Rebuilt { generation }) => items.push(format!("generation {generation}")),
            Err(RunRecvError::Lagged { missed, resume }) => {
                assert_eq!(resume, batches.cursor());
                items.push(format!("{missed} missed"));
            }
            Err(RunRecvError::Closed(reason)) => {
                assert_eq!(reason, StopReason::Requested);
                return items;
            }
            Err(other) => panic!("{other}"),
        }
    }
}

async fn beginning(journal: &Journaled) -> Cursor {
    journal.resume().await.unwrap().unwrap().cursor.at(0)
}

#[tokio::test(start_paused = true)]
async fn a_restart_resumes_and_cursors_of_before_are_served_from_disk_and_then_live() {
    let directory = common::directory();
    let journal = open(directory.path()).await;
    assert_eq!(journal.resume().await.unwrap(), None);
    process(&journal, ms(3_250)).await;
    let first = journal.resume().await.unwrap().unwrap();
    assert_eq!((first.cursor.generation(), first.cursor.seq(), first.cycle, first.event_count), (1, 2, 6, 4));
    journal.close().await.unwrap();

    let journal = open(directory.path()).await;
    assert_eq!(journal.resume().await.unwrap(), Some(first));
    // A reader that stopped after batch 0 in the first process follows into this one.
    let cursor: Cursor = first.cursor.at(1).to_string().parse().unwrap();
    let following = {
        let config = ObservationConfig { resume: Some(first), ..config() };
        let running = run(Instant::now(), vec![], config.clone());
        let recording = journal.record(&running.runtime.handle(), &config).unwrap();
        tokio::time::sleep(ms(250)).await;
        let following = tokio::spawn(all(journal.subscribe_from(cursor).await.unwrap()));
        tokio::time::sleep(ms(3_000)).await;
        let _ = running.runtime.stop().await;
        assert!(recording.finished().await.is_ok());
        following
    };
    assert_eq!(following.await.unwrap(), ["1: [6, 7]", "generation 2", "2: [3, 4]", "3: [6, 7]"]);
    let second = journal.resume().await.unwrap().unwrap();
    assert_eq!(second.cursor.instance(), first.cursor.instance());
    assert_eq!((second.cursor.generation(), second.cursor.seq(), second.event_count), (2, 4, 8));
    assert_eq!(second.cycle, 13);

    // The whole run is one feed.
    let mut replay: Replay<App, _> = Replay::open(directory.path(), "app", SerdeFormat).unwrap();
    let (handle, mut batches) = (replay.handle(), replay.handle().subscribe());
    replay.play().await.unwrap();
    let mut heard = Vec::new();
    loop {
        match batches.recv().await {
            Ok(batch) => heard.push(format!("{}: {:?}", batch.seq, batch.events)),
            Err(RecvError::Rebuilt { generation }) => heard.push(format!("generation {generation}")),
            Err(RecvError::Closed(reason)) => break assert_eq!(reason, StopReason::Requested),
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(heard, ["0: [3, 4]", "1: [6, 7]", "generation 2", "2: [3, 4]", "3: [6, 7]"]);
    assert_eq!(handle.latest_snapshot().unwrap().cursor, second.cursor);
}

#[tokio::test(start_paused = true)]
async fn a_crash_loses_what_was_not_recorded_and_nothing_else() {
    let directory = common::directory();
    let journal = open(directory.path()).await;
    let running = run(Instant::now(), vec![], config());
    let recording = journal.record(&running.runtime.handle(), &config()).unwrap();
    tokio::time::sleep(ms(3_250)).await;
    running.runtime.control().pause().await.unwrap();
    let mut health = recording.watch_health();
    let _ = health.wait_for(|health| health.recorded >= 22).await.unwrap();
    // As a crash leaves it: no stop is recorded.
    let copy = common::directory();
    let path = copy.path().join("run/app");
    std::fs::create_dir_all(&path).unwrap();
    for name in std::fs::read_dir(directory.path().join("run/app")).unwrap() {
        let name = name.unwrap();
        std::fs::copy(name.path(), path.join(name.file_name())).unwrap();
    }
    let after = open(copy.path()).await;
    // A wait over it ends with it.
    let mut replay: Replay<App, _> = Replay::of(&after.journal().view(), SerdeFormat).unwrap();
    let handle = replay.handle();
    let never =
        handle.eventually("a thousand polls", |seen| seen.polls > 1_000).within(Duration::from_secs(3_600));
    let (unmet, played) = tokio::join!(never, replay.play());
    played.unwrap();
    assert_eq!((unmet.is_err(), handle.stop_reason()), (true, Some(StopReason::Shutdown)));
    process(&after, ms(1_750)).await;
    let items = all(after.subscribe_from(beginning(&after).await).await.unwrap()).await;
    assert_eq!(items, ["0: [3, 4]", "1: [6, 7]", "generation 2", "2: [3, 4]"]);
    let oldest = after.oldest().await.unwrap().unwrap();
    assert_eq!((oldest.generation(), oldest.seq()), (1, 0));
    assert_eq!(all(after.subscribe_from(oldest).await.unwrap()).await, items);
    let mut replay: Replay<App, _> = Replay::open(copy.path(), "app", SerdeFormat).unwrap();
    replay.play().await.unwrap();
    assert_eq!(replay.handle().latest_snapshot().unwrap().cursor.seq(), 3);
}

#[tokio::test(start_paused = true)]
async fn batches_that_retention_has_removed_are_counted() {
    let directory = common::directory();
    let config_of = JournalConfig { segments: 2, ..small_segments() };
    let journal: Journaled = RunJournal::open(directory.path(), "app", config_of, SerdeFormat).await.unwrap();
    process(&journal, ms(30_250)).await;
    let items = all(journal.subscribe_from(beginning(&journal).await).await.unwrap()).await;
    let missed: u64 = items[0].strip_suffix(" missed").unwrap().parse().unwrap();
    assert!(missed > 10, "{items:?}");
    let rest: Vec<String> =
        (missed..20).map(|seq| format!("{seq}: [{}, {}]", 3 * seq + 3, 3 * seq + 4)).collect();
    assert_eq!(items[1..], rest);
    // A replay begins where the record does.
    let mut replay: Replay<App, _> = Replay::open(directory.path(), "app", SerdeFormat).unwrap();
    let mut batches = replay.handle().subscribe();
    replay.play().await.unwrap();
    let first = match batches.recv().await {
        Err(RecvError::Lagged { .. }) => batches.recv().await,
        other => other,
    };
    assert!(first.unwrap().seq >= missed);
    assert_eq!(replay.handle().latest_snapshot().unwrap().cursor.seq(), 20);
}

#[tokio::test(start_paused = true)]
async fn cursors_of_other_runs_and_of_the_future_are_refused() {
    let directory = common::directory();
    let journal = open(directory.path()).await;
    let none: Cursor = "0f8e1a2b3c4d5e6f708192a3b4c5d6e7.1.0".parse().unwrap();
    let refused = |cursor| {
        let journal = &journal;
        async move {
            match journal.subscribe_from(cursor).await {
                Err(RunSubscriptionError::Cursor(error)) => error,
                other => panic!("{other:?}"),
            }
        }
    };
    assert_eq!(refused(none).await, CursorError::Foreign);
    process(&journal, ms(1_750)).await;
    assert_eq!(refused(none).await, CursorError::Foreign);
    let newest = journal.resume().await.unwrap().unwrap().cursor;
    let future = CursorError::Future { seq: newest.seq() + 1, published: newest.seq() };
    assert_eq!(refused(newest.at(newest.seq() + 1)).await, future);
    assert!(all(journal.subscribe_from(newest).await.unwrap()).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_process_that_does_not_resume_begins_another_run() {
    let directory = common::directory();
    let journal = open(directory.path()).await;
    process(&journal, ms(1_750)).await;
    let before = beginning(&journal).await;
    let running = run(Instant::now(), vec![], config());
    let recording = journal.record(&running.runtime.handle(), &config()).unwrap();
    tokio::time::sleep(ms(3_250)).await;
    let _ = running.runtime.stop().await;
    assert!(recording.finished().await.is_ok());
    let refused = journal.subscribe_from(before).await;
    assert!(matches!(refused, Err(RunSubscriptionError::Cursor(CursorError::Foreign))));
    let items = all(journal.subscribe_from(beginning(&journal).await).await.unwrap()).await;
    assert_eq!(items, ["0: [3, 4]", "1: [6, 7]"]);
    let mut replay: Replay<App, _> = Replay::open(directory.path(), "app", SerdeFormat).unwrap();
    replay.play().await.unwrap();
    assert_eq!(replay.handle().latest_snapshot().unwrap().cursor.seq(), 2, "the newest run alone");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_run_is_refused() {
    let directory = common::directory();
    for name in ["", ".", "..", "a/b", ".hidden", "a b", "\u{1b}[31m", &"x".repeat(101)] {
        let error = Journaled::open(directory.path(), name, common::config(), SerdeFormat).await.unwrap_err();
        assert!(matches!(error, RunError::Name { .. }) && !error.to_string().contains('\u{1b}'), "{error}");
    }
    let refused = |name: &str| Replay::<App, _>::open(directory.path(), name, SerdeFormat).unwrap_err();
    assert!(matches!(refused("none"), ReplayError::Run(RunError::Journal(_))));
    open(directory.path()).await.close().await.unwrap();
    assert!(matches!(refused("app"), ReplayError::Empty { .. }));

    let foreign = Journal::in_memory(common::config()).unwrap();
    common::append_all(&foreign, 0..3).await;
    let journal: Journaled = RunJournal::of(foreign, "app", SerdeFormat);
    let error = journal.resume().await.unwrap_err();
    assert!(matches!(error, RunError::Record { number: 2, .. }), "{error}");

    let journal = open(directory.path()).await;
    process(&journal, ms(250)).await;
    let resume = journal.resume().await.unwrap();
    assert!(resume.is_some());
    // The point is of this journal's run, and still valid in the core.
    let other = ObservationConfig { resume, interval: Duration::ZERO, ..config() };
    let sources = watchkeeper::StaticSourceProvider::new(vec![]);
    let app = App::new(Instant::now(), vec![]);
    let error = watchkeeper::ObservationRuntime::start_in_background(sources, app, other).unwrap_err();
    assert!(matches!(error, ObservationRuntimeError::InvalidInterval { .. }));
}
