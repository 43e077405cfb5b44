//! "Is our node in sync with the public chain?", asked over RPC.

use std::time::Duration;

use tokio::time::timeout;
use watchkeeper_chain::adapter::{ChainClient, ChainError};
use watchkeeper_chain::{Header, Height};

const QUORUM: usize = 3;
const PATIENCE: Duration = Duration::from_millis(200);

/// How many blocks of the public chain's best branch `ours` lacks; `None` if it cannot be said.
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
    let (peer, target) = majority(branches).await.ok()??;
    let head = timeout(PATIENCE, ours.head()).await.ok()?.ok()?;
    let shared = ancestor((ours, head), (peer, target)).await.ok()??;
    Some(target.height - shared.height)
}

/// The best block that more than half of the branches have: all are walked down from the highest head.
async fn majority<C: ChainClient>(
    mut branches: Vec<(&C, Header)>,
) -> Result<Option<(&C, Header)>, ChainError> {
    loop {
        for (peer, block) in &branches {
            let have = branches.iter().filter(|(_, other)| other.hash == block.hash).count();
            if have * 2 > branches.len() {
                return Ok(Some((*peer, *block)));
            }
        }
        let highest = branches.iter().map(|(_, block)| block.height).max().unwrap_or_default();
        for branch in branches.iter_mut().filter(|(_, block)| block.height == highest) {
            let Some(parent) = parent(*branch).await? else { return Ok(None) };
            branch.1 = parent;
        }
    }
}

/// The last block of both branches, walked down side by side.
async fn ancestor<C: ChainClient>(
    (ours, mut head): (&C, Header),
    (peer, mut target): (&C, Header),
) -> Result<Option<Header>, ChainError> {
    while head.hash != target.hash {
        let (ours_first, peer_first) = (head.height >= target.height, target.height >= head.height);
        if ours_first {
            let Some(parent) = parent((ours, head)).await? else { return Ok(None) };
            head = parent;
        }
        if peer_first {
            let Some(parent) = parent((peer, target)).await? else { return Ok(None) };
            target = parent;
        }
    }
    Ok(Some(head))
}

async fn parent<C: ChainClient>((node, block): (&C, Header)) -> Result<Option<Header>, ChainError> {
    node.header(block.parent).await
}
