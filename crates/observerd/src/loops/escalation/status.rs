//! What is shown of the escalation.

use serde::Serialize;
use utoipa::ToSchema;

/// What the escalation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EscalationState {
    /// There is no webhook.
    Disabled,
    /// Nothing waits. Ends with a cluster over the threshold.
    Idle,
    /// A cluster is being posted. Ends with the answer or a failure.
    Posting,
    /// The outcome is being written. Ends when it is.
    Recording,
    /// A post has failed. Ends after the pause.
    BackingOff,
    /// The webhook's address is refused. Ends after the longest pause, with a further attempt.
    Refused,
    /// Clusters wait, and the posts of the hour are used. Ends when there is one again.
    Limited,
    /// A stop was requested. Ends with the post or the write in flight.
    Draining,
    /// It has stopped. Final.
    Stopped,
}

/// The escalation at one moment. Counts are since the start of the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct EscalationStatus {
    /// What it does.
    pub state: EscalationState,
    /// Since when: RFC 3339, UTC.
    pub since: String,
    /// How many clusters were posted.
    pub posted: u64,
    /// How many were given up.
    pub failed: u64,
    /// How many wait, without the one that is being posted.
    pub waiting: usize,
    /// How many were dropped since too many waited; they are escalated when they are sighted again.
    pub dropped: u64,
    /// How many attempts have failed since the last success.
    pub consecutive_failures: u64,
    /// Whether the last attempts have failed: two consecutive ones, or one that is not repeated soon.
    pub failing: bool,
    /// What failed last: at most 500 bytes, without the webhook's path.
    pub last_error: Option<String>,
    /// What was posted last.
    pub last_posted: Option<LastPosted>,
}

/// What was posted last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct LastPosted {
    /// The cluster's id.
    pub id: String,
    /// The sequence that it was escalated at.
    pub sequence: u64,
    /// When it was answered: RFC 3339, UTC.
    pub at: String,
}

impl EscalationStatus {
    /// The status without a webhook. `since` is the start of the process.
    #[must_use]
    pub fn disabled(since: impl Into<String>) -> Self {
        Self::new(EscalationState::Disabled, since.into())
    }

    pub(super) fn new(state: EscalationState, since: String) -> Self {
        Self {
            state,
            since,
            posted: 0,
            failed: 0,
            waiting: 0,
            dropped: 0,
            consecutive_failures: 0,
            failing: false,
            last_error: None,
            last_posted: None,
        }
    }
}
