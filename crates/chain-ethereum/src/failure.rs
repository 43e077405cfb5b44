//! Why a question failed, from the connection up to the error of JSON-RPC.

use std::time::Duration;

use http::StatusCode;

use super::Endpoint;
use super::classify::{Class, classify};
use super::message::NodeError;
use watchkeeper_chain::adapter::{ChainError, ask_again_in};

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
    Status { status: StatusCode, shown: String, says: String, wait: Option<Duration> },
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
            Self::Status { status, says, wait, .. } => match classify(0, says, None) {
                Class::RateLimited(given) => Class::RateLimited(wait.or(given)),
                Class::Refused if *status == StatusCode::INTERNAL_SERVER_ERROR => Class::Busy,
                // A server that fails says nothing about what the node keeps.
                Class::Pruned if status.is_server_error() => Class::Busy,
                class => class,
            },
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

    /// What happened, for people. It may contain secrets of the address.
    pub(super) fn reason(&self) -> String {
        match self {
            Self::Unreachable { reason, wait } => format!("{reason}{}", ask_again_in(*wait)),
            Self::TookTooLong(status) => format!("HTTP status {status}"),
            Self::TimedOut(after) => format!("it gave no answer within {after:?}"),
            Self::RateLimited(wait) => format!("it limits the rate of requests{}", ask_again_in(*wait)),
            Self::Node(error) => error.to_string(),
            Self::Status { shown, .. } => shown.clone(),
            Self::TooLong(bytes) => format!("it is longer than {bytes} bytes"),
            Self::Malformed(reason) => reason.clone(),
        }
    }

    /// The error for people, without secrets.
    pub(super) fn report(&self, method: &'static str, node: &Endpoint) -> ChainError {
        let (endpoint, reason) = (node.to_string(), node.clear(&self.reason()));
        match self {
            Self::Unreachable { .. } | Self::TookTooLong(_) => ChainError::Unreachable { endpoint, reason },
            Self::TimedOut(after) => ChainError::TimedOut { endpoint, after: *after },
            Self::RateLimited(retry_after) => ChainError::RateLimited { endpoint, retry_after: *retry_after },
            Self::Node(_) | Self::Status { .. } => self.by_class(endpoint, method, reason),
            Self::TooLong(_) | Self::Malformed(_) => ChainError::Malformed { endpoint, method, reason },
        }
    }

    fn by_class(&self, endpoint: String, method: &'static str, reason: String) -> ChainError {
        match self.class() {
            Class::RateLimited(retry_after) => ChainError::RateLimited { endpoint, retry_after },
            // A block that the node does not have yet.
            Class::Busy | Class::TimedOut | Class::UnknownBlock | Class::NoState => {
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
