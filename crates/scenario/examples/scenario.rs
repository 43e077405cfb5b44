//! A scenario in memory: nodes come up and are observed, one is killed, and the others go on.
//!
//! `cargo run -p watchkeeper-scenario --example scenario`

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use watchkeeper::{ObservedSource, PerSource, per_source::PerSourceSnapshot as Seen};
use watchkeeper_scenario::{Application, DeployError, Deployer, DynError, NodeClients, NodeControl};
use watchkeeper_scenario::{NodeControlError, RunningCluster, Scenario, async_trait};

/// The application: a node is a height that grows, and 0 is a node that is down.
struct Heights;
type Node = Arc<AtomicU64>;

impl Application for Heights {
    type Deployment = u64; // how many nodes
    type NodeClient = Node;
}

async fn height(node: ObservedSource<Node>) -> Result<u64, DynError> {
    node.source.fetch_update(SeqCst, SeqCst, |height| height.checked_add(height.min(1))).ok();
    Some(node.source.load(SeqCst)).filter(|height| *height > 0).ok_or("connection refused".into())
}

/// A deployer of your own, with its cluster and its control; `watchkeeper-deploy` has some for real nodes.
#[derive(Clone, Default)]
struct Memory(NodeClients<Node>);

#[async_trait]
#[rustfmt::skip]
impl Deployer<Heights> for Memory {
    fn name(&self) -> &'static str { "memory" }
    async fn deploy(&self, nodes: &u64) -> Result<Box<dyn RunningCluster<Heights>>, DeployError> {
        (1..=*nodes).for_each(|nth| _ = self.0.insert(&format!("n{nth}"), Node::new(nth.into())));
        Ok(Box::new(self.clone()))
    }
}

#[async_trait]
#[rustfmt::skip]
impl RunningCluster<Heights> for Memory {
    fn node_clients(&self) -> NodeClients<Node> { self.0.clone() }
    fn node_control(&self) -> Arc<dyn NodeControl> { Arc::new(self.clone()) }
    async fn shut_down(&self) -> Result<(), DeployError> { self.0.replace(vec![]); Ok(()) }
}

#[async_trait]
#[rustfmt::skip]
impl NodeControl for Memory {
    fn deployer(&self) -> &'static str { "memory" }
    fn nodes(&self) -> Vec<String> { self.0.names() }
    async fn wait_ready(&self, _: &str, _: Duration) -> Result<(), NodeControlError> { Ok(()) }
    async fn kill(&self, node: &str) -> Result<(), NodeControlError> {
        self.0.get(node).map(|node| node.store(0, SeqCst)).ok_or_else(|| self.unknown(node))
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), DynError> {
    let scenario = Scenario::<Heights>::builder("a node is lost", 3)
        .with_observer("heights", |_| PerSource::new(height), Duration::from_millis(100).into())
        .expect_invariant("two nodes answer", "heights", |seen: &Seen<u64>| seen.answering().count() >= 2)
        .workload("kill n1", |context| async move {
            context.control().kill("n1").await?;
            let heights = context.require_observer::<PerSource<Node, u64>>("heights")?;
            Ok(heights.source_failing("n1").within(Duration::from_secs(10)).await.map(drop)?)
        })
        .expect_wait("the others go on without it", |context| async move {
            let heights = context.require_observer::<PerSource<Node, u64>>("heights")?;
            let alone = |seen: &Seen<u64>| seen.answer("n1").is_none() && seen.answer("n3") > Some(&20);
            Ok(heights.eventually("n3 is past 20", alone).within(Duration::from_secs(10)).await?)
        });
    let report = scenario.build()?.run(&Memory::default()).await?;
    println!("{report}");
    assert_eq!((report.observers[0].sources.len(), report.expectations.len()), (3, 2));
    Ok(())
}
