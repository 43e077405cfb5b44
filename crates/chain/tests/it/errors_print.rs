//! What an error prints as `{error:?}`, as `main` and `unwrap` do.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use watchkeeper_chain::adapter::{ChainError, LogsError, OneBlock, RangeSize};
use watchkeeper_chain::projection::checkpoint::{LoadError, SaveError};
use watchkeeper_chain::projection::inclusion::NotFollowed;
use watchkeeper_chain::projection::wallet::{
    AddWalletError, BackfillError, BalanceError, Fault, Flow, OutPoint, Unconserved, UnknownPart, WrongRecord,
};
use watchkeeper_chain::{ChainConfigError, Hash, InsertError, PruneError};

const ONE: Hash = Hash([0x11; 32]);
const TWO: Hash = Hash([0x22; 32]);

/// At least one of each public error, with its text.
#[rustfmt::skip]
fn errors() -> Vec<(Box<dyn Error + Send + Sync>, &'static str)> {
    let (endpoint, reason) = (|| "n1".to_owned(), || "busy".to_owned());
    let (method, after) = ("eth_call", Duration::from_secs(5));
    let name = || "w1".to_owned();
    let path = || PathBuf::from("state.json");
    let source = || io::Error::other("disk full");
    vec![
        ("0xzz".parse::<Hash>().unwrap_err().into(),
         "\"0xzz\" is no hash: give 64 hexadecimal digits, with or without 0x"),
        (InsertError::MissingParent { hash: ONE, height: 2, parent: TWO }.into(),
         "block 11111111 at 2: its parent 22222222 is not known: insert that first"),
        (InsertError::WrongHeight { hash: ONE, found: 7, expected: 3 }.into(),
         "block 11111111 claims height 7; above its parent there is only 3: ask another node for it"),
        (InsertError::BelowRoot { hash: ONE, height: 1, root: 2 }.into(),
         "block 11111111 at 1 is not above the root at 2: insert only blocks that are"),
        (InsertError::Contradicts { hash: ONE, height: 1 }.into(),
         "block 11111111 is at 1 and is now reported with another parent, height, work or time: one of the two is \
          false, ask another node"),
        (InsertError::TooHeavy { hash: ONE }.into(),
         "block 11111111 would make its branch heavier than can be counted: ask another node for it"),
        (InsertError::Full.into(), "the graph is full: begin a new one at a later root"),
        (PruneError { boundary: ONE }.into(), "block 11111111 is not in the graph: prune at one that is"),
        (ChainError::Unreachable { endpoint: endpoint(), reason: reason() }.into(), "n1 is unreachable: busy"),
        (ChainError::TimedOut { endpoint: endpoint(), after }.into(), "n1 gave no answer within 5s"),
        (ChainError::RateLimited { endpoint: endpoint(), retry_after: Some(after) }.into(),
         "n1 limits the rate of requests: ask again in 5 s"),
        (ChainError::Busy { endpoint: endpoint(), method, reason: reason() }.into(),
         "n1 cannot answer eth_call right now (ask again later): busy"),
        (ChainError::Refused { endpoint: endpoint(), method, reason: reason() }.into(), "n1 refused eth_call: busy"),
        (ChainError::Pruned { endpoint: endpoint(), method, reason: reason() }.into(),
         "n1 no longer has what eth_call asks for (ask a node that keeps all blocks): busy"),
        (ChainError::Malformed { endpoint: endpoint(), method, reason: reason() }.into(),
         "n1 answered eth_call with what cannot be read (is it a node of this chain?): busy"),
        (ChainError::Untrue { endpoint: endpoint(), method, reason: reason() }.into(),
         "n1 answered eth_call with what cannot be true (ask another node): busy"),
        (ChainError::TooManyHeaders { endpoint: endpoint(), limit: 20 }.into(),
         "n1 is on a branch of which more than 20 headers are beside the canonical one: it is not followed further \
          (give ChainConfig::headers_off_branch more if the node is right)"),
        (ChainError::Empty { endpoint: endpoint() }.into(), "n1 has no block: its chain is empty"),
        (ChainConfigError::Zero { field: "finality_depth" }.into(),
         "ChainConfig::finality_depth is zero: give it at least one"),
        (ChainConfigError::NoHeaders.into(), "Start::Known has no headers: give it the checkpoint's"),
        (ChainConfigError::Gap { hash: ONE, height: 2 }.into(),
         "Start::Known is no chain: 11111111 at 2 is not the child of the header before it: give them in order, \
          without a gap"),
        (BackfillError::Node(ChainError::Empty { endpoint: endpoint() }).into(),
         "reading older blocks: n1 has no block: its chain is empty"),
        (BackfillError::Closed.into(),
         "the projection of wallets has ended, since the runtime has stopped: start another one"),
        (BalanceError::UnknownWallet { name: name() }.into(), "no wallet is named \"w1\": add it first"),
        (BalanceError::TooEarly { name: name(), from: 3 }.into(),
         "wallet \"w1\" is followed from height 3 on: ask for that or more, or add it from a lower height"),
        (BalanceError::Nothing.into(), "no block has come yet: wait for the first one"),
        (Unconserved::Differs { block: ONE, held: 7, flow: Flow { opened: 5, minted: 1, came: 2, left: 3 } }.into(),
         "after block 11111111 wallets have 7 together, but began with 5, were given 1 of rewards and 2 by others, and \
          gave 3 away: do not trust the balances, and begin again from an older block"),
        (Unconserved::Unknown(BalanceError::Nothing).into(),
         "the sum of all wallets is not known: no block has come yet: wait for the first one"),
        (Fault::Overdrawn { block: ONE, height: 2, taken: 21, had: 10 }.into(),
         "Overdrawn in block 11111111 at height 2: 21 are taken from a wallet that has 10; follow it from an earlier \
          height, or give what it had there"),
        (Fault::NoCoin { block: ONE, height: 2, coin: OutPoint { transaction: TWO, output: 0 } }.into(),
         "block 11111111 at height 2 spends output 0 of 22222222, which its branch does not have: follow the wallet \
          from an earlier height, or give it that coin"),
        (Fault::Overflow { block: ONE, height: 2 }.into(),
         "block 11111111 at height 2 gives a wallet more than can be counted: compare the block with that of another \
          node"),
        (Fault::Unknown { block: ONE, height: 2, transaction: TWO, what: UnknownPart::Fee }.into(),
         "block 11111111 at height 2 has transaction 22222222, of which the fee is unknown: start again with a node \
          that returns it, or follow the wallet from the next height, with what it has there"),
        (Fault::Unread { block: ONE, height: 2 }.into(),
         "the transactions of block 11111111 at height 2 were not read: start again with a node that returns them, or \
          follow the wallet from the next height, with what it has there"),
        (WrongRecord::Wallet(AddWalletError::NoAddress { name: name() }).into(),
         "the record of wallets does not fit those that are followed: wallet \"w1\" has no address: give it at least \
          one"),
        (AddWalletError::NameTaken { name: name() }.into(),
         "there is already a wallet named \"w1\": give this one another name"),
        (SaveError::Io { path: path(), source: source() }.into(),
         "cannot write the checkpoint state.json: leave room for it in a folder that can be written to: disk full"),
        (LoadError::Io { path: path(), source: source() }.into(),
         "cannot read the checkpoint state.json: make it readable, or give another path: disk full"),
        (SaveError::InUse { path: path() }.into(),
         "the checkpoint state.json is in use by another run: wait until that has ended, or give each run its own file"),
        (SaveError::NotAFile { path: path() }.into(),
         "cannot write the checkpoint state.json, which is no regular file: give another path"),
        (SaveError::TooLarge { size: 300_000_000 }.into(),
         "the checkpoint has 300000000 bytes, and at most 268435456 are read: keep fewer headers or a smaller state"),
        (LoadError::NotAFile { path: path() }.into(),
         "cannot read the checkpoint state.json, which is no regular file: give another path"),
        (LoadError::TooLarge { path: path() }.into(),
         "state.json is no checkpoint, since it has more than 268435456 bytes: give another path"),
        (LoadError::Empty { path: path() }.into(), "the checkpoint state.json is empty: remove it to start again"),
        (LoadError::Truncated { path: path() }.into(),
         "the checkpoint state.json is truncated: remove it to start again"),
        (NotFollowed.into(),
         "the projection of transactions has ended, since the runtime has stopped: start another one"),
    ]
}

/// The same of errors about logs.
#[rustfmt::skip]
fn errors_of_logs() -> Vec<(Box<dyn Error + Send + Sync>, &'static str)> {
    let (endpoint, reason, method) = (|| "n1".to_owned(), || "busy".to_owned(), "eth_getLogs");
    vec![
        (ChainError::RangeTooLarge { endpoint: endpoint(), method, reason: reason(), at_most: None }.into(),
         "n1 refused eth_getLogs for the size of its answer (ask for fewer blocks at once, or, for a single one, \
          another node): busy"),
        (ChainError::NoLogs.into(), "this client has no logs: ask one that has, such as that of Ethereum"),
        (LogsError::OneBlock { height: 7, source: ChainError::NoLogs }.into(),
         "the logs of block 7 alone are too many for this node: ask another node, or with a narrower filter: this \
          client has no logs: ask one that has, such as that of Ethereum"),
        (LogsError::Missing { from: 1, to: 2 }.into(),
         "the node does not have blocks 1 to 2 now, though its head is not below: ask again, or another node"),
        (LogsError::Node(ChainError::NoLogs).into(),
         "this client has no logs: ask one that has, such as that of Ethereum"),
        (OneBlock.into(),
         "a range of one block cannot be halved: ask another node, or with a narrower filter"),
        (RangeSize::new(0, 7).unwrap_err().into(),
         "a range of 0 blocks, at most 7, is no size: give at least 1, and no more than the most"),
    ]
}

// A derived Debug printed `MissingParent { hash: 11111111, height: 2, .. }`, and never the sentence.
#[test]
fn every_error_prints_its_sentence_and_its_causes() {
    for (error, expected) in errors().into_iter().chain(errors_of_logs()) {
        assert_eq!(format!("{error:?}"), expected);
        assert!(expected.starts_with(&error.to_string()), "{error}");
    }
}

#[test]
fn an_error_returned_from_main_prints_its_sentence() {
    fn main() -> Result<(), Box<dyn Error>> {
        "0xzz".parse::<Hash>()?;
        Ok(())
    }
    let shown = format!("Error: {:?}", main().unwrap_err());
    assert_eq!(shown, "Error: \"0xzz\" is no hash: give 64 hexadecimal digits, with or without 0x");
}
