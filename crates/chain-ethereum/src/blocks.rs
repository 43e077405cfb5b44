//! How blocks and their receipts are asked for.

use alloy::primitives::B256;

use super::classify::Class;
use super::failure::Fault;
use super::message::Call;
use super::receipts::Receipts;
use super::rpc::Outcome;
use super::wire::{self, Body, ReceiptSource, RequestId};
use super::{EthereumClient, EthereumTransaction};
use watchkeeper_chain::adapter::ChainError;
use watchkeeper_chain::{Block, Hash};

use super::client::BY_HASH;

const RECEIPTS: &str = "eth_getBlockReceipts";
const RECEIPT: &str = "eth_getTransactionReceipt";
const TRANSACTION: &str = "eth_getTransactionByHash";

/// How often a question is asked that is answered with nothing, or with less than all, though the node has announced what
/// is asked for: another backend of its address may answer the next time.
const ATTEMPTS: usize = 3;

impl EthereumClient {
    /// The block with its transactions, without results and so without a question for receipts.
    pub(super) async fn listed_block(
        &self,
        hash: Hash,
    ) -> Result<Option<Block<EthereumTransaction>>, ChainError> {
        let call = self.block_call(hash)?;
        for _ in 0..ATTEMPTS {
            if let Some(body) = self.body(hash, self.rpc.one(&call).await)? {
                return Ok(Some(self.completed(body).await?.listed()));
            }
        }
        Ok(None)
    }

    /// The block with its transactions and their results: in one batch, or with a receipt by transaction if the node
    /// does not return those of a block, or not all of them. Without some results it is a block of less detail.
    pub(super) async fn executed_block(
        &self,
        hash: Hash,
    ) -> Result<Option<Block<EthereumTransaction>>, ChainError> {
        let mut calls = vec![self.block_call(hash)?];
        if self.receipts.is_by_block() {
            calls.push(self.call(RECEIPTS, (B256::from(hash.0),))?);
        }
        for _ in 0..ATTEMPTS {
            let mut outcomes = self.rpc.several(&calls).await.into_iter();
            let Some(body) = self.body(hash, next(&mut outcomes))? else { continue };
            let body = self.completed(body).await?;
            if body.transactions.is_empty() {
                return Ok(Some(Block::new(body.header, Vec::new())));
            }
            let mut found = self.receipts.unfinished(&hash);
            if let Some(outcome) = outcomes.next() {
                self.receipts_of_block(&body, &calls[1], outcome, &mut found).await?;
            }
            if !body.has_results(&found) {
                self.receipts_by_transaction(&body, &mut found).await?;
            }
            if body.has_results(&found) {
                self.receipts.finished(&hash);
            }
            return Ok(Some(body.with(&found)));
        }
        Ok(None)
    }

    /// The receipts that the node returns for a block. That it has no such method is remembered.
    async fn receipts_of_block(
        &self,
        body: &Body,
        call: &Call,
        mut outcome: Outcome,
        found: &mut Receipts,
    ) -> Result<(), ChainError> {
        for attempt in 1..=ATTEMPTS {
            let json = match outcome {
                Ok(json) => json,
                Err(fault) if is_missing(&fault) => {
                    self.receipts.refused_by_block();
                    return Ok(());
                }
                Err(fault) => return Err(self.failure(RECEIPTS, &fault)),
            };
            let receipts = wire::receipts(&json).map_err(|error| self.wrong(RECEIPTS, error))?;
            let added = body.add(found, receipts.unwrap_or_default(), ReceiptSource::Block);
            added.map_err(|error| self.wrong(RECEIPTS, error))?;
            if attempt == ATTEMPTS || body.has_results(found) {
                break;
            }
            outcome = self.rpc.one(call).await;
        }
        Ok(())
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

    /// Asks for the receipts that are left, as many at once as the node allows. What comes is kept, so that it is not
    /// asked for again if this question is given up.
    async fn receipts_by_transaction(&self, body: &Body, found: &mut Receipts) -> Result<(), ChainError> {
        let mut wanted = body.without_receipt(found);
        for _ in 0..ATTEMPTS {
            let mut rest = &wanted[..];
            while !rest.is_empty() {
                let (now, later) = rest.split_at(self.rpc.at_once().min(rest.len()));
                self.some_receipts(body, now, found).await?;
                rest = later;
            }
            wanted = body.without_result(found);
            if wanted.is_empty() {
                break;
            }
        }
        if wanted.len() == body.without_result(&Receipts::new()).len() && !wanted.is_empty() {
            let reason = "it has the block, but not its receipts".to_owned();
            return Err(ChainError::Refused {
                endpoint: self.endpoint().to_string(),
                method: RECEIPT,
                reason,
            });
        }
        Ok(())
    }

    async fn some_receipts(
        &self,
        body: &Body,
        wanted: &[B256],
        found: &mut Receipts,
    ) -> Result<(), ChainError> {
        let calls = wanted.iter().map(|hash| self.call(RECEIPT, (hash,)));
        let calls = calls.collect::<Result<Vec<_>, _>>()?;
        let (mut receipts, mut failed) = (Vec::new(), None);
        for outcome in self.rpc.several(&calls).await {
            match outcome {
                Ok(json) => receipts.extend(wire::receipt(&json)),
                Err(fault) => drop(failed.get_or_insert(fault)),
            }
        }
        let added = body.add(found, receipts, ReceiptSource::Transaction);
        added.map_err(|error| self.wrong(RECEIPT, error))?;
        self.receipts.keep(body.header.hash, wanted.iter().filter_map(|hash| found.get(hash).cloned()));
        match failed {
            // It returns receipts in another way, and these not.
            Some(fault) if is_missing(&fault) && !found.is_empty() => Ok(()),
            Some(fault) => Err(self.failure(RECEIPT, &fault)),
            None => Ok(()),
        }
    }
}

/// Whether the fault is that a node does not have the method, or does not take the hash of a block for it.
fn is_missing(fault: &Fault) -> bool {
    match fault {
        Fault::Node(_) => matches!(fault.class(), Class::NoMethod | Class::Misunderstood),
        Fault::Status { status, .. } => {
            fault.class() == Class::NoMethod || matches!(status.as_u16(), 405 | 501)
        }
        _ => false,
    }
}

/// The next outcome.
fn next(outcomes: &mut impl Iterator<Item = Outcome>) -> Outcome {
    outcomes.next().unwrap_or_else(|| Err(Fault::Malformed("no answer".to_owned())))
}
