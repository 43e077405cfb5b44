//! The client of an Ethereum node.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256, U64, U256};
use alloy::rpc::client::{BatchRequest, RpcClient, Waiter};
use alloy::rpc::json_rpc::{ErrorPayload, RpcError, RpcRecv, RpcSend};
use alloy::rpc::types;
use alloy::transports::{TransportError, TransportErrorKind};
use async_trait::async_trait;
use http::StatusCode;
use serde_json::json;
use tokio::time::timeout;

use super::http::{HttpError, HttpTransport};
use super::logs::{self, WireLog};
use super::pace::Pace;
use super::range_limit::{RangeLimit, range_limit};
use super::wire::{self, RequestId, WireBlock, WireReceipt};
use super::{Endpoint, EndpointError, EthereumTransaction};
use crate::adapter::{ChainClient, ChainError, ChainIdentity, Log, LogFilter, LogScope};
use crate::{Block, Detail, Hash, Header, Height};

const BY_HASH: &str = "eth_getBlockByHash";
const BY_NUMBER: &str = "eth_getBlockByNumber";
const RECEIPTS: &str = "eth_getBlockReceipts";
const CHAIN_ID: &str = "eth_chainId";
const BALANCE: &str = "eth_getBalance";
const LOGS: &str = "eth_getLogs";

/// The code of JSON-RPC for parameters that a node does not understand.
const INVALID_PARAMETERS: i64 = -32602;
/// The code of Ethereum's JSON-RPC for an unknown block.
const UNKNOWN_BLOCK: i64 = -39001;

/// An Ethereum node, asked by JSON-RPC over HTTP.
///
/// An answer must come within 5 s ([`with_timeout`](Self::with_timeout)) and must match the question. The hash of every
/// header is recomputed, so that a node cannot return a block with another parent, height or time
/// ([`trusting_hashes`](Self::trusting_hashes)). A block and its receipts come in one batch, which costs one round
/// trip.
///
/// If a node limits the rate of requests and returns for how long, no request is sent for that time, at most a minute:
/// questions fail meanwhile. Clones share this, and their connections.
#[derive(Clone, Debug)]
pub struct EthereumClient {
    rpc: RpcClient,
    endpoint: Arc<Endpoint>,
    pace: Pace,
    timeout: Duration,
    recomputes_hashes: bool,
}

impl EthereumClient {
    /// A node at an address of http or https. It is not asked yet.
    ///
    /// # Errors
    ///
    /// [`EndpointError::WrongScheme`] for an address of another protocol, [`EndpointError::Tls`].
    pub fn new(endpoint: Endpoint) -> Result<Self, EndpointError> {
        let endpoint = Arc::new(endpoint);
        let transport = HttpTransport::new(Arc::clone(&endpoint))?;
        Ok(Self {
            rpc: RpcClient::new(transport, false),
            endpoint,
            pace: Pace::default(),
            timeout: Duration::from_secs(5),
            recomputes_hashes: true,
        })
    }

    /// Waits this long for an answer.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Believes the hashes that the node returns: for chains whose headers have fields that Ethereum's do not have.
    #[must_use]
    pub fn trusting_hashes(self) -> Self {
        Self { recomputes_hashes: false, ..self }
    }

    /// The address of the node.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// What an account owns right after a block, in wei.
    ///
    /// The block is named by its hash (EIP-1898), so that the answer is for its branch. A node that does not understand
    /// this is asked by height, and must have the block there.
    ///
    /// # Errors
    ///
    /// [`ChainError::Pruned`] if the node has dropped the state of that block, which most do after some hundred blocks;
    /// [`ChainError::Refused`] if it does not have the block; others as for any question.
    pub async fn balance(&self, account: Address, block: &Header) -> Result<U256, ChainError> {
        let by_hash = json!({ "blockHash": B256::from(block.hash.0) });
        let answer = self.in_time(self.rpc.request(BALANCE, (account, by_hash))).await?;
        match answer {
            Err(RpcError::ErrorResp(error)) if error.code == INVALID_PARAMETERS => {
                self.balance_at_height(account, block).await
            }
            answer => self.owned(answer.map_err(|error| self.failure(BALANCE, error))?),
        }
    }

    async fn balance_at_height(&self, account: Address, block: &Header) -> Result<U256, ChainError> {
        let height = U64::from(block.height);
        let mut batch = self.rpc.new_batch();
        let owns =
            batch.add_call(BALANCE, &(account, height)).map_err(|error| self.failure(BALANCE, error))?;
        let there =
            batch.add_call(BY_NUMBER, &(height, false)).map_err(|error| self.failure(BY_NUMBER, error))?;
        let (owns, there): (Option<U256>, Option<types::Header>) =
            self.both(batch, (BALANCE, owns), (BY_NUMBER, there)).await?;
        let asked = RequestId::Height(block.height);
        let there = there.map(|header| self.believe(BY_NUMBER, &header, asked)).transpose()?;
        if there.is_none_or(|there| there.hash != block.hash) {
            let reason = format!("it does not have block {:.8} at height {}", block.hash, block.height);
            return Err(self.refused(BALANCE, &reason));
        }
        self.owned(owns)
    }

    fn owned(&self, answer: Option<U256>) -> Result<U256, ChainError> {
        answer.ok_or_else(|| self.pruned(BALANCE, "it answers with nothing"))
    }

    /// Calls any method.
    pub(super) async fn ask<P: RpcSend, R: RpcRecv>(
        &self,
        method: &'static str,
        parameters: P,
    ) -> Result<R, ChainError> {
        let answer = self.in_time(self.rpc.request(method, parameters)).await?;
        answer.map_err(|error| self.failure(method, error))
    }

    /// Asks for a block's header; `tag` is `asked` in the form of JSON-RPC.
    async fn header_of<P: RpcSend>(
        &self,
        method: &'static str,
        tag: P,
        asked: RequestId,
    ) -> Result<Option<Header>, ChainError> {
        let header: Option<types::Header> = match self.in_time(self.rpc.request(method, (tag, false))).await?
        {
            Err(RpcError::ErrorResp(error)) if is_unknown_block(&error) => None,
            answer => answer.map_err(|error| self.failure(method, error))?,
        };
        header.map(|header| self.believe(method, &header, asked)).transpose()
    }

    fn believe(
        &self,
        method: &'static str,
        header: &types::Header,
        asked: RequestId,
    ) -> Result<Header, ChainError> {
        wire::header(header, asked, self.recomputes_hashes).map_err(|reason| self.untrue(method, reason))
    }

    async fn both<A: RpcRecv, B: RpcRecv>(
        &self,
        batch: BatchRequest<'_>,
        (first_method, first): (&'static str, Waiter<A>),
        (second_method, second): (&'static str, Waiter<B>),
    ) -> Result<(A, B), ChainError> {
        self.in_time(batch.send()).await?.map_err(|error| self.failure(first_method, error))?;
        // Both have arrived with the batch.
        let first = first.await.map_err(|error| self.failure(first_method, error))?;
        let second = second.await.map_err(|error| self.failure(second_method, error))?;
        Ok((first, second))
    }

    /// Sends a request, unless the node asked for none, and waits for the answer.
    async fn in_time<R>(&self, request: impl IntoFuture<Output = R>) -> Result<R, ChainError> {
        if let Some(left) = self.pace.left() {
            return Err(self.rate_limited(Some(left)));
        }
        timeout(self.timeout, request)
            .await
            .map_err(|_| ChainError::TimedOut { endpoint: self.name(), after: self.timeout })
    }

    fn failure(&self, method: &'static str, error: TransportError) -> ChainError {
        let malformed = |reason: &str| ChainError::Malformed {
            endpoint: self.name(),
            method,
            reason: self.endpoint.clear(reason),
        };
        match error {
            RpcError::ErrorResp(error) if is_rate_limit(&error) => self.rate_limited(None),
            RpcError::ErrorResp(error) => {
                let reason = format!("{} (code {})", error.message, error.code);
                if is_pruned(&error) { self.pruned(method, &reason) } else { self.refused(method, &reason) }
            }
            RpcError::DeserError { err, .. } => malformed(&err.to_string()),
            RpcError::Transport(TransportErrorKind::Custom(error)) => match error.downcast::<HttpError>() {
                Ok(error) => match *error {
                    HttpError::Unreachable(reason) => ChainError::Unreachable {
                        endpoint: self.name(),
                        reason: self.endpoint.clear(&reason),
                    },
                    HttpError::RateLimited(retry_after) => {
                        if let Some(pause) = retry_after {
                            self.pace.pause(pause);
                        }
                        self.rate_limited(retry_after)
                    }
                    HttpError::TookTooLong(_) => {
                        ChainError::Unreachable { endpoint: self.name(), reason: error.to_string() }
                    }
                    HttpError::TooLong => malformed(&error.to_string()),
                    HttpError::Status(status) => self.refused(method, &format!("HTTP status {status}")),
                    HttpError::Malformed(reason) => malformed(&reason),
                },
                Err(error) => malformed(&error.to_string()),
            },
            error => malformed(&error.to_string()),
        }
    }

    /// The error of a question for the logs of so many blocks. The client must have understood its size first: as any
    /// other question it would be refused, malformed or limited in its rate.
    fn logs_failure(&self, blocks: u64, error: TransportError) -> ChainError {
        let too_large = |reason: &str, at_most| ChainError::RangeTooLarge {
            endpoint: self.name(),
            method: LOGS,
            reason: self.endpoint.clear(reason),
            at_most,
        };
        match &error {
            RpcError::ErrorResp(refusal) => {
                let data = refusal.data.as_ref().map(|data| data.get());
                let reason = || format!("{} (code {})", refusal.message, refusal.code);
                match range_limit(refusal.code, &refusal.message, data) {
                    Some(RangeLimit::TooLarge { at_most }) => return too_large(&reason(), at_most),
                    Some(RangeLimit::TookTooLong) if blocks > 1 => return too_large(&reason(), None),
                    _ => {}
                }
            }
            RpcError::Transport(TransportErrorKind::Custom(cause)) => match cause.downcast_ref() {
                Some(HttpError::TooLong | HttpError::Status(StatusCode::PAYLOAD_TOO_LARGE)) => {
                    return too_large(&cause.to_string(), None);
                }
                Some(HttpError::TookTooLong(_)) if blocks > 1 => return too_large(&cause.to_string(), None),
                _ => {}
            },
            _ => {}
        }
        self.failure(LOGS, error)
    }

    fn name(&self) -> String {
        self.endpoint.to_string()
    }

    fn rate_limited(&self, retry_after: Option<Duration>) -> ChainError {
        ChainError::RateLimited { endpoint: self.name(), retry_after }
    }

    fn refused(&self, method: &'static str, reason: &str) -> ChainError {
        ChainError::Refused { endpoint: self.name(), method, reason: self.endpoint.clear(reason) }
    }

    fn pruned(&self, method: &'static str, reason: &str) -> ChainError {
        ChainError::Pruned { endpoint: self.name(), method, reason: self.endpoint.clear(reason) }
    }

    fn untrue(&self, method: &'static str, reason: String) -> ChainError {
        ChainError::Untrue { endpoint: self.name(), method, reason }
    }

    fn empty(&self) -> ChainError {
        ChainError::Empty { endpoint: self.name() }
    }
}

#[async_trait]
impl ChainClient for EthereumClient {
    type Transaction = EthereumTransaction;

    async fn identity(&self) -> Result<ChainIdentity, ChainError> {
        let mut batch = self.rpc.new_batch();
        let id = batch.add_call(CHAIN_ID, &()).map_err(|error| self.failure(CHAIN_ID, error))?;
        let genesis =
            batch.add_call(BY_NUMBER, &(U64::ZERO, false)).map_err(|error| self.failure(BY_NUMBER, error))?;
        let (id, genesis): (U64, Option<types::Header>) =
            self.both(batch, (CHAIN_ID, id), (BY_NUMBER, genesis)).await?;
        let genesis = genesis.ok_or_else(|| self.empty())?;
        let genesis = self.believe(BY_NUMBER, &genesis, RequestId::Height(0))?;
        Ok(ChainIdentity { id: id.to_string(), genesis: genesis.hash })
    }

    async fn head(&self) -> Result<Header, ChainError> {
        self.header_of(BY_NUMBER, "latest", RequestId::Any).await?.ok_or_else(|| self.empty())
    }

    async fn finalised(&self) -> Result<Option<Header>, ChainError> {
        self.header_of(BY_NUMBER, "finalized", RequestId::Any).await
    }

    async fn header(&self, hash: Hash) -> Result<Option<Header>, ChainError> {
        self.header_of(BY_HASH, B256::from(hash.0), RequestId::Hash(hash)).await
    }

    async fn header_at(&self, height: Height) -> Result<Option<Header>, ChainError> {
        self.header_of(BY_NUMBER, U64::from(height), RequestId::Height(height)).await
    }

    async fn block(
        &self,
        hash: Hash,
        _detail: Detail,
    ) -> Result<Option<Block<EthereumTransaction>>, ChainError> {
        let tag = B256::from(hash.0);
        let mut batch = self.rpc.new_batch();
        let block = batch.add_call(BY_HASH, &(tag, true)).map_err(|error| self.failure(BY_HASH, error))?;
        let receipts = batch.add_call(RECEIPTS, &(tag,)).map_err(|error| self.failure(RECEIPTS, error))?;
        let (block, receipts): (Option<WireBlock>, Option<Vec<WireReceipt>>) =
            self.both(batch, (BY_HASH, block), (RECEIPTS, receipts)).await?;
        let Some(block) = block else { return Ok(None) };
        let Some(receipts) = receipts else {
            return Err(self.refused(RECEIPTS, "it has the block, but not its receipts"));
        };
        wire::block(&block, &receipts, RequestId::Hash(hash), self.recomputes_hashes)
            .map(Some)
            .map_err(|reason| self.untrue(BY_HASH, reason))
    }

    async fn logs(&self, filter: &LogFilter, scope: &LogScope) -> Result<Option<Vec<Log>>, ChainError> {
        let blocks = scope.blocks();
        if blocks == 0 {
            return Ok(Some(Vec::new()));
        }
        let answer = match self.in_time(self.rpc.request(LOGS, (logs::parameter(filter, scope),))).await {
            Err(ChainError::TimedOut { endpoint, after }) if blocks > 1 => {
                let reason = format!("it gave no answer for {blocks} blocks within {after:?}");
                return Err(ChainError::RangeTooLarge { endpoint, method: LOGS, reason, at_most: None });
            }
            answer => answer?,
        };
        let answer: Option<Vec<WireLog>> = match answer {
            Err(RpcError::ErrorResp(error)) if is_missing_block(&error) => None,
            answer => answer.map_err(|error| self.logs_failure(blocks, error))?,
        };
        let answer = answer.map(|answer| logs::logs(answer, filter, scope)).transpose();
        answer.map_err(|reason| self.untrue(LOGS, reason))
    }
}

/// The codes and texts of providers for a limited rate.
fn is_rate_limit<E>(error: &ErrorPayload<E>) -> bool {
    matches!(error.code, 429 | -32005) || error.message.to_ascii_lowercase().contains("rate limit")
}

/// The answer of some nodes for a missing block, above all if none is final yet; others answer with null.
fn is_unknown_block<E>(error: &ErrorPayload<E>) -> bool {
    error.code == UNKNOWN_BLOCK || error.message.to_ascii_lowercase().contains("block not found")
}

/// The answer of nodes to a question for logs of a block that they do not have, or not yet.
fn is_missing_block<E>(error: &ErrorPayload<E>) -> bool {
    const TEXTS: [&str; 5] = [
        "unknown block",
        "beyond current head",
        "block is out of range",
        "outofrange",
        "after last accepted block",
    ];
    let message = error.message.to_ascii_lowercase();
    is_unknown_block(error) || TEXTS.iter().any(|text| message.contains(text))
}

/// The texts of nodes and providers for a state or a block that was dropped; there is no code for it.
fn is_pruned<E>(error: &ErrorPayload<E>) -> bool {
    const TEXTS: [&str; 7] = [
        "missing trie node",
        "historical state",
        "state unavailable",
        "no state available",
        "pruned",
        "pruning",
        "archive",
    ];
    let message = error.message.to_ascii_lowercase();
    TEXTS.iter().any(|text| message.contains(text))
}
