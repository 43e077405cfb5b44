//! Finding the chain that is to be followed.

use std::time::Duration;

use futures_util::future::select_all;
use tokio::time::{Instant, sleep};
use watchkeeper_chain::adapter::ethereum::EthereumClient;
use watchkeeper_chain::adapter::{ChainClient, ChainIdentity};

use super::condition::{Condition, Conditions};
use super::report::Reporter;

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
            let mut conditions = Conditions::every(pause);
            loop {
                let condition = match client.identity().await {
                    Ok(identity) if identity.id == *id => return identity,
                    Ok(other) => Condition::not_on(id, &other.id),
                    Err(error) => Condition::failing(error),
                };
                if let Some(is) = conditions.note(Instant::now(), &condition) {
                    reporter.node(name, &is);
                }
                sleep(pause).await;
            }
        })
    });
    select_all(asked).await.0
}
