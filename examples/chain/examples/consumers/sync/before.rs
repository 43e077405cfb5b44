//! "Is our node in sync with the public chain?", over RPC.

use std::time::Duration;

use tokio::time::timeout;
use watchkeeper_chain::adapter::ChainClient;
use watchkeeper_chain::{Header, Height};

const QUORUM: usize = 3;
const PATIENCE: Duration = Duration::from_millis(200);

/// How many blocks of the public chain's best branch `ours` lacks; `None` if unknown.
pub(crate) async fn behind<C: ChainClient>(ours: &C, public: &[C]) -> Option<Height> {
    let mut branches = Vec::new();
    for peer in public {
        if let Ok(Ok(head)) = timeout(PATIENCE, peer.head()).await {
            branches.push((peer, head));
        }
    }
    if branches.len() < QUORUM {
        return None;
    }
    let (peer, target) = majority(branches).await?;
    let head = timeout(PATIENCE, ours.head()).await.ok()?.ok()?;
    let shared = ancestor((ours, head), (peer, target)).await?;
    Some(target.height - shared.height)
}

/// The best block that more than half of the branches have: all are walked down from the highest head.
async fn majority<C: ChainClient>(mut branches: Vec<(&C, Header)>) -> Option<(&C, Header)> {
    loop {
        for (peer, block) in &branches {
            let have = branches.iter().filter(|(_, other)| other.hash == block.hash).count();
            if have * 2 > branches.len() {
                return Some((*peer, *block));
            }
        }
        let highest = branches.iter().map(|(_, block)| block.height).max().unwrap_or_default();
        for branch in branches.iter_mut().filter(|(_, block)| block.height == highest) {
            branch.1 = parent(*branch).await?;
        }
    }
}

/// The last block of both branches, found by walking both down.
async fn ancestor<C: ChainClient>(
    (ours, mut head): (&C, Header),
    (peer, mut target): (&C, Header),
) -> Option<Header> {
    while head.hash != target.hash {
        let (ours_first, peer_first) = (head.height >= target.height, target.height >= head.height);
        if ours_first {
            head = parent((ours, head)).await?;
        }
        if peer_first {
            target = parent((peer, target)).await?;
        }
    }
    Some(head)
}

async fn parent<C: ChainClient>((node, block): (&C, Header)) -> Option<Header> {
    timeout(PATIENCE, node.header(block.parent)).await.ok()?.ok()?
}
