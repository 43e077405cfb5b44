//! "Wait until a transaction is included this deep", over RPC.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use watchkeeper_chain::adapter::{ChainClient, ChainError};
use watchkeeper_chain::{Hash, Header};

/// A node that finds the block of a transaction.
pub(crate) trait Receipts: ChainClient {
    /// The block of the node's branch that includes it.
    async fn receipt(&self, transaction: Hash) -> Result<Option<Header>, ChainError>;
}

/// The block that includes the transaction, and how deep; an error is returned if it still occurs when the time is
/// over.
pub(crate) async fn included<C: Receipts>(
    node: &C,
    transaction: Hash,
    depth: u64,
    every: Duration,
    within: Duration,
) -> Result<Option<(Header, u64)>, ChainError> {
    let until = Instant::now() + within;
    loop {
        let last = look(node, transaction).await;
        if let Ok(Some(found)) = last
            && found.1 >= depth
        {
            return Ok(Some(found));
        }
        if Instant::now() >= until {
            return last.map(|_| None);
        }
        sleep(every).await;
    }
}

async fn look<C: Receipts>(node: &C, transaction: Hash) -> Result<Option<(Header, u64)>, ChainError> {
    let Some(block) = node.receipt(transaction).await? else { return Ok(None) };
    let head = node.head().await?;
    // A reorg may have come between the two answers.
    if node.header_at(block.height).await? != Some(block) {
        return Ok(None);
    }
    Ok(Some((block, (head.height + 1).saturating_sub(block.height))))
}
