//! What accounts own, from where the observation begins.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use alloy::primitives::Address;
use serde_json::json;
use tokio::time::sleep;
use watchkeeper_chain::adapter::ethereum::EthereumClient;
use watchkeeper_chain::projection::wallet::{
    AddWalletError, Amount, BackfillError, BalanceError, WalletRequests, WalletsView,
};
use watchkeeper_chain::{Header, Height};

use super::report::{Reporter, lasting};
use super::watched::{Ether, Watched, ether, wallet};

/// How often nodes are asked that do not answer while others have refused.
const ROUNDS: u32 = 10;

/// The accounts that are followed, and the nodes that are asked for what they own.
pub(crate) struct Accounts {
    followed: Vec<WatchedAccount>,
    /// By their names, ours first.
    nodes: Vec<(String, EthereumClient)>,
    /// The time before nodes are asked again that did not answer.
    pause: Duration,
}

struct WatchedAccount {
    name: String,
    address: Address,
    /// None until a node has answered.
    opening: Cell<Option<Opening>>,
}

/// What an account has where it is followed from.
#[derive(Clone, Copy)]
struct Opening {
    /// Behind the block of this height.
    at: Height,
    /// Nothing where no node can say it: what is shown is what came and went since.
    owns: Amount,
    is_told: bool,
}

/// Why no node has said what an account owns: of each kind the first node, and its error.
#[derive(Default)]
struct Unsaid {
    /// A node will not say it, however often it is asked.
    refused: Option<String>,
    /// A node did not answer.
    silent: Option<String>,
}

impl Accounts {
    pub(crate) fn new(
        addresses: Vec<Address>,
        nodes: Vec<(String, EthereumClient)>,
        pause: Duration,
    ) -> Self {
        let account = |(nth, address): (usize, Address)| WatchedAccount {
            name: format!("wallet{}", nth + 1),
            address,
            opening: Cell::new(None),
        };
        Self { followed: addresses.into_iter().enumerate().map(account).collect(), nodes, pause }
    }

    /// Follows the accounts as soon as it is known where the observation begins and what they own there, until
    /// the observation ends.
    pub(crate) async fn follow(&self, watched: &Watched, reporter: &Reporter) -> Result<(), AddWalletError> {
        let mut watch = watched.handle().watch();
        let root = loop {
            let graph =
                watch.status().snapshot.and_then(|seen| Some(seen.value.chain.graph.as_ref()?.root()));
            if let Some(root) = graph {
                break root;
            }
            if watch.changed().await.is_err() {
                return Ok(());
            }
        };
        for account in &self.followed {
            let Opening { at, owns, .. } = self.opening(account, &root, reporter).await;
            let added =
                watched.requests.add(wallet(&account.name, account.address, at.saturating_add(1), owns));
            match added {
                Err(AddWalletError::Closed) => return Ok(()),
                added => added?,
            }
        }
        self.read_older_blocks(&watched.requests, reporter).await;
        Ok(())
    }

    /// What an account owns behind `root`: asked until a node says it, or one refuses and the others stay silent.
    async fn opening(&self, account: &WatchedAccount, root: &Header, reporter: &Reporter) -> Opening {
        let (name, at) = (&account.name, root.height);
        let place = format!("block {at} ({:.8})", root.hash);
        let mut told = None;
        let mut rounds = 1..ROUNDS;
        let refused = loop {
            let Unsaid { refused, silent } = match self.ask(account.address, root).await {
                Ok(owns) => {
                    let opening = Opening { at, owns, is_told: true };
                    account.opening.set(Some(opening));
                    account.show(reporter, owns, at, format_args!(" at {place}"));
                    return opening;
                }
                Err(unsaid) => unsaid,
            };
            match (refused, silent) {
                (None, Some(error)) => {
                    let text = format!("{name} waits to be known at {place}: {error}");
                    if told.as_ref() != Some(&text) {
                        account.say(reporter, &text);
                        told = Some(text);
                    }
                }
                (_, Some(_)) if rounds.next().is_some() => {}
                (refused, _) => break refused,
            }
            sleep(self.pause).await;
        };
        let reason = refused.map_or_else(String::new, |error| format!(": {error}"));
        account.say(
            reporter,
            &format!(
                "{name} is not known at {place}, and shown as what comes and goes from there on; begin nearer to the \
                 head, or give a node that keeps old states{reason}"
            ),
        );
        let opening = Opening { at, owns: 0, is_told: false };
        account.opening.set(Some(opening));
        opening
    }

    /// Asks one node after the other, until one says it.
    async fn ask(&self, address: Address, block: &Header) -> Result<Amount, Unsaid> {
        let mut unsaid = Unsaid::default();
        for (name, node) in &self.nodes {
            match node.balance(address, block).await {
                Ok(owns) => return Ok(owns.saturating_to()),
                Err(error) => {
                    let why = if error.is_retryable() { &mut unsaid.silent } else { &mut unsaid.refused };
                    why.get_or_insert_with(|| format!("{name}: {}", lasting(error)));
                }
            }
        }
        Err(unsaid)
    }

    /// Reads the blocks that have gone by before an account was followed, whenever there are such.
    async fn read_older_blocks(&self, requests: &WalletRequests<Ether>, reporter: &Reporter) {
        let mut told = HashMap::new();
        for (name, node) in self.nodes.iter().cycle() {
            loop {
                match requests.backfill(node).await {
                    Ok(()) => told.clear(),
                    Err(BackfillError::Closed) => return,
                    Err(error) => {
                        let error = match error {
                            BackfillError::Node(error) => lasting(error).into(),
                            error => error,
                        };
                        let text = format!("{name}: {error}");
                        if told.get(name) != Some(&text) {
                            reporter.tell("wallet", &text, || json!({ "wallet": null, "unknown": text }));
                            told.insert(name, text);
                        }
                        sleep(self.pause).await;
                        break;
                    }
                }
            }
        }
    }

    /// Says what each account owns at the tip.
    pub(crate) fn tell(&self, wallets: &WalletsView<Ether>, reporter: &Reporter) {
        let tip = wallets.tip().map_or(0, |tip| tip.next.saturating_sub(1));
        for account in &self.followed {
            let name = &account.name;
            let Some(Opening { at, owns, is_told }) = account.opening.get() else {
                let text = format!("{name} is not known: no node said what it had to begin with");
                account.say(reporter, &text);
                continue;
            };
            let (owns, height) = match wallets.balance(name) {
                Ok(balance) => (balance.total, tip),
                // It ended before the next cycle.
                Err(BalanceError::Nothing | BalanceError::UnknownWallet { .. }) => (owns, at),
                Err(BalanceError::Waiting { .. }) => {
                    let text = format!("{name} is not known yet: blocks above {at} are still read for it");
                    account.say(reporter, &text);
                    continue;
                }
                Err(error) => {
                    account.say(reporter, &format!("{name}: {error}"));
                    continue;
                }
            };
            if is_told {
                account.show(reporter, owns, height, format_args!(" at block {height}"));
            } else {
                let since = format_args!(" at block {height}, beside what it had at block {at}");
                account.show(reporter, owns, height, since);
            }
        }
    }
}

impl WatchedAccount {
    /// Says what it owns behind the block of this height.
    fn show(&self, reporter: &Reporter, owns: Amount, height: Height, place: fmt::Arguments<'_>) {
        let Self { name, address, opening } = self;
        let whole = opening.get().is_some_and(|opening| opening.is_told);
        reporter.tell("wallet", &format!("{name} {} ether{place}", ether(owns)), || {
            let wei = owns.to_string();
            json!({ "wallet": name, "address": address, "wei": wei, "height": height, "whole": whole })
        });
    }

    /// Says why it is not known what it owns.
    fn say(&self, reporter: &Reporter, text: &str) {
        reporter.tell(
            "wallet",
            text,
            || json!({ "wallet": self.name, "address": self.address, "unknown": text }),
        );
    }
}
