//! A row an observation.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use watchkeeper::group::ObservationGroup;
use watchkeeper::{DynError, ObservedSource, observe};
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
        [
            row("good", RowState::Fresh, "idle, cycle 0, 2 of 2 answer"),
            row("bad", RowState::Partial, "idle, cycle 0, 1 of 2 answer"),
        ]
    );
    group.control("good").unwrap().pause().await.unwrap();
    assert_eq!(shown(&mut table)[0].1, RowState::Paused);
    sleep(5 * second).await;
    assert_eq!(shown(&mut table)[0].1, RowState::Stale, "a pause does not keep data fresh");
    group.stop_all().await;
    let stopped = shown(&mut table);
    assert!(stopped.iter().all(|(_, state, _)| *state == RowState::Stopped), "{stopped:?}");
}
