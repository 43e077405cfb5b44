//! Blocks whose parts do not fit together.

use serde_json::{Value, json};
use watchkeeper_chain::adapter::{ChainClient, ChainError};
use watchkeeper_chain::{Detail, Hash};

use crate::adapter::failure;
use crate::fake::{FakeNode, forged, hash, header_with, result, wire_header};

/// ```text
/// block:     transactions a (nonce 7), b (nonce 8)
/// receipts:  of a and b; of others, of too many, in another order, of another block
/// ```
#[tokio::test]
async fn receipts_belong_to_the_transactions_of_their_block() {
    let [a, b, c] = ["a", "b", "c"].map(|digit| format!("0x{}", digit.repeat(64)));
    let address = format!("0x{}", "1".repeat(40));
    let transaction = |hash: &str, nonce: &str| {
        let value = "0x1";
        json!({ "hash": hash, "type": "0x7e", "from": address, "to": null, "value": value, "nonce": nonce })
    };
    let mut block = header_with(3, Hash([1; 32]), &c);
    block["transactions"] = json!([transaction(&a, "0x7"), transaction(&b, "0x8")]);
    let asked = hash(&block);
    let here = format!("0x{asked}");
    let receipt = |hash: &str, block: &str, index: &str| {
        json!({
            "transactionHash": hash, "blockHash": block, "transactionIndex": index,
            "gasUsed": "0x5", "effectiveGasPrice": "0x3", "status": "0x0",
        })
    };
    let (one, two) = (receipt(&a, &here, "0x0"), receipt(&b, &here, "0x1"));
    for (receipts, says) in [
        (json!([one, two]), None),
        (json!([]), Some("has 2 transactions and 0 receipts")),
        (json!([one]), Some("has 2 transactions and 1 receipts")),
        (json!([one, two, two]), Some("has 2 transactions and 3 receipts")),
        (json!([two, one]), Some("the receipt at the place of transaction aaaa")),
        (json!([one, receipt(&c, &here, "0x1")]), Some("the receipt at the place of transaction bbbb")),
        (json!([one, receipt(&b, &c, "0x1")]), Some("is of block cccc")),
        (json!([one, receipt(&b, &here, "0x2")]), Some("at place 1 is of place 2")),
        (Value::Null, Some("it has the block, but not its receipts")),
    ] {
        let block = block.clone();
        let node = FakeNode::answering(move |method, _| {
            result(if method == "eth_getBlockReceipts" { &receipts } else { &block })
        })
        .await;
        let answer = node.client().block(asked, Detail::Results).await;
        if let Some(says) = says {
            let error = failure(answer);
            assert!(error.to_string().contains(says), "{error}");
        } else {
            let block = answer.unwrap().unwrap();
            let [transaction, _] = &block.transactions[..] else { panic!("{block:?}") };
            assert_eq!(
                (transaction.nonce, transaction.succeeded, transaction.to),
                (Some(7), Some(false), None)
            );
            assert_eq!(transaction.fee.unwrap().to_string(), "15");
        }
    }
}

/// One node omits transactions, the other invents some.
#[tokio::test]
async fn a_block_has_transactions_if_its_header_says_so() {
    let some = format!("0x{}", "c".repeat(64));
    let held_back = forged(&header_with(3, Hash([1; 32]), &some), "transactions", json!([]));
    let address = format!("0x{}", "1".repeat(40));
    let transaction = json!({ "hash": some, "from": address, "to": null, "value": "0x1", "nonce": "0x7" });
    let made_up = forged(&wire_header(3, Hash([1; 32])), "transactions", json!([transaction]));
    for (block, says) in [
        (held_back, "has 0 transactions, and its header says some"),
        (made_up, "has 1 transactions, and its header says none"),
    ] {
        let asked = hash(&block);
        let receipt = json!({
            "transactionHash": some, "blockHash": format!("0x{asked}"), "transactionIndex": "0x0",
            "gasUsed": "0x5", "effectiveGasPrice": "0x3", "status": "0x1",
        });
        let receipts = block["transactions"].as_array().unwrap().iter().map(|_| receipt.clone()).collect();
        let node = FakeNode::answering(move |method, _| {
            result(if method == "eth_getBlockReceipts" { &receipts } else { &block })
        })
        .await;
        let error = failure(node.client().block(asked, Detail::Results).await);
        assert!(matches!(error, ChainError::Untrue { .. }), "{error:?}");
        assert!(error.to_string().ends_with(says), "{error}");
        // Chains with their own header format may have other roots.
        node.client().trusting_hashes().block(asked, Detail::Results).await.unwrap().unwrap();
    }
}
