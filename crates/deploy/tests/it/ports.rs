//! The ports of clusters.

use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use watchkeeper_scenario::RunningCluster;

use crate::app::{Program, SOON, client};

/// While no node listens, nobody else gets its port: another program's connection came from it, and the node could not come
/// back. Of 20 ports, 8,000 tries on the range of the system would miss all once in 300 times.
#[tokio::test]
async fn the_ports_of_nodes_that_do_not_listen_are_given_to_nobody() {
    let cluster = Program::script("echo ready; exec sleep 1000").start(20).await;
    let clients = cluster.node_clients().all();
    let reserved: HashSet<SocketAddr> =
        clients.iter().map(|node| node.source.address.parse().unwrap()).collect();
    assert_eq!(reserved.len(), 20);
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    for _ in 0..4_000 {
        let bound = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let connected = TcpStream::connect(server.local_addr().unwrap()).unwrap();
        let _ = server.accept().unwrap();
        assert!(!reserved.contains(&bound), "bind(0) got {bound}");
        let from = connected.local_addr().unwrap();
        assert!(!reserved.contains(&from), "connect got {from}");
    }
    for address in reserved {
        TcpListener::bind(address).expect("a server can still listen on it");
    }
}

#[tokio::test]
async fn concurrent_clusters_share_no_port() {
    let (one, two) = tokio::join!(Program::node().start(4), Program::node().start(4));
    let nodes = [one.node_clients().all(), two.node_clients().all()].concat();
    let addresses: HashSet<&str> = nodes.iter().map(|node| node.source.address.as_str()).collect();
    assert_eq!(addresses.len(), 8);
    assert_ne!(one.directory(), two.directory());
}

/// A program that names the port itself can take it while the node is down. The log of the node says so.
#[tokio::test]
async fn a_port_that_another_program_has_named_is_in_the_log() {
    let cluster = Program::node().start(1).await;
    let control = cluster.node_control();
    control.kill("n1").await.unwrap();
    let taken = TcpListener::bind(&client(&cluster, "n1").address).unwrap();
    control.start("n1").await.unwrap();
    watchkeeper::until("it has ended", || async { cluster.pid("n1").is_none() }).within(SOON).await.unwrap();
    let unmet = control.wait_ready("n1", Duration::from_millis(200)).await.unwrap_err().to_string();
    assert!(unmet.contains("AddrInUse"), "{unmet}");
    drop(taken);
    control.start("n1").await.unwrap();
    control.wait_ready("n1", SOON).await.unwrap();
}
