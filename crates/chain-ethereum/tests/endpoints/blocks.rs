//! Blocks whose parts do not fit together, and those that only look so.

use serde_json::{Value, json};
use watchkeeper_chain::adapter::{ChainClient, ChainError};
use watchkeeper_chain::{Block, Detail, Hash};
use watchkeeper_chain_ethereum::EthereumTransaction;

use crate::adapter::failure;
use crate::fake::{FakeNode, forged, hash, header_with, result, wire_header};

/// A text of 32 bytes, all of this digit.
pub(crate) fn word(digit: char) -> String {
    format!("0x{}", digit.to_string().repeat(64))
}

/// An address, all of this digit.
pub(crate) fn address(digit: char) -> String {
    format!("0x{}", digit.to_string().repeat(40))
}

/// An ordinary transaction with this hash.
pub(crate) fn transaction(hash: &str, nonce: &str) -> Value {
    json!({
        "hash": hash, "type": "0x2", "from": address('1'), "to": null, "value": "0x1", "nonce": nonce,
        "gas": "0x5208", "gasPrice": "0x7", "input": "0x", "r": "0x1", "s": "0x1",
    })
}

/// A block at height 3 with these transactions.
pub(crate) fn block_of(transactions: &[Value]) -> Value {
    let root = if transactions.is_empty() { None } else { Some(word('c')) };
    let mut block = match root {
        Some(root) => header_with(3, Hash([1; 32]), &root),
        None => wire_header(3, Hash([1; 32])),
    };
    block["transactions"] = transactions.into();
    block
}

/// The receipt of a transaction in a block.
pub(crate) fn receipt(transaction: &str, block: &Value) -> Value {
    json!({
        "transactionHash": transaction, "blockHash": block["hash"], "transactionIndex": "0x0",
        "gasUsed": "0x5", "effectiveGasPrice": "0x3", "status": "0x0",
    })
}

/// The block from a node that answers with these receipts.
pub(crate) async fn read(block: &Value, receipts: &Value) -> Result<Block<EthereumTransaction>, ChainError> {
    let (asked, block, receipts) = (hash(block), block.clone(), receipts.clone());
    let node = FakeNode::answering(move |method, _| {
        result(if method == "eth_getBlockReceipts" { &receipts } else { &block })
    })
    .await;
    node.client().block(asked, Detail::Results).await.map(Option::unwrap)
}

/// ```text
/// block:     transactions a (nonce 7), b (nonce 8)
/// receipts:  of a and b; of others, of too many, in another order, of another block
/// ```
#[tokio::test]
async fn receipts_belong_to_the_transactions_of_their_hash() {
    let [a, b, c] = ['a', 'b', 'c'].map(word);
    let block = block_of(&[transaction(&a, "0x7"), transaction(&b, "0x8")]);
    let (one, two, other) = (receipt(&a, &block), receipt(&b, &block), receipt(&c, &block));
    let both = [Some(false), Some(false)];
    for (receipts, succeeded) in [
        (json!([one, two]), both),
        (json!([two, one]), both),
        (json!([one, one, two, two]), both),
        (json!([other, one, null, two, {}]), both),
        (json!([one, forged(&two, "transactionIndex", "0x9")]), both),
        (json!([one, forged(&two, "blockHash", Value::Null)]), both),
        (json!([one, forged(&two, "blockHash", word('0'))]), both),
        (json!([one]), [Some(false), None]),
        (json!([two, other]), [None, Some(false)]),
    ] {
        let block = read(&block, &receipts).await.unwrap();
        let whole = if succeeded == both { Detail::Results } else { Detail::Transactions };
        assert_eq!(block.detail, whole, "{receipts}");
        let found = block.transactions.iter().map(|transaction| transaction.succeeded);
        assert_eq!(found.collect::<Vec<_>>(), succeeded, "{receipts}");
        for (transaction, nonce) in block.transactions.iter().zip([7, 8]) {
            assert_eq!((transaction.nonce, transaction.to), (Some(nonce), None), "{receipts}");
            let fee = transaction.fee.map(|fee| fee.to_string());
            assert_eq!(fee.as_deref(), transaction.succeeded.map(|_| "15"), "{receipts}");
        }
    }
}

#[tokio::test]
async fn receipts_of_another_block_are_untrue() {
    let [a, b] = ['a', 'b'].map(word);
    let block = block_of(&[transaction(&a, "0x7"), transaction(&b, "0x8")]);
    let receipts = json!([receipt(&a, &block), forged(&receipt(&b, &block), "blockHash", word('c'))]);
    let error = failure(read(&block, &receipts).await);
    assert!(matches!(error, ChainError::Untrue { .. }), "{error:?}");
    assert!(error.to_string().contains("is of block cccc"), "{error}");
}

/// They are asked for again, then by transaction: the node may index them a moment later, or another backend answer.
#[tokio::test]
async fn a_block_without_its_receipts_is_refused() {
    let signed = block_of(&[transaction(&word('a'), "0x7"), transaction(&word('b'), "0x8")]);
    let deposits =
        block_of(&['a', 'b'].map(|digit| forged(&transaction(&word(digit), "0x7"), "type", "0x7e")));
    for block in [signed, deposits] {
        for receipts in [Value::Null, json!([]), json!([receipt(&word('c'), &block)])] {
            let error = failure(read(&block, &receipts).await);
            assert!(matches!(error, ChainError::Refused { .. }), "{error:?}");
            assert!(error.to_string().ends_with("it has the block, but not its receipts"), "{error}");
        }
    }
}

/// One receipt comes with those of the block, the other one by its transaction.
#[tokio::test]
async fn a_receipt_that_is_missing_among_those_of_the_block_is_asked_for_by_its_transaction() {
    let [a, b] = ['a', 'b'].map(word);
    for kind in ["0x2", "0x7e", "0x64", "0x69", "0xff"] {
        let made = forged(&transaction(&b, "0x8"), "type", kind);
        let block = block_of(&[transaction(&a, "0x7"), made]);
        let (one, two, asked) = (receipt(&a, &block), receipt(&b, &block), hash(&block));
        let wanted = b.clone();
        let node = FakeNode::answering(move |method, parameters| match method {
            "eth_getBlockReceipts" => result(&json!([one])),
            "eth_getTransactionReceipt" => {
                assert_eq!(parameters[0], *wanted);
                result(&two)
            }
            _ => result(&block),
        })
        .await;
        let read = node.client().block(asked, Detail::Results).await.unwrap().unwrap();
        assert_eq!(read.detail, Detail::Results, "{kind}");
        assert!(read.transactions.iter().all(|found| found.succeeded == Some(false)), "{kind}");
    }
}

/// Whose transaction it is decides which wallet it changes.
#[tokio::test]
async fn a_block_with_a_transaction_of_nobody_known_is_not_read_in_full() {
    let a = word('a');
    let known = transaction(&a, "0x7");
    for (listed, detail) in [
        (known.clone(), Detail::Results),
        (forged(&known, "from", Value::Null), Detail::Transactions),
        (a.clone().into(), Detail::Transactions),
    ] {
        let block = block_of(&[listed]);
        assert_eq!(read(&block, &json!([receipt(&a, &block)])).await.unwrap().detail, detail);
    }
}

/// One node omits transactions, the other invents some.
#[tokio::test]
async fn a_block_has_transactions_if_its_header_says_so() {
    let some = word('c');
    let held_back = forged(&header_with(3, Hash([1; 32]), &some), "transactions", json!([]));
    let made_up = forged(&wire_header(3, Hash([1; 32])), "transactions", json!([transaction(&some, "0x7")]));
    for (block, says) in [
        (held_back, "has 0 transactions, and its header says some"),
        (made_up, "has 1 transactions, and its header says none"),
    ] {
        let receipts = json!([receipt(&some, &block)]);
        for detail in [Detail::Transactions, Detail::Results] {
            let (asked, block, receipts) = (hash(&block), block.clone(), receipts.clone());
            let node = FakeNode::answering(move |method, _| {
                result(if method == "eth_getBlockReceipts" { &receipts } else { &block })
            })
            .await;
            let error = failure(node.client().block(asked, detail).await);
            assert!(matches!(error, ChainError::Untrue { .. }), "{error:?}");
            assert!(error.to_string().ends_with(says), "{error}");
            // Chains with their own header format may have other roots.
            node.client().trusting_hashes().block(asked, detail).await.unwrap().unwrap();
        }
    }
}

/// What only wallets and inclusions need is unknown where a chain leaves it out, and no block fails for it.
#[tokio::test]
async fn an_odd_field_is_unknown_and_fails_no_block() {
    let a = word('a');
    let whole = (transaction(&a, "0x7"), receipt(&a, &block_of(&[])));
    for of_receipt in [false, true] {
        let fields = if of_receipt { &whole.1 } else { &whole.0 };
        for field in fields.as_object().unwrap().keys() {
            if ["hash", "transactionHash"].contains(&&**field) {
                continue;
            }
            for odd in
                [None, Some(Value::Null), Some("?".into()), Some((-1).into()), Some(json!({ "a": [1] }))]
            {
                let (mut transaction, mut receipt) = whole.clone();
                let changed = if of_receipt { &mut receipt } else { &mut transaction };
                match &odd {
                    Some(odd) => changed[field] = odd.clone(),
                    None => drop(changed.as_object_mut().unwrap().remove(field)),
                }
                let block = block_of(&[transaction]);
                if field != "blockHash" {
                    receipt["blockHash"] = block["hash"].clone();
                }
                let read = read(&block, &json!([receipt])).await;
                let read = read.unwrap_or_else(|error| panic!("{field} {odd:?}: {error}"));
                let found = &read.transactions[0];
                let fee = found.fee.map(|fee| fee.to_string());
                match &**field {
                    "value" => assert_eq!(found.value, None),
                    "nonce" => assert_eq!(found.nonce, None),
                    "gasUsed" => assert_eq!(fee, None),
                    "status" => assert_eq!(found.succeeded, None),
                    // The price that the transaction has in a block.
                    "effectiveGasPrice" => assert_eq!(fee.as_deref(), Some("35"), "{odd:?}"),
                    "from" => assert!(!found.signed && found.from.is_zero()),
                    _ => {
                        assert_eq!(fee.as_deref(), Some("15"), "{field} {odd:?}");
                        assert_eq!(found.succeeded, Some(false), "{field} {odd:?}");
                        assert!(found.signed, "{field} {odd:?}");
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn numbers_of_a_transaction_are_read_in_any_form() {
    let a = word('a');
    for (nonce, value) in [(json!("0x07"), json!("0x01")), (json!(7), json!(1)), (json!("7"), json!("1"))] {
        let mut transaction = transaction(&a, "0x0");
        (transaction["nonce"], transaction["value"], transaction["type"]) = (nonce, value, json!(2));
        let block = block_of(&[transaction]);
        let mut receipt = receipt(&a, &block);
        (receipt["gasUsed"], receipt["effectiveGasPrice"], receipt["status"]) =
            (json!(5), json!("0x03"), json!(1));
        let read = read(&block, &json!([receipt])).await.unwrap();
        let found = &read.transactions[0];
        assert_eq!((found.nonce, found.succeeded), (Some(7), Some(true)));
        assert_eq!(
            (found.value.unwrap().to_string(), found.fee.unwrap().to_string()),
            ("1".into(), "15".into())
        );
    }
}

/// Before Byzantium receipts had the state instead of a status, and a failure used up all gas.
#[tokio::test]
async fn an_old_receipt_shows_a_success_by_the_gas_that_is_left() {
    let a = word('a');
    for (gas, used, input, succeeded) in [
        ("0x7000", "0x6000", "0x01", Some(true)),
        ("0x6000", "0x6000", "0x01", None),
        // A plain transfer. A contract that runs out of just this gas is not distinguished.
        ("0x5208", "0x5208", "0x", Some(true)),
        ("0x5208", "0x5208", "0x01", None),
    ] {
        let mut transaction = transaction(&a, "0x0");
        (transaction["gas"], transaction["input"]) = (gas.into(), input.into());
        let block = block_of(&[transaction]);
        let mut receipt = receipt(&a, &block);
        receipt.as_object_mut().unwrap().remove("status");
        (receipt["root"], receipt["gasUsed"]) = (word('d').into(), used.into());
        let read = read(&block, &json!([receipt])).await.unwrap();
        assert_eq!(read.transactions[0].succeeded, succeeded, "{gas} {used} {input}");
    }
}

/// The node lists one transaction in full and of one only the hash, which is then asked for.
#[tokio::test]
async fn a_transaction_that_is_listed_by_its_hash_alone_is_asked_for() {
    let [a, b] = ['a', 'b'].map(word);
    let block = block_of(&[transaction(&a, "0x7"), b.clone().into()]);
    let receipts = json!([receipt(&a, &block), receipt(&b, &block)]);
    for (answer, nonce) in [
        (transaction(&b, "0x8"), Some(8)),
        (transaction(&a, "0x8"), None),
        (Value::Null, None),
        (json!({ "hash": 7 }), None),
    ] {
        for detail in [Detail::Transactions, Detail::Results] {
            let (asked, block, receipts) = (hash(&block), block.clone(), receipts.clone());
            let (answer, b) = (answer.clone(), b.clone());
            let node = FakeNode::answering(move |method, parameters| match method {
                "eth_getTransactionByHash" => {
                    assert_eq!(parameters[0], *b);
                    result(&answer)
                }
                "eth_getBlockReceipts" => result(&receipts),
                _ => result(&block),
            })
            .await;
            let read = node.client().block(asked, detail).await.unwrap().unwrap();
            let [one, two] = &read.transactions[..] else { panic!("{read:?}") };
            assert_eq!((one.nonce, one.signed), (Some(7), true));
            assert_eq!(
                (two.nonce, two.signed, two.value.is_some()),
                (nonce, nonce.is_some(), nonce.is_some())
            );
            assert_eq!(format!("0x{}", two.hash), word('b'));
        }
    }
}

/// No receipt is asked for below full detail.
#[tokio::test]
async fn receipts_are_asked_for_only_if_results_are() {
    let block = block_of(&[transaction(&word('a'), "0x7")]);
    let asked = hash(&block);
    let node = FakeNode::answering(move |method, parameters| {
        assert_eq!((method, &parameters[1]), ("eth_getBlockByHash", &json!(true)));
        result(&block)
    })
    .await;
    let read = node.client().block(asked, Detail::Transactions).await.unwrap().unwrap();
    assert_eq!(read.detail, Detail::Transactions);
    let [found] = &read.transactions[..] else { panic!("{read:?}") };
    assert_eq!((found.nonce, found.fee, found.succeeded), (Some(7), None, None));
}
