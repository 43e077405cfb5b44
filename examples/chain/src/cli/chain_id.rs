//! Finding the chain that is to be followed.

use std::cell::RefCell;
use std::time::Duration;

use futures_util::future::select_all;
use serde_json::json;
use tokio::time::{Instant, sleep};
use watchkeeper::report::{names, one_line};
use watchkeeper_chain::adapter::{ChainClient, ChainIdentity};
use watchkeeper_chain_ethereum::EthereumClient;

use super::condition::{Condition, Conditions, retry_after};
use super::report::Reporter;
use super::retry::Retry;

/// Bytes of the texts about an id and about all nodes.
const ID: usize = 80;
const NODES: usize = 400;

/// The chain that is searched for.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    /// The one of this id. Nodes on others are waited for.
    Id(u64),
    /// This one. If its id is `given` by a flag, nodes on chains of other ids are waited for.
    Exactly { chain: ChainIdentity, given: bool },
}

impl Wanted {
    /// The condition of a node on this chain, if it is another one.
    fn unlike(&self, found: &ChainIdentity) -> Option<Condition> {
        match self {
            Self::Id(id) if found.id == id.to_string() => None,
            Self::Exactly { chain, .. } if chain == found => None,
            Self::Id(id) => Some(Condition::not_on(&id.to_string(), &found.id)),
            Self::Exactly { chain, .. } => Some(Condition::not_on(&shown(chain), &shown(found))),
        }
    }

    /// Whether a node on another chain is not waited for.
    fn excludes(&self, found: &ChainIdentity) -> bool {
        matches!(self, Self::Exactly { chain, given } if !given || chain.id == found.id)
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Id(id) => format!("chain {id}"),
            Self::Exactly { chain, .. } => format!("chain {}", shown(chain)),
        }
    }
}

/// A chain by its id and its first block.
pub(crate) fn shown(chain: &ChainIdentity) -> String {
    format!("{} ({:.8})", one_line(&chain.id, ID), chain.genesis)
}

/// All nodes are on other chains: which ones.
pub(crate) struct Elsewhere(pub(crate) String);

/// The search for a chain.
pub(crate) struct Search<'a> {
    wanted: Wanted,
    nodes: &'a [(String, EthereumClient)],
    /// What was last known of each node.
    last: Vec<RefCell<Option<String>>>,
    /// The chains of nodes that are not waited for.
    elsewhere: Vec<RefCell<Option<ChainIdentity>>>,
}

impl<'a> Search<'a> {
    /// For this chain on one of these nodes.
    pub(crate) fn new(wanted: Wanted, nodes: &'a [(String, EthereumClient)]) -> Self {
        let (last, elsewhere) = nodes.iter().map(|_| Default::default()).unzip();
        Self { wanted, nodes, last, elsewhere }
    }

    /// The chain, from the first node that is on it. All are asked concurrently. A node that fails is reported, and
    /// asked again after a pause that grows; one on another chain after `interval`.
    ///
    /// # Errors
    ///
    /// [`Elsewhere`]: all nodes have answered that they are on chains that exclude this one.
    ///
    /// # Panics
    ///
    /// Without nodes.
    pub(crate) async fn find(
        &self,
        interval: Duration,
        reporter: &Reporter,
    ) -> Result<ChainIdentity, Elsewhere> {
        let asked = self.nodes.iter().enumerate().map(|(nth, (name, client))| {
            Box::pin(async move {
                let (mut conditions, mut retry) = (Conditions::every(interval), Retry::every(interval));
                loop {
                    let (condition, pause) = match client.identity().await {
                        Ok(found) => {
                            let Some(condition) = self.wanted.unlike(&found) else { return Ok(found) };
                            retry.succeeded();
                            if self.wanted.excludes(&found) {
                                self.elsewhere[nth].replace(Some(found));
                            }
                            (condition, interval)
                        }
                        Err(error) => {
                            let pause = retry.pause(retry_after(&error));
                            (Condition::failing(error), pause)
                        }
                    };
                    if let Some(is) = conditions.note(Instant::now(), &condition) {
                        reporter.node(name, &is);
                    }
                    self.last[nth].replace(Some(condition.text().to_owned()));
                    if let Some(elsewhere) = self.elsewhere() {
                        return Err(elsewhere);
                    }
                    sleep(pause).await;
                }
            })
        });
        select_all(asked).await.0
    }

    /// The chains of all nodes, if none is waited for.
    fn elsewhere(&self) -> Option<Elsewhere> {
        let each = self.nodes.iter().zip(&self.elsewhere);
        let each =
            each.map(|((name, _), is)| Some(format!("{name} is on chain {}", shown(is.borrow().as_ref()?))));
        let each = each.collect::<Option<Vec<String>>>()?;
        Some(Elsewhere(names(each.iter().map(String::as_str), NODES)))
    }

    /// Prints what is known at the end of a search without success: of these nodes, and of `others`, which were not asked.
    pub(crate) fn report(&self, others: &[(String, EthereumClient)], reporter: &Reporter) {
        let asked = self.nodes.iter().zip(&self.last).map(|((name, _), last)| {
            let last = last.borrow();
            (name, last.clone().unwrap_or_else(|| "has not answered yet".to_owned()))
        });
        let others = others.iter().map(|(name, _)| {
            (name, format!("was not asked, since no local node has reported {}", self.wanted.text()))
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
