//! A cluster that a test drives by hand: real TCP servers in this process, observed across their restarts.
//!
//! `cargo run -p watchkeeper-scenario --example manual_cluster`

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use watchkeeper::{ObservedSource, PerSource};
use watchkeeper_scenario::{Application, DeployError, Deployer, DynError, ManualCluster, NodeAction};
use watchkeeper_scenario::{NodeClients, NodeControl, NodeControlError, RunningCluster, async_trait};

struct Servers;
impl Application for Servers {
    type Deployment = ();
    type NodeClient = (SocketAddr, AbortHandle); // of the task that serves
}

async fn accepts(server: ObservedSource<(SocketAddr, AbortHandle)>) -> io::Result<SocketAddr> {
    TcpStream::connect(server.source.0).await?.peer_addr()
}

/// Nodes are tasks. One that is started again has another port, and so another client.
#[derive(Clone, Default)]
struct Tasks(NodeClients<(SocketAddr, AbortHandle)>);

#[async_trait]
#[rustfmt::skip]
impl NodeControl for Tasks {
    fn deployer(&self) -> &'static str { "tasks" }
    fn nodes(&self) -> Vec<String> { ["n1", "n2", "n3"].map(str::to_owned).into() }
    async fn wait_ready(&self, _: &str, _: Duration) -> Result<(), NodeControlError> { Ok(()) }
    async fn start(&self, node: &str) -> Result<(), NodeControlError> {
        let action = NodeAction::Start;
        let failed = |why: io::Error| NodeControlError::Failed { action, node: node.to_owned(), source: why.into() };
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let server = tokio::spawn(async move { while listener.accept().await.is_ok() {} });
        self.0.insert(node, (address, server.abort_handle()));
        Ok(())
    }
    async fn kill(&self, node: &str) -> Result<(), NodeControlError> {
        self.0.get(node).map(|(_, server)| server.abort()).ok_or_else(|| self.unknown(node))
    }
}

#[async_trait]
#[rustfmt::skip]
impl RunningCluster<Servers> for Tasks {
    fn node_clients(&self) -> NodeClients<(SocketAddr, AbortHandle)> { self.0.clone() }
    fn node_control(&self) -> Arc<dyn NodeControl> { Arc::new(self.clone()) }
    async fn shut_down(&self) -> Result<(), DeployError> { self.0.all().iter().for_each(|node| node.source.1.abort()); Ok(()) }
}

#[async_trait]
#[rustfmt::skip]
impl Deployer<Servers> for Tasks {
    fn name(&self) -> &'static str { "tasks" }
    async fn deploy(&self, (): &()) -> Result<Box<dyn RunningCluster<Servers>>, DeployError> { Ok(Box::new(self.clone())) }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), DynError> {
    let [interval, window] = [20, 10_000].map(Duration::from_millis);
    let cluster = ManualCluster::<Servers>::deploy(&Tasks::default(), &()).await?;
    tokio::try_join!(cluster.start("n1"), cluster.start("n2"), cluster.start("n3"))?;
    let servers = cluster.attach("servers", PerSource::new(accepts), interval.into()).await?;
    let all = servers.all_sources("all accept", |_| true).within(window).await?;
    cluster.kill("n2").await?;
    servers.source_failing("n2").within(window).await?;
    println!("{}", servers.why_stale("n2"));
    cluster.start("n2").await?;
    let back = servers.source_fresh("n2").within(window).await?;
    assert_ne!(back.value.answer("n2"), all.value.answer("n2"), "it listens elsewhere");
    cluster.shut_down().await?; // observers first, then nodes
    assert!(servers.stop_reason().is_some());
    Ok(())
}
