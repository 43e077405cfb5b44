use std::collections::{BTreeMap, BTreeSet, HashSet};

use proptest::prelude::*;
use serde_json::json;
use watchkeeper::runtime::StopOutcome;
use watchkeeper_journal::{Entry, JournalConfig};

use super::*;

/// An operation in short: thread, endpoint, whether it succeeded, and its second.
type Short = (&'static str, &'static str, bool, i64);

const GAP: Duration = Duration::from_mins(1);

fn operation((thread, endpoint, success, second): Short) -> Operation {
    let timestamp = jiff::Timestamp::from_second(second).unwrap().to_string();
    let body = json!({
        "endpoint": endpoint, "success": success, "staffer_id": thread, "timestamp": timestamp, "duration_ms": 10,
    });
    Operation::of_text(&body.to_string()).unwrap()
}

fn found(window: usize, operations: &[Short], occurrences: u64) -> consolidate::Found {
    let mut steps = Window::new(window);
    for (at, short) in (0..).zip(operations) {
        steps.push(at, operation(*short));
    }
    consolidate(steps.steps.iter(), GAP, occurrences)
}

/// Each playbook as `steps successes/attempts`.
fn short(playbooks: &[Playbook]) -> Vec<String> {
    let short = |playbook: &Playbook| {
        format!("{} {}/{}", playbook.steps.join(">"), playbook.successes, playbook.attempts)
    };
    playbooks.iter().map(short).collect()
}

/// Operations of one thread: a letter is a success, one after `!` a failure, and a space is a minute and a second.
fn thread(thread: &'static str, text: &'static str) -> Vec<Short> {
    let (mut second, mut success, mut operations) = (0, true, Vec::new());
    for (at, char) in text.char_indices() {
        match char {
            ' ' => second += 61,
            '!' => success = false,
            _ => operations.push((thread, &text[at..=at], std::mem::replace(&mut success, true), second)),
        }
    }
    operations
}

#[test]
fn sequences_of_one_thread_are_counted() {
    // (operations, playbooks of at least two successes)
    let cases: &[(&str, &[&str])] = &[
        ("", &[]),
        ("ab", &[]),
        // A triple takes its pairs in.
        ("abc abc", &["a>b>c 2/2"]),
        ("ab ab", &["a>b 2/2"]),
        // One of the pair is over, and open: it may become the triple.
        ("abc abc ab", &["a>b>c 2/2"]),
        // It is over, and did not.
        ("abc abc ab d", &["a>b 3/3", "a>b>c 2/2"]),
        ("abc abc dbc", &["b>c 3/3", "a>b>c 2/2"]),
        // Only the thread's first operation may have had one before it.
        ("bc abc abc", &["a>b>c 2/2"]),
        // The last step fails: an attempt.
        ("ab ab a!b", &["a>b 2/3"]),
        ("abc abc ab!c", &["a>b 3/3", "a>b>c 2/3"]),
        // A failure before it: none.
        ("ab ab !ab", &["a>b 2/2"]),
        ("ab ab a!xb", &["a>b 2/2"]),
        // Repeats are one step. A repeat that fails ends the sequence.
        ("aabbb ab", &["a>b 2/2"]),
        ("a!ab ab ab", &["a>b 2/2"]),
        // Back and forth.
        ("ababab", &["b>a>b 2/2", "a>b>a 2/2"]),
    ];
    for (operations, expected) in cases {
        assert_eq!(short(&found(1_000, &thread("t", operations), 2).playbooks), *expected, "{operations:?}");
    }
}

#[test]
fn the_time_between_operations_counts_in_both_directions() {
    // (seconds of a, b, a, b)
    let cases = [
        ([0, 60, 1_000, 1_060], 2),
        ([0, 61, 1_000, 1_060], 1),
        ([60, 0, 10, 5], 2),
        ([61, 0, 1_000, 1_000], 1),
        ([0, 0, 0, 0], 2),
        // Of a far future, as a clock that is wrong gives it.
        ([9_000_000_000, 9_000_000_000, 0, 0], 2),
    ];
    for (seconds, successes) in cases {
        let [first, second, third, fourth] = seconds;
        let operations: [Short; 5] = [
            ("t", "a", true, first),
            ("t", "b", true, second),
            ("t", "x", false, second),
            ("t", "a", true, third),
            ("t", "b", true, fourth),
        ];
        assert_eq!(
            short(&found(100, &operations, 1).playbooks),
            [format!("a>b {successes}/{successes}")],
            "{seconds:?}"
        );
    }
}

#[test]
fn threads_do_not_mix_and_are_named_by_staffer_or_source() {
    let mut operations = Vec::new();
    for _ in 0..3 {
        operations.extend([
            ("one", "a", true, 0),
            ("two", "b", true, 0),
            ("one", "c", true, 0),
            ("two", "d", true, 0),
        ]);
        operations.extend([("one", "x", false, 0), ("two", "x", false, 0)]);
    }
    let playbooks = found(100, &operations, 2).playbooks;
    let steps: BTreeSet<_> = playbooks.iter().map(|playbook| playbook.steps.join(">")).collect();
    assert_eq!(steps, BTreeSet::from(["a>c".to_owned(), "b>d".to_owned()]));
    // A source of the same name is another thread.
    let mut window = Window::new(10);
    for (at, body) in (0..).zip([
        json!({"endpoint": "a", "success": true, "staffer_id": "mcp"}),
        json!({"endpoint": "b", "success": true}),
    ]) {
        window.push(at, Operation::of_text(&body.to_string()).unwrap());
    }
    let found = consolidate(window.steps.iter(), GAP, 1);
    assert_eq!((found.playbooks.len(), found.threads), (0, 2));
}

#[test]
fn a_playbook_says_how_long_who_and_when() {
    let mut window = Window::new(100);
    // (staffer, endpoint, duration): the first of two repeats does not count.
    let operations = [
        ("one", "a", Some(100.0)),
        ("one", "a", Some(1.0)),
        ("one", "b", Some(2.0)),
        ("two", "a", Some(10.0)),
        ("two", "b", Some(20.0)),
        ("three", "a", None),
        ("three", "b", Some(1.0)),
    ];
    for (at, (staffer, endpoint, duration)) in (40..).zip(operations) {
        let timestamp = format!("2026-01-01T00:00:{at}Z");
        let body = json!({
            "endpoint": endpoint, "staffer_id": staffer, "duration_ms": duration, "success": true, "timestamp": timestamp,
        });
        window.push(at, Operation::of_text(&body.to_string()).unwrap());
    }
    let playbooks = consolidate(window.steps.iter(), GAP, 3).playbooks;
    let [playbook] = &playbooks[..] else { panic!("{playbooks:?}") };
    assert_eq!(playbook.median_ms, Some(16.5));
    assert_eq!((playbook.successes, playbook.threads, playbook.last_sequence), (3, 3, 46));
    assert_eq!((&*playbook.last_timestamp, playbook.id.len()), ("2026-01-01T00:00:46Z", 16));
}

#[test]
fn a_window_forgets_what_left_it() {
    let mut window = Window::new(10);
    for at in 0..1_000 {
        let body = json!({"endpoint": format!("/{at}"), "success": true, "staffer_id": at.to_string()});
        window.push(at, Operation::of_text(&body.to_string()).unwrap());
    }
    assert_eq!((window.steps.len(), window.texts.len()), (10, 20));
}

/// What a thread's sequences are, backwards from each operation.
fn naive(operations: &[Short], window: usize) -> BTreeMap<Vec<&'static str>, (u64, u64)> {
    let operations = &operations[operations.len().saturating_sub(window)..];
    let mut counts = BTreeMap::<Vec<&str>, (u64, u64)>::new();
    for thread in operations.iter().map(|operation| operation.0).collect::<HashSet<_>>() {
        let own: Vec<Short> = operations.iter().copied().filter(|operation| operation.0 == thread).collect();
        for (at, last) in own.iter().enumerate() {
            let mut steps = vec![last.1];
            for back in (0..at).rev() {
                let (before, after) = (own[back], own[back + 1]);
                let is_far = before.3.abs_diff(after.3) > GAP.as_secs();
                // The repeated last step: it was completed before.
                if !before.2 || is_far || (before.1 == last.1 && steps.len() == 1) {
                    break;
                }
                if before.1 == steps[0] {
                    continue;
                }
                steps.insert(0, before.1);
                let count = counts.entry(steps.clone()).or_default();
                count.0 += u64::from(last.2);
                count.1 += 1;
                if steps.len() == 3 {
                    break;
                }
            }
        }
    }
    counts
}

proptest! {
    #[test]
    fn counts_are_those_of_a_naive_model(
        operations in proptest::collection::vec((0..3_usize, 0..4_usize, 0..5_u8, 0..90_i64), 0..120),
        window in 1..80_usize,
    ) {
        let operations: Vec<Short> = operations
            .into_iter()
            .map(|(thread, endpoint, luck, second)| (["s", "t", "u"][thread], ["a", "b", "c", "d"][endpoint], luck > 0, second))
            .collect();
        let found = found(window, &operations, 1);
        let naive = naive(&operations, window);
        for playbook in &found.playbooks {
            let steps: Vec<&str> = playbook.steps.iter().map(String::as_str).collect();
            prop_assert_eq!(naive.get(&steps), Some(&(playbook.successes, playbook.attempts)), "{:?}", steps);
        }
        // Each triple is there, and each pair that none takes in.
        let listed: BTreeMap<Vec<&str>, u64> = found
            .playbooks
            .iter()
            .map(|playbook| (playbook.steps.iter().map(String::as_str).collect(), playbook.successes))
            .collect();
        for (steps, (successes, _)) in naive.iter().filter(|(_, count)| count.0 > 0) {
            let covers = |triple: &Vec<&str>| triple.len() == 3 && (triple[..2] == **steps || triple[1..] == **steps);
            let is_folded = listed.iter().any(|(triple, most)| covers(triple) && *successes <= most + 1);
            prop_assert!(listed.contains_key(steps) || (steps.len() == 2 && is_folded), "{:?}", steps);
        }
    }
}

fn config() -> PlaybooksConfig {
    PlaybooksConfig { window: 50, occurrences: 2, playbooks: 1, gap: GAP, ..PlaybooksConfig::default() }
}

async fn append(journal: &Journal, endpoint: &str) {
    let body = json!({"endpoint": endpoint, "success": true, "staffer_id": "s"}).to_string();
    journal.append(Entry::from_text(body).unwrap()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_recorded_is_found_and_after_a_restart_again() {
    const SOON: Duration = Duration::from_mins(1);
    let journal = Journal::in_memory(JournalConfig::default()).unwrap();
    let store = Store::of(journal.clone(), 10).await.unwrap();
    for endpoint in ["a", "b", "c", "a", "b", "c", "d", "b", "d", "b"] {
        append(&journal, endpoint).await;
    }
    let runtime = start(&store, &config(), observation(&config())).unwrap();
    let handle = runtime.handle();
    let ten = handle.eventually("ten", |report| report.progress.next == 10).within(SOON).await.unwrap();
    assert_eq!(short(&ten.value.playbooks), ["a>b>c 2/2"]);
    assert_eq!((ten.value.other, ten.value.threads, ten.value.operations), (1, 1, 10));
    append(&journal, "d").await;
    let more = handle.eventually("eleven", |report| report.progress.next == 11).within(SOON).await.unwrap();
    assert_eq!(runtime.stop().await, StopOutcome::Stopped);

    let runtime = start(&store, &config(), observation(&config())).unwrap();
    let again = runtime
        .handle()
        .eventually("eleven", |report| report.progress.next == 11)
        .within(SOON)
        .await
        .unwrap();
    assert_eq!(again.value, more.value);
    assert_eq!(runtime.stop().await, StopOutcome::Stopped);
    store.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_rebuild_begins_again_with_what_is_there() {
    let journal = Journal::in_memory(JournalConfig::default()).unwrap();
    let consolidation = Consolidation::new(&PlaybooksConfig { window: 4, playbooks: 9, ..config() });
    let sources = [ObservedSource::new("journal", journal.clone())];
    for pair in ["ab", "cd"] {
        for _ in 0..2 {
            append(&journal, &pair[..1]).await;
            append(&journal, &pair[1..]).await;
        }
        // What a generation before had is not said to be gone.
        for _ in 0..2 {
            let mut state = consolidation.init(&sources).await.unwrap();
            let events = consolidation.poll(&sources, &mut state).await.unwrap();
            let [PlaybookEvent::Appeared { steps, .. }] = &events[..] else { panic!("{events:?}") };
            assert_eq!(steps.concat(), pair);
        }
    }
}

#[test]
fn a_recorded_report_says_what_it_leaves_out() {
    let mut operations = Vec::new();
    for last in ["b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n"] {
        operations.extend([("t", "a", true, 0), ("t", last, true, 0), ("t", "x", false, 0)]);
    }
    let playbooks = found(100, &operations, 1).playbooks;
    let report = PlaybookReport {
        not_recorded: first::left_out(playbooks.len()),
        playbooks: Arc::new(playbooks),
        ..PlaybookReport::default()
    };
    let read: PlaybookReport = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    assert_eq!((report.playbooks.len(), read.playbooks.len(), read.not_recorded), (13, 10, 3));
}

#[tokio::test(start_paused = true)]
async fn the_events_add_up_to_the_list() {
    let journal = Journal::in_memory(JournalConfig::default()).unwrap();
    let consolidation = Consolidation::new(&PlaybooksConfig { playbooks: 4, ..config() });
    let sources = [ObservedSource::new("journal", journal.clone())];
    let mut state = consolidation.init(&sources).await.unwrap();
    let mut ids = BTreeSet::new();
    for cycle in 0..40_usize {
        for number in 0..cycle % 7 {
            append(&journal, ["a", "b", "c", "d", "e"][(cycle * cycle / 3 + number) % 5]).await;
        }
        for event in consolidation.poll(&sources, &mut state).await.unwrap() {
            match event {
                PlaybookEvent::Appeared { id, .. } => assert!(ids.insert(id)),
                PlaybookEvent::Grew { id, .. } => assert!(ids.contains(&id)),
                PlaybookEvent::Vanished { id } => assert!(ids.remove(&id)),
            }
        }
        let report = consolidation.snapshot(&state);
        assert_eq!(report.playbooks.iter().map(|playbook| playbook.id.clone()).collect::<BTreeSet<_>>(), ids);
        let read: PlaybookReport = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
        assert_eq!(read, report);
        let page = report.page(1);
        assert_eq!(page.other + page.playbooks.len() as u64, report.other + ids.len() as u64);
    }
    assert!(!ids.is_empty());
}
