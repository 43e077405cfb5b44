//! What an account owns at a block.

use serde_json::{Value, json};
use watchkeeper_chain::adapter::{ChainClient, ChainError};
use watchkeeper_chain::{Hash, Header};
use watchkeeper_chain_ethereum::{Address, U256};

use crate::adapter::failure;
use crate::fake::{FakeNode, SECRET, branch, error, hash, result, wire_header};

const ACCOUNT: Address = Address::repeat_byte(7);

/// The header of block 3, for which balances are asked.
fn third(branch: &[Value]) -> Header {
    Header { hash: hash(&branch[3]), parent: hash(&branch[2]), height: 3, work: 7, time: 100 }
}

#[tokio::test]
async fn a_balance_is_asked_for_by_the_hash_of_the_block() {
    let branch = branch(0, 3);
    let block = third(&branch);
    let asked = json!([ACCOUNT, { "blockHash": format!("0x{}", block.hash) }]);
    let node = FakeNode::answering(move |method, parameters| {
        assert_eq!((method, parameters), ("eth_getBalance", &asked));
        result(&"0x2a".into())
    })
    .await;
    assert_eq!(node.client().balance(ACCOUNT, &block).await.unwrap(), U256::from(42));
}

/// A node that refuses a hash here is asked by height, and believed if it has the block there.
#[tokio::test]
async fn a_node_without_hashes_is_asked_by_height() {
    let (right, other) = (branch(0, 3), branch(1, 3));
    let block = third(&right);
    for (there, expected) in [(right[3].clone(), Some(42)), (other[3].clone(), None), (Value::Null, None)] {
        let node = FakeNode::answering(move |method, parameters| match method {
            "eth_getBalance" if parameters[1].is_object() => error(-32602, "invalid argument 1: hex string"),
            "eth_getBalance" if parameters[1] == "0x3" => result(&"0x2a".into()),
            "eth_getBlockByNumber" if parameters[0] == "0x3" => result(&there),
            _ => panic!("{method} {parameters}"),
        })
        .await;
        let answer = node.client().balance(ACCOUNT, &block).await;
        if let Some(owns) = expected {
            assert_eq!(answer.unwrap(), U256::from(owns));
        } else {
            let error = failure(answer);
            assert!(matches!(error, ChainError::Refused { method: "eth_getBalance", .. }), "{error:?}");
            assert!(error.to_string().ends_with("at height 3"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_pruned_state_is_distinguished() {
    let block = third(&branch(0, 3));
    for (refusal, is_pruned) in [
        (error(-32000, "missing trie node 1a3b (path ) <nil>"), true),
        (error(-32000, "historical state 0xabcd is not available"), true),
        (error(-32000, "required historical state unavailable (reexec=128)"), true),
        (error(-32000, "old data not available due to pruning"), true),
        (error(4444, "Pruned history unavailable"), true),
        (error(-32002, "No state available for block 0x03"), true),
        (error(-32000, &format!("the key {SECRET} does not have access to archive state")), true),
        (
            json!({ "error": { "code": -32603, "message": "Internal error", "data": "Trie.MissingTrieNodeException" } }),
            true,
        ),
        (error(-32000, "state at block #7 is pruned"), true),
        (error(-32000, "height 5 is not available, lowest height is 10"), true),
        (result(&Value::Null), true),
        (error(-32601, "the method does not exist"), false),
    ] {
        let text = refusal.to_string();
        let node = FakeNode::answering(move |_, _| refusal.clone()).await;
        let error = failure(node.client().balance(ACCOUNT, &block).await);
        assert_eq!(matches!(error, ChainError::Pruned { .. }), is_pruned, "{text}: {error:?}");
        assert_eq!(matches!(error, ChainError::Refused { .. }), !is_pruned, "{text}: {error:?}");
    }
}

/// A balancer asks a backend that is behind, or a limit is on what pruned nodes do not have.
#[tokio::test]
async fn a_state_that_is_not_there_right_now_is_not_pruned() {
    let block = third(&branch(0, 3));
    for (code, message) in [
        (-32000, "header for hash not found"),
        (-32000, "header not found"),
        (-39001, "Unknown block"),
        (-32602, "BlockOutOfRangeError: block height is 2 but requested was 3"),
        (-32000, "version does not exist. It has been pruned, or is for a future block height"),
        (-32000, "no archive nodes available, please try again"),
        (-32000, "cannot query unfinalized data"),
        (-32000, "height 9 must be less than or equal to the current blockchain height 8"),
        (-32005, "archive requests are rate limited"),
        (-32000, "too many requests for pruned history"),
        (-32000, "the archive node timed out"),
        (-32000, "state pruning is in progress"),
        (-32000, "Post \"http://erigon-archive:8545\": dial tcp 10.0.0.7:8545: connect: connection refused"),
        (-32005, "You have exceeded your monthly archive request allowance"),
        (-32001, "0x0123456789abcdef could not be found"),
        (-32000, "state histories haven't been fully indexed yet"),
    ] {
        let node = FakeNode::answering(move |_, _| error(code, message)).await;
        let error = failure(node.client().balance(ACCOUNT, &block).await);
        assert!(error.is_retryable(), "{message}: {error:?}");
    }
}

/// Nodes express in several ways that they understand no hash here.
#[tokio::test]
async fn any_refusal_of_the_hash_is_understood() {
    let branch = branch(0, 3);
    let block = third(&branch);
    for (code, message) in [
        (-32602, "invalid argument 1: json: cannot unmarshal object into Go value of type string"),
        (-32600, "Invalid Request"),
        (-32000, "invalid argument 1"),
        (-32603, "invalid type: map, expected a string"),
    ] {
        let there = branch[3].clone();
        let node = FakeNode::answering(move |method, parameters| match method {
            "eth_getBalance" if parameters[1].is_object() => error(code, message),
            "eth_getBalance" => result(&"0x2a".into()),
            _ => result(&there),
        })
        .await;
        assert_eq!(node.client().balance(ACCOUNT, &block).await.unwrap(), U256::from(42), "{message}");
    }
}

/// A node without a state has dropped it if it is far below its head; else it does not have it yet.
#[tokio::test]
async fn a_state_that_is_not_found_is_pruned_only_far_below_the_head() {
    let block = third(&branch(0, 3));
    for (head, is_pruned) in [(Some(3 + 256), false), (Some(3 + 257), true), (Some(2), false), (None, false)]
    {
        let node = FakeNode::answering(move |method, _| match (method, head) {
            ("eth_getBalance", _) => error(-32603, "no state found for block number 3"),
            (_, Some(head)) => result(&wire_header(head, Hash([1; 32]))),
            (_, None) => error(-32603, "Internal error"),
        })
        .await;
        let error = failure(node.client().balance(ACCOUNT, &block).await);
        assert_eq!(matches!(error, ChainError::Pruned { .. }), is_pruned, "{head:?}: {error:?}");
        assert_eq!(error.is_retryable(), !is_pruned, "{head:?}: {error:?}");
        assert!(error.to_string().ends_with("no state found for block number 3 (code -32603)"), "{error}");
    }
}

/// It says nothing about hashes: the question is not repeated by height.
#[tokio::test]
async fn a_key_that_is_missing_is_reported_and_nothing_else() {
    let block = third(&branch(0, 3));
    for message in ["Must be authenticated!", "Unauthorized", "Access denied"] {
        let node = FakeNode::answering(move |method, parameters| {
            assert!(method != "eth_getBalance" || parameters[1].is_object(), "{parameters}");
            error(-32600, message)
        })
        .await;
        for error in
            [failure(node.client().balance(ACCOUNT, &block).await), failure(node.client().finalised().await)]
        {
            assert!(matches!(error, ChainError::Refused { .. }), "{error:?}");
            assert!(error.to_string().contains(message), "{error}");
        }
    }
}
