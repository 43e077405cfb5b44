//! New heads over WebSocket, as wake-ups.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::timeout;
use watchkeeper_chain::adapter::ethereum::NewHeads;

use crate::common::{PATIENCE, node};

async fn woken(wake: &Notify) {
    timeout(PATIENCE, wake.notified()).await.expect("no wake-up came");
}

#[tokio::test]
async fn new_heads_wake_also_after_the_node_was_started_again() {
    let mut node = node(1).await;
    let wake = Arc::new(Notify::new());
    let heads = NewHeads::follow(node.websocket().unwrap(), Arc::clone(&wake)).unwrap();
    // The connection stands.
    woken(&wake).await;
    for _ in 0..3 {
        node.mine(1).await.unwrap();
        woken(&wake).await;
    }
    node.kill();
    node.start_again().await.unwrap();
    // It stands again.
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
    timeout(PATIENCE, gone).await.expect("the connection outlived its value");
}
