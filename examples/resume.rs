//! A process that goes on where an earlier one ended: cursors stay valid, and what is missing is counted.
//!
//! `cargo run --example resume`

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use watchkeeper::per_source::SourceEvent;
use watchkeeper::subscription::{Cursor, CursorError, RecvError, Resume};
use watchkeeper::{DynError, ObservationConfig, ObservationRuntime, ObservedSource, PerSource, observe};

type Node = Arc<AtomicU64>;

async fn height(node: ObservedSource<Node>) -> Result<u64, DynError> {
    Ok(node.source.fetch_add(1, Ordering::SeqCst)) // it grows with each look
}

/// What a process does at its start, with what the one before it recorded in a file.
async fn start(
    node: &Node,
    recorded: Option<&str>,
) -> Result<ObservationRuntime<PerSource<Node, u64>>, DynError> {
    let resume = recorded.map(str::parse::<Resume>).transpose()?;
    let config = ObservationConfig { resume, ..Duration::from_secs(1).into() };
    Ok(observe(config, [("n1", node.clone())], height).await?)
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), DynError> {
    let (node, window) = (Node::default(), Duration::from_secs(60));

    // The first process: a consumer keeps the cursor of what it has read, and the process its last point.
    let first = start(&node, None).await?;
    let mut batches = first.handle().subscribe();
    let batch = batches.recv().await?;
    let read: String = batches.cursor().to_string();
    println!("read {} of cycle {}; the cursor is {read}", batch.events.len(), batch.cycle);
    let at_five = first.handle().all_sources("n1 is at 5", |height| *height == 5).within(window).await?;
    let recorded = Resume::from(&*at_five).to_string();
    let _ = first.stop().await;

    // The next one: generations, batches, cycles and events are numbered on.
    let second = start(&node, Some(&recorded)).await?;
    let handle = second.handle();
    let snapshot = handle.latest_snapshot().ok_or("`observe` returns after the first one")?;
    assert_eq!((snapshot.generation, snapshot.cycle), (2, at_five.cycle + 1));
    assert_eq!(snapshot.event_count, at_five.event_count);

    // The consumer's cursor of the first process: what only that one had is counted, and then it starts over.
    let mut batches = handle.subscribe_from(read.parse::<Cursor>()?)?;
    let Err(RecvError::Lagged { missed, .. }) = batches.recv().await else { return Err("no lag".into()) };
    assert_eq!(missed, at_five.cursor.seq() - batch.seq - 1);
    assert_eq!(batches.recv().await.expect_err("a new generation"), RecvError::Rebuilt { generation: 2 });
    let next = batches.recv().await?;
    assert!(matches!(next.events[0], SourceEvent::Appeared { .. }));
    println!("missed {missed} batches of the first process, then cycle {}", next.cycle);

    // A cursor of some other run is refused, not read as one of this run.
    let other = start(&node, None).await?;
    let refused = other.handle().subscribe_from(snapshot.cursor).expect_err("it is of another run");
    assert!(matches!(refused, CursorError::Foreign), "{refused}");
    Ok(())
}
