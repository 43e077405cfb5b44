//! Finding the chain that is to be followed.

use std::cell::RefCell;
use std::time::Duration;

use futures_util::future::select_all;
use serde_json::json;
use tokio::time::{Instant, sleep};
use watchkeeper_chain::adapter::{ChainClient, ChainIdentity};
use watchkeeper_chain_ethereum::EthereumClient;

use super::condition::{Condition, Conditions, retry_after};
use super::report::Reporter;
use super::retry::Retry;

/// The search for a chain.
pub(crate) struct Search<'a> {
    /// Any chain if `None`.
    id: Option<String>,
    nodes: &'a [(String, EthereumClient)],
    /// What was last known of each node.
    last: Vec<RefCell<Option<String>>>,
}

impl<'a> Search<'a> {
    /// For the chain of this id, or any chain, on one of these nodes.
    pub(crate) fn new(id: Option<u64>, nodes: &'a [(String, EthereumClient)]) -> Self {
        Self {
            id: id.map(|id| id.to_string()),
            nodes,
            last: nodes.iter().map(|_| RefCell::default()).collect(),
        }
    }

    /// The chain, from the first node that is on it. All are asked concurrently. A node that fails is reported, and
    /// asked again after a pause that grows; one on another chain after `interval`.
    ///
    /// # Panics
    ///
    /// Without nodes.
    pub(crate) async fn find(&self, interval: Duration, reporter: &Reporter) -> ChainIdentity {
        let asked = self.nodes.iter().zip(&self.last).map(|((name, client), last)| {
            Box::pin(async move {
                let (mut conditions, mut retry) = (Conditions::every(interval), Retry::every(interval));
                loop {
                    let (condition, pause) = match (client.identity().await, &self.id) {
                        (Ok(other), Some(id)) if other.id != *id => {
                            retry.succeeded();
                            (Condition::not_on(id, &other.id), interval)
                        }
                        (Ok(identity), _) => return identity,
                        (Err(error), _) => {
                            let pause = retry.pause(retry_after(&error));
                            (Condition::failing(error), pause)
                        }
                    };
                    if let Some(is) = conditions.note(Instant::now(), &condition) {
                        reporter.node(name, &is);
                    }
                    last.replace(Some(condition.text().to_owned()));
                    sleep(pause).await;
                }
            })
        });
        select_all(asked).await.0
    }

    /// What is searched for, for people.
    pub(crate) fn wanted(&self) -> String {
        self.id.as_ref().map_or_else(|| "its chain".to_owned(), |id| format!("chain {id}"))
    }

    /// Prints what is known at the end of a search without success: of these nodes, and of `others`, which were not asked.
    pub(crate) fn report(&self, others: &[(String, EthereumClient)], reporter: &Reporter) {
        let asked = self.nodes.iter().zip(&self.last).map(|((name, _), last)| {
            let last = last.borrow();
            (name, last.clone().unwrap_or_else(|| "has not answered yet".to_owned()))
        });
        let others = others.iter().map(|(name, _)| {
            (name, format!("was not asked, since no local node has reported {}", self.wanted()))
        });
        for (name, is) in asked.chain(others) {
            reporter.report(
                "node",
                &format!("{name} no head; {name} {is}"),
                || json!({ "node": name, "is": format!("{name} {is}"), "height": null, "behind": null }),
            );
        }
    }
}
