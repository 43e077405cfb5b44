//! Why a question failed, from the connection up to the error of JSON-RPC.

use std::time::Duration;

use http::StatusCode;

use super::Endpoint;
use super::classify::{Class, classify};
use super::message::NodeError;
use crate::adapter::ChainError;

/// Why there is no result. The texts may contain secrets of the address.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// There is no connection, or no node behind it right now; and perhaps when to ask again.
    Unreachable { reason: String, wait: Option<Duration> },
    /// The node, or a gateway, gave up on the question with this HTTP status.
    TookTooLong(StatusCode),
    /// No answer came in this time.
    TimedOut(Duration),
    /// The rate of requests is limited.
    RateLimited(Option<Duration>),
    /// The node answered with an error of JSON-RPC.
    Node(NodeError),
    /// An HTTP status, and what the body says if that is no error of JSON-RPC.
    Status { status: StatusCode, shown: String, says: String },
    /// The answer is longer than any that is read.
    TooLong(usize),
    /// The answer cannot be read.
    Malformed(String),
}

impl Fault {
    pub(super) fn class(&self) -> Class {
        match self {
            Self::Unreachable { .. } => Class::Busy,
            Self::TookTooLong(_) | Self::TimedOut(_) => Class::TimedOut,
            Self::RateLimited(wait) => Class::RateLimited(*wait),
            Self::Node(error) => error.class(),
            Self::Status { status: StatusCode::PAYLOAD_TOO_LARGE, .. } | Self::TooLong(_) => {
                Class::RangeTooLarge
            }
            Self::Status { status: StatusCode::INTERNAL_SERVER_ERROR, says, .. } => {
                match classify(0, says, None) {
                    Class::Refused => Class::Busy,
                    class => class,
                }
            }
            Self::Status { says, .. } => classify(0, says, None),
            Self::Malformed(_) => Class::Refused,
        }
    }

    /// For how long the node asks for no requests.
    pub(super) fn wait(&self) -> Option<Duration> {
        match self {
            Self::Unreachable { wait, .. } => *wait,
            fault => match fault.class() {
                Class::RateLimited(wait) => wait,
                _ => None,
            },
        }
    }

    /// The error for people, without secrets.
    pub(super) fn report(&self, method: &'static str, node: &Endpoint) -> ChainError {
        let endpoint = node.to_string();
        match self {
            Self::Unreachable { reason, wait: None } => {
                ChainError::Unreachable { endpoint, reason: node.clear(reason) }
            }
            Self::Unreachable { reason, wait: Some(wait) } => {
                let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                let reason = format!("{}: ask again in {seconds} s", node.clear(reason));
                ChainError::Unreachable { endpoint, reason }
            }
            Self::TookTooLong(status) => {
                ChainError::Unreachable { endpoint, reason: format!("HTTP status {status}") }
            }
            Self::TimedOut(after) => ChainError::TimedOut { endpoint, after: *after },
            Self::RateLimited(retry_after) => ChainError::RateLimited { endpoint, retry_after: *retry_after },
            Self::Node(error) => {
                let reason = format!("{} (code {})", error.message, error.code);
                self.by_class(endpoint, method, node.clear(&reason))
            }
            Self::Status { shown, .. } => self.by_class(endpoint, method, node.clear(shown)),
            Self::TooLong(bytes) => {
                let reason = format!("it is longer than {bytes} bytes");
                ChainError::Malformed { endpoint, method, reason }
            }
            Self::Malformed(reason) => ChainError::Malformed { endpoint, method, reason: node.clear(reason) },
        }
    }

    fn by_class(&self, endpoint: String, method: &'static str, reason: String) -> ChainError {
        match self.class() {
            Class::RateLimited(retry_after) => ChainError::RateLimited { endpoint, retry_after },
            // A block that the node does not have yet.
            Class::Busy | Class::TimedOut | Class::UnknownBlock => {
                ChainError::Busy { endpoint, method, reason }
            }
            Class::Pruned => ChainError::Pruned { endpoint, method, reason },
            Class::RangeTooLarge
            | Class::NoBatch
            | Class::NoMethod
            | Class::Misunderstood
            | Class::Refused => ChainError::Refused { endpoint, method, reason },
        }
    }
}
