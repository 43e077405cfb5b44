//! What a node is asked in every cycle.

use watchkeeper::{DynError, ObservedSource};

use super::ChainSource;
use crate::Header;
use crate::adapter::ChainClient;

/// What a node says when it is asked for its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) head: Header,
    pub(super) finalised: Option<Header>,
}

pub(super) async fn probe<C: ChainClient>(node: ObservedSource<ChainSource<C>>) -> Result<Answer, DynError> {
    let client = node.source.client;
    let head = client.head().await?;
    let finalised = client.finalised().await?;
    Ok(Answer { head, finalised })
}
