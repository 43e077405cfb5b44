//! Nodes without `eth_getBlockReceipts`: a receipt by transaction.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::{Value, json};
use tokio::sync::Notify;
use watchkeeper_chain::adapter::{ChainClient, ChainError};
use watchkeeper_chain::{Detail, Hash};

use crate::adapter::failure;
use crate::blocks::{block_of, receipt, transaction, word};
use crate::fake::{FakeNode, answer, error, forged, hash, result};

/// How often each method was asked for.
type Asked = Arc<Mutex<BTreeMap<String, usize>>>;

/// A block with this many transactions.
fn large_block(count: u32) -> Value {
    let transactions: Vec<_> =
        (0..count).map(|nth| transaction(&format!("0x{nth:064x}"), &format!("{nth:#x}"))).collect();
    block_of(&transactions)
}

/// Answers for one block, and refuses `eth_getBlockReceipts` like this.
fn without_method(block: Value, refusal: Value, asked: Asked) -> impl Fn(&str, &Value) -> Value {
    move |method, parameters| {
        *asked.lock().unwrap().entry(method.to_owned()).or_default() += 1;
        match method {
            "eth_getBlockReceipts" => refusal.clone(),
            "eth_getTransactionReceipt" => result(&receipt(parameters[0].as_str().unwrap(), &block)),
            _ => result(&block),
        }
    }
}

async fn node_without_method(block: &Value, refusal: Value, asked: &Asked) -> FakeNode {
    FakeNode::answering(without_method(block.clone(), refusal, Arc::clone(asked))).await
}

/// A node without the method that has the block's own receipt of its first transaction, and this one of
/// any other.
async fn node_with_other_receipt(block: &Value, other: Value) -> FakeNode {
    let block = block.clone();
    FakeNode::answering(move |method, parameters| match method {
        "eth_getBlockReceipts" => error(-32601, "Method not found"),
        "eth_getTransactionReceipt" if parameters[0] == word('a') => result(&receipt(&word('a'), &block)),
        "eth_getTransactionReceipt" => result(&other),
        _ => result(&block),
    })
    .await
}

fn count(asked: &Asked, method: &str) -> usize {
    asked.lock().unwrap().get(method).copied().unwrap_or_default()
}

#[tokio::test]
async fn receipts_are_asked_for_by_transaction_and_that_is_remembered() {
    for (code, message) in [
        (-32601, "Method not found"),
        (-32601, "the method eth_getBlockReceipts does not exist/is not available"),
        (-32000, "Unsupported method: eth_getBlockReceipts"),
        (-32600, "eth_getBlockReceipts method is not supported"),
        (-32001, "rpc method is not whitelisted"),
        (-32004, ""),
        (-32602, "invalid argument 0: hex string has length 64, want 16"),
        (-32000, "method eth_getBlockReceipts is not available on your plan"),
    ] {
        let block = large_block(20);
        let asked = Asked::default();
        let node = node_without_method(&block, error(code, message), &asked).await;
        let client = node.client();
        for clone in [client.clone(), client] {
            let read = clone.block(hash(&block), Detail::Results).await.unwrap().unwrap();
            assert_eq!(read.transactions.len(), 20);
            for (transaction, nonce) in read.transactions.iter().zip(0..) {
                assert_eq!(
                    (transaction.nonce, transaction.succeeded),
                    (Some(nonce), Some(false)),
                    "{message}"
                );
            }
        }
        assert_eq!(count(&asked, "eth_getBlockReceipts"), 1, "{message}");
        assert_eq!(count(&asked, "eth_getTransactionReceipt"), 40, "{message}");
    }
}

/// What passes says nothing about what a node has.
#[tokio::test]
async fn a_hiccup_is_no_missing_method() {
    for (code, message) in [
        (-32005, "limit exceeded"),
        (-32603, "Internal error"),
        (-32000, "request timed out"),
        (-32000, "no backends available for method"),
        (-32000, "method is temporarily unavailable"),
        (-32000, "header not found"),
    ] {
        let block = large_block(2);
        let asked = Asked::default();
        let node = node_without_method(&block, error(code, message), &asked).await;
        let client = node.client();
        for _ in 0..2 {
            let error = failure(client.block(hash(&block), Detail::Results).await);
            assert!(error.is_retryable(), "{error:?}");
        }
        assert_eq!(count(&asked, "eth_getBlockReceipts"), 2, "{message}");
        assert_eq!(count(&asked, "eth_getTransactionReceipt"), 0, "{message}");
    }
}

/// A gateway refuses the method by a status, and batches with it.
#[tokio::test]
async fn a_status_may_refuse_the_method() {
    for (status, text) in [
        (403, "method not allowed: eth_getBlockReceipts"),
        (404, r#"{"error":{"code":-32601,"message":"Method not found"}}"#),
        (405, ""),
        (400, "unsupported method"),
        (501, ""),
    ] {
        let block = large_block(3);
        let asked = Asked::default();
        let inner = without_method(block.clone(), Value::Null, Arc::clone(&asked));
        let node = FakeNode::serving(move |_, body| {
            Some(if String::from_utf8_lossy(&body).contains("eth_getBlockReceipts") {
                (StatusCode::from_u16(status).unwrap(), text).into_response()
            } else {
                answer(&body, &inner)
            })
        })
        .await;
        let client = node.client();
        for _ in 0..2 {
            let read = client.block(hash(&block), Detail::Results).await.unwrap().unwrap();
            assert!(read.transactions.iter().all(|found| found.succeeded == Some(false)), "{status}");
        }
        assert_eq!(count(&asked, "eth_getBlockReceipts"), 0, "{status}");
    }
}

/// A receipt by transaction is of the branch that the node is on.
#[tokio::test]
async fn a_receipt_from_another_branch_is_unknown() {
    let [a, b] = ['a', 'b'].map(word);
    let block = block_of(&[transaction(&a, "0x7"), transaction(&b, "0x8")]);
    let asked = hash(&block);
    for other in [forged(&receipt(&b, &block), "blockHash", word('d')), Value::Null] {
        let node = node_with_other_receipt(&block, other).await;
        let read = node.client().block(asked, Detail::Results).await.unwrap().unwrap();
        let succeeded: Vec<_> = read.transactions.iter().map(|found| found.succeeded).collect();
        assert_eq!(succeeded, [Some(false), None]);
        assert_eq!(read.detail, Detail::Transactions);
    }
}

/// A transaction may be pending again, or in another block, after a reorg.
#[tokio::test]
async fn a_receipt_by_transaction_must_name_its_block_or_the_height() {
    let [a, b] = ['a', 'b'].map(word);
    let block = block_of(&[transaction(&a, "0x7"), transaction(&b, "0x8")]);
    let asked = hash(&block);
    for (block_hash, number, succeeded) in [
        (Value::Null, Value::Null, None),
        (Value::Null, json!("0x4"), None),
        (json!(word('0')), json!("?"), None),
        (Value::Null, json!("0x3"), Some(false)),
        (block["hash"].clone(), Value::Null, Some(false)),
        (block["hash"].clone(), json!("0x3"), Some(false)),
    ] {
        let found = forged(&forged(&receipt(&b, &block), "blockHash", block_hash), "blockNumber", number);
        let node = node_with_other_receipt(&block, found.clone()).await;
        let read = node.client().block(asked, Detail::Results).await.unwrap().unwrap();
        assert_eq!(read.transactions[1].succeeded, succeeded, "{found}");
    }
}

/// The caller gives a block up while its receipts arrive, as an observer does after its time-out.
#[tokio::test]
async fn a_block_that_was_given_up_goes_on_where_it_was() {
    let block = large_block(40);
    let asked = Asked::default();
    let inner = without_method(block.clone(), error(-32601, "Method not found"), Arc::clone(&asked));
    // The first round of receipts is answered; the next one only when the test has given up.
    let (answered, waiting) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (seen, waits) = (Arc::clone(&answered), Arc::clone(&waiting));
    let open = Arc::new(AtomicBool::new(false));
    let is_open = Arc::clone(&open);
    let node = FakeNode::serving(move |_, body| {
        if body.starts_with(b"[") {
            let refusal = json!({ "id": null, "error": { "code": -32600, "message": "batch requests are not supported" } });
            return Some(refusal.to_string().into_response());
        }
        let is_receipt = String::from_utf8_lossy(&body).contains("eth_getTransactionReceipt");
        if is_receipt && !is_open.load(Ordering::SeqCst) && seen.fetch_add(1, Ordering::SeqCst) >= 23 {
            waits.notify_one();
            return None;
        }
        Some(answer(&body, &inner))
    })
    .await;
    let client = node.client();
    // So that it is known that there are no batches.
    open.store(true, Ordering::SeqCst);
    client.identity().await.unwrap_err();
    client.block(hash(&block), Detail::Results).await.unwrap().unwrap();
    open.store(false, Ordering::SeqCst);
    asked.lock().unwrap().clear();

    let first = client.clone();
    tokio::select! {
        read = first.block(hash(&block), Detail::Results) => panic!("{read:?}"),
        () = waiting.notified() => {}
    }
    let before = count(&asked, "eth_getTransactionReceipt");
    assert!((16..=23).contains(&before), "{before}");
    open.store(true, Ordering::SeqCst);
    let read = client.block(hash(&block), Detail::Results).await.unwrap().unwrap();
    assert_eq!(read.detail, Detail::Results);
    assert!(read.transactions.iter().all(|found| found.succeeded == Some(false)));
    // Of the first round nothing is asked again, nor of the whole block later.
    assert_eq!(count(&asked, "eth_getTransactionReceipt") - before, 40 - 16);
    client.block(hash(&block), Detail::Results).await.unwrap().unwrap();
    assert_eq!(count(&asked, "eth_getTransactionReceipt") - before, 40 - 16 + 40);
}

#[tokio::test]
async fn no_receipt_at_all_is_a_refusal_and_a_missing_block_is_none() {
    let block = block_of(&[transaction(&word('a'), "0x7")]);
    let asked = hash(&block);
    let node = FakeNode::answering(move |method, parameters| match method {
        "eth_getBlockReceipts" => error(-32601, "Method not found"),
        "eth_getBlockByHash" if parameters[0] == format!("0x{asked}") => result(&block),
        _ => result(&Value::Null),
    })
    .await;
    let error = failure(node.client().block(asked, Detail::Results).await);
    assert!(matches!(error, ChainError::Refused { method: "eth_getTransactionReceipt", .. }), "{error:?}");
    assert_eq!(node.client().block(Hash([9; 32]), Detail::Results).await.unwrap(), None);
}

/// One batch if the node takes batches of that size, else as many as it takes.
#[tokio::test]
async fn many_receipts_come_in_few_requests() {
    for (most, requests) in [(1_000, 3), (10, 8)] {
        let block = large_block(40);
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let (seen, inner) = (
            Arc::clone(&sizes),
            without_method(block.clone(), error(-32601, "Method not found"), Asked::default()),
        );
        let node = FakeNode::serving(move |_, body| {
            let questions: Value = serde_json::from_slice(&body).unwrap();
            let size = questions.as_array().map_or(1, Vec::len);
            seen.lock().unwrap().push(size);
            Some(if size > most {
                json!({ "id": null, "error": { "code": -32600, "message": "batch too large" } })
                    .to_string()
                    .into_response()
            } else {
                answer(&body, &inner)
            })
        })
        .await;
        let client = node.client();
        for _ in 0..2 {
            let read = client.block(hash(&block), Detail::Results).await.unwrap().unwrap();
            assert!(read.transactions.iter().all(|found| found.succeeded.is_some()));
            if most == 1_000 {
                break;
            }
            sizes.lock().unwrap().clear();
        }
        let sizes = sizes.lock().unwrap();
        assert!(sizes.len() <= requests && sizes.iter().all(|size| *size <= most), "{sizes:?}");
    }
}
