//! A table of three nodes, of which one refuses and one hangs. In a terminal it refreshes in place for 5 s.
//!
//! `cargo run -p watchkeeper-console --example table`

use std::future::pending;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use watchkeeper::{DynError, ObservationConfig, ObservedSource, observe};
use watchkeeper_console::{RowState, Size, Table, render};

/// A fake node: how long it takes to answer, and after which second it refuses or hangs.
#[derive(Clone, Copy)]
struct Node {
    began: Instant,
    takes: Duration,
    refuses_from: u64,
    hangs_from: u64,
}

async fn height(node: ObservedSource<Node>) -> Result<u64, DynError> {
    let Node { began, takes, refuses_from, hangs_from } = node.source;
    let second = began.elapsed().as_secs();
    if second >= hangs_from {
        pending::<()>().await;
    }
    sleep(takes * (1 + u32::try_from(second % 4)?)).await;
    if second >= refuses_from { Err("connection refused".into()) } else { Ok(100 + second) }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), DynError> {
    let node = |name: &str, millis, refuses_from, hangs_from| {
        let (began, takes) = (Instant::now(), Duration::from_millis(millis));
        (name.to_owned(), Node { began, takes, refuses_from, hangs_from })
    };
    let nodes = vec![node("n1", 2, 99, 99), node("n2", 9, 2, 99), node("n3", 20, 99, 2)];
    let config = ObservationConfig { name: Some("nodes".into()), ..Duration::from_millis(250).into() };
    let runtime = observe(config, nodes, height).await?;
    let handle = runtime.handle();

    let table = || Table::of(&handle, |nodes, name| nodes.answer(name).map(u64::to_string));
    table().run(sleep(Duration::from_secs(5))).await?; // an application gives `tokio::signal::ctrl_c()`

    // The same as data, and as lines of any size.
    let frame = table().frame();
    let states: Vec<RowState> = frame.rows.iter().map(|row| row.state).collect();
    assert_eq!(states, [RowState::Fresh, RowState::Failing, RowState::Stale]);
    let lines = render(&frame, Size { columns: 40, lines: 10 });
    assert!(lines[0].starts_with("nodes: ") && lines.iter().all(|line| line.chars().count() <= 40));
    Ok(())
}
