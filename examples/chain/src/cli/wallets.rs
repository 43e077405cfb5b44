//! What accounts own, from where the observation begins.

use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::mem::discriminant;
use std::time::Duration;

use alloy::primitives::Address;
use serde_json::json;
use tokio::time::sleep;
use watchkeeper_chain::adapter::ChainError;
use watchkeeper_chain::adapter::ethereum::EthereumClient;
use watchkeeper_chain::projection::wallet::{
    AddWalletError, Amount, BackfillError, BalanceError, WalletRequests, WalletsView,
};
use watchkeeper_chain::{Header, Height};

use super::condition::{ErrorKind, lasting, retry_after};
use super::report::Reporter;
use super::retry::Retry;
use super::watched::{Ether, Watched, ether, wallet};

/// How many consecutive rounds nodes are silent before they are not waited for, when all others have dropped the state.
const ROUNDS: u32 = 10;

/// The accounts that are followed, and the nodes that are asked for their balances.
pub(crate) struct Accounts {
    followed: Vec<WatchedAccount>,
    /// Names and clients, local nodes first.
    nodes: Vec<(String, EthereumClient)>,
    /// How often nodes are asked.
    interval: Duration,
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

/// What the nodes answered to the question for a balance, as long as none returned it.
#[derive(Default)]
struct Unanswered {
    /// The nodes that have dropped the state, by position, and their answers. They are not asked again.
    pruned: BTreeMap<usize, String>,
    /// The errors of the last round, of the other nodes.
    errors: Vec<(usize, ChainError)>,
    /// How many consecutive rounds all other nodes were silent.
    silent_rounds: u32,
    /// What was printed, by node.
    reported: HashSet<(usize, ErrorKind)>,
}

impl Accounts {
    pub(crate) fn new(
        addresses: Vec<Address>,
        nodes: Vec<(String, EthereumClient)>,
        interval: Duration,
    ) -> Self {
        let account = |(nth, address): (usize, Address)| WatchedAccount {
            name: format!("wallet{}", nth + 1),
            address,
            opening: Cell::new(None),
        };
        Self { followed: addresses.into_iter().enumerate().map(account).collect(), nodes, interval }
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

    /// What an account owns after `root`. Asks until a node returns it, or all have dropped the state; if some have, nodes
    /// that stay silent are asked for some rounds.
    async fn opening(&self, account: &WatchedAccount, root: &Header, reporter: &Reporter) -> Opening {
        let (name, at) = (&account.name, root.height);
        let place = format!("block {at} ({:.8})", root.hash);
        let (mut unanswered, mut retry) = (Unanswered::default(), Retry::every(self.interval));
        let owns = loop {
            if let Some(owns) = self.ask(account.address, root, &mut unanswered).await {
                break Some(owns);
            }
            if unanswered.is_final() {
                break None;
            }
            for (nth, error) in unanswered.unreported() {
                let (node, advice) = (&self.nodes[nth].0, advice(&error));
                let error = lasting(error);
                account.say(
                    reporter,
                    &format!("{name} waits for its balance at {place}: {node}: {error}{advice}"),
                );
            }
            sleep(retry.pause(unanswered.asks_for())).await;
        };
        let opening = Opening { at, owns: owns.unwrap_or_default(), is_known: owns.is_some() };
        account.opening.set(Some(opening));
        if let Some(owns) = owns {
            account.show(reporter, owns, at, format_args!(" at {place}"));
        } else {
            let reason = unanswered.pruned.values().next().map_or_else(String::new, |why| format!(": {why}"));
            account.say(
                reporter,
                &format!(
                    "{name} is not known at {place}, so that only its changes from there on are shown; begin nearer to \
                     the head, or give a node that keeps old states{reason}"
                ),
            );
        }
        opening
    }

    /// Asks one node after the other, until one returns the balance.
    async fn ask(&self, address: Address, block: &Header, unanswered: &mut Unanswered) -> Option<Amount> {
        unanswered.errors.clear();
        for (nth, (name, node)) in self.nodes.iter().enumerate() {
            if unanswered.pruned.contains_key(&nth) {
                continue;
            }
            match node.balance(address, block).await {
                Ok(owns) => return Some(owns.saturating_to()),
                Err(error @ ChainError::Pruned { .. }) => {
                    unanswered.pruned.insert(nth, format!("{name}: {error}"));
                }
                Err(error) => unanswered.errors.push((nth, error)),
            }
        }
        let silent = unanswered.are_silent();
        unanswered.silent_rounds = if silent { unanswered.silent_rounds + 1 } else { 0 };
        None
    }

    /// Reads older blocks whenever an account needs them. A node that fails is asked again after the others.
    async fn read_older_blocks(&self, requests: &WalletRequests<Ether>, reporter: &Reporter) {
        let mut reported = HashSet::new();
        let mut retry = Retry::every(self.interval);
        for (nth, (name, node)) in self.nodes.iter().enumerate().cycle() {
            loop {
                let error = match requests.backfill(node).await {
                    Ok(()) => {
                        reported.clear();
                        retry.succeeded();
                        continue;
                    }
                    Err(BackfillError::Closed) => return,
                    Err(error) => error,
                };
                let (kind, advice, asks_for) = match &error {
                    BackfillError::Node(error) => {
                        (Some(ErrorKind::of(error)), advice(error), retry_after(error))
                    }
                    _ => (None, "", None),
                };
                if reported.insert((nth, discriminant(&error), kind)) {
                    let error = match error {
                        BackfillError::Node(error) => lasting(error).into(),
                        error => error,
                    };
                    let text = format!("{name}: {error}{advice}");
                    reporter.report("wallet", &text, || json!({ "wallet": null, "unknown": text }));
                }
                // Another node can be asked meanwhile.
                let is_alone = self.nodes.len() == 1;
                sleep(retry.pause(asks_for.filter(|_| is_alone))).await;
                break;
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

impl Unanswered {
    /// Whether no node of the last round has answered at all.
    fn are_silent(&self) -> bool {
        let is_silent = |error: &ChainError| {
            matches!(error, ChainError::Unreachable { .. } | ChainError::TimedOut { .. })
        };
        self.errors.iter().all(|(_, error)| is_silent(error))
    }

    /// Whether no node will return the balance: all have dropped the state, or some have and the others stay silent.
    fn is_final(&self) -> bool {
        self.errors.is_empty() || (!self.pruned.is_empty() && self.silent_rounds >= ROUNDS)
    }

    /// The errors that were not printed before. None while nodes are silent beside one that has dropped the state: soon
    /// one of them answers, or the account is printed as not known.
    fn unreported(&mut self) -> Vec<(usize, ChainError)> {
        if !self.pruned.is_empty() && self.are_silent() {
            return Vec::new();
        }
        let Self { errors, reported, .. } = self;
        let is_new = |(nth, error): &&(usize, ChainError)| reported.insert((*nth, ErrorKind::of(error)));
        errors.iter().filter(is_new).cloned().collect()
    }

    /// The time that all nodes ask for before the next request.
    fn asks_for(&self) -> Option<Duration> {
        let each = self.errors.iter().map(|(_, error)| retry_after(error).unwrap_or_default());
        each.min().filter(|least| !least.is_zero())
    }
}

/// What helps if the error stays; empty if only time does.
fn advice(error: &ChainError) -> &'static str {
    match error {
        ChainError::Refused { .. } => "; it is asked again; if it stays so, give a node that allows this",
        ChainError::Malformed { .. } | ChainError::Untrue { .. } => "; it is asked again",
        _ => "",
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
