//! What a killed node comes back with.

use std::collections::BTreeMap;

use openraft_kv::NodeClient;
use watchkeeper::ObservedSource;

use crate::common::{agreed_leader, all, every, formed, options, sources, write};

#[tokio::test]
async fn a_killed_node_comes_back_with_its_log_vote_and_data() {
    let cluster = formed(options(1)).await;
    let clients = cluster.clients();
    for n in 0..5 {
        write(&clients, &format!("key-{n}"), &n.to_string(), 1).await;
    }
    let before = clients[0].state().await.unwrap();
    assert_eq!(before.kv.len(), 5);

    cluster.kill(1).await;
    assert!(cluster.clients().is_empty());
    cluster.restart(1).await;

    let after = clients[0].state().await.unwrap();
    assert_eq!(after.kv, before.kv);
    assert_eq!(after.voters, before.voters);
    assert!(after.last_log_index >= before.last_log_index);
    assert!(after.last_applied_index >= before.last_applied_index);
    assert!(after.current_term >= before.current_term);
}

#[tokio::test]
async fn all_nodes_killed_at_once_come_back_as_the_same_cluster() {
    let cluster = formed(options(3)).await;
    let clients = cluster.clients();
    write(&clients, "a", "1", 1).await;
    let term = clients[0].state().await.unwrap().current_term;
    for id in 1..=3 {
        cluster.kill(id).await;
    }
    for id in 1..=3 {
        cluster.restart(id).await;
    }
    agreed_leader(&clients).await;
    write(&clients, "b", "2", 1).await;
    let states = all(&cluster, "both keys everywhere", |s| s.kv.len() == 2).await;
    assert!(states.iter().all(|s| s.current_term >= term));
    assert!(states.iter().all(|s| s.voters == [1, 2, 3].into()));
}

#[tokio::test]
async fn a_purged_log_is_replaced_by_its_snapshot() {
    let mut options = options(1);
    options.node_flags = ["--snapshot-after", "10", "--keep-log", "0"].map(str::to_owned).into();
    let cluster = formed(options).await;
    let clients = cluster.clients();
    let mut expected = BTreeMap::new();
    for n in 0..25 {
        let (key, value) = (format!("key-{n}"), n.to_string());
        write(&clients, &key, &value, 1).await;
        expected.insert(key, value);
    }
    let purged = |node: ObservedSource<NodeClient>| async move {
        Ok(node.source.metrics().await?.purged.map_or(0, |purged| purged.index))
    };
    every("the log is purged", sources(&clients), purged, |index| *index >= 10).await;

    cluster.kill(1).await;
    cluster.restart(1).await;
    assert_eq!(clients[0].state().await.unwrap().kv, expected);

    // What a new node needs is in the snapshot alone.
    let extra = cluster.start_extra().await;
    let extra = cluster.client(extra);
    agreed_leader(&clients).await;
    let member = openraft_kv::api::Member { node_id: 2, addr: extra.addr().to_owned() };
    let membership = clients[0].add_learner(&member).await.unwrap();
    assert_eq!(membership.learners, [2].into());
    let kv = |node: ObservedSource<NodeClient>| async move { Ok(node.source.state().await?.kv) };
    every("the learner has the data", sources(std::slice::from_ref(&extra)), kv, |kv| *kv == expected).await;
    assert!(extra.metrics().await.unwrap().snapshot.is_some());
}
