//! Random steps of three nodes that have blocks of one tree.

use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;
use watchkeeper_chain::adapter::{ChainError, MemoryNode};
use watchkeeper_chain::{Block, Header, Transaction};

use super::{SECOND, hash};

pub(crate) const NAMES: [&str; 3] = ["n1", "n2", "n3"];

/// Longer than any request to a slow node takes.
pub(crate) const LONG: Duration = Duration::from_secs(20);

#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A node's head is any block: it grew, lagged, rewound or switched its branch.
    Move(usize, Index),
    Fail(usize, &'static str),
    Hang(usize, &'static str),
    /// A node takes this many milliseconds for each answer.
    Slow(usize, u64),
    Heal(usize),
    /// A node has a false head: its height is wrong, or no node has its parent.
    Lie(usize, Index, bool),
    /// The source set becomes the nodes whose bits are set.
    List(u8),
    /// A node reports a block of its branch as finalised.
    Finalise(usize, Index),
    Wait(u8),
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let method = || prop::sample::select(vec!["", "block", "header", "head", "finalised", "identity"]);
    let step = prop_oneof![
        10 => (0..3_usize, any::<Index>()).prop_map(|(node, block)| Step::Move(node, block)),
        1 => (0..3_usize, method()).prop_map(|(node, method)| Step::Fail(node, method)),
        1 => (0..3_usize, method()).prop_map(|(node, method)| Step::Hang(node, method)),
        1 => (0..3_usize, 0..2_500_u64).prop_map(|(node, latency)| Step::Slow(node, latency)),
        2 => (0..3_usize).prop_map(Step::Heal),
        1 => (0..3_usize, any::<Index>(), any::<bool>())
            .prop_map(|(node, block, orphan)| Step::Lie(node, block, orphan)),
        1 => (0..8_u8).prop_map(Step::List),
        1 => (0..3_usize, any::<Index>()).prop_map(|(node, block)| Step::Finalise(node, block)),
        2 => prop_oneof![0..4_u8, 30..70_u8].prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..40)
}

impl Step {
    /// Applies the step to the nodes; `branch_to` returns the branch of any block of the tree, highest first. The
    /// caller applies `List`.
    pub(crate) async fn apply<T: Transaction>(
        &self,
        nodes: &[MemoryNode<T>],
        branch_to: impl Fn(Index) -> Vec<Block<T>>,
    ) {
        match *self {
            Self::Move(node, block) => {
                let branch = branch_to(block);
                let mut script = nodes[node].script();
                script.head = Some(branch[0].header.hash);
                script.blocks.extend(branch.into_iter().map(|block| (block.header.hash, block)));
            }
            Self::Fail(node, method) => {
                let endpoint = "node".to_owned();
                let error = match method {
                    // Of a block that is refused by all nodes less is read: `details` has the tests of that.
                    "" | "block" => ChainError::Unreachable { endpoint, reason: "scripted".to_owned() },
                    method => ChainError::Refused { endpoint, method, reason: "scripted".to_owned() },
                };
                nodes[node].script().fails.insert(method, error);
            }
            Self::Hang(node, method) => nodes[node].script().hangs.push(method),
            Self::Slow(node, latency) => nodes[node].script().latency = Duration::from_millis(latency),
            Self::Heal(node) => heal(&nodes[node]),
            Self::Lie(node, block, orphan) => {
                let parent = branch_to(block)[0].header;
                let (parent, height) =
                    if orphan { (hash("nowhere"), 30) } else { (parent.hash, parent.height + 2) };
                let header = Header { hash: hash(&format!("lie{node}")), parent, height, work: 1, time: 0 };
                let mut script = nodes[node].script();
                script.blocks.insert(header.hash, Block::new(header, Vec::new()));
                script.head = Some(header.hash);
            }
            Self::Finalise(node, block) => {
                let mut script = nodes[node].script();
                let first = script.head.filter(|head| *head != hash(&format!("lie{node}")));
                let block_of = |hash| script.blocks.get(&hash).map(|block| block.header);
                let branch: Vec<Header> =
                    std::iter::successors(first.and_then(block_of), |header| block_of(header.parent))
                        .collect();
                if !branch.is_empty() {
                    script.finalised = Some(branch[block.index(branch.len())].hash);
                }
            }
            Self::Wait(seconds) => tokio::time::sleep(u32::from(seconds) * SECOND).await,
            Self::List(_) => {}
        }
    }
}

/// Makes the node answer again, without delay.
pub(crate) fn heal<T: Transaction>(node: &MemoryNode<T>) {
    let mut script = node.script();
    script.fails.clear();
    script.hangs.clear();
    script.latency = Duration::ZERO;
}

pub(crate) fn on_paused_clock(
    work: impl Future<Output = Result<(), TestCaseError>>,
) -> Result<(), TestCaseError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(work)
}
