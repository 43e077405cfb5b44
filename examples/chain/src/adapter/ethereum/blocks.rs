//! How blocks and their receipts are asked for.

use alloy::primitives::B256;

use super::classify::Class;
use super::failure::Fault;
use super::message::Call;
use super::rpc::Outcome;
use super::wire::{self, Asked, Body, RequestId};
use super::{EthereumClient, EthereumTransaction};
use crate::adapter::ChainError;
use crate::{Block, Hash};

use super::client::BY_HASH;

const RECEIPTS: &str = "eth_getBlockReceipts";
const RECEIPT: &str = "eth_getTransactionReceipt";
const TRANSACTION: &str = "eth_getTransactionByHash";

/// How often a question is asked that is answered with nothing, though the node has announced what is asked for: another
/// backend of its address may answer the next time.
const ASKED: usize = 3;

impl EthereumClient {
    /// The block with its transactions, without results and so without a question for receipts.
    pub(super) async fn listed_block(
        &self,
        hash: Hash,
    ) -> Result<Option<Block<EthereumTransaction>>, ChainError> {
        let call = self.block_call(hash)?;
        for _ in 0..ASKED {
            if let Some(body) = self.body(hash, self.rpc.one(&call).await)? {
                return Ok(Some(self.completed(body).await?.listed()));
            }
        }
        Ok(None)
    }

    /// The block with its transactions and their results: in one batch, or with a receipt by transaction if the node
    /// does not give those of a block.
    pub(super) async fn executed_block(
        &self,
        hash: Hash,
    ) -> Result<Option<Block<EthereumTransaction>>, ChainError> {
        let mut calls = vec![self.block_call(hash)?];
        if self.has_block_receipts() {
            calls.push(self.call(RECEIPTS, (B256::from(hash.0),))?);
        }
        for _ in 0..ASKED {
            let mut outcomes = self.rpc.several(&calls).await.into_iter();
            let Some(body) = self.body(hash, next(&mut outcomes))? else { continue };
            let body = self.completed(body).await?;
            if body.transactions.is_empty() {
                return Ok(Some(Block::new(body.header, Vec::new())));
            }
            let (receipts, asked) = match outcomes.next() {
                Some(receipts) => self.receipts_of_block(&body, &calls[1], receipts).await?,
                None => (self.receipts_by_transaction(&body).await?, Asked::ByTransaction),
            };
            return body.with(receipts, asked).map(Some).map_err(|error| self.wrong(RECEIPTS, error));
        }
        Ok(None)
    }

    /// The receipts that the node gives for a block, or else by transaction. That it has no such method is remembered.
    async fn receipts_of_block(
        &self,
        body: &Body,
        call: &Call,
        mut outcome: Outcome,
    ) -> Result<(Vec<wire::Receipt>, Asked), ChainError> {
        for _ in 0..ASKED {
            let json = match outcome {
                Ok(json) => json,
                Err(fault) if is_missing(&fault) => {
                    self.forget_block_receipts();
                    return Ok((self.receipts_by_transaction(body).await?, Asked::ByTransaction));
                }
                Err(fault) => return Err(self.failure(RECEIPTS, &fault)),
            };
            if let Some(receipts) = wire::receipts(&json).map_err(|error| self.wrong(RECEIPTS, error))? {
                return Ok((receipts, Asked::ByBlock));
            }
            outcome = self.rpc.one(call).await;
        }
        Ok((self.receipts_by_transaction(body).await?, Asked::ByTransaction))
    }

    fn block_call(&self, hash: Hash) -> Result<Call, ChainError> {
        self.call(BY_HASH, (B256::from(hash.0), true))
    }

    fn body(&self, hash: Hash, block: Outcome) -> Result<Option<Body>, ChainError> {
        match block {
            Ok(json) => wire::body(&json, RequestId::Hash(hash), self.recomputes_hashes)
                .map_err(|error| self.wrong(BY_HASH, error)),
            Err(Fault::Node(error)) if error.class() == Class::UnknownBlock => Ok(None),
            Err(fault) => Err(self.failure(BY_HASH, &fault)),
        }
    }

    /// Asks for the transactions of which the block lists only the hash. What the node does not have stays unknown.
    async fn completed(&self, mut body: Body) -> Result<Body, ChainError> {
        let bare = body.transactions.iter_mut().filter(|listed| listed.is_hash_alone());
        let bare: Vec<_> = bare.collect();
        let calls = bare.iter().map(|listed| self.call(TRANSACTION, (listed.hash(),)));
        let calls = calls.collect::<Result<Vec<_>, _>>()?;
        for (listed, outcome) in bare.into_iter().zip(self.rpc.several(&calls).await) {
            match outcome {
                Ok(json) => {
                    if let Some(found) = wire::listed(&json, listed) {
                        *listed = found;
                    }
                }
                Err(fault) if is_missing(&fault) || fault.class() == Class::UnknownBlock => {}
                Err(fault) => return Err(self.failure(TRANSACTION, &fault)),
            }
        }
        Ok(body)
    }

    async fn receipts_by_transaction(&self, body: &Body) -> Result<Vec<wire::Receipt>, ChainError> {
        let calls = body.transactions.iter().map(|listed| self.call(RECEIPT, (listed.hash(),)));
        let mut calls = calls.collect::<Result<Vec<_>, _>>()?;
        let mut receipts = Vec::with_capacity(calls.len());
        for _ in 0..ASKED {
            let outcomes = self.rpc.several(&calls).await;
            let mut missing = Vec::new();
            for (call, outcome) in calls.into_iter().zip(outcomes) {
                let json = outcome.map_err(|fault| self.failure(RECEIPT, &fault))?;
                match wire::receipt(&json) {
                    Some(receipt) => receipts.push(receipt),
                    None => missing.push(call),
                }
            }
            calls = missing;
            if calls.is_empty() {
                break;
            }
        }
        if receipts.is_empty() && body.has_signed() {
            let reason = "it has the block, but not its receipts".to_owned();
            return Err(ChainError::Refused {
                endpoint: self.endpoint().to_string(),
                method: RECEIPT,
                reason,
            });
        }
        Ok(receipts)
    }
}

/// Whether a node does not have a method, or not for a block's hash.
fn is_missing(fault: &Fault) -> bool {
    match fault {
        Fault::Node(_) => matches!(fault.class(), Class::NoMethod | Class::Misunderstood),
        Fault::Status { status, .. } => {
            fault.class() == Class::NoMethod || matches!(status.as_u16(), 405 | 501)
        }
        _ => false,
    }
}

/// The outcome of the first question.
fn next(outcomes: &mut impl Iterator<Item = Outcome>) -> Outcome {
    outcomes.next().unwrap_or_else(|| Err(Fault::Malformed("no answer".to_owned())))
}
