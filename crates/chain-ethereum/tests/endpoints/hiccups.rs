//! What passes by itself, and how long it takes, in the words of nodes and providers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::{Value, json};
use watchkeeper_chain::adapter::{ChainClient, ChainError};
use watchkeeper_chain::{Detail, Hash, Header};
use watchkeeper_chain_ethereum::Address;

use crate::adapter::failure;
use crate::blocks::{block_of, transaction, word};
use crate::fake::{FakeNode, answer, error, hash, result, wire_header};

const BLOCK: Header = Header { hash: Hash([3; 32]), parent: Hash([2; 32]), height: 3, work: 1, time: 0 };

/// The errors of a node that answers every question with this one.
async fn errors(refusal: Value) -> [ChainError; 4] {
    let node = FakeNode::answering(move |_, _| refusal.clone()).await;
    [
        failure(node.client().balance(Address::ZERO, &BLOCK).await),
        failure(node.client().head().await),
        failure(node.client().identity().await),
        failure(node.client().block(BLOCK.hash, Detail::Results).await),
    ]
}

#[tokio::test]
async fn a_limited_rate_has_many_codes_and_words() {
    for (code, message) in [
        (-32005, "daily request count exceeded, request rate limited"),
        (-32005, "project ID request rate exceeded"),
        (-32005, "limit exceeded"),
        (
            429,
            "Your app has exceeded its compute units per second capacity. If you have retries enabled, ignore this",
        ),
        (429, "Monthly capacity limit exceeded"),
        (
            -32007,
            "50/second request limit reached - reduce calls per second or upgrade your account at quicknode.com",
        ),
        (-32007, ""),
        (-32012, "credits limited to 6000/sec"),
        (-32029, "Too many requests"),
        (-32029, ""),
        (-32016, "over rate limit"),
        (-32016, ""),
        (-32097, "Rate limit reached"),
        (-32097, ""),
        (-32090, "Too many requests, reason: call rate limit exhausted, retry in 10s"),
        (-32091, ""),
        (-32001, "Exceeded the quota usage"),
        (-32000, "maximum number of concurrent requests reached"),
        (-32000, "429 Too Many Requests: over rate limit"),
        (15, "Too many request, try again later"),
        (1008, "Throughput limit"),
        (-32000, "You've reached the free tier"),
        (-32000, "requests limited to 15/sec"),
    ] {
        for error in errors(error(code, message)).await {
            assert!(matches!(error, ChainError::RateLimited { .. }), "{code} {message}: {error:?}");
            assert!(error.is_retryable(), "{error:?}");
        }
    }
}

#[tokio::test]
async fn a_node_that_cannot_answer_right_now_is_busy() {
    for (code, message) in [
        (-32603, "Internal error"),
        (-32603, ""),
        (-32000, "request timed out"),
        (-32002, "request timed out"),
        (-32000, "Request timeout on the free tier, please upgrade your tier"),
        (-32000, "context deadline exceeded"),
        (-32000, "execution aborted (timeout = 5s)"),
        (-32000, "server overloaded"),
        (-32000, "we are under too much load"),
        (-32000, "node is busy"),
        (-32000, "something went wrong, please try again"),
        (-32000, "temporarily unavailable"),
        (-32000, "read tcp: connection reset by peer"),
        (-32000, "failed to get response from upstream"),
        (-32011, "no backends available for method"),
        (-32012, "backend is down"),
        (-32018, "backend is currently not healthy to serve traffic"),
        (-32015, "gateway timeout"),
        (-32055, "No nodes available"),
        (19, "No available node, retry later"),
        (-32000, "Service Unavailable"),
        (-32003, "All nodes on cooldown"),
        (-32002, ""),
        (-32000, "transaction indexing is in progress"),
        (-32000, "node is syncing"),
        (-32000, "unexpected EOF"),
        (503, ""),
        (-32046, "Cannot fulfill request"),
        (12, "Can't route your request to suitable provider"),
        (-32000, "All relay attempts failed"),
    ] {
        for error in errors(error(code, message)).await {
            assert!(matches!(error, ChainError::Busy { .. }), "{code} {message}: {error:?}");
            assert!(error.is_retryable(), "{error:?}");
            assert!(error.to_string().contains("right now (ask again later): "), "{error}");
        }
    }
}

/// One backend of several has the block, another one not yet.
#[tokio::test]
async fn a_block_that_was_just_announced_may_be_missing_for_a_moment() {
    for (code, message) in [
        (-32000, "header not found"),
        (-32000, "unknown block"),
        (-32000, "Block 0x03 not found"),
        (-39001, ""),
    ] {
        let node = FakeNode::answering(move |_, _| error(code, message)).await;
        let client = node.client();
        assert_eq!(client.header(BLOCK.hash).await.unwrap(), None, "{message}");
        assert_eq!(client.header_at(3).await.unwrap(), None, "{message}");
        for detail in [Detail::Header, Detail::Transactions, Detail::Results] {
            assert_eq!(client.block(BLOCK.hash, detail).await.unwrap(), None, "{message}");
        }
        let error = failure(client.balance(Address::ZERO, &BLOCK).await);
        assert!(matches!(error, ChainError::Busy { method: "eth_getBalance", .. }), "{error:?}");
    }
    let node = FakeNode::answering(|_, _| error(-32000, "header not found")).await;
    let error = failure(node.client().head().await);
    assert!(matches!(error, ChainError::Busy { .. }), "a chain with a latest block is not empty: {error:?}");
}

#[tokio::test]
async fn a_chain_without_a_final_block_is_no_error() {
    for (code, message) in [
        (-39001, "Unknown block"),
        (-32000, "header not found"),
        (-32000, "finalized block not found"),
        (-32000, "safe block not found"),
        (-32000, "unknown block"),
        (-32602, "unsupported tag"),
        (-32602, "invalid block tag"),
        (-32602, "invalid argument 0: hex string without 0x prefix"),
        (-32000, "the finalized tag is not supported on this chain"),
        (-32601, "finality is not supported"),
        (-32001, "finalized block does not exist"),
    ] {
        let node = FakeNode::answering(move |_, _| error(code, message)).await;
        assert_eq!(node.client().finalised().await.unwrap(), None, "{code} {message}");
    }
    for (code, message) in [
        (-32005, "limit exceeded"),
        (-32603, "Internal error"),
        (-32000, "request timed out while reading the finalized block"),
        (-32000, "the database is closed"),
    ] {
        let node = FakeNode::answering(move |_, _| error(code, message)).await;
        failure(node.client().finalised().await);
    }
}

#[tokio::test]
async fn a_range_or_a_result_that_is_too_large_is_no_limited_rate() {
    for (code, message) in [
        (-32005, "query returned more than 10000 results"),
        (-32602, "Log response size exceeded. You can make eth_getLogs requests with up to a 2K block range"),
        (-32602, "range 1000000 exceeds limit of 10000"),
        (-32602, "Query returned more than 10000 results. Try with this block range [0x1, 0x2]."),
        (-32602, "Block range limit exceeded. See more details"),
        (-32614, "eth_getLogs is limited to a 10,000 range"),
        (-32614, ""),
        (-32600, "block range is too wide"),
        (-32000, "exceed maximum block range: 5000"),
        (-32000, "query exceeds max results 20000, retry with the range 1-2"),
        (-32005, "response size limit exceeded"),
        (35, "ranges over 10000 blocks are not supported on freetier"),
        (-32003, "response too large"),
    ] {
        for error in errors(error(code, message)).await {
            assert!(matches!(error, ChainError::Refused { .. }), "{code} {message}: {error:?}");
        }
    }
}

#[tokio::test]
async fn the_time_to_wait_is_read_from_the_error_of_json_rpc() {
    let data = json!({ "rate": { "allowed_rps": 1, "backoff_seconds": 29.5, "current_rps": 2 }, "see": "https://…" });
    let infura =
        json!({ "error": { "code": -32005, "message": "daily request count exceeded", "data": data } });
    for (refusal, wait) in [
        (infura, Duration::from_millis(29_500)),
        (error(-32090, "call rate limit exhausted, retry in 10s"), Duration::from_secs(10)),
        (error(429, "rate limit exceeded, try again in 1.5s"), Duration::from_millis(1_500)),
    ] {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let node = FakeNode::answering(move |_, _| {
            count.fetch_add(1, Ordering::Relaxed);
            refusal.clone()
        })
        .await;
        let client = node.client();
        let error = failure(client.head().await);
        let ChainError::RateLimited { retry_after: Some(found), .. } = error else { panic!("{error:?}") };
        assert_eq!(found, wait);
        failure(client.clone().header_at(7).await);
        assert_eq!(asked.load(Ordering::Relaxed), 1, "it is not asked meanwhile");
    }
}

#[tokio::test]
async fn a_status_that_passes_may_name_the_time_to_wait() {
    let statuses = [408, 429, 502, 503, 504, 522, 529].map(|status| StatusCode::from_u16(status).unwrap());
    for status in statuses {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let node = FakeNode::serving(move |_, _| {
            count.fetch_add(1, Ordering::Relaxed);
            let headers =
                [("date", "Wed, 21 Oct 2015 07:28:00 GMT"), ("retry-after", "Wed, 21 Oct 2015 07:28:40 GMT")];
            Some((status, headers, "<html>busy</html>").into_response())
        })
        .await;
        let client = node.client();
        let first = failure(client.head().await);
        assert!(
            first.is_retryable() && first.to_string().ends_with(": ask again in 40 s"),
            "{status}: {first}"
        );
        let error = failure(client.clone().block(BLOCK.hash, Detail::Results).await);
        let ChainError::RateLimited { retry_after: Some(left), .. } = error else { panic!("{error:?}") };
        assert!(left <= Duration::from_secs(40), "{left:?}");
        assert_eq!(asked.load(Ordering::Relaxed), 1, "{status}");
    }
}

#[tokio::test]
async fn an_internal_error_of_the_server_is_busy() {
    let node =
        FakeNode::serving(|_, _| Some((StatusCode::INTERNAL_SERVER_ERROR, "oops").into_response())).await;
    for error in [failure(node.client().head().await), failure(node.client().identity().await)] {
        assert!(matches!(error, ChainError::Busy { .. }), "{error:?}");
        assert!(error.to_string().ends_with("HTTP status 500 Internal Server Error"), "{error}");
    }
}

/// A gateway's own object, with no error of JSON-RPC.
#[tokio::test]
async fn a_gateway_in_its_own_words_is_understood() {
    for (status, body, is_limited) in [
        (403, r#"{"message":"API rate limit exceeded"}"#, true),
        (200, r#"{"code":429,"message":"slow"}"#, true),
        (200, r#"{"error":"Too many requests"}"#, true),
        (402, r#"{"message":"account suspended"}"#, false),
    ] {
        let node = FakeNode::serving(move |_, _| {
            Some((StatusCode::from_u16(status).unwrap(), body).into_response())
        })
        .await;
        for error in [failure(node.client().head().await), failure(node.client().identity().await)] {
            assert_eq!(matches!(error, ChainError::RateLimited { .. }), is_limited, "{body}: {error:?}");
            assert_eq!(matches!(error, ChainError::Refused { .. }), !is_limited, "{body}: {error:?}");
        }
    }
}

/// Only the question for receipts is limited: a block without transactions needs none.
#[tokio::test]
async fn a_hiccup_in_a_batch_fails_the_block_only_if_it_needs_the_answer() {
    let header = wire_header(3, Hash([2; 32]));
    for (block, is_needed) in
        [(block_of(&[]), false), (block_of(&[transaction(&word('a'), "0x7")]), true), (header, false)]
    {
        let (asked, has_list) = (hash(&block), block.get("transactions").is_some());
        let node = FakeNode::answering(move |method, _| match method {
            "eth_getBlockReceipts" => error(-32005, "later"),
            _ => result(&block),
        })
        .await;
        let read = node.client().block(asked, Detail::Results).await;
        if is_needed {
            assert!(matches!(failure(read), ChainError::RateLimited { .. }));
        } else if has_list {
            let read = read.unwrap().unwrap();
            assert_eq!((read.transactions.len(), read.detail), (0, Detail::Results));
        } else {
            assert_eq!(read.unwrap().unwrap().transactions.len(), 0);
        }
    }
}

/// A node that limits the rate gets no more of the questions that were to follow.
#[tokio::test]
async fn a_limited_node_is_not_asked_for_the_rest() {
    let transactions: Vec<_> =
        (0..400).map(|nth| transaction(&format!("0x{nth:064x}"), &format!("{nth:#x}"))).collect();
    let block = block_of(&transactions);
    let asked = hash(&block);
    let receipts = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&receipts);
    let node = FakeNode::serving(move |_, body| {
        if body.first() == Some(&b'[') {
            return Some((StatusCode::METHOD_NOT_ALLOWED, "").into_response());
        }
        Some(answer(&body, |method, _| match method {
            "eth_getBlockByHash" => result(&block),
            "eth_getBlockReceipts" => error(-32601, "Method not found"),
            _ => {
                count.fetch_add(1, Ordering::Relaxed);
                error(-32005, "later")
            }
        }))
    })
    .await;
    let client = node.client();
    for _ in 0..2 {
        let error = failure(client.block(asked, Detail::Results).await);
        assert!(matches!(error, ChainError::RateLimited { .. }), "{error:?}");
    }
    let asked = receipts.load(Ordering::Relaxed);
    assert!(asked <= 2 * 50, "{asked}");
}

/// Some servers limit the rate with a status, a time to wait, and a list that says something else.
#[tokio::test]
async fn a_limited_batch_is_heeded_whatever_its_body_says() {
    let list = |id: &str| format!(r#"[{{"id":{id},"error":{{"code":-32000,"message":"denied"}}}}]"#);
    for (status, body) in [(429, list("0")), (429, list("null")), (403, "Too many requests".to_owned())] {
        let asked = Arc::new(AtomicUsize::new(0));
        let (count, text) = (Arc::clone(&asked), body.clone());
        let node = FakeNode::serving(move |_, _| {
            count.fetch_add(1, Ordering::Relaxed);
            let status = StatusCode::from_u16(status).unwrap();
            Some((status, [("retry-after", "30")], text.clone()).into_response())
        })
        .await;
        let client = node.client();
        for error in [failure(client.identity().await), failure(client.head().await)] {
            let ChainError::RateLimited { retry_after: Some(left), .. } = error else { panic!("{error:?}") };
            assert!(left <= Duration::from_secs(30), "{left:?}");
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1, "{status} {body}");
    }
}

/// A node whose every answer is the same fault gets a few more questions, and not all of them.
#[tokio::test]
async fn a_failing_node_is_not_asked_for_the_rest() {
    let transactions: Vec<_> =
        (0..400).map(|nth| transaction(&format!("0x{nth:064x}"), &format!("{nth:#x}"))).collect();
    let block = block_of(&transactions);
    let asked = hash(&block);
    for (status, text) in [
        (200, "<html>one moment</html>"),
        (500, "oops"),
        (504, ""),
        (200, r#"{"error":{"code":-32603,"message":"Internal error"}}"#),
    ] {
        let (block, requests) = (block.clone(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&requests);
        let node = FakeNode::serving(move |_, body| {
            if !String::from_utf8_lossy(&body).contains("eth_getTransactionReceipt") {
                return Some(answer(&body, |method, _| match method {
                    "eth_getBlockReceipts" => error(-32601, "Method not found"),
                    _ => result(&block),
                }));
            }
            count.fetch_add(1, Ordering::Relaxed);
            Some((StatusCode::from_u16(status).unwrap(), text).into_response())
        })
        .await;
        failure(node.client().block(asked, Detail::Results).await);
        let requests = requests.load(Ordering::Relaxed);
        assert!(requests <= 8 * 7, "{status} {text}: {requests}");
    }
}

/// What a backend lacks, and what a connection of a gateway has, is asked again.
#[tokio::test]
async fn a_server_that_fails_has_pruned_nothing() {
    for (status, text) in [(500, "the archive node is gone"), (500, "missing trie node 0x01")] {
        let node = FakeNode::serving(move |_, _| {
            Some((StatusCode::from_u16(status).unwrap(), text).into_response())
        })
        .await;
        let error = failure(node.client().balance(Address::ZERO, &BLOCK).await);
        assert!(matches!(error, ChainError::Busy { .. }), "{text}: {error:?}");
    }
}
