//! The HTTP API of a node.

mod admin;
mod body;
mod error;
mod kv;
mod peers;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use openraft::ServerState;

use self::error::Refusal;
use super::raft::Raft;
use super::store::{Identity, StateMachine};
use crate::api::{ErrorCode, Health, NodeState, Role};
use crate::http::{CLUSTER_HEADER, NODE_HEADER};

const LARGEST_REQUEST: usize = 1 << 20;
/// A batch of entries, or a chunk of a snapshot, and what JSON adds to them.
const LARGEST_RAFT_MESSAGE: usize = 16 << 20;

/// What the handlers share.
pub(super) struct App {
    pub(super) identity: Identity,
    pub(super) public_addr: String,
    pub(super) raft: Raft,
    pub(super) data: StateMachine,
    pub(super) request_timeout: Duration,
}

type Answer<T> = Result<Json<T>, Refusal>;

pub(super) fn router(app: Arc<App>) -> Router {
    let raft = Router::new()
        .route("/raft/vote", post(peers::vote))
        .route("/raft/append", post(peers::append))
        .route("/raft/snapshot", post(peers::snapshot))
        .layer(DefaultBodyLimit::max(LARGEST_RAFT_MESSAGE));
    Router::new()
        .route("/healthz", get(health))
        .route("/state", get(state))
        .route("/admin/metrics", get(admin::metrics))
        .route("/admin/init", post(admin::init))
        .route("/admin/add-learner", post(admin::add_learner))
        .route("/admin/change-membership", post(admin::change_membership))
        .route("/kv/write", post(kv::write))
        .route("/kv/read", post(kv::read))
        .layer(DefaultBodyLimit::max(LARGEST_REQUEST))
        .merge(raft)
        .fallback(no_such_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(app.clone(), check_target))
        .with_state(app)
}

async fn health(State(app): State<Arc<App>>) -> Answer<Health> {
    let running = app.raft.metrics().borrow().running_state.clone();
    running?;
    Ok(Json(Health { node_id: app.identity.node_id, status: "ok".to_owned() }))
}

async fn state(State(app): State<Arc<App>>) -> Answer<NodeState> {
    let view = app.data.view()?;
    let metrics = app.raft.metrics().borrow().clone();
    let applied = view.applied.map(|id| id.index);
    Ok(Json(NodeState {
        node_id: app.identity.node_id,
        public_addr: app.public_addr.clone(),
        role: role(metrics.state),
        current_leader: metrics.current_leader,
        current_term: metrics.current_term,
        // The metrics lag the store by a moment, but what is applied is in the log.
        last_log_index: metrics.last_log_index.max(applied),
        last_applied_index: applied,
        voters: metrics.membership_config.voter_ids().collect(),
        kv: view.records.into_iter().map(|(key, record)| (key, record.value)).collect(),
    }))
}

fn role(state: ServerState) -> Role {
    match state {
        ServerState::Learner => Role::Learner,
        ServerState::Follower => Role::Follower,
        ServerState::Candidate => Role::Candidate,
        ServerState::Leader => Role::Leader,
        ServerState::Shutdown => Role::Stopped,
    }
}

/// Refuses a request for another node: see [`crate::http::Target`].
async fn check_target(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let Identity { cluster, node_id } = &app.identity;
    let headers = request.headers();
    let meant_for_us = headers.get(CLUSTER_HEADER).is_none_or(|name| name == cluster)
        && headers.get(NODE_HEADER).is_none_or(|id| *id == node_id.to_string());
    if meant_for_us {
        return Ok(next.run(request).await);
    }
    Err(Refusal::new(
        ErrorCode::WrongNode,
        format!("the request is for another node: this is {}, the port may have been reused", app.identity),
    ))
}

async fn no_such_route(request: Request) -> Refusal {
    let message = format!("no route {}: the README of openraft_kv lists them", request.uri().path());
    Refusal::new(ErrorCode::NotFound, message)
}

async fn wrong_method(request: Request) -> Refusal {
    let message = format!(
        "{} does not take {}: reading is GET, everything else is POST",
        request.uri().path(),
        request.method()
    );
    Refusal::new(ErrorCode::MethodNotAllowed, message)
}
