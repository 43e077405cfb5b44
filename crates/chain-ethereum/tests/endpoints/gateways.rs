//! Servers that take no batches: asked one by one, which is remembered.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Bytes;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use watchkeeper_chain::Detail;
use watchkeeper_chain::adapter::{ChainClient, ChainError};

use crate::adapter::failure;
use crate::blocks::{block_of, receipt, transaction, word};
use crate::fake::{FakeNode, answer, error, hash, result};

fn is_batch(body: &Bytes) -> bool {
    body.first() == Some(&b'[')
}

/// Answers for one block with one transaction; `has_receipts` of the block.
fn node(block: Value, has_receipts: bool) -> impl Fn(&str, &Value) -> Value {
    move |method, parameters| match method {
        "eth_chainId" => result(&"0x1".into()),
        "eth_getBlockReceipts" if !has_receipts => error(-32601, "Method not found"),
        "eth_getBlockReceipts" => result(&json!([receipt(&word('a'), &block)])),
        "eth_getTransactionReceipt" => result(&receipt(parameters[0].as_str().unwrap(), &block)),
        _ => result(&block),
    }
}

fn text(status: u16, text: &'static str) -> Response {
    (StatusCode::from_u16(status).unwrap(), text).into_response()
}

/// What a server answers to a batch that it does not take.
const REFUSALS: [(u16, &str); 18] = [
    (200, r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Invalid Request"}}"#),
    (200, r#"{"jsonrpc":"2.0","id":0,"error":{"code":-32600,"message":"batch requests are disabled"}}"#),
    (200, r#"{"error":{"code":-32700,"message":"cannot unmarshal array into Go value"}}"#),
    (200, r#"{"error":{"code":-32005,"message":"batch size is limited to 1"}}"#),
    (200, r#"[{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no"}}]"#),
    (200, "[]"),
    (200, r#"{"jsonrpc":"2.0","id":null,"result":"0x1"}"#),
    (400, ""),
    (400, "json: cannot unmarshal array into Go value of type rpc.Request"),
    (400, "Invalid params: expected object"),
    (400, "Resource not found"),
    (400, r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no batches"}}"#),
    (403, "Batch requests are only for paying users"),
    (404, "not found"),
    (405, ""),
    (413, ""),
    (500, "batch requests are not supported"),
    (501, ""),
];

#[tokio::test]
async fn a_server_without_batches_is_asked_one_by_one_and_that_is_remembered() {
    for has_receipts in [true, false] {
        for (status, refusal) in REFUSALS {
            let block = block_of(&[transaction(&word('a'), "0x7"), transaction(&word('b'), "0x8")]);
            let (asked, inner) = (hash(&block), node(block, has_receipts));
            let batches = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&batches);
            let node = FakeNode::serving(move |_, body| {
                Some(if is_batch(&body) {
                    count.fetch_add(1, Ordering::Relaxed);
                    text(status, refusal)
                } else {
                    answer(&body, &inner)
                })
            })
            .await;
            let client = node.client();
            let mut before = 0;
            for nth in 0..4 {
                let read = client.clone().block(asked, Detail::Results).await.unwrap().unwrap();
                assert_eq!(read.transactions[0].succeeded, Some(false), "{status} {refusal}");
                let now = batches.load(Ordering::Relaxed);
                assert!(nth < 2 || now == before, "{status} {refusal}: {now} batches");
                before = now;
            }
            assert!(before <= 2, "{status} {refusal}: {before} batches");
        }
    }
}

/// A batch fails as a whole for a moment. It is still the better way afterwards.
#[tokio::test]
async fn a_hiccup_is_no_server_without_batches() {
    for (status, refusal, is_error) in [
        (429, "", true),
        (503, "", true),
        (502, "<html>", true),
        (500, "", true),
        (403, "Too many requests", true),
        (400, "request timed out", true),
        (404, r#"{"message":"no available node"}"#, false),
        (200, r#"{"id":null,"error":{"code":-32005,"message":"rate limit"}}"#, true),
        (200, r#"{"id":null,"error":{"code":-32000,"message":"request timed out"}}"#, true),
        (200, r#"{"id":null,"error":{"code":-32603,"message":"Internal error"}}"#, false),
        (404, "404 page not found", false),
        (200, r#"{"id":0,"error":{"code":-32000,"message":"header not found"}}"#, false),
        (200, r#"{"id":0,"error":{"code":-32000,"message":"something odd"}}"#, false),
        (200, "<html>one moment</html>", false),
        (200, "", false),
    ] {
        let block = block_of(&[transaction(&word('a'), "0x7")]);
        let (asked, inner) = (hash(&block), node(block, true));
        let batches = Arc::new(AtomicUsize::new(0));
        let (count, alone) = (Arc::clone(&batches), Arc::new(AtomicUsize::new(0)));
        let singles = Arc::clone(&alone);
        let node = FakeNode::serving(move |_, body| {
            Some(if !is_batch(&body) {
                singles.fetch_add(1, Ordering::Relaxed);
                answer(&body, &inner)
            } else if count.fetch_add(1, Ordering::Relaxed) == 0 {
                text(status, refusal)
            } else {
                answer(&body, &inner)
            })
        })
        .await;
        let client = node.client();
        let first = client.block(asked, Detail::Results).await;
        assert_eq!(first.is_err(), is_error, "{status} {refusal}");
        if is_error {
            assert!(failure(first).is_retryable(), "{status} {refusal}");
            assert_eq!(alone.load(Ordering::Relaxed), 0, "{status} {refusal}");
        }
        client.block(asked, Detail::Results).await.unwrap().unwrap();
        assert_eq!(batches.load(Ordering::Relaxed), 2, "{status} {refusal}");
    }
}

/// The batch is answered in part: the rest is asked alone.
#[tokio::test]
async fn what_a_batch_leaves_out_is_asked_alone() {
    let left = json!({ "id": null, "error": { "code": -32003, "message": "response too large" } });
    let invalid = json!({ "id": 1, "error": { "code": -32600, "message": "Invalid Request" } });
    let large = json!({ "id": 1, "error": left["error"] });
    for others in [json!([]), json!([left]), json!([large]), json!([invalid])] {
        let block = block_of(&[transaction(&word('a'), "0x7")]);
        let (asked, inner, more) = (hash(&block), node(block, true), others.clone());
        let node = FakeNode::serving(move |_, body| {
            let questions: Value = serde_json::from_slice(&body).unwrap();
            let Some(questions) = questions.as_array() else { return Some(answer(&body, &inner)) };
            let first = &questions[0];
            let mut reply = inner(first["method"].as_str().unwrap(), &first["params"]);
            reply["id"] = first["id"].clone();
            let answers = [vec![reply], more.as_array().unwrap().clone()].concat();
            Some(Value::from(answers).to_string().into_response())
        })
        .await;
        let read = node.client().block(asked, Detail::Results).await.unwrap().unwrap();
        assert_eq!(read.transactions[0].succeeded, Some(false), "{others}");
    }
}

/// A server that refuses everything is asked alone too, and its reason is reported.
#[tokio::test]
async fn the_reason_of_a_server_that_refuses_everything_is_reported() {
    for (status, refusal, says) in [
        (403, "go away", "HTTP status 403 Forbidden"),
        (404, "", "HTTP status 404 Not Found"),
        (200, r#"{"error":{"code":-1,"message":"the key has expired"}}"#, "the key has expired (code -1)"),
    ] {
        let node = FakeNode::serving(move |_, _| Some(text(status, refusal))).await;
        for error in [failure(node.client().head().await), failure(node.client().identity().await)] {
            assert!(matches!(error, ChainError::Refused { .. }), "{error:?}");
            assert!(error.to_string().ends_with(says), "{error}");
        }
    }
}

/// One answer of a batch is missing, or has no id, for a moment. Batches are still the better way afterwards.
#[tokio::test]
async fn a_batch_that_is_answered_in_part_for_a_moment_is_no_limit() {
    let internal = json!({ "id": null, "error": { "code": -32603, "message": "Internal error" } });
    for others in [json!([]), json!([internal])] {
        let block = block_of(&[transaction(&word('a'), "0x7")]);
        let (asked, inner, more) = (hash(&block), node(block, true), others.clone());
        let batches = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&batches);
        let node = FakeNode::serving(move |_, body| {
            let questions: Value = serde_json::from_slice(&body).unwrap();
            let Some(questions) = questions.as_array() else { return Some(answer(&body, &inner)) };
            if count.fetch_add(1, Ordering::Relaxed) > 0 {
                return Some(answer(&body, &inner));
            }
            let first = &questions[0];
            let mut reply = inner(first["method"].as_str().unwrap(), &first["params"]);
            reply["id"] = first["id"].clone();
            let answers = [vec![reply], more.as_array().unwrap().clone()].concat();
            Some(Value::from(answers).to_string().into_response())
        })
        .await;
        let client = node.client();
        for nth in 1..4 {
            client.block(asked, Detail::Results).await.unwrap().unwrap();
            assert_eq!(batches.load(Ordering::Relaxed), nth, "{others}");
        }
    }
}

/// Each question of a batch is refused in the same words.
#[tokio::test]
async fn a_batch_whose_questions_are_refused_alike_is_asked_one_by_one() {
    for refusal in [
        error(-32000, "Batch is disabled"),
        error(-32601, "Method not supported"),
        error(-32000, "unsupported in this plan"),
        error(403, "please upgrade for JSON arrays"),
    ] {
        let block = block_of(&[transaction(&word('a'), "0x7")]);
        let (asked, inner, refused) = (hash(&block), node(block, true), refusal.clone());
        let batches = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&batches);
        let node = FakeNode::serving(move |_, body| {
            if !is_batch(&body) {
                return Some(answer(&body, &inner));
            }
            count.fetch_add(1, Ordering::Relaxed);
            Some(answer(&body, |_, _| refused.clone()))
        })
        .await;
        let client = node.client();
        for _ in 0..4 {
            client.block(asked, Detail::Results).await.unwrap().unwrap();
        }
        assert_eq!(batches.load(Ordering::Relaxed), 2, "{refusal}: two refusals are enough");
    }
}
