//! Two real nodes, ten wallets, a reorg three deep.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::sync::Notify;
use tokio::time::Instant;
use watchkeeper::wait::{Invariant, Unmet};
use watchkeeper::{ObservationRuntimeError, ObservedSource};
use watchkeeper_chain::projection::inclusion::InclusionWaits;
use watchkeeper_chain::projection::wallet::{AddWalletError, Amount};
use watchkeeper_chain::{ChainConfig, ChainEvent, ChainSource, Hash, Height, Start};
use watchkeeper_chain_ethereum::NewHeads;
use watchkeeper_chain_ethereum::anvil::{Anvil, AnvilConfig, AnvilError};
use watchkeeper_chain_ethereum::{Address, U256};

use watchkeeper_chain::projection::View;

use super::report::Reporter;
use super::watched::{Seen, Watched, ether, wallet};

use watchkeeper::report::debug_as_text;

/// The window of every wait.
const WINDOW: Duration = Duration::from_secs(20);
/// How often the nodes are asked when nothing wakes the observation.
const INTERVAL: Duration = Duration::from_millis(250);
const ETHER: u64 = 1_000_000_000_000_000_000;
/// What each account owns in the first block.
const OPENING: Amount = 10_000 * ETHER as Amount;
/// How many blocks the reorg disconnects.
const DEPTH: u64 = 3;

/// The flags of the demo.
#[derive(Clone, Debug, Args)]
pub(crate) struct DemoFlags {
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// Why the demo failed.
#[derive(thiserror::Error)]
pub(crate) enum DemoError {
    /// A node failed.
    #[error(transparent)]
    Node(#[from] AnvilError),
    /// The observation did not start.
    #[error("cannot observe the nodes")]
    Observation(#[from] ObservationRuntimeError),
    /// A wallet was refused.
    #[error(transparent)]
    Wallet(#[from] AddWalletError),
    /// A wait was not met.
    #[error(transparent)]
    Unmet(#[from] Unmet),
    /// A balance that was folded from the blocks differs from the node's.
    #[error(
        "w{wallet} has {known} ether according to its transactions, and {returned} according to n2: one of the two is \
         wrong, so run it again"
    )]
    Balance {
        /// Which wallet.
        wallet: usize,
        /// The balance that follows from its transactions.
        known: String,
        /// The balance that the node returned.
        returned: String,
    },
    /// The observation has ended.
    #[error("the observation has ended: start it again")]
    Ended,
}

debug_as_text!(DemoError);

/// Runs the demo to its end. Afterwards both nodes have ended, however the demo ended.
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
    // Declared after the nodes, so that the observation is always dropped before them.
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
        let printing = reporter.follow(watched.handle());
        let running = async {
            let result = demo.run(conserved).await;
            let _ = watched.runtime.stop().await;
            result
        };
        tokio::join!(running, printing).0
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
    /// How many blocks both nodes have made.
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
        self.reporter.wait_until_printed(&included).await;
        self.reporter.say("wait", format_args!("transaction {last:.8} is {}", status(&included.value, last)));

        self.reporter.say("step", format_args!("n2 replaces {DEPTH} blocks by others, and makes one more"));
        let reorged = handle
            .event("the branch is reorganised", |event| matches!(event, ChainEvent::Reorged { .. }))
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
        self.reporter.wait_until_printed(&seen).await;
        if let (Some(graph), Some(tip)) = (&seen.value.chain.graph, seen.value.chain.tip) {
            let drawn = graph.draw(&tip.hash, tip.height.saturating_sub(DEPTH + 2));
            self.reporter.say("fork", format_args!("\n{drawn}"));
        }
        self.reporter.say("wait", format_args!("transaction {last:.8} is {}", status(&seen.value, last)));
        let after = self.balances("after", &seen.value);

        for (nth, (account, known)) in self.accounts.iter().zip(&after).enumerate() {
            let returned: Amount = self.two.balance(*account).await?.saturating_to();
            if returned != *known {
                let (known, returned) = (ether(*known), ether(returned));
                return Err(DemoError::Balance { wallet: nth + 1, known, returned });
            }
        }
        let held = conserved.finish().await?;
        let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
        let tip = seen.value.chain.tip.map_or(0, |tip| tip.height);
        self.reporter.say(
            "done",
            format_args!(
                "the head is at {tip}; {moved} of {} balances changed with the reorg and match n2; value was conserved \
                 in {} snapshots; {} cycles, {} failed, {:.1} s",
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
        self.reporter.wait_until_printed(&met).await;
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
