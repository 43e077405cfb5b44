//! Helpers for the tests of real nodes.

use std::time::Duration;

use watchkeeper_chain::adapter::ChainClient;
use watchkeeper_chain::{Hash, Header};
use watchkeeper_chain_ethereum::anvil::{Anvil, AnvilConfig};
use watchkeeper_chain_ethereum::{EthereumClient, U256};

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A node with this many blocks above its first one.
pub(crate) async fn node(blocks: u64) -> Anvil {
    let node = Anvil::start(AnvilConfig::default()).await.unwrap();
    if blocks > 0 {
        node.mine(blocks).await.unwrap();
    }
    node
}

/// The node's own branch, lowest first.
pub(crate) async fn branch(client: &EthereumClient) -> Vec<Header> {
    let head = client.head().await.unwrap();
    let mut branch = Vec::new();
    for height in 0..=head.height {
        branch.push(client.header_at(height).await.unwrap().unwrap());
    }
    assert_eq!(branch.last(), Some(&head));
    for pair in branch.windows(2) {
        assert_eq!(pair[1].parent, pair[0].hash);
    }
    branch
}

pub(crate) fn hashes(branch: &[Header]) -> Vec<Hash> {
    branch.iter().map(|header| header.hash).collect()
}

pub(crate) fn ether(amount: u64) -> U256 {
    U256::from(amount) * U256::from(1_000_000_000_000_000_000_u64)
}
