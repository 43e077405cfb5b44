//! What accounts own, from where the observation begins.

use std::cell::Cell;
use std::fmt;
use std::time::Duration;

use alloy::primitives::Address;
use serde_json::json;
use tokio::time::sleep;
use watchkeeper_chain::adapter::ChainError;
use watchkeeper_chain::adapter::ethereum::EthereumClient;
use watchkeeper_chain::projection::wallet::{
    AddWalletError, Amount, BackfillError, BalanceError, WalletDesk, WalletsView,
};
use watchkeeper_chain::{Header, Height};

use super::tell::Teller;
use super::watched::{Ether, Watched, ether, wallet};

/// How often nodes are asked that do not answer while others have refused.
const ROUNDS: u32 = 10;

/// The accounts that are followed, and the nodes that are asked for what they own.
pub(crate) struct Accounts {
    followed: Vec<Account>,
    /// By their names, ours first.
    nodes: Vec<(String, EthereumClient)>,
    /// The time before nodes are asked again that did not answer.
    pause: Duration,
}

struct Account {
    name: String,
    address: Address,
    opening: Cell<Opening>,
}

/// What is known of an account where it is followed from.
#[derive(Clone, Copy, Debug)]
enum Opening {
    /// No node has answered yet.
    Awaited,
    /// A node said it: so much, behind the block of this height.
    Told { owns: Amount, at: Height },
    /// No node can say it. What is shown is what came and went from this height on.
    Unknown { from: Height },
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
        let account = |(nth, address): (usize, Address)| Account {
            name: format!("wallet{}", nth + 1),
            address,
            opening: Cell::new(Opening::Awaited),
        };
        Self { followed: addresses.into_iter().enumerate().map(account).collect(), nodes, pause }
    }

    /// Follows the accounts as soon as it is known where the observation begins and what they own there, until
    /// the observation ends.
    pub(crate) async fn follow(&self, watched: &Watched, teller: &Teller) -> Result<(), AddWalletError> {
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
            let opening = self.opening(account, &root, teller).await;
            let added = watched.desk.add(wallet(&account.name, account.address, root.height + 1, opening));
            match added {
                Err(AddWalletError::Closed) => return Ok(()),
                added => added?,
            }
        }
        self.read_older_blocks(&watched.desk, teller).await;
        Ok(())
    }

    /// What an account owns behind `root`: asked until a node says it, or one refuses and the others stay silent.
    async fn opening(&self, account: &Account, root: &Header, teller: &Teller) -> Amount {
        let name = &account.name;
        let place = format!("block {} ({:.8})", root.height, root.hash);
        let mut told = None;
        let mut rounds = 1..ROUNDS;
        let refused = loop {
            let Unsaid { refused, silent } = match self.ask(account.address, root).await {
                Ok(owns) => {
                    account.opening.set(Opening::Told { owns, at: root.height });
                    account.show(teller, owns, root.height, format_args!(" at {place}"));
                    return owns;
                }
                Err(unsaid) => unsaid,
            };
            match (refused, silent) {
                (None, Some(error)) => {
                    let text = format!("{name} waits to be known at {place}: {error}");
                    if told.as_ref() != Some(&text) {
                        account.say(teller, &text);
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
            teller,
            &format!(
                "{name} is not known at {place}, and shown as what comes and goes from there on; begin nearer to the \
                 head, or give a node that keeps old states{reason}"
            ),
        );
        account.opening.set(Opening::Unknown { from: root.height + 1 });
        0
    }

    /// Asks one node after the other, until one says it.
    async fn ask(&self, address: Address, block: &Header) -> Result<Amount, Unsaid> {
        let mut unsaid = Unsaid::default();
        for (name, node) in &self.nodes {
            match node.balance(address, block).await {
                Ok(owns) => return Ok(owns.saturating_to()),
                Err(
                    error @ (ChainError::Unreachable { .. }
                    | ChainError::TimedOut { .. }
                    | ChainError::RateLimited { .. }),
                ) => unsaid.silent = unsaid.silent.or_else(|| Some(format!("{name}: {error}"))),
                Err(error) => unsaid.refused = unsaid.refused.or_else(|| Some(format!("{name}: {error}"))),
            }
        }
        Err(unsaid)
    }

    /// Reads the blocks that have gone by before an account was followed, whenever there are such.
    async fn read_older_blocks(&self, desk: &WalletDesk<Ether>, teller: &Teller) {
        let mut told = None;
        for (name, node) in self.nodes.iter().cycle() {
            loop {
                match desk.backfill(node).await {
                    Ok(()) => told = None,
                    Err(BackfillError::Closed) => return,
                    Err(error) => {
                        let text = format!("{name}: {error}");
                        if told.as_ref() != Some(&text) {
                            teller.tell("wallet", &text, || json!({ "wallet": null, "unknown": text }));
                            told = Some(text);
                        }
                        sleep(self.pause).await;
                        break;
                    }
                }
            }
        }
    }

    /// Says what each account owns at the tip.
    pub(crate) fn tell(&self, wallets: &WalletsView<Ether>, teller: &Teller) {
        let tip = wallets.tip().map_or(0, |tip| tip.next.saturating_sub(1));
        for account in &self.followed {
            let name = &account.name;
            match (account.opening.get(), wallets.balance(name)) {
                (Opening::Awaited, _) => {
                    let text = format!("{name} is not known: no node said what it had to begin with");
                    account.say(teller, &text);
                }
                // It ended before the next cycle.
                (
                    Opening::Told { owns, at },
                    Err(BalanceError::Nothing | BalanceError::UnknownWallet { .. }),
                ) => account.show(teller, owns, at, format_args!(" at block {at}")),
                (_, Err(error)) => account.say(teller, &format!("{name}: {error}")),
                (Opening::Told { .. }, Ok(balance)) => {
                    account.show(teller, balance.total, tip, format_args!(""));
                }
                (Opening::Unknown { from }, Ok(balance)) => {
                    let since = format_args!(" since block {from}, beside what it had before");
                    account.show(teller, balance.total, tip, since);
                }
            }
        }
    }
}

impl Account {
    /// Says what it owns behind the block of this height.
    fn show(&self, teller: &Teller, owns: Amount, height: Height, when: fmt::Arguments<'_>) {
        let Self { name, address, opening } = self;
        let whole = matches!(opening.get(), Opening::Told { .. });
        teller.tell("wallet", &format!("{name} {} ether{when}", ether(owns)), || {
            let wei = owns.to_string();
            json!({ "wallet": name, "address": address, "wei": wei, "height": height, "whole": whole })
        });
    }

    /// Says why it is not known what it owns.
    fn say(&self, teller: &Teller, text: &str) {
        teller.tell(
            "wallet",
            text,
            || json!({ "wallet": self.name, "address": self.address, "unknown": text }),
        );
    }
}
