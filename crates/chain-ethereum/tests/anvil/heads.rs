//! New heads over WebSocket, as wake-ups.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::timeout;
use watchkeeper_chain::Detail;
use watchkeeper_chain::adapter::ChainClient;
use watchkeeper_chain_ethereum::NewHeads;

use crate::common::{PATIENCE, ether, node};

async fn woken(wake: &Notify) {
    timeout(PATIENCE, wake.notified()).await.expect("no wake-up came");
}

#[tokio::test]
async fn new_heads_wake_also_after_a_restart_of_the_node() {
    let mut node = node(1).await;
    let wake = Arc::new(Notify::new());
    let heads = NewHeads::follow(node.websocket(), Arc::clone(&wake)).unwrap();
    // Now the connection is open.
    woken(&wake).await;
    for _ in 0..3 {
        node.mine(1).await.unwrap();
        woken(&wake).await;
    }
    node.kill();
    node.start_again().await.unwrap();
    // Now it is open again.
    woken(&wake).await;
    node.mine(2).await.unwrap();
    woken(&wake).await;
    node.reorg(1).await.unwrap();
    woken(&wake).await;

    drop(heads);
    let gone = async {
        while Arc::strong_count(&wake) > 1 {
            yield_now().await;
        }
    };
    timeout(PATIENCE, gone).await.expect("the connection outlived its `NewHeads`");
}

#[tokio::test]
async fn with_automine_every_transaction_makes_a_block() {
    let node = node(1).await;
    let wake = Arc::new(Notify::new());
    let _heads = NewHeads::follow(node.websocket(), Arc::clone(&wake)).unwrap();
    woken(&wake).await;
    let accounts = node.accounts().await.unwrap();
    node.set_automine(true).await.unwrap();
    for height in 2..5 {
        let sent = node.transfer(accounts[0], accounts[1], ether(1)).await.unwrap();
        woken(&wake).await;
        let head = node.client().head().await.unwrap();
        assert_eq!(head.height, height);
        let block = node.client().block(head.hash, Detail::Results).await.unwrap().unwrap();
        assert_eq!(block.transactions.iter().map(|it| it.hash).collect::<Vec<_>>(), [sent]);
    }
    node.set_automine(false).await.unwrap();
    node.transfer(accounts[0], accounts[1], ether(1)).await.unwrap();
    assert_eq!(node.client().head().await.unwrap().height, 4);
}
