//! The question to each node in every cycle: its head.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper::runtime::Cause;
use watchkeeper::source::ProbeFailure;
use watchkeeper::{DynError, ObservedSource};

use super::hedge::{hedged, patience};
use super::{ChainConfig, ChainSource};
use crate::Header;
use crate::adapter::{ChainClient, ChainError};

/// The last error of each node, of which a failed probe has only the text, and how long its answers take; clones share
/// it.
#[derive(Clone, Debug, Default)]
pub(super) struct Errors {
    by_node: Arc<Mutex<HashMap<String, Error>>>,
    usual: Arc<Mutex<HashMap<String, Duration>>>,
}

#[derive(Clone, Debug)]
struct Error {
    error: ChainError,
    /// The node asked for no requests until then.
    backoff_until: Option<Instant>,
}

impl Errors {
    /// Asks a node for its head, unless the node asked for no requests.
    pub(super) async fn probe<C: ChainClient>(
        self,
        node: ObservedSource<ChainSource<C>>,
    ) -> Result<Header, DynError> {
        if let Some(Error { error, .. }) = self.resting(&node.name) {
            return Err(error.into());
        }
        let began = Instant::now();
        let patience = patience(self.usual(&node.name));
        let head = hedged(patience, || node.source.client.head()).await;
        let error = head.as_ref().err().cloned();
        let mut by_node = self.by_node.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = error {
            let backoff_until = match error {
                ChainError::RateLimited { retry_after, .. } => {
                    retry_after.and_then(|rest| Instant::now().checked_add(rest.min(LONGEST_REST)))
                }
                _ => None,
            };
            by_node.insert(node.name, Error { error, backoff_until });
        } else {
            by_node.remove(&node.name);
            // One that had to be asked again says nothing of how long an answer takes.
            if began.elapsed() < patience {
                self.usual.lock().unwrap_or_else(PoisonError::into_inner).insert(node.name, began.elapsed());
            }
        }
        Ok(head?)
    }

    fn usual(&self, node: &str) -> Duration {
        self.usual.lock().unwrap_or_else(PoisonError::into_inner).get(node).copied().unwrap_or_default()
    }

    fn resting(&self, node: &str) -> Option<Error> {
        let by_node = self.by_node.lock().unwrap_or_else(PoisonError::into_inner);
        let rests = |error: &&Error| error.backoff_until.is_some_and(|until| until > Instant::now());
        by_node.get(node).filter(rests).cloned()
    }

    /// Why a probe failed.
    pub(super) fn of(&self, node: &str, failure: &ProbeFailure, config: &ChainConfig) -> ChainError {
        let endpoint = node.to_owned();
        let known = self.by_node.lock().unwrap_or_else(PoisonError::into_inner).get(node).cloned();
        match (failure.cause, known) {
            (Cause::TimedOut, _) => ChainError::TimedOut { endpoint, after: config.probe_timeout },
            (Cause::Error, Some(known)) => known.error,
            _ => ChainError::Malformed { endpoint, method: "head", reason: failure.message.clone() },
        }
    }

    /// Forgets nodes that have left.
    pub(super) fn keep(&self, is_known: impl Fn(&str) -> bool) {
        self.by_node.lock().unwrap_or_else(PoisonError::into_inner).retain(|node, _| is_known(node));
        self.usual.lock().unwrap_or_else(PoisonError::into_inner).retain(|node, _| is_known(node));
    }
}

/// A longer rest that a node asks for is cut to this.
pub(super) const LONGEST_REST: Duration = Duration::from_secs(60);
