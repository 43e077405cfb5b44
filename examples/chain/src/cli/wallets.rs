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

/// How often silent nodes are asked again when all others have refused.
const ROUNDS: u32 = 10;

/// The accounts that are followed, and the nodes that are asked for their balances.
pub(crate) struct Accounts {
    followed: Vec<WatchedAccount>,
    /// Names and clients, local nodes first.
    nodes: Vec<(String, EthereumClient)>,
    /// The time before silent nodes are asked again.
    pause: Duration,
}

struct WatchedAccount {
    name: String,
    address: Address,
    /// None until a node has answered.
    opening: Cell<Option<Opening>>,
}

/// The balance of an account where it is followed from.
#[derive(Clone, Copy)]
struct Opening {
    /// After the block of this height.
    at: Height,
    /// 0 if no node can return it: only changes from there on are shown then.
    owns: Amount,
    is_known: bool,
}

/// Why no node returned a balance: for each kind of failure the first node, and its error.
#[derive(Default)]
struct BalanceFailures {
    /// A node will not return it, however often it is asked.
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

    /// Follows the accounts as soon as it is known where the observation begins and what they own there, until the
    /// observation ends.
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

    /// What an account owns after `root`. Asks until a node returns it, or all refuse; once one
    /// has refused, silent ones are asked for some more rounds.
    async fn opening(&self, account: &WatchedAccount, root: &Header, reporter: &Reporter) -> Opening {
        let (name, at) = (&account.name, root.height);
        let place = format!("block {at} ({:.8})", root.hash);
        let mut reported = None;
        let mut rounds = 1..ROUNDS;
        let refused = loop {
            let BalanceFailures { refused, silent } = match self.ask(account.address, root).await {
                Ok(owns) => {
                    let opening = Opening { at, owns, is_known: true };
                    account.opening.set(Some(opening));
                    account.show(reporter, owns, at, format_args!(" at {place}"));
                    return opening;
                }
                Err(failures) => failures,
            };
            match (refused, silent) {
                (None, Some(error)) => {
                    let text = format!("{name} waits for its balance at {place}: {error}");
                    if reported.as_ref() != Some(&text) {
                        account.say(reporter, &text);
                        reported = Some(text);
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
                "{name} is not known at {place}, so that only its changes from there on are shown; begin nearer to the \
                 head, or give a node that keeps old states{reason}"
            ),
        );
        let opening = Opening { at, owns: 0, is_known: false };
        account.opening.set(Some(opening));
        opening
    }

    /// Asks one node after the other, until one returns the balance.
    async fn ask(&self, address: Address, block: &Header) -> Result<Amount, BalanceFailures> {
        let mut failures = BalanceFailures::default();
        for (name, node) in &self.nodes {
            match node.balance(address, block).await {
                Ok(owns) => return Ok(owns.saturating_to()),
                Err(error) => {
                    let why = if error.is_retryable() { &mut failures.silent } else { &mut failures.refused };
                    why.get_or_insert_with(|| format!("{name}: {}", lasting(error)));
                }
            }
        }
        Err(failures)
    }

    /// Reads older blocks whenever an account needs them.
    async fn read_older_blocks(&self, requests: &WalletRequests<Ether>, reporter: &Reporter) {
        let mut reported = HashMap::new();
        for (name, node) in self.nodes.iter().cycle() {
            loop {
                match requests.backfill(node).await {
                    Ok(()) => reported.clear(),
                    Err(BackfillError::Closed) => return,
                    Err(error) => {
                        let error = match error {
                            BackfillError::Node(error) => lasting(error).into(),
                            error => error,
                        };
                        let text = format!("{name}: {error}");
                        if reported.get(name) != Some(&text) {
                            reporter.report("wallet", &text, || json!({ "wallet": null, "unknown": text }));
                            reported.insert(name, text);
                        }
                        sleep(self.pause).await;
                        break;
                    }
                }
            }
        }
    }

    /// Prints what each account owns at the tip.
    pub(crate) fn report(&self, wallets: &WalletsView<Ether>, reporter: &Reporter) {
        let tip = wallets.tip().map_or(0, |tip| tip.next.saturating_sub(1));
        for account in &self.followed {
            let name = &account.name;
            let Some(Opening { at, owns, is_known }) = account.opening.get() else {
                let text = format!("{name} is not known: no node returned its opening balance");
                account.say(reporter, &text);
                continue;
            };
            let (owns, height) = match wallets.balance(name) {
                Ok(balance) => (balance.total, tip),
                // The observation ended before the next cycle.
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
            if is_known {
                account.show(reporter, owns, height, format_args!(" at block {height}"));
            } else {
                let since = format_args!(" at block {height}, without what it had at block {at}");
                account.show(reporter, owns, height, since);
            }
        }
    }
}

impl WatchedAccount {
    /// Prints what it owns after the block of this height.
    fn show(&self, reporter: &Reporter, owns: Amount, height: Height, place: fmt::Arguments<'_>) {
        let Self { name, address, opening } = self;
        let whole = opening.get().is_some_and(|opening| opening.is_known);
        reporter.report("wallet", &format!("{name} {} ether{place}", ether(owns)), || {
            let wei = owns.to_string();
            json!({ "wallet": name, "address": address, "wei": wei, "height": height, "whole": whole })
        });
    }

    /// Prints why its balance is unknown.
    fn say(&self, reporter: &Reporter, text: &str) {
        reporter.report(
            "wallet",
            text,
            || json!({ "wallet": self.name, "address": self.address, "unknown": text }),
        );
    }
}
