//! The steps in addition to those of `watchkeeper-cucumber`: what is done to the cluster.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use cucumber::{given, then, when};
use openraft_kv::NodeClient;
use openraft_kv::api::{Member, NodeId, Role, node_name};
use openraft_kv::demo::observe_nodes;
use openraft_kv::deploy::{Deployment, RaftKv, form, local_deployer};
use openraft_kv::failover::write;
use openraft_kv::observer::{ClusterView, RaftObserver};
use watchkeeper::ObservationHandle;
use watchkeeper::report::error_chain;
use watchkeeper_cucumber::{Observed, Observers};
use watchkeeper_deploy::local::LocalCluster;
use watchkeeper_scenario::{NodeControl, RunningCluster};

const PROGRAM: &str = env!("CARGO_BIN_EXE_openraft_kv");
const INTERVAL: Duration = Duration::from_millis(100);
const SOON: Duration = Duration::from_secs(30);

type Step = Result<(), Box<dyn Error>>;

#[derive(Debug, Default, cucumber::World)]
pub(crate) struct World {
    observers: Observers,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    cluster: LocalCluster<RaftKv>,
    raft: ObservationHandle<RaftObserver>,
    /// The node of the last action.
    last: NodeId,
}

impl Running {
    fn control(&self) -> Arc<dyn NodeControl> {
        self.cluster.node_control()
    }

    fn client(&self, node: NodeId) -> Result<NodeClient, String> {
        let client = self.cluster.node_clients().get(&node_name(node));
        client.ok_or_else(|| format!("there is no node n{node}"))
    }
}

impl Observed for World {
    fn observers(&mut self) -> &mut Observers {
        &mut self.observers
    }
}

impl World {
    fn running(&mut self) -> Result<&mut Running, &'static str> {
        self.running.as_mut().ok_or("there is no cluster yet: begin with `a cluster of 3 nodes`")
    }

    /// The leader that is agreed on, and that is not `other`.
    async fn leader(&mut self, other: Option<NodeId>) -> Result<NodeId, Box<dyn Error>> {
        let agreed = |view: &ClusterView| view.leader.filter(|leader| Some(leader.node_id) != other);
        let raft = &self.running()?.raft;
        let wait = raft.eventually("a leader is agreed on", |view| agreed(view).is_some()).within(SOON);
        let seen = self.observers.wait(wait).await?;
        Ok(agreed(&seen.value).ok_or("the wait was for a leader")?.node_id)
    }

    async fn leader_client(&mut self) -> Result<NodeClient, Box<dyn Error>> {
        let leader = self.leader(None).await?;
        Ok(self.running()?.client(leader)?)
    }
}

#[given(regex = r#"^a cluster of (\d+) nodes that is observed as "(.*)"$"#)]
async fn a_cluster(world: &mut World, nodes: u64, name: String) -> Step {
    let deployment = Deployment { nodes, ..Deployment::default() };
    let started = local_deployer(Some(PROGRAM.into())).start(&deployment).await;
    let cluster = started.map_err(|error| error_chain(&error))?;
    form(&cluster.node_clients(), SOON).await?;
    let runtime = observe_nodes(cluster.node_clients(), INTERVAL).await?;
    world.running = Some(Running { cluster, raft: runtime.handle(), last: 1 });
    world.observers.add_with_json(&name, runtime, ClusterView::to_json)?;
    Ok(())
}

#[given("no term has two leaders")]
fn one_leader_a_term(world: &mut World) -> Step {
    let invariant = world.running()?.raft.invariant("no term has two leaders", |view| {
        let leads = view.present().map(|(_, state)| state).filter(|state| state.role == Role::Leader);
        let terms: Vec<u64> = leads.map(|state| state.current_term).collect();
        terms.len() == terms.iter().collect::<BTreeSet<_>>().len()
    });
    world.observers.hold(invariant);
    Ok(())
}

#[when("the leader is killed")]
async fn leader_killed(world: &mut World) -> Step {
    let leader = world.leader(None).await?;
    let running = world.running()?;
    running.control().kill(&node_name(leader)).await?;
    running.last = leader;
    Ok(())
}

#[when("it is restarted")]
async fn restarted(world: &mut World) -> Step {
    let running = world.running()?;
    Ok(running.control().start(&node_name(running.last)).await?)
}

#[when(regex = r"^node n(\d+) hangs$")]
async fn hangs(world: &mut World, node: NodeId) -> Step {
    Ok(world.running()?.control().pause(&node_name(node)).await?)
}

#[when(regex = r"^node n(\d+) goes on$")]
async fn goes_on(world: &mut World, node: NodeId) -> Step {
    Ok(world.running()?.control().resume(&node_name(node)).await?)
}

#[when("another node is started")]
async fn another_started(world: &mut World) -> Step {
    let running = world.running()?;
    running.last = running.cluster.add_node().await?.trim_start_matches('n').parse()?;
    Ok(())
}

#[when("it joins the voters")]
async fn joins(world: &mut World) -> Step {
    let leader = world.leader_client().await?;
    let running = world.running()?;
    let addr = running.client(running.last)?.addr().to_owned();
    leader.add_learner(&Member { node_id: running.last, addr }).await?;
    leader.change_membership((1..=running.last).collect()).await?;
    Ok(())
}

#[when(regex = r#"^"(.*)" is written under "(.*)"$"#)]
async fn written(world: &mut World, value: String, key: String) -> Step {
    write(&world.running()?.raft, (&key, &value, 1)).await?;
    Ok(())
}

#[then("another node leads")]
async fn another_leads(world: &mut World) -> Step {
    let last = world.running()?.last;
    world.leader(Some(last)).await?;
    Ok(())
}
