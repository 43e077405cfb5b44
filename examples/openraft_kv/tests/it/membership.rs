//! Changing the cluster while it runs.

use openraft_kv::api::{ErrorCode, Member, Role};
use openraft_kv::{ClientError, NodeClient};

use crate::common::{Cluster, agreed_leader, all, formed, options, write};

async fn leader(cluster: &Cluster, clients: &[NodeClient]) -> NodeClient {
    cluster.client(agreed_leader(clients).await)
}

#[tokio::test]
async fn a_fourth_node_learns_and_then_votes_and_leaves_again() {
    let cluster = formed(options(3)).await;
    let members = cluster.clients();
    write(&members, "a", "1", 1).await;

    let id = cluster.start_extra().await;
    assert_eq!(id, 4);
    let extra = cluster.client(id);
    let member = Member { node_id: id, addr: extra.addr().to_owned() };
    let added = leader(&cluster, &members).await.add_learner(&member).await;
    assert_eq!(added.unwrap().learners, [4].into());
    // The leader has committed it without the learner, which may not have its first entry yet.
    all(&cluster, "the learner knows the voters", |s| s.voters == [1, 2, 3].into()).await;
    assert_eq!(extra.state().await.unwrap().role, Role::Learner);

    let four = [1, 2, 3, 4].into();
    let changed = leader(&cluster, &members).await.change_membership(four).await;
    assert_eq!(changed.unwrap().voters, [1, 2, 3, 4].into());
    all(&cluster, "four voters everywhere", |s| s.voters == [1, 2, 3, 4].into() && s.kv.len() == 1).await;

    let current = agreed_leader(&cluster.clients()).await;
    let three = (1..=4).filter(|id| *id != current).collect();
    let leader = cluster.client(current);
    let left = leader.change_membership(three).await.unwrap();
    assert!(!left.voters.contains(&current));
    let mut staying = cluster.clients();
    staying.retain(|client| client.id() != Some(current));
    assert_ne!(agreed_leader(&staying).await, current);
}

#[tokio::test]
async fn a_learner_that_is_not_there_is_an_error() {
    let mut options = options(1);
    options.node_flags = ["--request-timeout-ms", "300"].map(str::to_owned).into();
    let cluster = formed(options).await;
    let leader = cluster.client(1);
    let missing = Member { node_id: 2, addr: "127.0.0.1:1".to_owned() };
    match leader.add_learner(&missing).await {
        Err(ClientError::Refused { status, error, message, .. }) => {
            assert_eq!((status, error), (503, ErrorCode::NotCommitted));
            assert!(message.contains("127.0.0.1:1"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}
