use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;
use watchkeeper::runtime::StopOutcome;
use watchkeeper_journal::{Entry, JournalConfig};

use super::*;
use crate::loops::cluster::Cluster;
use crate::loops::normalise::{NO_MESSAGE, normalise};
use crate::operation::Operation;

fn operation(endpoint: &str, error: Option<&str>) -> Operation {
    let text = json!({"endpoint": endpoint, "success": error.is_none(), "error": error}).to_string();
    Operation::of_text(&text).unwrap()
}

/// (endpoint, message, count, share, first and last sequence)
type Row = (String, String, u64, f64, u64, u64);

fn row(cluster: &Cluster) -> Row {
    let Cluster { endpoint, message, count, share, first_sequence, last_sequence, .. } = cluster;
    (endpoint.clone(), message.clone(), *count, *share, *first_sequence, *last_sequence)
}

/// The clusters of the last `window` operations, counted from the begin.
#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn naive(all: &[Operation], window: usize, most: usize) -> (Vec<Row>, u64) {
    let start = all.len().saturating_sub(window);
    let mut clusters = BTreeMap::<(String, String), Vec<u64>>::new();
    for (at, operation) in all.iter().enumerate().skip(start).filter(|(_, operation)| !operation.success) {
        let key = (operation.endpoint.clone(), normalise(&operation.error));
        clusters.entry(key).or_default().push(at as u64);
    }
    let mut rows: Vec<Row> = clusters
        .into_iter()
        .map(|((endpoint, message), at)| {
            let of_endpoint = all[start..].iter().filter(|operation| operation.endpoint == endpoint).count();
            let share = at.len() as f64 / of_endpoint as f64;
            (endpoint, message, at.len() as u64, share, at[0], at[at.len() - 1])
        })
        .collect();
    rows.sort_by_key(|row| std::cmp::Reverse((row.2, row.5)));
    let other = rows.split_off(rows.len().min(most));
    (rows, other.iter().map(|row| row.2).sum())
}

proptest! {
    #[test]
    fn counts_are_those_of_a_naive_model(
        operations in proptest::collection::vec((0..3_usize, proptest::option::of(0..4_usize), 0..9_u8), 0..120),
        size in 1..40_usize,
        most in 0..6_usize,
    ) {
        let messages = ["timeout after", "no route to", "", "status 503 of"];
        let mut all = Vec::new();
        let mut window = ErrorWindow::new(size);
        for (at, (endpoint, error, number)) in operations.iter().enumerate() {
            let error = error.map(|error| if error == 2 { String::new() } else { format!("{} {number}", messages[error]) });
            all.push(operation(["/a", "/b", "/c"][*endpoint], error.as_deref()));
            window.push(at as u64, all[at].clone());
            if at % 7 != 0 && at + 1 < operations.len() {
                continue;
            }
            let found = window.found(most);
            let (rows, other) = naive(&all, size, most);
            prop_assert_eq!(found.clusters.iter().map(row).collect::<Vec<_>>(), rows);
            prop_assert_eq!(found.other, other);
            prop_assert_eq!(found.operations, all.len().min(size) as u64);
            let listed: u64 = found.clusters.iter().map(|cluster| cluster.count).sum();
            prop_assert_eq!(found.failures, listed + other);
            for endpoint in ["/a", "/b", "/c"] {
                let own = || all[all.len().saturating_sub(size)..].iter().filter(|past| past.endpoint == endpoint);
                let (count, failed) = (own().count(), own().filter(|past| !past.success).count());
                let number = |count: usize| f64::from(u32::try_from(count).unwrap());
                let share = (count > 0 && failed * 2 >= count).then(|| number(failed) / number(count));
                prop_assert_eq!(found.failing.get(endpoint).copied(), share);
            }
        }
    }
}

#[test]
fn a_full_window_forgets_the_texts_that_left_it() {
    let mut window = ErrorWindow::new(10);
    for at in 0..1_000 {
        let name = |of: &str| format!("{of}{}", "x".repeat(usize::try_from(at % 60).unwrap()));
        window.push(at, operation(&name("/"), Some(&name("m"))));
    }
    assert!(window.texts() <= 10 * 3, "{}", window.texts());
    assert_eq!(window.found(100).clusters.len(), 10);
}

#[test]
fn a_cluster_says_when_how_often_and_who() {
    let mut window = ErrorWindow::new(10);
    // (timestamp, source, error): order is by sequence, and times go backwards.
    let failures = [
        ("2026-01-01T00:01:00Z", "b", "late by 7 s"),
        ("2026-01-01T00:00:00Z", "a", "late by 8 s"),
        ("2026-01-01T00:02:00Z", "b", "late\nby 9 s"),
    ];
    for (at, (timestamp, source, error)) in (7..).zip(failures) {
        let text =
            json!({"endpoint": "/put", "timestamp": timestamp, "source": source, "error": error}).to_string();
        window.push(at, Operation::of_text(&text).unwrap());
    }
    window.push(10, operation("/put", None));
    window.push(11, operation("/put", Some("")));
    let clusters = window.found(10).clusters;
    let late = &clusters[0];
    assert_eq!(row(late), ("/put".into(), "late by <duration>".into(), 3, 0.6, 7, 9));
    assert!((late.per_minute - 1.0).abs() < 1e-9, "{}", late.per_minute);
    assert_eq!((&*late.first_timestamp, &*late.last_timestamp), (failures[0].0, failures[2].0));
    assert_eq!(late.sources, ["a", "b"]);
    assert!(!late.example.contains('\n') && late.example.contains("9 s"), "{}", late.example);
    assert_eq!(late.id.len(), 16);
    let silent = &clusters[1];
    assert_eq!((&*silent.message, &*silent.example, silent.per_minute), (NO_MESSAGE, "", 0.0));
    assert_ne!(silent.id, late.id);
}

fn config(window: usize, clusters: usize) -> ErrorsConfig {
    ErrorsConfig { every: Duration::from_secs(1), window, clusters }
}

async fn append(journal: &Journal, body: &str) {
    journal.append(Entry::from_text(body).unwrap()).await.unwrap();
}

async fn fail(journal: &Journal, endpoint: &str, error: &str) {
    append(journal, &json!({"endpoint": endpoint, "success": false, "error": error}).to_string()).await;
}

async fn store(journal: &Journal) -> Store {
    Store::of(journal.clone(), 10).await.unwrap()
}

const SOON: Duration = Duration::from_secs(30);

#[tokio::test(start_paused = true)]
async fn what_is_recorded_is_found_and_after_a_restart_again() {
    let journal = Journal::in_memory(JournalConfig::default()).unwrap();
    let store = store(&journal).await;
    for number in 0..3 {
        fail(&journal, "/put", &format!("timeout of node {number}")).await;
    }
    let config = config(100, 10);
    let runtime = start(&store, &config, observation(&config)).unwrap();
    let handle = runtime.handle();
    let three =
        handle.eventually("three failures", |report| report.failures == 3).within(SOON).await.unwrap();
    assert_eq!(three.value.clusters.len(), 1);
    append(&journal, r#"{"endpoint":"/put","success":true}"#).await;
    append(&journal, r#"{"no":"operation"}"#).await;
    fail(&journal, "/get", "timeout of node 9").await;
    let six =
        handle.eventually("six records", |report| report.progress.next == 6).within(SOON).await.unwrap();
    assert_eq!((six.value.operations, six.value.failures, six.value.progress.skipped), (5, 4, 1));
    assert!(!six.value.progress.is_behind);
    assert_eq!(runtime.stop().await, StopOutcome::Stopped);

    let runtime = start(&store, &config, observation(&config)).unwrap();
    let again =
        runtime.handle().eventually("all", |report| report.progress.next == 6).within(SOON).await.unwrap();
    assert_eq!(again.value, six.value);
    assert_eq!(runtime.stop().await, StopOutcome::Stopped);
    store.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_restart_fills_the_window_past_records_that_are_no_operations() {
    let journal = Journal::in_memory(JournalConfig::default()).unwrap();
    let store = store(&journal).await;
    for number in 0..10 {
        fail(&journal, "/put", &format!("failure {number}")).await;
        for _ in 0..5 {
            append(&journal, r#"{"no":"operation"}"#).await;
        }
    }
    let config = config(8, 10);
    let runtime = start(&store, &config, observation(&config)).unwrap();
    let full =
        runtime.handle().eventually("a window", |report| report.operations > 0).within(SOON).await.unwrap();
    assert_eq!((full.value.operations, full.value.clusters[0].count), (8, 8));
    assert_eq!((full.value.clusters[0].first_sequence, full.value.progress.next), (12, 60));
    assert_eq!(runtime.stop().await, StopOutcome::Stopped);
}

/// On the real clock: a paused one would go on to the next tick while the journal's thread appends.
#[tokio::test]
async fn more_than_one_poll_reads_is_read_at_once() {
    let journal = Journal::in_memory(JournalConfig { segments: 1_000, ..JournalConfig::default() }).unwrap();
    let store = store(&journal).await;
    let mut config = config(10, 10);
    config.every = Duration::from_hours(1);
    let runtime = start(&store, &config, observation(&config)).unwrap();
    let handle = runtime.handle();
    handle.eventually("a first report", |_| true).within(SOON).await.unwrap();
    let body = r#"{"endpoint":"/put","error":"full"}"#;
    for _ in 0..6 {
        let batch = (0..10_000).map(|_| Entry::from_text(body).unwrap()).collect();
        journal.append_batch(batch).await.unwrap();
    }
    // One poll is asked for; it is behind, and asks for the others.
    let all = handle.eventually("all", |report| report.progress.next == 60_000);
    runtime.control().poll_now().await.unwrap();
    let all = all.within(Duration::from_mins(1)).await.unwrap();
    assert_eq!(all.value.clusters[0].count, 10);
    assert_eq!(all.value.progress.missing + all.value.progress.gaps, 0);
    assert_eq!(runtime.stop().await, StopOutcome::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_gap_is_counted_and_nothing_stops() {
    let config_of_journal =
        JournalConfig { segment_bytes: 64 * 1024, segments: 2, ..JournalConfig::default() };
    let journal = Journal::in_memory(config_of_journal).unwrap();
    let analysis = ErrorAnalysis::new(&config(5_000, 10));
    let sources = [ObservedSource::new("journal", journal.clone())];
    fail(&journal, "/put", "before the start").await;
    let mut state = analysis.init(&sources).await.unwrap();
    for number in 1..3_000 {
        fail(&journal, "/put", &format!("failure {number} {}", "x".repeat(60))).await;
    }
    assert!(journal.oldest().seq() > 0);
    analysis.poll(&sources, &mut state).await.unwrap();
    let report = analysis.snapshot(&state);
    assert_eq!((report.progress.gaps, report.progress.next), (1, 3_000));
    assert!(report.progress.missing > 0);
    assert_eq!(report.progress.missing + report.operations, 3_000);
}

#[tokio::test(start_paused = true)]
async fn the_events_add_up_to_the_list() {
    let journal = Journal::in_memory(JournalConfig::default()).unwrap();
    let analysis = ErrorAnalysis::new(&config(20, 5));
    let sources = [ObservedSource::new("journal", journal.clone())];
    fail(&journal, "/put", "before the start").await;
    let mut state = analysis.init(&sources).await.unwrap();
    let mut ids = BTreeSet::new();
    for cycle in 0..30_usize {
        for number in 0..cycle % 7 {
            fail(&journal, "/put", &format!("failure of {}", "x".repeat((cycle + number) % 9))).await;
        }
        for event in analysis.poll(&sources, &mut state).await.unwrap() {
            match event {
                ClusterEvent::Appeared { id, .. } => assert!(ids.insert(id)),
                ClusterEvent::Grew { id, .. } => assert!(ids.contains(&id)),
                ClusterEvent::Vanished { id } => assert!(ids.remove(&id)),
            }
        }
        let report = analysis.snapshot(&state);
        assert_eq!(report.clusters.iter().map(|cluster| cluster.id.clone()).collect::<BTreeSet<_>>(), ids);
    }
}

#[tokio::test(start_paused = true)]
async fn a_rebuild_begins_again_with_what_is_there() {
    let journal = Journal::in_memory(JournalConfig::default()).unwrap();
    let analysis = ErrorAnalysis::new(&config(2, 5));
    let sources = [ObservedSource::new("journal", journal.clone())];
    fail(&journal, "/gone", "full").await;
    fail(&journal, "/put", "full").await;
    for endpoints in [&["/put", "/gone"][..], &["/get", "/put"]] {
        let mut state = analysis.init(&sources).await.unwrap();
        let events = analysis.poll(&sources, &mut state).await.unwrap();
        let appeared: Vec<&str> = events
            .iter()
            .map(|event| match event {
                ClusterEvent::Appeared { endpoint, .. } => &**endpoint,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(appeared, endpoints);
        // `/gone` leaves the window between the generations.
        fail(&journal, "/get", "full").await;
    }
}

#[test]
fn the_endpoints_that_fail_are_bounded() {
    let mut window = ErrorWindow::new(MAX_WINDOW);
    for at in 0..MAX_FAILING + 5 {
        window.push(0, operation(&format!("/{at}"), Some("full")));
    }
    for _ in 0..3 {
        window.push(0, operation("/often", Some("full")));
        window.push(0, operation("/half", None));
        window.push(0, operation("/half", Some("full")));
        window.push(0, operation("/rare", None));
    }
    window.push(0, operation("/rare", Some("full")));
    let failing = window.found(1).failing;
    assert_eq!(failing.len(), MAX_FAILING);
    let share = |endpoint: &str| failing.get(endpoint).copied();
    assert_eq!((share("/often"), share("/half"), share("/rare")), (Some(1.0), Some(0.5), None));
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_is_cut_off_loses_nothing() {
    let journal = Journal::in_memory(JournalConfig::default()).unwrap();
    let analysis = ErrorAnalysis::new(&config(5_000, 10));
    let sources = [ObservedSource::new("journal", journal.clone())];
    let mut state = analysis.init(&sources).await.unwrap();
    for _ in 0..1_000 {
        fail(&journal, "/put", "full").await;
    }
    for _ in 0..3 {
        let before = analysis.snapshot(&state);
        let mut poll = analysis.poll(&sources, &mut state);
        // The first turn ends at a yield.
        assert!(futures_util::poll!(&mut poll).is_pending());
        drop(poll);
        assert_eq!(analysis.snapshot(&state), before);
    }
    let events = analysis.poll(&sources, &mut state).await.unwrap();
    assert!(matches!(&events[..], [ClusterEvent::Appeared { count: 1_000, .. }]), "{events:?}");
    assert_eq!(analysis.snapshot(&state).clusters[0].count, 1_000);
}

#[test]
fn a_recorded_report_is_small_and_reads_again() {
    let mut window = ErrorWindow::new(MAX_WINDOW);
    let long = "\u{1}".repeat(1_024);
    for at in 0..200_u64 {
        let endpoint = format!("{at:03}{}", &long[3..]);
        let error = format!("{}{long}", "y".repeat(usize::try_from(at % 60).unwrap()));
        window.push(at, operation(&endpoint, Some(&error)));
    }
    let found = window.found(100);
    let report = ErrorReport {
        not_recorded: first::left_out(found.clusters.len()),
        clusters: Arc::new(found.clusters.into()),
        operations: found.operations,
        failures: found.failures,
        other: found.other,
        other_clusters: found.other_clusters,
        ..ErrorReport::default()
    };
    let text = serde_json::to_string(&report).unwrap();
    assert!(text.len() < 256 * 1024, "{}", text.len());
    let read: ErrorReport = serde_json::from_str(&text).unwrap();
    assert_eq!(read.clusters[..], report.clusters[..10]);
    assert_eq!((read.not_recorded, report.clusters.len()), (90, 100));
    assert_eq!((read.other, read.progress), (100, report.progress));
    let page = report.page(3);
    assert_eq!((page.clusters.len(), page.other, page.other_clusters), (3, 197, 197));
}

/// Ordinary lines of the overseer's file are no errors, and escalate nothing.
#[test]
fn notes_of_the_overseer_are_in_no_cluster() {
    let mut window = ErrorWindow::new(100);
    for (sequence, text) in [
        r#"{"endpoint":"/c","source":"overseer_correction"}"#,
        r#"{"endpoint":"/c","source":"overseer_correction","success":false}"#,
        r#"{"endpoint":"/c","source":"overseer_correction","error":"lost"}"#,
        r#"{"endpoint":"/c","source":"mcp"}"#,
    ]
    .into_iter()
    .enumerate()
    {
        window.push(sequence as u64, Operation::of_text(text).unwrap());
    }
    let found = window.found(10);
    assert_eq!(found.clusters.iter().map(|cluster| cluster.count).collect::<Vec<_>>(), [1, 1]);
}
