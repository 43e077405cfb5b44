//! Every wait, on a small fake cluster. Each is judged on everything that is published, never sampled.
//!
//! `cargo run --example waits`

use std::time::Duration;

use watchkeeper::per_source::{PerSourceSnapshot, SourceEvent};
use watchkeeper::runtime::StateKind;
use watchkeeper::source::SharedSources;
use watchkeeper::wait::{UnmetOutcome, Verdict};
use watchkeeper::{DynError, ObservedSource, observe, until};

/// A fake node: the height that it answers, or its error.
type Node = Result<u64, &'static str>;

async fn height(node: ObservedSource<Node>) -> Node {
    node.source
}

fn highest(nodes: &PerSourceSnapshot<u64>) -> Option<u64> {
    nodes.answering().map(|(_, height)| **height).max()
}

#[tokio::main(flavor = "current_thread", start_paused = true)] // minutes of waiting pass at once
async fn main() -> Result<(), DynError> {
    let [second, window] = [Duration::from_secs(1), Duration::from_secs(10)];
    let cluster = SharedSources::default();
    for name in ["n1", "n2", "n3"] {
        cluster.insert(name, Ok(7));
    }
    let runtime = observe(second, cluster.clone(), height).await?;
    let handle = runtime.handle();

    // A snapshot that satisfies a predicate, or has something to return. What counts was asked after this call.
    handle.eventually("n1 is at 7", |nodes| nodes.answer("n1") == Some(&7)).within(window).await?;
    assert_eq!(handle.eventually_some("a height", highest).within(window).await?, 7);
    // Sources by what they answer. One that hangs or refuses does not count by its last answer.
    handle.all_sources("all are at 7", |height| *height == 7).within(window).await?;
    handle.any_source("one is at 7", |height| *height == 7).within(window).await?;
    handle.at_least_sources(2, "a quorum is at 7", |height| *height == 7).within(window).await?;
    // One source, and the set of them.
    handle.source_fresh("n2").within(window).await?;
    handle.source_set("there are 3", |names| names.len() == 3).within(window).await?;
    // A whole window.
    handle.always("all answer", |nodes| nodes.answering().count() == 3).during(window).await?;
    handle.never("one is at 8", |nodes| highest(nodes) == Some(8)).during(window).await?;
    handle.stays_fresh().during(window).await?;
    handle.stable_for("the height stays", 3 * second, highest).within(window).await?;
    handle.reaches(StateKind::Polling).within(window).await?; // also if it is there between two looks only

    // From a mark on: what happened since, although this wait is made later.
    let mark = handle.mark();
    cluster.insert("n1", Ok(8));
    cluster.insert("n2", Err("connection refused"));
    handle.source_failing("n2").within(window).await?;
    handle.source_stale("n2").within(window).await?;
    let grows = |event: &SourceEvent<u64>| matches!(event, SourceEvent::Changed { new, .. } if **new == 8);
    let grown = handle.event("a node grows", grows).after(mark).within(window).await?;
    assert_eq!(&**grown.event().source(), "n1");
    cluster.remove("n3");
    handle.source_vanished("n3").within(window).await?;
    handle.any_source("one is at 8", |height| *height == 8).or_now().within(window).await?; // also the present one
    runtime.control().pause().await?;
    handle.becomes_stale().within(window).await?;
    runtime.control().resume().await?;

    // A wait that is not met says why; a predicate may give a reason, or give up.
    let agree = |nodes: &PerSourceSnapshot<u64>| match nodes.answer("n2") {
        Some(9..) => Verdict::GiveUp("n2 is ahead".to_owned()),
        Some(_) => Verdict::Met,
        None => Verdict::NotYet("n2 has no height".to_owned()),
    };
    let unmet = handle.eventually("n2 is back", agree).within(window).await.expect_err("it still refuses");
    assert_eq!((unmet.outcome(), unmet.reason()), (UnmetOutcome::NotMet, Some("n2 has no height")));
    assert!(unmet.to_string().contains("connection refused"), "{unmet}");
    // Without an observation.
    let is_up = async || cluster.get().len() == 2;
    Ok(until("the cluster has 2 nodes", is_up).within(window).await?)
}
