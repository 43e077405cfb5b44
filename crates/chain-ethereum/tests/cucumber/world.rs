//! The steps of the features beyond those about chains: they act on real nodes.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use cucumber::{given, when};
use watchkeeper::{
    ObservationConfig, ObservationHandle, ObservationRuntime, ObservedSource, StaticSourceProvider,
};
use watchkeeper_chain::projection::Projected;
use watchkeeper_chain::projection::inclusion::{Inclusions, TransactionFollower};
use watchkeeper_chain::projection::wallet::{
    Account, AccountWallet, Amount, NewWallet, WalletRequests, Wallets,
};
use watchkeeper_chain::{ChainConfig, ChainObserver, ChainSource, Hash, Start};
use watchkeeper_chain_ethereum::anvil::{Anvil, AnvilConfig};
use watchkeeper_chain_ethereum::{Address, EthereumClient, EthereumTransaction, U256};
use watchkeeper_cucumber::{Observed, Observers};

const INTERVAL: Duration = Duration::from_millis(100);
pub(crate) const ETHER: u64 = 1_000_000_000_000_000_000;
/// The balance of each account in the first block.
const OPENING: Amount = 10_000 * ETHER as Amount;

type Ether = Account<EthereumTransaction>;
/// Its snapshot is the chain, transactions and wallets of one moment.
pub(crate) type Chain =
    Projected<ChainObserver<EthereumClient>, (Inclusions<EthereumTransaction>, Wallets<Ether>)>;
type Step = Result<(), Box<dyn Error>>;

#[derive(Debug, Default, cucumber::World)]
pub(crate) struct World {
    observers: Observers,
    running: Option<Running>,
    transactions: BTreeMap<String, Hash>,
}

#[derive(Debug)]
struct Running {
    chain: ObservationHandle<Chain>,
    follower: TransactionFollower,
    requests: WalletRequests<Ether>,
    /// Local nodes are n1, n2 and so on, public ones are p1, p2 and so on.
    nodes: BTreeMap<String, Anvil>,
    wallets: BTreeMap<String, Address>,
}

impl Observed for World {
    fn observers(&mut self) -> &mut Observers {
        &mut self.observers
    }
}

impl World {
    /// The observation, once there is one.
    pub(crate) fn chain(&self) -> Option<ObservationHandle<Chain>> {
        Some(self.running.as_ref()?.chain.clone())
    }

    /// The transactions that steps can name; each is followed.
    pub(crate) fn transactions(&self) -> &BTreeMap<String, Hash> {
        &self.transactions
    }

    fn running(&mut self) -> Result<&mut Running, &'static str> {
        self.running
            .as_mut()
            .ok_or("there are no nodes yet: begin with `2 nodes that are observed as \"chain\"`")
    }

    async fn start(&mut self, observer: &str, local: u64, public: u64) -> Step {
        let mut nodes = BTreeMap::new();
        let mut sources = Vec::new();
        for (group, count) in [("n", local), ("p", public)] {
            for nth in 1..=count {
                let (name, node) = (format!("{group}{nth}"), Anvil::start(AnvilConfig::default()).await?);
                let make = if group == "n" { ChainSource::local } else { ChainSource::public };
                sources.push(ObservedSource::new(&name, make(node.client())));
                nodes.insert(name, node);
            }
        }
        let (inclusions, wallets) = (Inclusions::new(), Wallets::new(Account::new(1)));
        let (follower, requests) = (inclusions.follower(), wallets.requests());
        // A cycle waits for every node, so that a cycle that began after a step shows its effect.
        let collect_for = Duration::from_secs(2);
        let config = ChainConfig {
            start: Start::Genesis,
            collect_for,
            lighter_after: 1,
            ..ChainConfig::every(INTERVAL)
        };
        let timing = ObservationConfig { interval: INTERVAL, ..ObservationConfig::default() };
        let chain = Projected::new(ChainObserver::new(config), (inclusions, wallets));
        let runtime = ObservationRuntime::start(StaticSourceProvider::new(sources), chain, timing).await?;
        let (chain, wallets) = (runtime.handle(), BTreeMap::new());
        self.observers.add(observer, runtime)?;
        self.running = Some(Running { chain, follower, requests, nodes, wallets });
        Ok(())
    }
}

impl Running {
    fn node(&self, name: &str) -> Result<&Anvil, String> {
        let known = || self.nodes.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        self.nodes.get(name).ok_or_else(|| format!("no node is called {name:?}; the nodes are {}", known()))
    }

    fn wallet(&self, name: &str) -> Result<Address, String> {
        let known = || self.wallets.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let found = self.wallets.get(name).copied();
        found.ok_or_else(|| format!("no wallet is called {name:?}; the wallets are {}", known()))
    }
}

#[given(regex = r#"^(\d+) nodes? that (?:is|are) observed as "(.*)"$"#)]
async fn local_nodes(world: &mut World, nodes: u64, observer: String) -> Step {
    world.start(&observer, nodes, 0).await
}

#[given(regex = r#"^(\d+) nodes? and (\d+) public nodes that are observed as "(.*)"$"#)]
async fn nodes_and_public_nodes(world: &mut World, local: u64, public: u64, observer: String) -> Step {
    world.start(&observer, local, public).await
}

#[given(regex = r#"^wallets "a" to "j" with 10000 ether each$"#)]
async fn wallets(world: &mut World) -> Step {
    let running = world.running()?;
    let Some(node) = running.nodes.values().next() else { return Err("there are no nodes".into()) };
    let accounts = node.accounts().await?;
    let names = 'a'..='j';
    if accounts.len() < names.clone().count() {
        return Err(format!("{} accounts are too few for the wallets \"a\" to \"j\"", accounts.len()).into());
    }
    for (name, account) in names.zip(accounts) {
        let wallet = NewWallet {
            name: Arc::from(name.to_string()),
            addresses: vec![account],
            from: 1,
            opening: AccountWallet::with(OPENING),
        };
        running.requests.add(wallet)?;
        running.wallets.insert(name.to_string(), account);
    }
    Ok(())
}

#[given("value is conserved")]
fn value_is_conserved(world: &mut World) -> Step {
    let chain = &world.running()?.chain;
    let invariant = chain.invariant_shown(
        "value is conserved",
        |seen| seen.view.1.conserved().is_ok(),
        |seen| format!("{:?}", seen.view.1.conserved()),
    );
    world.observers.hold(invariant);
    Ok(())
}

#[when(regex = r"^all nodes make (\d+) blocks?$")]
async fn all_make(world: &mut World, blocks: u64) -> Step {
    for node in world.running()?.nodes.values() {
        node.mine(blocks).await?;
    }
    Ok(())
}

#[when(regex = r"^the public nodes make (\d+) blocks?$")]
async fn public_make(world: &mut World, blocks: u64) -> Step {
    for (_, node) in world.running()?.nodes.iter().filter(|(name, _)| name.starts_with('p')) {
        node.mine(blocks).await?;
    }
    Ok(())
}

#[when(regex = r#"^node "(.*)" makes (\d+) blocks?$"#)]
async fn one_makes(world: &mut World, node: String, blocks: u64) -> Step {
    Ok(world.running()?.node(&node)?.mine(blocks).await?)
}

#[when(regex = r#"^node "(.*)" leaves its branch (\d+) blocks deep and makes (\d+) blocks? more$"#)]
async fn leaves(world: &mut World, node: String, depth: u64, more: u64) -> Step {
    let node = world.running()?.node(&node)?;
    node.reorg(depth).await?;
    Ok(node.mine(more).await?)
}

#[when(regex = r#"^node "(.*)" hangs$"#)]
fn hangs(world: &mut World, node: String) -> Step {
    Ok(world.running()?.node(&node)?.pause()?)
}

#[when(regex = r#"^node "(.*)" goes on$"#)]
fn goes_on(world: &mut World, node: String) -> Step {
    Ok(world.running()?.node(&node)?.resume()?)
}

#[when(regex = r#"^wallet "(.*)" pays wallet "(.*)" (\d+) ether in transaction "(.*)"$"#)]
async fn pays(world: &mut World, from: String, to: String, ether: u64, name: String) -> Step {
    let running = world.running()?;
    let (from, to) = (running.wallet(&from)?, running.wallet(&to)?);
    let mut sent = None;
    for node in running.nodes.values() {
        let hash = node.transfer(from, to, U256::from(ether) * U256::from(ETHER)).await?;
        if *sent.get_or_insert(hash) != hash {
            return Err("the nodes give the transaction different hashes".into());
        }
    }
    let hash = sent.ok_or("there are no nodes")?;
    running.follower.follow_hash(hash)?;
    world.transactions.insert(name, hash);
    Ok(())
}
