//! What a node says, asked by the adapter.

use watchkeeper_chain::adapter::ChainClient;
use watchkeeper_chain::adapter::ethereum::anvil::{Anvil, AnvilConfig};

#[tokio::test]
async fn the_head_follows_the_chain() {
    let node = Anvil::start(AnvilConfig::default()).await.unwrap();
    let client = node.client();
    let genesis = client.head().await.unwrap();
    assert_eq!(genesis.height, 0);
    assert_eq!(client.identity().await.unwrap().genesis, genesis.hash);
    node.mine(3).await.unwrap();
    let head = client.head().await.unwrap();
    assert_eq!(head.height, 3);
    assert_eq!(client.header(head.hash).await.unwrap(), Some(head));
}
