//! Keeps what a chain has said, note by note, through a reorg: `cargo run -p watchkeeper-chain --example transaction_feed`.

use std::time::Duration;

use watchkeeper::{DynError, ObservationConfig, ObservationRuntime, ObservedSource, StaticSourceProvider};
use watchkeeper_chain::adapter::{ChainIdentity, MemoryNode};
use watchkeeper_chain::projection::feed::{TransactionFeed, TransactionStep};
use watchkeeper_chain::{Block, ChainConfig, ChainObserver, ChainSource, Hash, Header, Start, Transaction};

/// A transaction that says a word.
#[derive(Clone, Debug, PartialEq)]
struct Note(&'static str);

impl Transaction for Note {
    fn id(&self) -> Hash {
        let mut bytes = [0; 32];
        bytes[..self.0.len()].copy_from_slice(self.0.as_bytes());
        Hash(bytes)
    }

    fn conflicts(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }
}

/// A block by its number and its parent's.
fn block(own: u8, parent: u8, height: u64, words: &[&'static str]) -> Block<Note> {
    let header = Header { hash: Hash([own; 32]), parent: Hash([parent; 32]), height, work: 1, time: 0 };
    Block::new(header, words.iter().map(|word| Note(word)).collect())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), DynError> {
    let node = MemoryNode::new(ChainIdentity { id: "notes".to_owned(), genesis: Hash([1; 32]) });
    node.connect(block(1, 0, 0, &[]));

    let interval = Duration::from_millis(10);
    let config = ChainConfig { start: Start::Genesis, ..ChainConfig::every(interval) };
    let nodes = StaticSourceProvider::new(vec![ObservedSource::new("n1", ChainSource::local(node.clone()))]);
    let timing = ObservationConfig { interval, ..Default::default() };
    let runtime = ObservationRuntime::start(nodes, ChainObserver::new(config), timing).await?;
    let mut feed = TransactionFeed::new(&runtime.handle());

    // 1 - 2 (to be) - 3 (or, not)
    //       \
    //         4 (or) - 5 (else)
    node.connect(block(2, 1, 1, &["to", "be"]));
    node.connect(block(3, 2, 2, &["or", "not"]));
    let mut said = Vec::new();
    while said.len() < 4 {
        take(&mut said, feed.next().await?);
    }
    assert_eq!(said.join(" "), "to be or not");

    node.connect(block(4, 2, 2, &["or"]));
    node.connect(block(5, 4, 3, &["else"]));
    let mut steps = 0;
    while said.last() != Some(&"else") {
        take(&mut said, feed.next().await?);
        steps += 1;
    }
    assert_eq!((said.join(" "), steps), ("to be or else".to_owned(), 4));
    println!("{}", said.join(" "));
    Ok(())
}

/// Blocks are disconnected from the last transaction down, so that the words are a stack.
fn take(said: &mut Vec<&'static str>, step: TransactionStep<Note>) {
    match step {
        TransactionStep::Connected { transaction, .. } => said.push(transaction.0),
        TransactionStep::Disconnected { transaction, .. } => assert_eq!(said.pop(), Some(transaction.0)),
        TransactionStep::Unknown { block } => unreachable!("block {:.8} was read", block.hash),
    }
}

#[test]
fn it_reads_each_note_once() {
    main().unwrap();
}
