//! A row an observation, and rows of sources of which nothing is known by themselves.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use watchkeeper::group::ObservationGroup;
use watchkeeper::{DynError, ObservationRuntime, ObservedSource, Observer, async_trait, observe};
use watchkeeper_console::{Kind, RowState, Table};

async fn probe(node: ObservedSource<u64>) -> Result<u64, DynError> {
    if node.source == 0 { Err("connection refused".into()) } else { Ok(node.source) }
}

#[tokio::test(start_paused = true)]
async fn members_come_go_and_show_how_many_of_their_sources_answer() {
    let second = Duration::from_secs(1);
    let group = Arc::new(ObservationGroup::new());
    group.add_as("good", observe(second, [("a", 1), ("b", 2)], probe).await.unwrap()).unwrap();
    let members = Arc::clone(&group);
    let mut table = Table::of_group("all", move || members.handles());
    assert_eq!((table.frame().kind, table.frame().rows.len()), (Kind::Observations, 1));

    group.add_as("bad", observe(second, [("a", 0), ("b", 2)], probe).await.unwrap()).unwrap();
    let shown = |table: &mut Table| -> Vec<(String, RowState, String)> {
        let rows = table.frame().rows.into_iter();
        rows.map(|row| (row.name, row.state, row.value.unwrap_or_default())).collect()
    };
    let row = |name: &str, state, value: &str| (name.to_owned(), state, value.to_owned());
    assert_eq!(
        shown(&mut table),
        [row("good", RowState::Fresh, "2 of 2 answer"), row("bad", RowState::Partial, "1 of 2 answer"),]
    );
    group.control("good").unwrap().pause().await.unwrap();
    assert_eq!(shown(&mut table)[0].1, RowState::Paused);
    sleep(5 * second).await;
    assert_eq!(shown(&mut table)[0].1, RowState::Stale, "a pause does not keep data fresh");
    group.stop_all().await;
    let stopped = shown(&mut table);
    assert!(stopped.iter().all(|(_, state, _)| *state == RowState::Stopped), "{stopped:?}");
}

/// Keeps nothing by source.
pub(crate) struct Plain;

#[async_trait]
impl Observer for Plain {
    type Source = u64;
    type State = u64;
    type Snapshot = u64;
    type Event = ();

    async fn init(&self, sources: &[ObservedSource<u64>]) -> Result<u64, DynError> {
        Ok(sources.iter().map(|source| source.source).sum())
    }

    async fn poll(&self, _: &[ObservedSource<u64>], sum: &mut u64) -> Result<Vec<()>, DynError> {
        if *sum == 3 { Err("cannot add".into()) } else { Ok(vec![]) }
    }

    fn snapshot(&self, sum: &u64) -> u64 {
        *sum
    }
}

#[tokio::test(start_paused = true)]
async fn sources_of_which_nothing_is_known_are_no_better_than_the_runtime() {
    let sources = [ObservedSource::new("a", 1), ObservedSource::new("b", 2)];
    let runtime = ObservationRuntime::start(sources, Plain, Duration::from_secs(1).into()).await.unwrap();
    let mut table = Table::of(&runtime.handle(), |sum, name| (name == "a").then(|| sum.to_string()));
    let frame = table.frame();
    assert_eq!((frame.fresh, frame.last_error.as_deref()), (Some(true), None));
    let states = |table: &mut Table| table.frame().rows.iter().map(|row| row.state).collect::<Vec<_>>();
    assert_eq!(states(&mut table), [RowState::Unknown; 2]);
    assert_eq!((frame.rows[0].value.as_deref(), frame.rows[1].value.as_deref()), (Some("3"), None));
    sleep(Duration::from_millis(5_500)).await;
    let frame = table.frame();
    assert_eq!((frame.fresh, frame.state.as_str(), frame.failures), (Some(false), "failed in poll", 5));
    assert_eq!(frame.last_error.as_deref(), Some("failed in poll: cannot add"));
    assert_eq!(states(&mut table), [RowState::Stale; 2]);
}
