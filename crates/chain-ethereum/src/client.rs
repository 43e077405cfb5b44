//! The client of an Ethereum node.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256, U64, U256};
use async_trait::async_trait;
use serde::Serialize;
use serde_json::json;

use super::classify::{Class, contains};
use super::failure::Fault;
use super::http::HttpTransport;
use super::logs::{self, WireLog};
use super::message::Call;
use super::receipts::ReceiptMemory;
use super::rpc::{Outcome, Rpc};
use super::stated_range::at_most;
use super::wire::{self, RequestId, WireError};
use super::{Endpoint, EndpointError, EthereumTransaction};
use watchkeeper_chain::adapter::{ChainClient, ChainError, ChainIdentity, Log, LogFilter, LogScope};
use watchkeeper_chain::{Block, Detail, Hash, Header, Height};

pub(super) const BY_HASH: &str = "eth_getBlockByHash";
const BY_NUMBER: &str = "eth_getBlockByNumber";
const CHAIN_ID: &str = "eth_chainId";
const BALANCE: &str = "eth_getBalance";
const LOGS: &str = "eth_getLogs";

/// How many blocks below the head nodes keep the state of.
const STATES_KEPT: Height = 256;

/// The code of Ethereum's JSON-RPC for an unknown block.
const UNKNOWN_BLOCK: i64 = -39001;

/// An Ethereum node, asked by JSON-RPC over HTTP.
///
/// Each answer must come within 5 s ([`with_timeout`](Self::with_timeout)) and must match the question. The hash of
/// every header is recomputed, so that a node cannot return a block with another parent, height or time
/// ([`trusting_hashes`](Self::trusting_hashes)).
///
/// A block and its receipts come in one batch, which costs one round trip. A node that takes no batches, or smaller
/// ones, is asked in smaller ones down to one by one, up to 16 requests at once. A node without
/// `eth_getBlockReceipts` is asked for a receipt by transaction. Both are found out on the way, and remembered: larger
/// batches are tried again after 500 requests, and the method after 5 minutes. Receipts by transaction of a block that
/// was given up are kept for the next question for it, so that a large block arrives in the end.
///
/// If a node limits the rate of requests and returns for how long, no request is sent for that time, at most a minute:
/// questions fail meanwhile. Clones share this, what was found out, and their connections.
#[derive(Clone, Debug)]
pub struct EthereumClient {
    pub(super) rpc: Rpc,
    endpoint: Arc<Endpoint>,
    pub(super) recomputes_hashes: bool,
    pub(super) receipts: ReceiptMemory,
}

impl EthereumClient {
    /// A node at an address of http or https. It is not asked yet.
    ///
    /// # Errors
    ///
    /// [`EndpointError::WrongScheme`] for an address of another protocol, [`EndpointError::Tls`].
    pub fn new(endpoint: Endpoint) -> Result<Self, EndpointError> {
        let endpoint = Arc::new(endpoint);
        let rpc = Rpc::new(HttpTransport::new(Arc::clone(&endpoint))?, Duration::from_secs(5));
        Ok(Self { rpc, endpoint, recomputes_hashes: true, receipts: ReceiptMemory::default() })
    }

    /// Waits this long for an answer.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { rpc: self.rpc.with_timeout(timeout), ..self }
    }

    /// Believes the hashes that the node returns, also that of block 0: for chains whose headers are hashed otherwise
    /// than Ethereum's, or that leave out fields of them.
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
    /// [`ChainError::Busy`] if it does not have the block yet; [`ChainError::Refused`] if it has another one; others as
    /// for any question.
    pub async fn balance(&self, account: Address, block: &Header) -> Result<U256, ChainError> {
        let by_hash = json!({ "blockHash": B256::from(block.hash.0) });
        match self.rpc.one(&self.call(BALANCE, (account, by_hash))?).await {
            Err(fault) if fault.class() == Class::Misunderstood => {
                self.balance_at_height(account, block).await
            }
            Err(fault) if fault.class() == Class::NoState => Err(self.no_state(block, &fault).await),
            answer => self.owned(answer),
        }
    }

    /// The error of a node without the state of a block: it has dropped it, unless the block is near its head, or above.
    async fn no_state(&self, block: &Header, fault: &Fault) -> ChainError {
        match self.head().await {
            Ok(head) if head.height > block.height.saturating_add(STATES_KEPT) => {
                let (endpoint, reason) = (self.endpoint.to_string(), self.endpoint.clear(&fault.reason()));
                ChainError::Pruned { endpoint, method: BALANCE, reason }
            }
            _ => self.failure(BALANCE, fault),
        }
    }

    async fn balance_at_height(&self, account: Address, block: &Header) -> Result<U256, ChainError> {
        let height = U64::from(block.height);
        let calls = [self.call(BALANCE, (account, height))?, self.call(BY_NUMBER, (height, false))?];
        let [owns, there] = self.both(calls).await?;
        let there = self.read_header(BY_NUMBER, there, RequestId::Height(block.height))?;
        if there.is_none_or(|there| there.hash != block.hash) {
            let reason = format!("it does not have block {:.8} at height {}", block.hash, block.height);
            let endpoint = self.endpoint.to_string();
            return Err(ChainError::Refused { endpoint, method: BALANCE, reason });
        }
        self.owned(owns)
    }

    fn owned(&self, answer: Outcome) -> Result<U256, ChainError> {
        let answer = answer.map_err(|fault| self.failure(BALANCE, &fault))?;
        let owned = wire::number(&answer).map_err(|error| self.wrong(BALANCE, error))?;
        owned.ok_or_else(|| {
            let reason = "it answers with nothing".to_owned();
            ChainError::Pruned { endpoint: self.endpoint.to_string(), method: BALANCE, reason }
        })
    }

    /// Calls any method: those that only anvil has.
    #[cfg(feature = "anvil")]
    pub(super) async fn ask<P: Serialize, R: serde::de::DeserializeOwned>(
        &self,
        method: &'static str,
        parameters: P,
    ) -> Result<R, ChainError> {
        let answer = self.rpc.one(&self.call(method, parameters)?).await;
        let answer = answer.map_err(|fault| self.failure(method, &fault))?;
        serde_json::from_str(answer.get()).map_err(|error| self.wrong(method, error.into()))
    }

    /// Asks for a block's header; `tag` is `asked` in the form of JSON-RPC.
    async fn header_of<P: Serialize>(
        &self,
        method: &'static str,
        tag: P,
        asked: RequestId,
    ) -> Result<Option<Header>, ChainError> {
        let answer = self.rpc.one(&self.call(method, (tag, false))?).await;
        self.read_header(method, answer, asked)
    }

    /// A header from an answer; `None` if the node does not have the block.
    fn read_header(
        &self,
        method: &'static str,
        answer: Outcome,
        asked: RequestId,
    ) -> Result<Option<Header>, ChainError> {
        match answer {
            Ok(json) => {
                wire::header(&json, asked, self.recomputes_hashes).map_err(|error| self.wrong(method, error))
            }
            Err(Fault::Node(error)) if error.class() == Class::UnknownBlock => Ok(None),
            Err(fault) => Err(self.failure(method, &fault)),
        }
    }

    /// The outcomes of two questions.
    async fn both(&self, calls: [Call; 2]) -> Result<[Outcome; 2], ChainError> {
        let outcomes = self.rpc.several(&calls).await;
        let none = |_| self.failure(calls[0].method, &Fault::Malformed("no answer".to_owned()));
        <[Outcome; 2]>::try_from(outcomes).map_err(none)
    }

    pub(super) fn call(&self, method: &'static str, parameters: impl Serialize) -> Result<Call, ChainError> {
        Call::new(method, parameters).map_err(|error| self.wrong(method, error.into()))
    }

    pub(super) fn failure(&self, method: &'static str, fault: &Fault) -> ChainError {
        fault.report(method, &self.endpoint)
    }

    pub(super) fn wrong(&self, method: &'static str, error: WireError) -> ChainError {
        let endpoint = self.endpoint.to_string();
        match error {
            WireError::Malformed(reason) => {
                ChainError::Malformed { endpoint, method, reason: self.endpoint.clear(&reason) }
            }
            WireError::Unhashed(reason) => ChainError::Malformed { endpoint, method, reason },
            WireError::Untrue(reason) => ChainError::Untrue { endpoint, method, reason },
        }
    }

    pub(super) fn busy(&self, method: &'static str, reason: &str) -> ChainError {
        ChainError::Busy { endpoint: self.endpoint.to_string(), method, reason: reason.to_owned() }
    }

    /// The error of a question for the logs of so many blocks; a range of several may have been too large.
    fn logs_failure(&self, blocks: u64, fault: &Fault) -> ChainError {
        let at_most = match (fault, fault.class()) {
            (Fault::Node(error), Class::RangeTooLarge) => at_most(&error.whole_text()),
            (_, Class::RangeTooLarge) => None,
            (_, Class::TimedOut) if blocks > 1 => None,
            (Fault::Node(error), Class::RateLimited(None)) if blocks > 1 && error.is_bare_limit() => None,
            _ => return self.failure(LOGS, fault),
        };
        let reason = match fault {
            Fault::TimedOut(after) => format!("it gave no answer for {blocks} blocks within {after:?}"),
            fault => fault.reason(),
        };
        let (endpoint, reason) = (self.endpoint.to_string(), self.endpoint.clear(&reason));
        ChainError::RangeTooLarge { endpoint, method: LOGS, reason, at_most }
    }

    fn empty(&self) -> ChainError {
        ChainError::Empty { endpoint: self.endpoint.to_string() }
    }
}

#[async_trait]
impl ChainClient for EthereumClient {
    type Transaction = EthereumTransaction;

    async fn identity(&self) -> Result<ChainIdentity, ChainError> {
        let calls = [self.call(CHAIN_ID, ())?, self.call(BY_NUMBER, (U64::ZERO, false))?];
        let [id, genesis] = self.both(calls).await?;
        let id = id.map_err(|fault| self.failure(CHAIN_ID, &fault))?;
        let none = || WireError::Malformed("it is null".to_owned());
        let id = wire::number(&id).and_then(|id| id.ok_or_else(none));
        let id = id.map_err(|error| self.wrong(CHAIN_ID, error))?;
        // A backend that does not have block 0 is no empty chain.
        let genesis = genesis.map_err(|fault| self.failure(BY_NUMBER, &fault))?;
        let genesis = self.read_header(BY_NUMBER, Ok(genesis), RequestId::Height(0))?;
        let genesis = genesis.ok_or_else(|| self.empty())?;
        Ok(ChainIdentity { id: id.to_string(), genesis: genesis.hash })
    }

    async fn head(&self) -> Result<Header, ChainError> {
        match self.rpc.one(&self.call(BY_NUMBER, ("latest", false))?).await {
            // A backend that lags behind, and no chain without a block.
            Err(Fault::Node(error)) if is_backend_behind(error.code, &error.message, error.class()) => {
                Err(self.busy(BY_NUMBER, &self.endpoint.clear(&error.message)))
            }
            answer => self.read_header(BY_NUMBER, answer, RequestId::Any)?.ok_or_else(|| self.empty()),
        }
    }

    async fn finalised(&self) -> Result<Option<Header>, ChainError> {
        match self.rpc.one(&self.call(BY_NUMBER, ("finalized", false))?).await {
            Err(Fault::Node(error)) if has_no_final_block(&error.message, error.class()) => Ok(None),
            answer => self.read_header(BY_NUMBER, answer, RequestId::Any),
        }
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
        detail: Detail,
    ) -> Result<Option<Block<EthereumTransaction>>, ChainError> {
        match detail {
            Detail::Header => Ok(self.header(hash).await?.map(Block::unread)),
            Detail::Transactions => self.listed_block(hash).await,
            Detail::Results => self.executed_block(hash).await,
        }
    }

    async fn logs(&self, filter: &LogFilter, scope: &LogScope) -> Result<Option<Vec<Log>>, ChainError> {
        let blocks = scope.blocks();
        if blocks == 0 {
            return Ok(Some(Vec::new()));
        }
        let json = match self.rpc.one(&self.call(LOGS, (logs::parameter(filter, scope),))?).await {
            Ok(json) => json,
            Err(Fault::Node(error)) if error.class() == Class::UnknownBlock => return Ok(None),
            Err(fault) => return Err(self.logs_failure(blocks, &fault)),
        };
        let answer: Option<Vec<WireLog>> =
            serde_json::from_str(json.get()).map_err(|error| self.wrong(LOGS, error.into()))?;
        let answer = answer.map(|answer| logs::logs(answer, filter, scope)).transpose();
        answer.map_err(|reason| self.wrong(LOGS, WireError::Untrue(reason)))
    }
}

/// Whether a node refuses its own latest block: there is one, but not on the backend that answered.
fn is_backend_behind(code: i64, message: &str, class: Class) -> bool {
    let names_a_block = message.to_lowercase().contains("block not found");
    class == Class::UnknownBlock && code != UNKNOWN_BLOCK && !names_a_block
}

/// The answers for the last final block of nodes that have none yet, or do not know the tag.
fn has_no_final_block(message: &str, class: Class) -> bool {
    let message = message.to_lowercase();
    let names_the_tag =
        ["finali", "|safe block|", "|tag|", "|tags|"].iter().any(|name| contains(&message, name));
    match class {
        Class::UnknownBlock | Class::Misunderstood => true,
        Class::Refused | Class::NoMethod => names_the_tag,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_named_by_whole_words() {
        for (message, names_it) in [
            ("unsupported TAG: finalized", true),
            ("the tag is unknown", true),
            ("finalized is not supported", true),
            ("we are experiencing an outage", false),
            ("stage Finish failed", false),
        ] {
            assert_eq!(has_no_final_block(message, Class::Refused), names_it, "{message}");
        }
    }
}
