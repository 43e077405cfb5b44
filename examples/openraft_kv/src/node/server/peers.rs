//! Raft's own messages.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use openraft::error::InstallSnapshotError;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};

use super::body::Body;
use super::error::Refusal;
use super::{Answer, App};
use crate::api::{ErrorCode, NodeId};
use crate::node::raft::TypeConfig;

pub(super) async fn vote(
    State(app): State<Arc<App>>,
    Body(request): Body<VoteRequest<NodeId>>,
) -> Answer<VoteResponse<NodeId>> {
    Ok(Json(app.raft.vote(request).await?))
}

pub(super) async fn append(
    State(app): State<Arc<App>>,
    Body(request): Body<AppendEntriesRequest<TypeConfig>>,
) -> Answer<AppendEntriesResponse<NodeId>> {
    Ok(Json(app.raft.append_entries(request).await?))
}

pub(super) async fn snapshot(
    State(app): State<Arc<App>>,
    Body(request): Body<InstallSnapshotRequest<TypeConfig>>,
) -> Answer<InstallSnapshotResponse<NodeId>> {
    Ok(Json(app.raft.install_snapshot(request).await?))
}

impl From<InstallSnapshotError> for Refusal {
    fn from(InstallSnapshotError::SnapshotMismatch(mismatch): InstallSnapshotError) -> Self {
        Self::new(ErrorCode::SnapshotMismatch, mismatch.to_string())
    }
}
