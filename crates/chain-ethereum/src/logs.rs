//! Questions for logs, and their answers, as JSON-RPC has them.

use alloy::primitives::{Address, B256, Bytes, U64};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use watchkeeper_chain::adapter::{Log, LogAddress, LogFilter, LogScope};
use watchkeeper_chain::{Hash, Height};

/// A log as nodes return it; chains leave out some of the other fields, and add others.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireLog {
    address: Address,
    topics: Vec<B256>,
    data: Bytes,
    /// `None` while it is in no block, as the next two.
    block_hash: Option<B256>,
    block_number: Option<U64>,
    log_index: Option<U64>,
    transaction_hash: Option<B256>,
    /// Only for the order: in whatever form it is, no log fails for it.
    #[serde(default, deserialize_with = "readable")]
    transaction_index: Option<U64>,
    removed: Option<bool>,
}

fn readable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<U64>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).ok())
}

/// The parameter of `eth_getLogs`.
pub(super) fn parameter(filter: &LogFilter, scope: &LogScope) -> Value {
    let mut parameter = match scope {
        LogScope::Block(hash) => json!({ "blockHash": B256::from(hash.0) }),
        LogScope::Range(range) => {
            json!({ "fromBlock": U64::from(*range.start()), "toBlock": U64::from(*range.end()) })
        }
    };
    if !filter.addresses.is_empty() {
        let addresses = filter.addresses.iter().map(|address| Address::from(address.0));
        parameter["address"] = addresses.map(|address| json!(address)).collect();
    }
    let word = |word: &Hash| json!(B256::from(word.0));
    let topics = filter.topics.iter().map(|words| match &**words {
        [] => Value::Null,
        [one] => word(one),
        words => words.iter().map(word).collect(),
    });
    let mut topics: Vec<Value> = topics.collect();
    // Nodes return no log with fewer topics than are listed, though each of these may be any.
    topics.truncate(topics.iter().rposition(|topic| !topic.is_null()).map_or(0, |last| last + 1));
    if !topics.is_empty() {
        parameter["topics"] = Value::Array(topics);
    }
    parameter
}

/// The logs of an answer, in the order of their blocks, checked against the question; else the contradiction as text.
/// JSON-RPC promises no order.
pub(super) fn logs(answer: Vec<WireLog>, filter: &LogFilter, scope: &LogScope) -> Result<Vec<Log>, String> {
    let mut answer: Vec<_> = answer.into_iter().filter(|log| !log.is_pending(scope)).collect();
    answer.sort_by_key(WireLog::place);
    let read = answer.into_iter().map(WireLog::read);
    let read = read.collect::<Result<Vec<_>, _>>()?;
    filter.check(scope, &read).map_err(|wrong| wrong.to_string())?;
    Ok(read)
}

impl WireLog {
    /// Its place on a branch. Within a block the transaction comes first, since some chains count the logs of each one.
    fn place(&self) -> [Option<U64>; 3] {
        [self.block_number, self.transaction_index, self.log_index]
    }

    /// Whether its block is not made yet: nodes add the logs of such a block to those that are asked for.
    fn is_pending(&self, scope: &LogScope) -> bool {
        let is_asked = |height: Height| match scope {
            LogScope::Block(_) => true,
            LogScope::Range(range) => range.contains(&height),
        };
        self.block_hash.is_none_or(|hash| hash.is_zero())
            && self.block_number.is_none_or(|height| !is_asked(height.to()))
    }

    fn read(self) -> Result<Log, String> {
        let Self { block_hash, block_number, log_index, transaction_hash, removed, .. } = self;
        let (Some(block), Some(height), Some(index), Some(transaction)) =
            (block_hash, block_number, log_index, transaction_hash)
        else {
            return Err("a log names no block, position or transaction".to_owned());
        };
        let (block, height, index): (_, u64, u64) = (Hash(block.0), height.to(), index.to());
        if removed == Some(true) {
            return Err(format!("log {index} of block {block:.8} at height {height} is marked as removed"));
        }
        Ok(Log {
            block,
            height,
            transaction: Hash(transaction.0),
            index,
            address: LogAddress(self.address.into_array()),
            topics: self.topics.iter().map(|topic| Hash(topic.0)).collect(),
            data: self.data.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(topics: [&[u8]; 4]) -> Value {
        let words = |words: &[u8]| words.iter().map(|byte| Hash([*byte; 32])).collect();
        let filter = LogFilter { topics: topics.map(words), ..LogFilter::default() };
        parameter(&filter, &LogScope::Range(1..=255))
    }

    #[test]
    fn the_parameter_has_what_is_asked_for_and_nothing_else() {
        let word = |byte: u8| format!("0x{}", Hash([byte; 32]));
        assert_eq!(asked([&[], &[], &[], &[]]), json!({ "fromBlock": "0x1", "toBlock": "0xff" }));
        assert_eq!(asked([&[1], &[], &[], &[]])["topics"], json!([word(1)]));
        assert_eq!(asked([&[], &[1, 2], &[], &[]])["topics"], json!([null, [word(1), word(2)]]));
        assert_eq!(asked([&[], &[], &[], &[3]])["topics"], json!([null, null, null, word(3)]));
        let addresses = vec![LogAddress([1; 20]), LogAddress([2; 20])];
        let filter = LogFilter { addresses, ..LogFilter::default() };
        let (one, two) = (format!("0x{}", "01".repeat(20)), format!("0x{}", "02".repeat(20)));
        assert_eq!(
            parameter(&filter, &LogScope::Block(Hash([9; 32]))),
            json!({ "blockHash": word(9), "address": [one, two] })
        );
    }
}
