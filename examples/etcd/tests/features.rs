//! The features on real etcd: `cargo xtask test --only etcd`.

#[path = "../src/members.rs"]
mod members;
use cucumber::{World as _, given, then, when};
use members::{EVERY, Etcd, Members, agree, leads, one_leader_a_term, put, status};
use watchkeeper::{DynError, ObservationHandle, ObservationRuntime, report::error_chain};
use watchkeeper_cucumber::{Observed, Observers, after, finish_run, with_steps};
use watchkeeper_deploy::local::{LocalCluster, LocalDeployer};
use watchkeeper_scenario::RunningCluster;

#[derive(Debug, Default, cucumber::World)]
struct World {
    observers: Observers,
    running: Option<(LocalCluster<Etcd>, ObservationHandle<Members>)>,
    killed: String,
}

impl Observed for World {
    fn observers(&mut self) -> &mut Observers {
        &mut self.observers
    }
}

#[given("three members of etcd that are observed")]
async fn deployed(world: &mut World) -> Result<(), DynError> {
    let cluster = LocalDeployer::new(Etcd).start(&3).await.map_err(|error| error_chain(&error))?;
    let observer = Members::new(|at| async move { status(&at.source).await });
    let runtime = ObservationRuntime::start(cluster.node_clients(), observer, EVERY.into()).await?;
    world.observers.hold(runtime.handle().invariant("no term has two leaders", one_leader_a_term));
    world.running = Some((cluster, runtime.handle()));
    Ok(world.observers.add_with_json("etcd", runtime, |seen| serde_json::json!({ "agree": agree(seen) }))?)
}

#[when("the leader is killed")]
async fn killed(world: &mut World) -> Result<(), DynError> {
    let (cluster, etcd) = world.running.as_ref().ok_or("no etcd")?;
    world.killed = leads(etcd, "").await?;
    Ok(cluster.node_control().kill(&world.killed).await?)
}

#[then("another member leads and takes a write")]
async fn written(world: &mut World) -> Result<(), DynError> {
    let (cluster, etcd) = world.running.as_ref().ok_or("no etcd")?;
    let leader = cluster.node_clients().get(&leads(etcd, &world.killed).await?);
    put(&leader.ok_or("no leader")?, "colour", "green").await
}

#[when("it is started again")]
async fn started(world: &mut World) -> Result<(), DynError> {
    let (cluster, _) = world.running.as_ref().ok_or("no etcd")?;
    Ok(cluster.node_control().start(&world.killed).await?)
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let run = World::cucumber().steps(with_steps(World::collection())).after(after).fail_on_skipped();
    finish_run(&run.run(concat!(env!("CARGO_MANIFEST_DIR"), "/features")).await)
}
