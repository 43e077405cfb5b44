//! Finding the chain that is to be followed.

use std::time::Duration;

use futures_util::future::select_all;
use serde_json::json;
use tokio::time::sleep;
use watchkeeper_chain::adapter::ethereum::EthereumClient;
use watchkeeper_chain::adapter::{ChainClient, ChainIdentity};

use super::report::{Reporter, lasting};

/// The chain of this id, from the first of these nodes that is on it. All are asked concurrently; a node that fails or
/// is on another chain is reported, and asked again.
///
/// # Panics
///
/// Without nodes.
pub(crate) async fn find(
    id: u64,
    nodes: &[(String, EthereumClient)],
    pause: Duration,
    reporter: &Reporter,
) -> ChainIdentity {
    let id = &id.to_string();
    let asked = nodes.iter().map(|(name, client)| {
        Box::pin(async move {
            let mut reported = None;
            loop {
                let condition = match client.identity().await {
                    Ok(identity) if identity.id == *id => return identity,
                    Ok(other) => format!("is on chain {}, not on {id}: not believed", other.id),
                    Err(error) => format!("fails: {}", lasting(error)),
                };
                if reported.as_ref() != Some(&condition) {
                    let json = || json!({ "node": name, "is": condition });
                    reporter.report("node", &format!("{name} {condition}"), json);
                    reported = Some(condition);
                }
                sleep(pause).await;
            }
        })
    });
    select_all(asked).await.0
}
