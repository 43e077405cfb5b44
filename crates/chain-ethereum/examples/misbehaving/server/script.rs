//! The chain of such a server: its blocks as nodes return them.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use watchkeeper_chain::Hash;

use super::modes::{Backends, Content, Hashes, Modes, Receipts};
use super::{ACCOUNT, OTHER, ZERO};
use crate::fake::{ROOT_OF_NONE, SECRET, hash, sealed_header};

/// A block as a node returns it.
#[derive(Debug)]
pub(super) struct WireBlock {
    header: Value,
    transactions: Vec<Value>,
    receipts: Vec<Value>,
}

/// The branches of the chain, lowest block first.
#[derive(Debug)]
pub(super) struct Script {
    began: Instant,
    /// How many blocks came by time.
    grown: u64,
    /// Distinguishes the blocks of branches.
    seeds: u8,
    main: Branch,
    /// What another backend has.
    fork: Branch,
}

#[derive(Clone, Debug)]
struct Branch {
    seed: u8,
    blocks: Vec<Arc<WireBlock>>,
}

impl Script {
    pub(super) fn new(modes: &Modes) -> Self {
        let mut main = Branch { seed: 0, blocks: Vec::new() };
        main.grow(modes.blocks + 1, modes);
        let mut fork = main.clone();
        fork.reorg(1, 1, 1, modes);
        Self { began: Instant::now(), grown: 0, seeds: 1, main, fork }
    }

    /// Adds blocks at the tip.
    pub(super) fn grow(&mut self, blocks: u64, modes: &Modes) {
        self.main.grow(blocks, modes);
        if let Backends::GrowingForks = modes.backends {
            self.fork.grow(blocks, modes);
        }
    }

    /// Adds the blocks that have come by time.
    pub(super) fn grow_by_time(&mut self, each: Duration, modes: &Modes) {
        let due = self.began.elapsed().as_nanos() / each.as_nanos().max(1);
        let due = u64::try_from(due).unwrap_or(u64::MAX);
        self.grow(due - self.grown, modes);
        self.grown = due;
    }

    /// Replaces blocks at the tip.
    pub(super) fn reorg(&mut self, depth: usize, blocks: u64, modes: &Modes) {
        self.seeds += 1;
        self.main.reorg(self.seeds, depth, blocks, modes);
    }

    /// What the backend that answers at the `nth` turn has.
    pub(super) fn seen(&self, nth: u64, backends: Backends) -> &[Arc<WireBlock>] {
        let (main, fork) = (&self.main.blocks, &self.fork.blocks);
        match backends {
            Backends::StandingFork { each } if nth.is_multiple_of(each) => fork,
            Backends::GrowingForks if nth.is_multiple_of(2) => fork,
            Backends::Apart { blocks } if nth.is_multiple_of(2) => {
                let behind = usize::try_from(blocks).unwrap();
                &main[..main.len().saturating_sub(behind).max(1)]
            }
            _ => main,
        }
    }
}

impl Branch {
    fn grow(&mut self, blocks: u64, modes: &Modes) {
        for _ in 0..blocks {
            let parent = self.blocks.last().map_or(Hash([0; 32]), |block| hash(&block.header));
            let height = self.blocks.len().try_into().unwrap();
            self.blocks.push(Arc::new(WireBlock::new(height, parent, self.seed, modes)));
        }
    }

    fn reorg(&mut self, seed: u8, depth: usize, blocks: u64, modes: &Modes) {
        self.blocks.truncate(self.blocks.len().saturating_sub(depth).max(1));
        self.seed = seed;
        self.grow(blocks, modes);
    }
}

impl WireBlock {
    fn new(height: u64, parent: Hash, seed: u8, modes: &Modes) -> Self {
        let contents = if height == 0 { &[][..] } else { &modes.contents };
        let is_empty = contents.iter().all(|content| *content == Content::StateSync);
        let some = format!("0x{}", "c".repeat(64));
        let root = if is_empty { ROOT_OF_NONE } else { &some };
        let mut header = sealed_header(height, parent, root, seed);
        let is_otherwise = match modes.hashes {
            Hashes::Ethereum => false,
            Hashes::GenesisOtherwise => height == 0,
            Hashes::AllOtherwise | Hashes::ExtraFields => true,
        };
        if is_otherwise {
            let Hash(mut bytes) = hash(&header);
            bytes.reverse();
            header["hash"] = format!("0x{}", Hash(bytes)).into();
        }
        if modes.hashes == Hashes::ExtraFields {
            header["extDataHash"] = some.as_str().into();
            header["blockGasCost"] = "0x0".into();
        }
        let mut block = Self { header, transactions: Vec::new(), receipts: Vec::new() };
        for (place, content) in contents.iter().enumerate() {
            block.include(*content, height, place, modes);
        }
        block
    }

    fn include(&mut self, content: Content, height: u64, place: usize, modes: &Modes) {
        let here = json!({
            "hash": format!("0x{:062x}{place:02x}", height),
            "blockHash": self.header["hash"],
            "blockNumber": self.header["number"],
            "transactionIndex": format!("{place:#x}"),
        });
        let mut transaction = merged(&here, content.transaction(height));
        let signed = matches!(content, Content::Payment | Content::Spend);
        let price = if signed { transaction["gasPrice"].clone() } else { "0x0".into() };
        let mut receipt = json!({
            "transactionHash": here["hash"], "blockHash": here["blockHash"], "blockNumber": here["blockNumber"],
            "transactionIndex": here["transactionIndex"], "status": "0x1", "gasUsed": "0x5208",
            "cumulativeGasUsed": "0x5208", "effectiveGasPrice": price, "contractAddress": null, "logs": [],
            "from": transaction["from"], "to": transaction["to"], "type": transaction["type"],
        });
        for shown in [&mut transaction, &mut receipt] {
            let fields = shown.as_object_mut().unwrap();
            fields.retain(|field, _| !modes.omitted.contains(&field.as_str()));
            fields.iter_mut().filter(|(field, _)| modes.null.contains(&field.as_str())).for_each(
                |(_, value)| {
                    value.take();
                },
            );
        }
        self.transactions.push(transaction);
        self.receipts.push(receipt);
    }

    pub(super) fn hash(&self) -> &str {
        self.header["hash"].as_str().unwrap()
    }

    /// With the transactions, or only their hashes.
    pub(super) fn shown(&self, full: bool) -> Value {
        let of = |transaction: &Value| if full { transaction.clone() } else { transaction["hash"].clone() };
        let transactions: Value = self.transactions.iter().map(of).collect();
        merged(&self.header, json!({ "transactions": transactions }))
    }

    /// The receipts of the block; null if there are none.
    pub(super) fn receipts(&self, receipts: Receipts) -> Value {
        let mut shown = self.receipts.clone();
        match receipts {
            Receipts::Null => return Value::Null,
            Receipts::OneShort => drop(shown.pop()),
            Receipts::OneTooMany => shown.extend(self.receipts.last().cloned()),
            Receipts::ByBlock | Receipts::ByTransaction | Receipts::None => {}
        }
        shown.into()
    }

    /// The receipt of one of its transactions.
    pub(super) fn receipt(&self, transaction: &str, receipts: Receipts) -> Option<Value> {
        let Value::Array(shown) = self.receipts(receipts) else { return None };
        shown.into_iter().find(|receipt| receipt["transactionHash"] == transaction)
    }
}

impl Content {
    fn transaction(self, height: u64) -> Value {
        const ETHER: u64 = 1_000_000_000_000_000_000;
        let [none, half, one, two] = [0, ETHER / 2, ETHER, 2 * ETHER].map(|wei| format!("{wei:#x}"));
        let nonce = format!("{height:#x}");
        let made = |kind: &str, from: &str, to: &str, value: &str| {
            json!({
                "type": kind, "from": from, "to": to, "value": value, "nonce": nonce, "gas": "0x5208",
                "gasPrice": "0x3b9aca00", "input": "0x",
            })
        };
        match self {
            Self::Payment => made("0x2", OTHER, ACCOUNT, &one),
            Self::Spend => made("0x0", ACCOUNT, OTHER, &half),
            Self::OptimismDeposit => {
                let source = format!("0x{}", "5".repeat(64));
                merged(&made("0x7e", ACCOUNT, OTHER, &one), json!({ "mint": two, "sourceHash": source }))
            }
            Self::ArbitrumDeposit => made("0x64", ACCOUNT, ACCOUNT, &one),
            Self::ArbitrumRetryable => {
                let to = "0x000000000000000000000000000000000000006e";
                let fees = json!({ "depositValue": two, "retryTo": OTHER, "retryValue": none, "l1BaseFee": none,
                    "maxSubmissionFee": none, "refundTo": OTHER, "beneficiary": OTHER, "retryData": "0x",
                    "requestId": format!("0x{SECRET}{height:048x}") });
                merged(&made("0x69", ACCOUNT, to, &none), fees)
            }
            Self::StateSync => {
                merged(&made("0x0", ZERO, ZERO, &none), json!({ "nonce": "0x0", "gas": "0x0" }))
            }
            Self::System => merged(&made("0x6a", ZERO, OTHER, &none), json!({ "nonce": "0x0" })),
        }
    }
}

/// The fields of both; the second one's replace the first one's.
fn merged(one: &Value, two: Value) -> Value {
    let mut both = one.clone();
    if let (Value::Object(both), Value::Object(two)) = (&mut both, two) {
        both.extend(two);
    }
    both
}
