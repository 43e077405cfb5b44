//! What an account owns at a block.

use serde_json::{Value, json};
use watchkeeper_chain::Header;
use watchkeeper_chain::adapter::ChainError;
use watchkeeper_chain::adapter::ethereum::{Address, U256};

use crate::adapter::failure;
use crate::fake::{FakeNode, SECRET, branch, error, hash, result};

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
        (result(&Value::Null), true),
        (error(-32000, "header for hash not found"), false),
        (error(-32601, "the method does not exist"), false),
    ] {
        let text = refusal.to_string();
        let node = FakeNode::answering(move |_, _| refusal.clone()).await;
        let error = failure(node.client().balance(ACCOUNT, &block).await);
        assert_eq!(matches!(error, ChainError::Pruned { .. }), is_pruned, "{text}: {error:?}");
        assert_eq!(matches!(error, ChainError::Refused { .. }), !is_pruned, "{text}: {error:?}");
    }
}
