//! What accounts own, from where the observation begins.

use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};
use std::mem::discriminant;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::{Instant, sleep};
use watchkeeper::ObservationHandle;
use watchkeeper_chain::adapter::ChainError;
use watchkeeper_chain::projection::wallet::{
    AddWalletError, Amount, BackfillError, Balance, BalanceError, Fault, WalletRequests, WalletsView,
};
use watchkeeper_chain::{Header, Height};
use watchkeeper_chain_ethereum::Address;
use watchkeeper_chain_ethereum::EthereumClient;

use super::condition::{Condition, Conditions, ErrorKind, lasting, retry_after};
use super::report::Reporter;
use super::retry::Retry;
use super::watched::{Ether, Observer, Watched, ether, wallet};

/// How many consecutive answers without the state count as the node's: a full and an archive node may share an address.
const PRUNED: u32 = 3;
/// How often in succession a node is asked after such an answer: its next one may be of another backend.
const AT_ONCE: u32 = 2;

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
    /// Whether it is known from a checkpoint.
    resumed: Cell<bool>,
    /// Whether all nodes were asked once for the opening balance without success.
    waits: Cell<bool>,
}

/// The balance of an account where it is followed from.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Opening {
    /// After the block of this height.
    at: Height,
    /// 0 if no node can return it: only changes from there on are shown then.
    owns: Amount,
    is_known: bool,
}

/// What the nodes answered to the question for a balance, as long as none returned it.
#[derive(Default)]
struct Unanswered {
    /// The nodes whose last answer was that they have dropped the state, by position.
    pruned: BTreeMap<usize, Pruned>,
    /// The errors of the last round, of the other nodes.
    errors: Vec<(usize, ChainError)>,
    /// How many consecutive rounds all other nodes were silent.
    silent_rounds: u32,
    /// What was printed, by node.
    reported: HashSet<(usize, ErrorKind)>,
}

/// Answers of a node that it has dropped the state.
struct Pruned {
    /// How many consecutive ones. From [`PRUNED`] on it is not asked again.
    times: u32,
    answer: String,
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
            resumed: Cell::new(false),
            waits: Cell::new(false),
        };
        Self { followed: addresses.into_iter().enumerate().map(account).collect(), nodes, interval }
    }

    /// Takes over what is known from before; false if that is of other accounts.
    pub(crate) fn restore(&self, known: &[(Address, Opening)]) -> bool {
        let fits =
            self.followed.iter().map(|account| &account.address).eq(known.iter().map(|(known, _)| known));
        for (account, (_, opening)) in self.followed.iter().zip(known).filter(|_| fits) {
            account.opening.set(Some(*opening));
            account.resumed.set(true);
        }
        fits
    }

    /// What [`restore`](Self::restore) takes; `None` while one of them is not followed yet.
    pub(crate) fn openings(&self, wallets: &WalletsView<Ether>) -> Option<Vec<(Address, Opening)>> {
        let opening = |account: &WatchedAccount| Some((account.address, account.followed_from(wallets)?));
        self.followed.iter().map(opening).collect()
    }

    /// The names of those that are not followed yet, and whether nodes have failed to return what one of them owns.
    pub(crate) fn missing(&self, wallets: &WalletsView<Ether>) -> (Vec<&str>, bool) {
        let missing = || self.followed.iter().filter(|account| account.followed_from(wallets).is_none());
        (missing().map(|account| &*account.name).collect(), missing().any(|account| account.waits.get()))
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
        if self.followed.iter().any(|account| account.resumed.get())
            && let Some(seen) = watch.status().snapshot
        {
            reporter.wait_until_printed(&seen).await;
            self.report(Some(&seen.value.view.1), reporter);
        }
        for account in self.followed.iter().filter(|account| !account.resumed.get()) {
            let Opening { at, owns, .. } = self.opening(account, &root, reporter).await;
            let added =
                watched.requests.add(wallet(&account.name, account.address, at.saturating_add(1), owns));
            match added {
                Err(AddWalletError::Closed) => return Ok(()),
                added => added?,
            }
        }
        tokio::join!(
            self.read_older_blocks(&watched.requests, reporter),
            self.follow_faults(watched.handle(), reporter)
        );
        Ok(())
    }

    /// Prints when an account becomes unknown, and when a reorg makes it known again, until the observation ends.
    async fn follow_faults(&self, handle: ObservationHandle<Observer>, reporter: &Reporter) {
        let each = |account| (account, Conditions::every(self.interval));
        let mut accounts: Vec<_> = self.followed.iter().map(each).collect();
        let mut watch = handle.watch();
        let mut status = watch.status();
        loop {
            if let Some(snapshot) = &status.snapshot {
                let wallets = &snapshot.value.view.1;
                for (account, conditions) in &mut accounts {
                    let (balance, tip) = (wallets.balance(&account.name), tip(wallets));
                    let Some(condition) = account.condition(&balance, tip) else { continue };
                    let is = conditions.note(Instant::now(), &condition);
                    // That it is known is printed only after it was not.
                    let Some(is) = is.filter(|_| balance.is_err() || conditions.has_changed()) else {
                        continue;
                    };
                    reporter.wait_until_printed(snapshot).await;
                    let text = format!("{} {is}", account.name);
                    match balance {
                        Ok(owns) => account.known(reporter, owns.total, tip, &text),
                        Err(_) => account.say(reporter, &text),
                    }
                }
            }
            match watch.changed().await {
                Ok(next) => status = next,
                Err(_) => return,
            }
        }
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
            account.waits.set(true);
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
            account.show(reporter, owns, at, &format!(" at {place}"));
        } else {
            let reason = unanswered.pruned.values().next();
            let reason = reason.map_or_else(String::new, |pruned| format!(": {}", pruned.answer));
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
            for _ in 0..AT_ONCE {
                if unanswered.is_pruned(nth) {
                    break;
                }
                match node.balance(address, block).await {
                    Ok(owns) => return Some(owns.saturating_to()),
                    Err(error @ ChainError::Pruned { .. }) => {
                        let times = unanswered.pruned.get(&nth).map_or(0, |pruned| pruned.times) + 1;
                        unanswered.pruned.insert(nth, Pruned { times, answer: format!("{name}: {error}") });
                    }
                    Err(error) => {
                        // Silence is no answer.
                        if !is_silent(&error) {
                            unanswered.pruned.remove(&nth);
                        }
                        unanswered.errors.push((nth, error));
                        break;
                    }
                }
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

    /// Prints what each account owns at the tip; without wallets the observation has not begun.
    pub(crate) fn report(&self, wallets: Option<&WalletsView<Ether>>, reporter: &Reporter) {
        let tip = wallets.map_or(0, tip);
        for account in &self.followed {
            let name = &account.name;
            let Some(Opening { at, owns, .. }) = account.opening.get() else {
                let text = format!("{name} is not known: no node returned its opening balance");
                account.say(reporter, &text);
                continue;
            };
            let balance = wallets.map_or(Err(BalanceError::Nothing), |wallets| wallets.balance(name));
            let (owns, height) = match balance {
                Ok(balance) => (balance.total, tip),
                // The observation ended before the next cycle.
                Err(BalanceError::Nothing | BalanceError::UnknownWallet { .. }) => (owns, at),
                Err(BalanceError::Waiting { .. }) => {
                    let text = format!("{name} is not known yet: blocks above {at} are still read for it");
                    account.say(reporter, &text);
                    continue;
                }
                Err(BalanceError::Faulty { fault, .. }) => {
                    account.say(reporter, &format!("{name} {}", lost(&fault)));
                    continue;
                }
                Err(BalanceError::TooEarly { from, .. }) => {
                    let text =
                        format!("{name} is not known at block {tip}: it is followed from block {from} on");
                    account.say(reporter, &text);
                    continue;
                }
                Err(error) => {
                    account.say(reporter, &format!("{name} is not known: {error}"));
                    continue;
                }
            };
            account.show(reporter, owns, height, &account.at(height));
        }
    }
}

/// The height of the newest block.
fn tip(wallets: &WalletsView<Ether>) -> Height {
    wallets.tip().map_or(0, |tip| tip.next.saturating_sub(1))
}

fn is_silent(error: &ChainError) -> bool {
    matches!(error, ChainError::Unreachable { .. } | ChainError::TimedOut { .. })
}

impl Unanswered {
    /// Whether no node of the last round has answered at all.
    fn are_silent(&self) -> bool {
        self.errors.iter().all(|(_, error)| is_silent(error))
    }

    /// Whether the node has answered often enough that it has dropped the state.
    fn is_pruned(&self, nth: usize) -> bool {
        self.pruned.get(&nth).is_some_and(|pruned| pruned.times >= PRUNED)
    }

    /// Whether a node that has answered so may still be asked.
    fn is_doubted(&self) -> bool {
        self.pruned.keys().any(|nth| !self.is_pruned(*nth))
    }

    /// Whether no node will return the balance: all have dropped the state, or some have and the others stay silent.
    fn is_final(&self) -> bool {
        let is_over = self.errors.is_empty() || (!self.pruned.is_empty() && self.silent_rounds >= ROUNDS);
        is_over && !self.is_doubted()
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
        each.min().filter(|_| !self.is_doubted()).filter(|least| !least.is_zero())
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

/// Why an account is unknown from a block on.
fn lost(fault: &Fault) -> String {
    format!("is no longer known: {fault}")
}

impl WatchedAccount {
    /// Where it is followed from; `None` while it is not.
    fn followed_from(&self, wallets: &WalletsView<Ether>) -> Option<Opening> {
        // One that is resumed is in the record also while it waits for older blocks.
        let is_there = self.resumed.get() || wallets.names().any(|name| name == self.name);
        self.opening.get().filter(|_| is_there)
    }

    /// Whether it is known at the tip, which is at this height, if that is decided.
    fn condition(&self, balance: &Result<Balance, BalanceError>, tip: Height) -> Option<Condition> {
        match balance {
            Ok(Balance { total, .. }) => {
                let text = format!("is known again: {} ether{}", ether(*total), self.at(tip));
                Some(Condition::wallet(None, text))
            }
            Err(BalanceError::Faulty { fault, .. }) => Some(Condition::wallet(Some(fault), lost(fault))),
            Err(_) => None,
        }
    }

    /// The place of a balance after the block of this height, and what is not in it.
    fn at(&self, height: Height) -> String {
        match self.opening.get() {
            Some(Opening { at, is_known: false, .. }) => {
                format!(" at block {height}, without what it had at block {at}")
            }
            _ => format!(" at block {height}"),
        }
    }

    /// Prints what it owns after the block of this height.
    fn show(&self, reporter: &Reporter, owns: Amount, height: Height, place: &str) {
        let text = format!("{} {} ether{place}", self.name, ether(owns));
        self.known(reporter, owns, height, &text);
    }

    /// Prints this text, or what it owns after the block of this height.
    fn known(&self, reporter: &Reporter, owns: Amount, height: Height, text: &str) {
        let Self { name, address, opening, .. } = self;
        let whole = opening.get().is_some_and(|opening| opening.is_known);
        reporter.report("wallet", text, || {
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
