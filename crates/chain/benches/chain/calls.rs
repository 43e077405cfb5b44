//! How often nodes are asked, counted by the nodes; beside loops that each ask every node for its head, and one of
//! them for a block that is new to the loop.

use std::collections::BTreeMap;

use watchkeeper::{ObservationConfig, ObservationRuntime, ObservedSource, StaticSourceProvider};
use watchkeeper_chain::adapter::{ChainClient, ChainIdentity, MemoryNode};
use watchkeeper_chain::{
    Block, ChainConfig, ChainObserver, ChainSource, Detail, Hash, Header, Height, Start,
};

use crate::catch_up::Nothing;
use crate::chains::hash;
use crate::yes_or_no;

const QUESTIONS: usize = 10;
const CYCLES: usize = 10;

type Node = MemoryNode<Nothing>;
/// By method.
type Calls = BTreeMap<&'static str, usize>;

pub(crate) fn on_nodes(counts: &[usize]) {
    let clock =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    for &count in counts {
        let ([idle_by_hand, new_by_hand], [idle, new]) =
            clock.block_on(async { (by_hand(count).await, observed(count).await) });
        let heads = plural(count, "head call");
        let is_met = idle == Calls::from([("head", count)]);
        row(count, "idle", [idle_by_hand, idle], &heads, is_met);
        let is_met = new.get("head") == Some(&count) && new.get("block") == Some(&1);
        row(count, "a new block", [new_by_hand, new], &format!("{heads}, 1 block"), is_met);
    }
}

fn row(nodes: usize, cycle: &str, [by_hand, observer]: [Calls; 2], goal: &str, is_met: bool) {
    let text = |calls: Calls| {
        calls.iter().map(|(method, count)| format!("{count} {method}")).collect::<Vec<_>>().join(", ")
    };
    println!(
        "| {nodes} | {cycle} | {} | {} | {goal} | {} |",
        text(by_hand),
        text(observer),
        yes_or_no(is_met)
    );
}

/// In an idle cycle, and in one with a new block.
async fn by_hand(count: usize) -> [Calls; 2] {
    let nodes = nodes(count);
    let mut known = [hash(0); QUESTIONS];
    let mut taken = Vec::new();
    for height in heights() {
        lead(&nodes, height);
        for known in &mut known {
            let mut best: Option<(&Node, Header)> = None;
            for node in &nodes {
                let head = node.head().await.unwrap();
                best = best.filter(|(_, best)| best.height >= head.height).or(Some((node, head)));
            }
            let (node, head) = best.unwrap();
            if head.hash != *known {
                *known = node.block(head.hash, Detail::Results).await.unwrap().unwrap().header.hash;
            }
        }
        taken.push(calls(&nodes));
    }
    a_cycle(&taken)
}

/// The same.
async fn observed(count: usize) -> [Calls; 2] {
    let nodes = nodes(count);
    let sources = nodes
        .iter()
        .enumerate()
        .map(|(nth, node)| ObservedSource::new(format!("n{nth}"), ChainSource::local(node.clone())));
    let timing = ObservationConfig::default();
    let config = ChainConfig { start: Start::Genesis, ..ChainConfig::every(timing.interval) };
    let sources = StaticSourceProvider::new(sources.collect());
    let runtime = ObservationRuntime::start(sources, ChainObserver::new(config), timing).await.unwrap();
    let mut taken = Vec::new();
    for height in heights() {
        lead(&nodes, height);
        let snapshot = runtime.poll_now_and_wait().await.unwrap();
        assert_eq!(snapshot.value.tip.map(|tip| tip.height), Some(height));
        taken.push(calls(&nodes));
    }
    a_cycle(&taken)
}

/// One cycle to begin with, idle ones, and then a block in each.
fn heights() -> impl Iterator<Item = Height> {
    std::iter::repeat_n(0, CYCLES + 1).chain(1..=CYCLES as Height)
}

/// The calls of an idle cycle and of one with a block; all cycles of a kind cost the same.
fn a_cycle(taken: &[Calls]) -> [Calls; 2] {
    [&taken[..=CYCLES], &taken[CYCLES..]].map(|taken| {
        let cycles: Vec<Calls> = taken.windows(2).map(|two| less(&two[1], &two[0])).collect();
        assert!(cycles.windows(2).all(|two| two[0] == two[1]), "{cycles:?}");
        cycles[0].clone()
    })
}

fn less(after: &Calls, before: &Calls) -> Calls {
    let since = after.iter().map(|(method, calls)| (*method, calls - before.get(method).unwrap_or(&0)));
    since.filter(|(_, calls)| *calls > 0).collect()
}

fn nodes(count: usize) -> Vec<Node> {
    let identity = ChainIdentity { id: "bench".to_owned(), genesis: hash(0) };
    (0..count).map(|_| MemoryNode::new(identity.clone())).collect()
}

/// Gives all nodes the block at this height, whose parent they have.
fn lead(nodes: &[Node], height: Height) {
    let parent = height.checked_sub(1).map_or(Hash([0; 32]), hash);
    let header = Header { hash: hash(height), parent, height, work: 1, time: 0 };
    for node in nodes {
        let mut script = node.script();
        script.blocks.entry(header.hash).or_insert(Block::new(header, Vec::new()));
        script.head = Some(header.hash);
    }
}

fn calls(nodes: &[Node]) -> Calls {
    let mut sum = Calls::new();
    for node in nodes {
        for (method, calls) in &node.script().calls {
            *sum.entry(method).or_default() += calls;
        }
    }
    sum
}

fn plural(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
