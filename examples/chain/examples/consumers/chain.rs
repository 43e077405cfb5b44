//! The scripted chains for both ways: a block every two seconds for a minute.

use watchkeeper_chain::adapter::{ChainError, ChainIdentity, MemoryNode};
use watchkeeper_chain::{Block, Hash, Header, Height, Transaction};

use crate::included_before::Receipts;

/// How long a script is, in seconds.
pub(crate) const LENGTH: u64 = 60;
/// How long one part of a script is, in seconds.
pub(crate) const PART: u64 = 10;

/// A transaction that is only its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named(pub(crate) Hash);

impl Transaction for Named {
    fn id(&self) -> Hash {
        self.0
    }

    fn conflicts(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }
}

pub(crate) type Node = MemoryNode<Named>;

/// Looks up what a real node has an index for.
impl Receipts for Node {
    async fn receipt(&self, transaction: Hash) -> Result<Option<Header>, ChainError> {
        let mut script = self.script();
        *script.calls.entry("receipt").or_default() += 1;
        if let Some(error) = script.fails.get("") {
            return Err(error.clone());
        }
        let mut next = script.head.and_then(|head| script.blocks.get(&head));
        while let Some(block) = next {
            if block.transactions.contains(&Named(transaction)) {
                return Ok(Some(block.header));
            }
            next = script.blocks.get(&block.header.parent);
        }
        Ok(None)
    }
}

/// The hash of a transaction.
pub(crate) fn transaction(number: u64) -> Hash {
    hash(b't', number)
}

fn hash(kind: u8, number: u64) -> Hash {
    let mut bytes = [kind; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    Hash(bytes)
}

/// A branch that forks from the main one above `from`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Branch {
    name: u8,
    from: Height,
}

pub(crate) const MAIN: Branch = Branch { name: b'a', from: 0 };

/// A branch that differs from the main one above this height.
pub(crate) const fn fork(from: Height) -> Branch {
    Branch { name: b'b', from }
}

impl Branch {
    fn hash(self, height: Height) -> Hash {
        hash(if height > self.from { self.name } else { MAIN.name }, height)
    }

    fn header(self, height: Height) -> Header {
        let parent = height.checked_sub(1).map_or(Hash([0; 32]), |below| self.hash(below));
        Header { hash: self.hash(height), parent, height, work: 1, time: 2 * height }
    }
}

/// A node at the first block.
pub(crate) fn node() -> Node {
    let node = MemoryNode::new(ChainIdentity { id: "script".to_owned(), genesis: MAIN.hash(0) });
    lead(&node, MAIN, 0, |_| Vec::new());
    node
}

/// Sets a node's head to this height of a branch, whose blocks have these transactions.
pub(crate) fn lead(node: &Node, branch: Branch, height: Height, of: impl Fn(Height) -> Vec<Named>) {
    let mut script = node.script();
    for height in 0..=height {
        let header = branch.header(height);
        script.blocks.entry(header.hash).or_insert_with(|| Block::new(header, of(height)));
    }
    script.head = Some(branch.hash(height));
}

/// How often nodes were asked.
pub(crate) fn calls<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> usize {
    nodes.into_iter().map(|node| node.script().calls.values().sum::<usize>()).sum()
}

/// Our node and three public ones in this second.
///
/// In parts: all at the tip; ours stands still; it is back; it is on a fork; it is back, and one public node hangs;
/// that one is back, and a block behind.
pub(crate) fn at_second(second: u64, nodes: &[Node]) {
    let [ours, public @ .., last] = nodes else { return };
    let (tip, part) = (second / 2 + 1, second / PART);
    let nothing = |_| Vec::new();
    for peer in public {
        lead(peer, MAIN, tip, nothing);
    }
    lead(last, MAIN, if part == 5 { tip - 1 } else { tip }, nothing);
    last.script().hangs = if part == 4 { vec![""] } else { Vec::new() };
    match part {
        1 => {}
        3 => lead(ours, fork(PART * 3 / 2), tip, nothing),
        _ => lead(ours, MAIN, tip, nothing),
    }
}

/// A node in this second of a chain that includes `transactions`, loses them in a reorg three deep, and includes them
/// again. The node fails for some seconds.
pub(crate) fn reorg_at_second(second: u64, node: &Node, transactions: u64) {
    let (tip, branch) = (second / 2 + 1, if second < 14 { MAIN } else { fork(4) });
    let included = if second < 14 { 6 } else { 10 };
    let paid = || (0..transactions).map(|number| Named(transaction(number))).collect();
    lead(node, branch, tip, |height| if height == included { paid() } else { Vec::new() });
    let error = ChainError::Unreachable { endpoint: "script".to_owned(), reason: "refused".to_owned() };
    let fails = (20..23).contains(&second);
    node.script().fails = fails.then_some(("", error)).into_iter().collect();
}
