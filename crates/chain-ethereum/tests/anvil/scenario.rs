//! A scenario on real nodes: they include payments, hang and switch their branch under observation.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use watchkeeper::wait::Invariant;
use watchkeeper::{ObservationConfig, ObservedSource, StaticSourceProvider};
use watchkeeper_chain::projection::wallet::{
    Account, AccountWallet, Amount, NewWallet, WalletRequests, Wallets, WalletsView,
};
use watchkeeper_chain::projection::{Projected, View};
use watchkeeper_chain::{ChainConfig, ChainEvent, ChainObserver, ChainSource, Height, Start};
use watchkeeper_chain_ethereum::{Address, EthereumClient, EthereumTransaction};
use watchkeeper_scenario::{
    Deployer, DynError, Expectation, NodeControlError, RunContext, Scenario, ScenarioBuilder,
    ScenarioFailure, WorkloadEnd, async_trait,
};

use crate::common::{PATIENCE, ether};
use crate::deployer::{AnvilDeployer, Chain, Node};

const INTERVAL: Duration = Duration::from_millis(100);

type Ether = Account<EthereumTransaction>;
type Watch = Projected<ChainObserver<EthereumClient>, Wallets<Ether>>;
type Context = RunContext<Chain>;

/// What remains of a node that is not shut down: its process and its folder.
type Traces = Arc<Mutex<Vec<PathBuf>>>;

/// A scenario of two nodes that are observed with the wallets of all accounts.
fn watched(name: &str, wallets: Wallets<Ether>) -> ScenarioBuilder<Chain> {
    let nodes = |context: Context| async move {
        let source = |node: ObservedSource<Node>| {
            // The client stays usable while the node is stopped and started again.
            let client = node.source.client.with_timeout(Duration::from_secs(1));
            ObservedSource::new(&node.name, ChainSource::local(client))
        };
        let nodes = context.clients().all().into_iter().map(source).collect();
        Ok(StaticSourceProvider::new(nodes))
    };
    let chain = ChainObserver::new(ChainConfig {
        start: Start::Genesis,
        lighter_after: 1,
        ..ChainConfig::every(INTERVAL)
    });
    let timing = ObservationConfig { interval: INTERVAL, ..ObservationConfig::default() };
    Scenario::<Chain>::builder(name, 2)
        .with_observer_over("chain", nodes, move |_: &Context| Projected::new(chain, wallets), timing)
        .with_expectation(Conserved(None))
        .expect_wait("all nodes share the same head", |context: Context| async move {
            let chain = context.require_observer::<Watch>("chain")?;
            let shared = chain.eventually("all nodes share the same head", |seen| {
                seen.chain.shared_head().is_some_and(|head| head.height > 0)
            });
            shared.within(Duration::from_secs(5)).await?;
            Ok(())
        })
}

/// Value is conserved across all wallets, in every snapshot from the first one on.
struct Conserved(Option<Invariant>);

#[async_trait]
impl Expectation<Chain> for Conserved {
    fn name(&self) -> &'static str {
        "value is conserved"
    }

    async fn start_capture(&mut self, context: &Context) -> Result<(), DynError> {
        let chain = context.require_observer::<Watch>("chain")?;
        let show = |seen: &View<_, WalletsView<Ether>>| format!("{:?}", seen.view.conserved());
        self.0 = Some(chain.invariant_shown(self.name(), |seen| seen.view.conserved().is_ok(), show));
        Ok(())
    }

    async fn check_during_capture(&mut self, _: &Context) -> Result<(), DynError> {
        let violation = self.0.as_ref().and_then(Invariant::violation);
        violation.map_or(Ok(()), |unmet| Err(unmet.into()))
    }

    async fn evaluate(&mut self, context: &Context) -> Result<(), DynError> {
        let invariant = self.0.take().ok_or("it was not captured")?;
        invariant.finish().await?;
        let chain = context.require_observer::<Watch>("chain")?;
        let seen = chain.latest_snapshot().ok_or("nothing was seen")?;
        match seen.value.view.names().count() {
            10 => Ok(()),
            followed => Err(format!("{followed} wallets were followed, of 10").into()),
        }
    }
}

/// Two nodes that get the same commands.
struct Both {
    nodes: [Node; 2],
    accounts: Vec<Address>,
}

impl Both {
    async fn of(
        context: &Context,
        requests: &WalletRequests<Ether>,
        traces: &Traces,
    ) -> Result<Self, DynError> {
        let nodes = [context.node_client("n1")?, context.node_client("n2")?];
        for node in &nodes {
            let pid = node.anvil().await?.pid().ok_or("it does not run")?;
            traces.lock().unwrap().extend(left_by(pid));
        }
        let accounts = nodes[0].anvil().await?.accounts().await?;
        for (nth, account) in (1..).zip(&accounts) {
            let opening = AccountWallet::with(ether(10_000).to());
            let name = format!("w{nth}").into();
            requests.add(NewWallet { name, addresses: vec![*account], from: 1, opening })?;
        }
        Ok(Self { nodes, accounts })
    }

    /// Each account pays the one `skip + 1` places after it, and a block includes the payments.
    async fn pay(&self, skip: usize) -> Result<(), DynError> {
        for node in &self.nodes {
            let node = node.anvil().await?;
            for (nth, from) in self.accounts.iter().enumerate() {
                let to = self.accounts[(nth + 1 + skip) % self.accounts.len()];
                node.transfer(*from, to, ether(1 + nth as u64)).await?;
            }
            node.mine(1).await?;
        }
        Ok(())
    }

    /// Checks that the balances folded from the blocks up to this height are those of both nodes, and that each has
    /// changed: without payments of the wallets value would be conserved too.
    async fn agree(&self, context: &Context, height: Height) -> Result<(), DynError> {
        let chain = context.require_observer::<Watch>("chain")?;
        let shared = chain.eventually(format!("all nodes are at {height}"), move |seen| {
            seen.chain.shared_head().is_some_and(|head| head.height == height)
        });
        let seen = shared.or_now().within(PATIENCE).await?;
        let head = seen.value.chain.shared_head().ok_or("no head is shared")?;
        for (nth, account) in (1..).zip(&self.accounts) {
            let known = seen.value.view.balance(&format!("w{nth}"))?.total;
            if known == ether(10_000).to::<Amount>() {
                return Err(format!("w{nth} still has its opening balance").into());
            }
            for node in &self.nodes {
                let balance: Amount = node.client.balance(*account, &head).await?.to();
                if balance != known {
                    return Err(format!("w{nth} has {known}, and a node reports {balance}").into());
                }
            }
        }
        Ok(())
    }
}

/// The process and the folder of a node, as the system knows them.
fn left_by(pid: u32) -> [PathBuf; 2] {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let arguments = String::from_utf8(std::fs::read(process.join("cmdline")).unwrap()).unwrap();
    let state = arguments.split('\0').skip_while(|word| *word != "--state").nth(1).unwrap();
    let folder = PathBuf::from(state).parent().unwrap().to_owned();
    assert!(process.exists() && folder.exists());
    [process, folder]
}

fn assert_gone(traces: &Traces) {
    let traces = traces.lock().unwrap();
    assert_eq!(traces.len(), 4);
    for trace in &*traces {
        assert!(!trace.exists(), "{} is left", trace.display());
    }
}

async fn at(context: &Context, height: Height) -> Result<(), DynError> {
    let chain = context.require_observer::<Watch>("chain")?;
    let reached = chain.eventually(format!("the tip is at {height}"), move |seen| {
        seen.chain.tip.is_some_and(|tip| tip.height == height)
    });
    reached.within(PATIENCE).await?;
    Ok(())
}

#[tokio::test]
async fn value_is_conserved_while_nodes_include_payments_hang_and_switch_their_branch() {
    let (wallets, traces) = (Wallets::new(Account::new(1)), Traces::default());
    let (requests, seen) = (wallets.requests(), Arc::clone(&traces));
    let scenario = watched("payments", wallets)
        .workload("payments", |context: Context| async move {
            let both = Both::of(&context, &requests, &seen).await?;
            both.pay(0).await?;
            at(&context, 1).await?;

            let snapshots = [
                both.nodes[0].anvil().await?.snapshot().await?,
                both.nodes[1].anvil().await?.snapshot().await?,
            ];
            both.pay(1).await?;
            both.pay(2).await?;
            at(&context, 3).await?;
            for (node, snapshot) in both.nodes.iter().zip(snapshots) {
                node.anvil().await?.revert(snapshot).await?;
            }
            for skip in 3..6 {
                both.pay(skip).await?;
            }
            at(&context, 4).await?;

            let chain = context.require_observer::<Watch>("chain")?;
            let stale = chain.source_stale("n2").within(PATIENCE);
            context.control().pause("n2").await?;
            stale.await?;
            context.control().resume("n2").await?;
            both.pay(0).await?;
            both.agree(&context, 5).await
        })
        .expect_wait_throughout("payments leave the branch", |context: Context| async move {
            let chain = context.require_observer::<Watch>("chain")?;
            let left = chain.event("payments leave the branch", |event| match event {
                ChainEvent::Reorged { old, .. } | ChainEvent::Reverted { old, .. } => !old.is_empty(),
                _ => false,
            });
            left.within(PATIENCE).await?;
            Ok(())
        })
        .build()
        .unwrap();
    let report = scenario.run(&AnvilDeployer).await.unwrap();
    assert_eq!(report.workloads[0].end, WorkloadEnd::Done);
    assert_gone(&traces);
}

#[tokio::test]
async fn a_node_that_stays_behind_fails_the_scenario_and_nothing_remains() {
    let (wallets, traces) = (Wallets::new(Account::new(1)), Traces::default());
    let (requests, seen) = (wallets.requests(), Arc::clone(&traces));
    let scenario = watched("alone", wallets)
        .workload("n1 alone", |context: Context| async move {
            let both = Both::of(&context, &requests, &seen).await?;
            both.nodes[0].anvil().await?.mine(2).await?;
            at(&context, 2).await
        })
        .build()
        .unwrap();
    let failure: ScenarioFailure = scenario.run(&AnvilDeployer).await.unwrap_err();
    let report = failure.to_string();
    assert!(report.contains("all nodes share the same head"), "{report}");
    assert!(report.contains("expectation \"value is conserved\": held"), "{report}");
    assert_gone(&traces);
}

#[tokio::test]
async fn a_node_is_killed_started_paused_and_resumed_by_name() {
    let cluster = AnvilDeployer.deploy(&2).await.unwrap();
    let control = cluster.node_control();
    assert_eq!(control.nodes(), ["n1", "n2"]);
    let soon = Duration::from_millis(500);

    control.kill("n2").await.unwrap();
    let not_ready = control.wait_ready("n2", soon).await.unwrap_err();
    assert!(matches!(&not_ready, NodeControlError::NotReady { node, .. } if node == "n2"), "{not_ready}");
    control.wait_ready("n1", PATIENCE).await.unwrap();
    control.start("n2").await.unwrap();
    control.wait_ready("n2", PATIENCE).await.unwrap();

    control.pause("n1").await.unwrap();
    assert!(matches!(control.wait_ready("n1", soon).await, Err(NodeControlError::NotReady { .. })));
    control.resume("n1").await.unwrap();
    control.wait_ready("n1", PATIENCE).await.unwrap();
    control.restart("n1").await.unwrap();
    control.wait_ready("n1", PATIENCE).await.unwrap();

    let unknown = control.kill("n9").await.unwrap_err().to_string();
    assert_eq!(unknown, "no node is called \"n9\"; the nodes are: n1, n2");
    let isolated = control.isolate("n1").await.unwrap_err();
    assert!(matches!(isolated, NodeControlError::Unsupported { .. }), "{isolated}");

    cluster.shut_down().await.unwrap();
    cluster.shut_down().await.unwrap();
    assert!(matches!(control.start("n1").await, Err(NodeControlError::Failed { .. })));
}
