//! What the tests share.

use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use openraft_kv::api::{NodeId, NodeState, Written};
use openraft_kv::{ClientError, ClusterOptions, LocalCluster, NodeClient};
use tokio::time::{Instant, sleep};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_openraft_kv");
pub(crate) const SOON: Duration = Duration::from_secs(15);

pub(crate) fn options(nodes: u64) -> ClusterOptions {
    ClusterOptions { nodes, program: Some(PROGRAM.into()), ..ClusterOptions::default() }
}

pub(crate) async fn formed(options: ClusterOptions) -> LocalCluster {
    let cluster = LocalCluster::start(options).await.unwrap();
    cluster.form().await.unwrap();
    cluster
}

/// Asks until the answer is a success, and panics with the last failure at the deadline.
pub(crate) async fn until<T, E: Debug>(
    deadline: Duration,
    what: &str,
    mut ask: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let deadline = Instant::now() + deadline;
    loop {
        match ask().await {
            Ok(value) => return value,
            Err(last) if Instant::now() > deadline => panic!("{what}: not in time, last {last:?}"),
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

/// What every running node believes.
pub(crate) async fn states(cluster: &LocalCluster) -> Result<Vec<NodeState>, ClientError> {
    let mut states = Vec::new();
    for client in cluster.clients() {
        states.push(client.state().await?);
    }
    Ok(states)
}

/// Waits until all running nodes satisfy `condition`.
pub(crate) async fn all(
    cluster: &LocalCluster,
    what: &str,
    condition: impl Fn(&NodeState) -> bool,
) -> Vec<NodeState> {
    until(SOON, what, async || {
        let states = states(cluster).await.map_err(|e| e.to_string())?;
        if states.iter().all(&condition) { Ok(states) } else { Err(format!("{states:#?}")) }
    })
    .await
}

/// The leader that all of `clients` agree on.
pub(crate) async fn agreed_leader(clients: &[NodeClient]) -> NodeId {
    until(SOON, "a leader is agreed", async || {
        let mut leaders = Vec::new();
        for client in clients {
            leaders.push(client.state().await.map_err(|e| e.to_string())?.current_leader);
        }
        match leaders.first() {
            Some(&Some(leader))
                if leaders.iter().all(|other| *other == Some(leader))
                    && clients.iter().any(|client| client.id() == Some(leader)) =>
            {
                Ok(leader)
            }
            _ => Err(format!("{leaders:?}")),
        }
    })
    .await
}

/// Writes through whichever node leads.
pub(crate) async fn write(clients: &[NodeClient], key: &str, value: &str, serial: u64) -> Written {
    until(SOON, "a write is taken", async || {
        let mut last = None;
        for client in clients {
            match client.write(key, value, serial).await {
                Ok(written) => return Ok(written),
                Err(error) => last = Some(error),
            }
        }
        Err(last)
    })
    .await
}

pub(crate) fn process_exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}
