//! Forming and changing the cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use openraft::BasicNode;
use openraft::error::{ChangeMembershipError, ClientWriteError, ForwardToLeader, InitializeError, RaftError};
use openraft::raft::ClientWriteResponse;
use tokio::time::timeout;

use super::body::Body;
use super::error::Refusal;
use super::kv::not_committed;
use super::{Answer, App};
use crate::api::{
    ChangeMembershipRequest, ErrorCode, Formed, InitRequest, Member, Membership, Metrics, NodeId, check_addr,
};
use crate::node::raft::{LogId, TypeConfig};

pub(super) async fn metrics(State(app): State<Arc<App>>) -> Json<Metrics> {
    Json(app.raft.metrics().borrow().clone())
}

pub(super) async fn init(State(app): State<Arc<App>>, Body(request): Body<InitRequest>) -> Answer<Formed> {
    let members = members(&app, request.members)?;
    match app.raft.initialize(members.clone()).await {
        Ok(()) => {}
        Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {
            check_same_members(&app, &members)?;
        }
        Err(RaftError::APIError(InitializeError::NotInMembers(_))) => {
            return Err(Refusal::bad_request(format!(
                "`members` lacks node {}, the one that was asked",
                app.identity.node_id
            )));
        }
        Err(RaftError::Fatal(fatal)) => return Err(fatal.into()),
    }
    let elected = app
        .raft
        .wait(Some(app.request_timeout))
        .metrics(|metrics| metrics.current_leader.is_some(), "a leader")
        .await;
    match elected.ok().and_then(|m| Some((m.current_leader?, m.current_term))) {
        Some((leader, term)) => Ok(Json(Formed { leader, term })),
        None => Err(Refusal::new(
            ErrorCode::NoLeader,
            format!(
                "the members are set, but no leader was elected within {:?}: \
                 check that they run, and repeat",
                app.request_timeout
            ),
        )),
    }
}

pub(super) async fn add_learner(
    State(app): State<Arc<App>>,
    Body(member): Body<Member>,
) -> Answer<Membership> {
    let Member { node_id, addr } = checked(member)?;
    let known = app.raft.metrics().borrow().membership_config.clone();
    if let Some(BasicNode { addr: other }) = known.membership().get_node(&node_id)
        && *other != addr
    {
        return Err(Refusal::new(
            ErrorCode::OtherAddress,
            format!("node {node_id} is a member at {other}: remove it first, or use that address"),
        ));
    }
    let added = app.raft.add_learner(node_id, BasicNode::new(&addr), false);
    let response = timeout(app.request_timeout, added).await.map_err(|_| not_committed(&app))??;
    if node_id != app.identity.node_id {
        catch_up(&app, node_id, &addr, response.log_id).await?;
    }
    Ok(Json(membership(&response)))
}

/// Waits until the learner has the log up to `upto`. openraft's own wait also ends for a learner that was
/// never reached.
async fn catch_up(app: &App, node_id: NodeId, addr: &str, upto: LogId) -> Result<(), Refusal> {
    let has_it = |metrics: &Metrics| match &metrics.replication {
        Some(replication) => replication.get(&node_id).is_some_and(|matched| *matched >= Some(upto)),
        // No longer the leader: the next one replicates to the learner.
        None => true,
    };
    let wait = app.raft.wait(Some(app.request_timeout));
    match wait.metrics(has_it, "the learner has the log").await {
        Ok(_) => Ok(()),
        Err(_) => Err(Refusal::new(
            ErrorCode::NotCommitted,
            format!(
                "node {node_id} is a learner now, but did not get the log within {:?}: \
                 check that it runs at {addr}, and repeat",
                app.request_timeout
            ),
        )),
    }
}

pub(super) async fn change_membership(
    State(app): State<Arc<App>>,
    Body(request): Body<ChangeMembershipRequest>,
) -> Answer<Membership> {
    let changed = app.raft.change_membership(request.voters, false);
    let changed = timeout(app.request_timeout, changed).await.map_err(|_| not_committed(&app))?;
    let response = changed.map_err(|error| named_leader(&app, &error).unwrap_or_else(|| error.into()))?;
    Ok(Json(membership(&response)))
}

/// A follower that does not know yet what is committed refuses a change as if another were in progress: names the
/// leader.
fn named_leader(
    app: &App,
    error: &RaftError<NodeId, ClientWriteError<NodeId, BasicNode>>,
) -> Option<Refusal> {
    let is_in_progress = matches!(
        error,
        RaftError::APIError(ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(_)))
    );
    let metrics = app.raft.metrics().borrow().clone();
    let leader_id =
        metrics.current_leader.filter(|leader| is_in_progress && *leader != app.identity.node_id)?;
    let leader_node = metrics.membership_config.nodes().find(|(id, _)| **id == leader_id);
    let leader_node = leader_node.map(|(_, node)| node.clone());
    Some(ForwardToLeader { leader_id: Some(leader_id), leader_node }.into())
}

fn members(app: &App, given: Vec<Member>) -> Result<BTreeMap<NodeId, BasicNode>, Refusal> {
    let mut members = BTreeMap::new();
    for member in given {
        let Member { node_id, addr } = checked(member)?;
        if node_id == app.identity.node_id && addr != app.public_addr {
            return Err(Refusal::bad_request(format!(
                "node {node_id} is reached at {}, not at {addr}",
                app.public_addr
            )));
        }
        if members.insert(node_id, BasicNode { addr }).is_some() {
            return Err(Refusal::bad_request(format!("`members` has node {node_id} twice")));
        }
    }
    Ok(members)
}

fn checked(member: Member) -> Result<Member, Refusal> {
    if member.node_id == 0 {
        return Err(Refusal::bad_request("node ids begin at 1"));
    }
    check_addr(&member.addr).map_err(Refusal::bad_request)?;
    Ok(member)
}

fn check_same_members(app: &App, members: &BTreeMap<NodeId, BasicNode>) -> Result<(), Refusal> {
    let current = app.raft.metrics().borrow().membership_config.clone();
    if current.nodes().eq(members) {
        return Ok(());
    }
    Err(Refusal::new(
        ErrorCode::AlreadyInitialized,
        format!(
            "the node is in a cluster already, {}: change it by /admin/change-membership",
            current.membership()
        ),
    ))
}

fn membership(response: &ClientWriteResponse<TypeConfig>) -> Membership {
    let members = response.membership.clone().unwrap_or_default();
    Membership {
        voters: members.voter_ids().collect(),
        learners: members.learner_ids().collect(),
        log_index: response.log_id.index,
    }
}
