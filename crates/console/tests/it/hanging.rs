//! No frame shows a source as up whose probe hangs.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use watchkeeper::source::{SharedSources, SourceFacts, SourceHealth};
use watchkeeper::{
    DynError, ObservationConfig, ObservationRuntime, ObservedSource, Observer, async_trait, observe,
};
use watchkeeper_console::RowState::{self, Failing, Fresh, Never, Silent, Stale, Stopped};
use watchkeeper_console::Table;

#[derive(Clone, Copy, PartialEq)]
enum Node {
    Answers,
    Refuses,
    Hangs,
}

async fn probe(node: ObservedSource<Node>) -> Result<u64, DynError> {
    match node.source {
        Node::Answers => Ok(7),
        Node::Refuses => Err("connection refused".into()),
        Node::Hangs => pending().await,
    }
}

fn states(table: &mut Table) -> Vec<RowState> {
    table.frame().rows.iter().map(|row| row.state).collect()
}

/// ```text
/// n1  answers   answers
/// n2  answers   refuses: failing from the next cycle on
/// n3  answers   hangs: silent once its probe takes longer than a cycle collects, stale after 2 s
/// n4  hangs from the beginning
/// ```
#[tokio::test(start_paused = true)]
async fn sources_show_as_the_library_judges_them_at_each_moment() {
    let nodes = SharedSources::default();
    for name in ["n1", "n2", "n3"] {
        nodes.insert(name, Node::Answers);
    }
    nodes.insert("n4", Node::Hangs);
    let runtime = observe(Duration::from_millis(100), nodes.clone(), probe).await.unwrap();
    let mut table = Table::of(&runtime.handle(), |nodes, name| nodes.answer(name).map(u64::to_string));
    sleep(Duration::from_millis(210)).await;
    assert_eq!(states(&mut table), [Fresh, Fresh, Fresh, Never]);
    nodes.insert("n2", Node::Refuses);
    nodes.insert("n3", Node::Hangs);
    let changed = Instant::now();
    while changed.elapsed() < Duration::from_secs(4) {
        sleep(Duration::from_millis(10)).await;
        let frame = table.frame();
        // A cycle begins at most 100 ms later, and collects for 50 ms.
        if changed.elapsed() > Duration::from_millis(160) {
            let silent =
                if changed.elapsed() < Duration::from_millis(1_900) { Silent } else { frame.rows[2].state };
            assert_eq!(
                (frame.rows[1].state, frame.rows[2].state),
                (Failing, silent),
                "{:?}",
                changed.elapsed()
            );
            assert!(frame.rows[2].in_flight.is_some() && frame.rows[2].value.is_none(), "{frame:?}");
            assert_eq!(frame.rows[1].error.as_deref(), Some("connection refused"));
        }
    }
    assert_eq!(states(&mut table), [Fresh, Failing, Stale, Never]);
    let _ = runtime.stop().await;
    assert_eq!(states(&mut table), [Stopped; 4]);
}

/// Asks one after the other, so that one that hangs keeps the poll, and nothing is published.
struct InTurn;

#[async_trait]
impl Observer for InTurn {
    type Source = Arc<AtomicBool>;
    type State = SourceFacts;
    type Snapshot = SourceFacts;
    type Event = ();

    async fn init(&self, sources: &[ObservedSource<Arc<AtomicBool>>]) -> Result<SourceFacts, DynError> {
        let mut facts = SourceFacts::default();
        self.poll(sources, &mut facts).await?;
        Ok(facts)
    }

    async fn poll(
        &self,
        sources: &[ObservedSource<Arc<AtomicBool>>],
        facts: &mut SourceFacts,
    ) -> Result<Vec<()>, DynError> {
        let began = Instant::now();
        if sources[0].source.load(Ordering::SeqCst) {
            pending::<()>().await;
        }
        facts.answered(began, Instant::now());
        Ok(vec![])
    }

    fn snapshot(&self, facts: &SourceFacts) -> SourceFacts {
        facts.clone()
    }

    fn source_health(facts: &SourceFacts, _: &str) -> Option<SourceHealth> {
        Some(
            SourceHealth::new(facts.clone(), Duration::from_secs(60))
                .collecting_for(Duration::from_millis(50)),
        )
    }
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_hangs_makes_its_sources_silent_before_their_data_is_stale() {
    let hangs = Arc::new(AtomicBool::new(false));
    let source = [ObservedSource::new("n1", Arc::clone(&hangs))];
    let config = ObservationConfig {
        name: Some("in turn".to_owned()),
        poll_timeout: Duration::from_secs(30),
        ..Duration::from_millis(100).into()
    };
    let runtime = ObservationRuntime::start(source, InTurn, config).await.unwrap();
    let group = Arc::new(watchkeeper::group::ObservationGroup::new());
    let mut table = Table::of(&runtime.handle(), |_, _| None);
    group.add(runtime).unwrap();
    let members = Arc::clone(&group);
    let mut all = Table::of_group("all", move || members.handles());
    sleep(Duration::from_millis(10)).await;
    assert_eq!((states(&mut table), states(&mut all)), (vec![Fresh], vec![Fresh]));
    hangs.store(true, Ordering::SeqCst);
    sleep(Duration::from_millis(100)).await;
    let _ = (states(&mut table), states(&mut all)); // the poll began less than 50 ms ago
    sleep(Duration::from_millis(100)).await;
    assert_eq!(states(&mut table), [Silent]);
    assert_eq!(states(&mut all), [RowState::Partial]);
    let row = &all.frame().rows[0];
    assert_eq!(row.value.as_deref(), Some("0 of 1 answer"));
    assert_eq!(row.activity.as_deref(), Some("polling, cycle 1"));
    group.stop_all().await;
}

/// ```text
/// poll:     answers | hangs from 0.3 s, is cut off after 500 ms, and its state is lost
/// init:                                          hangs, too: 30 s
/// table:    fresh   | silent, from 50 ms after the poll began
/// ```
#[tokio::test(start_paused = true)]
async fn a_poll_that_is_cut_off_leaves_its_sources_silent_until_they_answer() {
    let hangs = Arc::new(AtomicBool::new(false));
    let source = [ObservedSource::new("n1", Arc::clone(&hangs))];
    let config = ObservationConfig {
        name: Some("in turn".to_owned()),
        poll_timeout: Duration::from_millis(500),
        init_timeout: Duration::from_secs(3),
        ..Duration::from_millis(100).into()
    };
    let runtime = ObservationRuntime::start(source, InTurn, config).await.unwrap();
    let group = Arc::new(watchkeeper::group::ObservationGroup::new());
    let handle = runtime.handle();
    let mut table = Table::of(&handle, |_, _| None);
    group.add(runtime).unwrap();
    let members = Arc::clone(&group);
    let mut all = Table::of_group("all", move || members.handles());
    sleep(Duration::from_millis(10)).await;
    hangs.store(true, Ordering::SeqCst);
    let (hung, mut states_seen) = (Instant::now(), Vec::new());
    while hung.elapsed() < Duration::from_secs(9) {
        sleep(Duration::from_millis(10)).await;
        let (frame, row) = (table.frame(), all.frame().rows.remove(0));
        if hung.elapsed() > Duration::from_millis(160) {
            assert_eq!(frame.rows[0].state, Silent, "{:?} {frame:?}", hung.elapsed());
            assert_ne!(row.state, Fresh, "{row:?}");
            assert_eq!(row.value.as_deref(), Some("0 of 1 answer"), "{row:?}");
            if states_seen.last() != Some(&frame.state) {
                states_seen.push(frame.state);
            }
        }
    }
    let kinds = ["polling", "failed in poll", "starting", "failed in init"];
    assert!(kinds.iter().all(|kind| states_seen.iter().any(|seen| seen == kind)), "{states_seen:?}");
    hangs.store(false, Ordering::SeqCst);
    let answers = handle.source_fresh("n1").within(Duration::from_secs(60));
    answers.await.unwrap();
    sleep(Duration::from_millis(10)).await;
    assert_eq!((states(&mut table), states(&mut all)), (vec![Fresh], vec![Fresh]));
    group.stop_all().await;
}
