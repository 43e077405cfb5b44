//! Logs from a real node.

use alloy::rpc::types::TransactionInput;
use watchkeeper_chain::adapter::{ChainClient, Log, LogAddress, LogFilter, LogReader, LogScope, RangeSize};
use watchkeeper_chain::{Detail, Hash, Header};
use watchkeeper_chain_ethereum::anvil::Anvil;
use watchkeeper_chain_ethereum::{Address, EthereumClient, TransactionRequest};

use crate::common::{branch, node};

/// Makes a contract that logs the first four words of its input as topics: `PUSH18` code, `MSTORE`, `RETURN`.
const MAKE_LOGGER: &str = "7160603560403560203560003560006000a4006000526012600ef3";

/// A node, one of its accounts, and a contract of it that logs its input.
struct Logging {
    node: Anvil,
    client: EthereumClient,
    account: Address,
    contract: Address,
}

impl Logging {
    async fn start() -> Self {
        let node = node(0).await;
        let (client, account) = (node.client(), node.accounts().await.unwrap()[0]);

        let code: Vec<u8> = (0..MAKE_LOGGER.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&MAKE_LOGGER[at..at + 2], 16).unwrap())
            .collect();
        let input = TransactionInput::new(code.into());
        node.send(TransactionRequest { from: Some(account), input, ..Default::default() }).await.unwrap();
        node.mine(1).await.unwrap();
        let head = client.head().await.unwrap();
        let block = client.block(head.hash, Detail::Results).await.unwrap().unwrap();
        let contract = block.transactions[0].to.unwrap();
        Self { node, client, account, contract }
    }

    fn contract_address(&self) -> LogAddress {
        LogAddress(self.contract.into_array())
    }

    /// Sends a transaction whose log has these bytes as its topics; the next block includes it.
    async fn logs(&self, topics: [u8; 4]) {
        let input: Vec<u8> = topics.iter().flat_map(|topic| [*topic; 32]).collect();
        let request = TransactionRequest {
            from: Some(self.account),
            to: Some(self.contract.into()),
            // Else it is the same for all, and anvil estimates it against the last block.
            gas: Some(100_000),
            input: TransactionInput::new(input.into()),
            ..Default::default()
        };
        self.node.send(request).await.unwrap();
    }

    /// Sends these, and makes a block with them.
    async fn block(&self, logs: &[[u8; 4]]) -> Header {
        for topics in logs {
            self.logs(*topics).await;
        }
        self.node.mine(1).await.unwrap();
        self.client.head().await.unwrap()
    }

    async fn ask(&self, topics: [&[u8]; 4], scope: LogScope) -> Option<Vec<Log>> {
        let filter = LogFilter { addresses: vec![self.contract_address()], topics: topics.map(words) };
        self.client.logs(&filter, &scope).await.unwrap()
    }
}

fn words(bytes: &[u8]) -> Vec<Hash> {
    bytes.iter().map(|byte| Hash([*byte; 32])).collect()
}

/// Height and first topic of each.
fn found(logs: &[Log]) -> Vec<(u64, u8)> {
    logs.iter().map(|log| (log.height, log.topics[0].0[0])).collect()
}

const ANY: [&[u8]; 4] = [&[], &[], &[], &[]];

#[tokio::test]
async fn logs_are_found_by_topics_and_addresses_in_a_range_and_in_a_block() {
    let logging = Logging::start().await;
    let two = logging.block(&[[1, 9, 9, 9], [2, 9, 9, 8]]).await;
    logging.block(&[]).await;
    let four = logging.block(&[[3, 8, 9, 9]]).await;
    let all = logging.ask(ANY, LogScope::Range(0..=4)).await.unwrap();
    assert_eq!(found(&all), [(2, 1), (2, 2), (4, 3)]);
    assert_eq!((all[0].block, all[0].index, all[1].index, all[2].block), (two.hash, 0, 1, four.hash));
    assert_eq!(
        (all[0].address, &all[0].topics, &*all[0].data),
        (logging.contract_address(), &words(&[1, 9, 9, 9]), &[][..])
    );
    for (topics, expected) in [
        ([&[1][..], &[], &[], &[]], &[(2, 1)][..]),
        ([&[1, 3], &[], &[], &[]], &[(2, 1), (4, 3)]),
        ([&[], &[9], &[], &[]], &[(2, 1), (2, 2)]),
        ([&[], &[], &[], &[8]], &[(2, 2)]),
        ([&[1], &[8], &[], &[]], &[]),
    ] {
        let logs = logging.ask(topics, LogScope::Range(0..=4)).await.unwrap();
        assert_eq!(found(&logs), expected, "{topics:?}");
    }
    assert_eq!(found(&logging.ask(ANY, LogScope::Block(two.hash)).await.unwrap()), [(2, 1), (2, 2)]);
    assert_eq!(logging.ask(ANY, LogScope::Range(3..=3)).await, Some(vec![]));
    let elsewhere = LogFilter { addresses: vec![LogAddress([1; 20])], ..LogFilter::default() };
    assert_eq!(logging.client.logs(&elsewhere, &LogScope::Range(0..=4)).await.unwrap(), Some(vec![]));
    let both = LogFilter {
        addresses: vec![LogAddress([1; 20]), logging.contract_address()],
        ..LogFilter::default()
    };
    assert_eq!(logging.client.logs(&both, &LogScope::Range(0..=4)).await.unwrap(), Some(all));
}

/// ```text
/// g - 1 - 2(log) - 3(log)
///              \
///                3          after a reorg one deep
/// ```
#[tokio::test]
async fn the_logs_of_a_block_that_a_reorg_removed_are_not_there_and_not_none() {
    let logging = Logging::start().await;
    logging.block(&[[1; 4]]).await;
    let removed = logging.block(&[[2; 4]]).await;
    logging.node.reorg(1).await.unwrap();
    let now = branch(&logging.client).await[3];
    assert_eq!(logging.ask(ANY, LogScope::Block(removed.hash)).await, None);
    assert_eq!(logging.ask(ANY, LogScope::Block(now.hash)).await, Some(vec![]));
    assert_eq!(found(&logging.ask(ANY, LogScope::Range(0..=3)).await.unwrap()), [(2, 1)]);
}

#[tokio::test]
async fn a_walk_ends_at_the_head_and_goes_on_since_nodes_answer_above_it_with_what_they_have() {
    let logging = Logging::start().await;
    for nth in 1..=9 {
        logging.block(&[[nth; 4], [nth; 4]]).await;
    }
    // This would look complete: a walk never asks it.
    assert_eq!(found(&logging.ask(ANY, LogScope::Range(10..=11)).await.unwrap()), [(10, 9), (10, 9)]);
    assert_eq!(logging.ask(ANY, LogScope::Range(11..=12)).await, None);
    let reader = LogReader::new(logging.client.clone()).with_size(RangeSize::new(2, 4).unwrap());
    let mut walk = reader.walk(LogFilter::default(), 0..=1_000);
    let mut logs = Vec::new();
    for head in [10, 11, 12] {
        while let Some(piece) = walk.next().await {
            logs.extend(found(&piece.unwrap().logs));
        }
        assert_eq!(walk.next_height(), head + 1);
        logging.block(&[[0x77; 4]]).await;
    }
    let mut expected: Vec<_> = (1..=9).flat_map(|nth| [(u64::from(nth) + 1, nth); 2]).collect();
    expected.extend([(11, 0x77), (12, 0x77)]);
    assert_eq!(logs, expected);
}
