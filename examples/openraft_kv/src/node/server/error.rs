//! Answers that are not a success.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use openraft::BasicNode;
use openraft::error::{
    ChangeMembershipError, CheckIsLeaderError, ClientWriteError, Fatal, ForwardToLeader, RaftError,
};

use crate::api::{ErrorBody, ErrorCode, Member, NodeId};

/// An [`ErrorBody`] with the status that belongs to its code.
#[derive(Debug)]
pub(super) struct Refusal(ErrorBody);

impl Refusal {
    pub(super) fn new(error: ErrorCode, message: impl Into<String>) -> Self {
        Self(ErrorBody { error, message: message.into(), leader: None })
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::BadRequest, message)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (status(self.0.error), Json(self.0)).into_response()
    }
}

fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::BadRequest => StatusCode::BAD_REQUEST,
        ErrorCode::NotFound | ErrorCode::KeyNotFound => StatusCode::NOT_FOUND,
        ErrorCode::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        ErrorCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::NotLeader | ErrorCode::WrongNode => StatusCode::MISDIRECTED_REQUEST,
        ErrorCode::AlreadyInitialized
        | ErrorCode::UnknownLearner
        | ErrorCode::OtherAddress
        | ErrorCode::ChangeInProgress
        | ErrorCode::StaleSerial
        | ErrorCode::SnapshotMismatch => StatusCode::CONFLICT,
        ErrorCode::NoLeader | ErrorCode::NoQuorum | ErrorCode::NotCommitted | ErrorCode::Stopping => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        ErrorCode::Internal | ErrorCode::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<redb::Error> for Refusal {
    fn from(error: redb::Error) -> Self {
        Self::new(ErrorCode::Internal, format!("the store failed: {error}"))
    }
}

impl From<Fatal<NodeId>> for Refusal {
    fn from(error: Fatal<NodeId>) -> Self {
        match error {
            Fatal::Stopped => Self::new(ErrorCode::Stopping, "the node is stopping: ask another"),
            broken => Self::new(ErrorCode::Internal, format!("Raft has stopped: {broken}")),
        }
    }
}

impl From<ForwardToLeader<NodeId, BasicNode>> for Refusal {
    fn from(forward: ForwardToLeader<NodeId, BasicNode>) -> Self {
        let leader = forward.leader_id.zip(forward.leader_node);
        match leader.map(|(node_id, BasicNode { addr })| Member { node_id, addr }) {
            Some(leader) => Self(ErrorBody {
                error: ErrorCode::NotLeader,
                message: format!("only the leader does this: ask {leader}"),
                leader: Some(leader),
            }),
            None => Self::new(
                ErrorCode::NoLeader,
                "only the leader does this, and none is known: retry after the election",
            ),
        }
    }
}

impl<E> From<RaftError<NodeId, E>> for Refusal
where
    E: Into<Refusal>,
{
    fn from(error: RaftError<NodeId, E>) -> Self {
        match error {
            RaftError::APIError(refused) => refused.into(),
            RaftError::Fatal(fatal) => fatal.into(),
        }
    }
}

impl From<openraft::error::Infallible> for Refusal {
    fn from(never: openraft::error::Infallible) -> Self {
        match never {}
    }
}

impl From<ClientWriteError<NodeId, BasicNode>> for Refusal {
    fn from(error: ClientWriteError<NodeId, BasicNode>) -> Self {
        match error {
            ClientWriteError::ForwardToLeader(forward) => forward.into(),
            ClientWriteError::ChangeMembershipError(refused) => refused.into(),
        }
    }
}

impl From<CheckIsLeaderError<NodeId, BasicNode>> for Refusal {
    fn from(error: CheckIsLeaderError<NodeId, BasicNode>) -> Self {
        match error {
            CheckIsLeaderError::ForwardToLeader(forward) => forward.into(),
            CheckIsLeaderError::QuorumNotEnough(few) => Self::new(
                ErrorCode::NoQuorum,
                format!("the leader does not reach a quorum: {few}; retry when more nodes run"),
            ),
        }
    }
}

impl From<ChangeMembershipError<NodeId>> for Refusal {
    fn from(error: ChangeMembershipError<NodeId>) -> Self {
        match error {
            ChangeMembershipError::InProgress(change) => Self::new(
                ErrorCode::ChangeInProgress,
                format!("retry when the change before is finished: {change}"),
            ),
            ChangeMembershipError::EmptyMembership(_) => {
                Self::bad_request("`voters` is empty: a cluster needs at least one")
            }
            ChangeMembershipError::LearnerNotFound(unknown) => Self::new(
                ErrorCode::UnknownLearner,
                format!("node {} is no member: POST it to /admin/add-learner first", unknown.node_id),
            ),
        }
    }
}
