//! Two real nodes, ten wallets, a reorg three deep.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, U256};
use clap::Args;
use tokio::sync::Notify;
use tokio::time::Instant;
use watchkeeper::wait::{Invariant, Unmet};
use watchkeeper::{ObservationRuntimeError, ObservedSource};
use watchkeeper_chain::adapter::ethereum::NewHeads;
use watchkeeper_chain::adapter::ethereum::anvil::{Anvil, AnvilConfig, AnvilError};
use watchkeeper_chain::projection::inclusion::InclusionWaits;
use watchkeeper_chain::projection::wallet::{AddWalletError, Amount};
use watchkeeper_chain::{ChainConfig, ChainEvent, ChainSource, Hash, Height, Start};

use watchkeeper_chain::projection::View;

use super::report::Reporter;
use super::watched::{Seen, Watched, ether, wallet};

use crate::error_text::debug_as_text;

/// How long anything that is waited for may take.
const WINDOW: Duration = Duration::from_secs(20);
/// How often the nodes are asked when nothing wakes the observation.
const INTERVAL: Duration = Duration::from_millis(250);
const ETHER: u64 = 1_000_000_000_000_000_000;
/// What each account owns in the first block.
const OPENING: Amount = 10_000 * ETHER as Amount;
/// Blocks that leave in the reorg.
const DEPTH: u64 = 3;

/// What the demo can be told.
#[derive(Clone, Debug, Args)]
pub(crate) struct DemoFlags {
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// Why the demo failed.
#[derive(thiserror::Error)]
pub(crate) enum DemoError {
    /// The nodes could not be handled.
    #[error(transparent)]
    Node(#[from] AnvilError),
    /// The observation did not start.
    #[error("cannot observe the nodes")]
    Observation(#[from] ObservationRuntimeError),
    /// A wallet was refused.
    #[error(transparent)]
    Wallet(#[from] AddWalletError),
    /// The chain did not do what was waited for.
    #[error(transparent)]
    Unmet(#[from] Unmet),
    /// A balance that was folded from the blocks is not what the node says.
    #[error(
        "w{wallet} has {known} ether by its transactions, and {said} by n2: one of the two is wrong, so run it again"
    )]
    Balance {
        /// Which wallet.
        wallet: usize,
        /// What its transactions say.
        known: String,
        /// What the node says.
        said: String,
    },
    /// What is followed is no longer observed.
    #[error("the observation has ended: start it again")]
    Ended,
}

debug_as_text!(DemoError);

/// Runs the demo to its end. Both nodes are gone behind it, however it ends.
pub(crate) async fn run(flags: &DemoFlags) -> Result<(), DemoError> {
    let reporter = Reporter::new(flags.json);
    reporter.say("step", format_args!("starting two nodes"));
    let (one, two) =
        tokio::try_join!(Anvil::start(AnvilConfig::default()), Anvil::start(AnvilConfig::default()))?;
    let wake = Arc::new(Notify::new());
    let mut heads = Vec::new();
    for node in [&one, &two] {
        heads.push(NewHeads::follow(node.websocket(), Arc::clone(&wake)).map_err(AnvilError::from)?);
    }
    let source = |name, node: &Anvil| ObservedSource::new(name, ChainSource::local(node.client()));
    let config = ChainConfig { start: Start::Genesis, ..ChainConfig::every(INTERVAL) };
    // Declared behind the nodes: whatever happens, the observation is dropped before them.
    let watched = Watched::start(vec![source("n1", &one), source("n2", &two)], config, Some(wake))?;
    let accounts = one.accounts().await?;
    for (nth, account) in (1..).zip(&accounts) {
        watched.requests.add(wallet(&format!("w{nth}"), *account, 1, OPENING))?;
    }
    let show = |seen: &Seen| format!("{:?}", seen.view.1.conserved());
    let conserved =
        watched.handle().invariant_shown("value is conserved", |seen| seen.view.1.conserved().is_ok(), show);
    let mut demo = Demo { reporter: &reporter, one, two, watched: &watched, accounts, height: 0 };
    let result = {
        let told = reporter.follow(watched.handle());
        let shown = async {
            let result = demo.run(conserved).await;
            let _ = watched.runtime.stop().await;
            result
        };
        tokio::join!(shown, told).0
    };
    drop(heads);
    result
}

struct Demo<'a> {
    reporter: &'a Reporter,
    one: Anvil,
    two: Anvil,
    watched: &'a Watched,
    accounts: Vec<Address>,
    /// Blocks that both nodes were told to make.
    height: Height,
}

impl Demo<'_> {
    async fn run(&mut self, conserved: Invariant) -> Result<(), DemoError> {
        let began = Instant::now();
        self.reporter.say("step", format_args!("making five blocks with a transfer of each wallet"));
        let mut last = Hash([0; 32]);
        for round in 0..5 {
            last = self.transfers(round).await?;
            self.mine().await?;
        }
        let shared = self.all_share_the_head().await?;
        let before = self.balances("before", &shared);

        self.watched.follower.follow_hash(last).map_err(|_| DemoError::Ended)?;
        let handle = self.watched.handle();
        let included = handle.included(last, 1).within(WINDOW).await?;
        self.reporter.told(&included).await;
        self.reporter.say("wait", format_args!("transaction {last:.8} is {}", status(&included.value, last)));

        self.reporter
            .say("step", format_args!("n2 leaves the branch, {DEPTH} blocks deep, and makes one more"));
        let reorged = handle
            .event("the branch is left", |event| matches!(event, ChainEvent::Reorged { .. }))
            .show(|seen| format!("{:?}", seen.chain.tip))
            .within(WINDOW);
        self.two.reorg(DEPTH).await?;
        self.two.mine(1).await?;
        reorged.await?;
        let seen = handle
            .eventually("n2's branch is the canonical one", |seen| {
                seen.chain.tip.is_some() && seen.chain.tip == seen.chain.node("n2").and_then(|node| node.head)
            })
            .or_now()
            .show(|seen| format!("{:?}", seen.chain.tip))
            .within(WINDOW)
            .await?;
        self.reporter.told(&seen).await;
        if let (Some(graph), Some(tip)) = (&seen.value.chain.graph, seen.value.chain.tip) {
            let drawn = graph.draw(&tip.hash, tip.height.saturating_sub(DEPTH + 2));
            self.reporter.say("fork", format_args!("\n{drawn}"));
        }
        self.reporter.say("wait", format_args!("transaction {last:.8} is {}", status(&seen.value, last)));
        let after = self.balances("after", &seen.value);

        for (nth, (account, known)) in self.accounts.iter().zip(&after).enumerate() {
            let said: Amount = self.two.balance(*account).await?.saturating_to();
            if said != *known {
                return Err(DemoError::Balance { wallet: nth + 1, known: ether(*known), said: ether(said) });
            }
        }
        let held = conserved.finish().await?;
        let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
        let tip = seen.value.chain.tip.map_or(0, |tip| tip.height);
        self.reporter.say(
            "done",
            format_args!(
                "the head is at {tip}; {moved} of {} balances went back with the reorg and are what n2 says; value \
                 was conserved in {} snapshots; {} cycles, {} failed, {:.1} s",
                after.len(),
                held.judged,
                handle.status().cycle + 1,
                handle.failures().len(),
                began.elapsed().as_secs_f64(),
            ),
        );
        Ok(())
    }

    /// Each wallet pays the next one, on both nodes alike.
    async fn transfers(&self, round: u64) -> Result<Hash, DemoError> {
        let mut last = Hash([0; 32]);
        let payees = self.accounts.iter().cycle().skip(1);
        for (nth, (from, to)) in (1..).zip(self.accounts.iter().zip(payees)) {
            let wei = U256::from(ETHER) * U256::from(nth * (round + 1));
            last = self.one.transfer(*from, *to, wei).await?;
            self.two.transfer(*from, *to, wei).await?;
        }
        Ok(last)
    }

    async fn mine(&mut self) -> Result<(), DemoError> {
        tokio::try_join!(self.one.mine(1), self.two.mine(1))?;
        self.height += 1;
        Ok(())
    }

    async fn all_share_the_head(&self) -> Result<Seen, DemoError> {
        let height = self.height;
        let shared = move |seen: &Seen| {
            let head = seen.chain.shared_head();
            head.is_some_and(|head| head.height == height) && head == seen.chain.tip
        };
        let met = self
            .watched
            .handle()
            .eventually(format!("all nodes share the head at {height}"), shared)
            .or_now()
            .show(|seen| format!("{:?}", seen.chain.nodes))
            .within(WINDOW)
            .await?;
        self.reporter.told(&met).await;
        Ok(View::clone(&met.value))
    }

    /// Prints and returns what each wallet has.
    fn balances(&self, when: &str, seen: &Seen) -> Vec<Amount> {
        let wallets = &seen.view.1;
        let mut totals = Vec::new();
        let mut table = String::new();
        for nth in 1..=self.accounts.len() {
            let name = format!("w{nth}");
            let line = match wallets.balance(&name) {
                Ok(balance) => {
                    totals.push(balance.total);
                    format!(
                        "{name:<4} {:>14} ether, {:>14} confirmed\n",
                        ether(balance.total),
                        ether(balance.confirmed)
                    )
                }
                Err(error) => format!("{name:<4} {error}\n"),
            };
            table += &line;
        }
        self.reporter.say("wallets", format_args!("{when}:\n{table}"));
        totals
    }
}

fn status(seen: &Seen, transaction: Hash) -> String {
    seen.view.0.status(transaction).map_or_else(|| "not followed".to_owned(), |status| status.to_string())
}
