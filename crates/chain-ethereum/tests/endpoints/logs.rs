//! Logs from endpoints that limit, fail or lie.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use watchkeeper_chain::adapter::{
    ChainClient, ChainError, Log, LogAddress, LogFilter, LogReader, LogScope, LogsError, RangeSize,
};
use watchkeeper_chain::{Hash, Height};
use watchkeeper_chain_ethereum::EthereumClient;

use crate::adapter::failure;
use crate::fake::{FakeNode, answer, error, forged, result, wire_header};

const RANGE: LogScope = LogScope::Range(1..=9);

fn word(byte: u8) -> Hash {
    Hash([byte; 32])
}

/// A log in the only transaction of a block, as nodes return it.
fn wire_log(height: u8, index: u64) -> Value {
    json!({
        "address": format!("0x{}", "07".repeat(20)),
        "topics": [format!("0x{}", word(1))],
        "data": "0x0102",
        "blockNumber": format!("{height:#x}"),
        "blockHash": format!("0x{}", word(height)),
        "transactionHash": format!("0x{}", word(0xaa)),
        "transactionIndex": "0x0",
        "logIndex": format!("{index:#x}"),
        "blockTimestamp": "0x64",
        "removed": false,
    })
}

fn log(height: u8, index: u64) -> Log {
    Log {
        block: word(height),
        height: height.into(),
        transaction: word(0xaa),
        index,
        address: LogAddress([7; 20]),
        topics: vec![word(1)],
        data: vec![1, 2],
    }
}

async fn logs(client: &EthereumClient, scope: &LogScope) -> Result<Option<Vec<Log>>, ChainError> {
    client.logs(&LogFilter::default(), scope).await
}

#[tokio::test]
async fn logs_are_read_as_they_are_by_range_and_by_block() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let questions = Arc::clone(&asked);
    let node = FakeNode::answering(move |method, parameters| {
        assert_eq!(method, "eth_getLogs");
        questions.lock().unwrap().push(parameters[0].clone());
        result(&json!([wire_log(3, 0), wire_log(3, 2)]))
    })
    .await;
    let filter = LogFilter {
        addresses: vec![LogAddress([7; 20])],
        topics: [vec![word(1), word(2)], vec![], vec![], vec![]],
    };
    for scope in [RANGE, LogScope::Block(word(3))] {
        assert_eq!(node.client().logs(&filter, &scope).await.unwrap().unwrap(), [log(3, 0), log(3, 2)]);
    }
    let (address, topics) = (
        json!([format!("0x{}", "07".repeat(20))]),
        json!([[format!("0x{}", word(1)), format!("0x{}", word(2))]]),
    );
    assert_eq!(
        *asked.lock().unwrap(),
        [
            json!({ "fromBlock": "0x1", "toBlock": "0x9", "address": address, "topics": topics }),
            json!({ "blockHash": format!("0x{}", word(3)), "address": address, "topics": topics }),
        ]
    );
}

#[tokio::test]
async fn fields_that_do_not_matter_may_be_missing_or_odd() {
    let mut bare = wire_log(3, 0);
    for field in ["blockTimestamp", "transactionIndex", "removed"] {
        bare.as_object_mut().unwrap().remove(field);
    }
    let odd = forged(&forged(&bare, "transactionIndex", Value::Null), "blockTimestamp", "soon");
    let null = forged(&odd, "removed", Value::Null);
    for answer in [bare, odd, null] {
        let node = FakeNode::answering(move |_, _| result(&json!([answer]))).await;
        assert_eq!(logs(&node.client(), &RANGE).await.unwrap().unwrap(), [log(3, 0)]);
    }
}

#[tokio::test]
async fn a_log_that_is_pending_is_left_out() {
    let pending = forged(&forged(&wire_log(3, 0), "blockHash", Value::Null), "blockNumber", Value::Null);
    let numbered = forged(&forged(&wire_log(3, 0), "blockHash", Value::Null), "blockNumber", "0xa");
    let zero = forged(&numbered, "blockHash", format!("0x{}", Hash([0; 32])));
    for pending in [pending, numbered, zero] {
        let node = FakeNode::answering(move |_, _| result(&json!([wire_log(3, 0), pending]))).await;
        assert_eq!(logs(&node.client(), &RANGE).await.unwrap().unwrap(), [log(3, 0)]);
    }
}

#[tokio::test]
async fn a_block_that_the_node_does_not_have_has_no_answer_and_not_no_logs() {
    for answer in [
        result(&Value::Null),
        error(-32000, "unknown block"),
        error(-32001, "block not found"),
        error(-32602, "block range extends beyond current head block"),
        error(-32602, "BlockOutOfRangeError: block height is 5 but requested was 10"),
        error(-32019, "block is out of range"),
    ] {
        let node = FakeNode::answering(move |_, _| answer.clone()).await;
        for scope in [RANGE, LogScope::Block(word(3))] {
            assert_eq!(logs(&node.client(), &scope).await.unwrap(), None);
        }
    }
}

#[tokio::test]
async fn logs_that_do_not_fit_the_question_are_untrue() {
    let five = forged(&wire_log(3, 0), "topics", vec![format!("0x{}", word(1)); 5]);
    let removed = forged(&wire_log(3, 0), "removed", true);
    let homeless = forged(&wire_log(3, 0), "blockHash", Value::Null);
    let nameless = forged(&wire_log(3, 0), "logIndex", Value::Null);
    let elsewhere = forged(&wire_log(3, 0), "address", format!("0x{}", "08".repeat(20)));
    let fork = forged(&wire_log(3, 1), "blockHash", format!("0x{}", word(9)));
    for (answer, says) in [
        (vec![wire_log(10, 0)], "was given for blocks 1 to 9"),
        (vec![elsewhere], "has an address or a topic that was not asked for"),
        (vec![five], "has 5 topics, and a log has at most 4"),
        (vec![removed], "is marked as removed"),
        (vec![homeless], "a log names no block, position or transaction"),
        (vec![nameless], "a log names no block, position or transaction"),
        (vec![wire_log(3, 0), wire_log(3, 0)], "log 0 at height 3 is there twice"),
        (vec![wire_log(3, 0), fork], "fit no one branch"),
    ] {
        let node = FakeNode::answering(move |_, _| result(&answer.clone().into())).await;
        let filter = LogFilter { addresses: vec![LogAddress([7; 20])], ..LogFilter::default() };
        let error = failure(node.client().logs(&filter, &RANGE).await);
        assert!(matches!(error, ChainError::Untrue { method: "eth_getLogs", .. }), "{error:?}");
        assert!(error.to_string().ends_with(says), "{error}");
    }
    let homeless = forged(&wire_log(3, 0), "blockHash", Value::Null);
    for (answer, says) in [
        (wire_log(3, 0), "was given for block 04040404"),
        (homeless, "a log names no block, position or transaction"),
    ] {
        let node = FakeNode::answering(move |_, _| result(&json!([answer]))).await;
        let error = failure(logs(&node.client(), &LogScope::Block(word(4))).await);
        assert!(error.to_string().ends_with(says), "{error}");
    }
}

#[tokio::test]
async fn a_range_without_blocks_is_not_asked() {
    let node = FakeNode::answering(|_, _| panic!("it was asked")).await;
    #[expect(clippy::reversed_empty_ranges, reason = "the case")]
    let none = LogScope::Range(4..=3);
    assert_eq!(logs(&node.client(), &none).await.unwrap(), Some(vec![]));
}

/// What the answer is as an error, and for how many blocks the node would answer.
async fn refused(response: impl Fn() -> Response + Send + Sync + 'static, scope: &LogScope) -> ChainError {
    let node = FakeNode::serving(move |_, _| Some(response())).await;
    failure(logs(&node.client(), scope).await)
}

fn rpc_error(status: u16, code: i64, message: &str) -> Response {
    let body = json!({ "jsonrpc": "2.0", "id": 0, "error": { "code": code, "message": message } });
    (StatusCode::from_u16(status).unwrap(), body.to_string()).into_response()
}

/// The texts themselves are tested where they are read.
#[tokio::test]
async fn a_refusal_for_the_size_is_distinguished_by_its_text_before_its_code() {
    let long = "Log response size exceeded. You can make eth_getLogs requests with up to a 2K block range and no \
                limit on the response size, or you can request any block range with a cap of 10K logs in the response. \
                Based on your parameters and the response size limit, this block range should work: [0x1, 0x2]";
    for (status, code, message, expected) in [
        (
            200,
            -32005,
            "query returned more than 10000 results. Try with this block range [0x1, 0x4].",
            Some(4),
        ),
        (200, -32602, "range 1000000 exceeds limit of 10000", Some(10_000)),
        (413, -32614, "eth_getLogs is limited to a 10,000 range", Some(10_000)),
        (400, -32600, "You can make eth_getLogs requests with up to a 10 block range.", Some(10)),
        (500, -32020, "backend response too large", None),
        // The suggestion is at the end, behind what is shown of the text.
        (200, -32602, long, Some(2)),
    ] {
        let error = refused(move || rpc_error(status, code, message), &RANGE).await;
        assert!(
            matches!(error, ChainError::RangeTooLarge { method: "eth_getLogs", at_most, .. } if at_most == expected),
            "{message}: {error:?}"
        );
    }
    for (code, message) in [
        (-32005, "project ID request rate exceeded"),
        (429, "compute units per second"),
        (-32005, "rate limit"),
        (-32000, "eth_getLogs: daily quota exceeded"),
        (-32000, "logs are limited: usage exceeded"),
    ] {
        let error = refused(move || rpc_error(200, code, message), &RANGE).await;
        assert!(matches!(error, ChainError::RateLimited { .. }), "{message}: {error:?}");
    }
    for (code, message) in [(-32602, "invalid argument 0"), (-32601, "the method eth_getLogs does not exist")]
    {
        let error = refused(move || rpc_error(200, code, message), &RANGE).await;
        assert!(matches!(error, ChainError::Refused { .. }), "{message}: {error:?}");
    }
}

#[tokio::test]
async fn the_data_of_a_refusal_is_read() {
    let node = FakeNode::answering(|_, _| {
        let data = "Query returned more than 50000 results. Try with this block range [0x1, 0x3].";
        json!({ "error": { "code": -32602, "message": "invalid params", "data": data } })
    })
    .await;
    let error = failure(logs(&node.client(), &RANGE).await);
    assert!(matches!(error, ChainError::RangeTooLarge { at_most: Some(3), .. }), "{error:?}");
}

/// Public nodes of BNB Smart Chain refuse any range like this, and others limit the rate.
#[tokio::test]
async fn a_bare_limit_is_one_of_the_size_only_for_several_blocks() {
    for (scope, is_size) in
        [(RANGE, true), (LogScope::Range(3..=3), false), (LogScope::Block(word(3)), false)]
    {
        let error = refused(|| rpc_error(200, -32005, "limit exceeded"), &scope).await;
        assert_eq!(matches!(error, ChainError::RangeTooLarge { .. }), is_size, "{error:?}");
        assert_eq!(matches!(error, ChainError::RateLimited { .. }), !is_size, "{error:?}");
    }
}

#[tokio::test]
async fn an_answer_of_http_for_the_size_is_a_refusal_and_others_are_not() {
    let too_large = |error: &ChainError| matches!(error, ChainError::RangeTooLarge { at_most: None, .. });
    let error = refused(|| (StatusCode::PAYLOAD_TOO_LARGE, "<html>").into_response(), &RANGE).await;
    assert!(too_large(&error), "{error:?}");
    for status in [StatusCode::REQUEST_TIMEOUT, StatusCode::GATEWAY_TIMEOUT] {
        let error = refused(move || status.into_response(), &RANGE).await;
        assert!(too_large(&error), "{error:?}");
        let error = refused(move || status.into_response(), &LogScope::Range(3..=3)).await;
        assert!(matches!(error, ChainError::Unreachable { .. }), "{error:?}");
    }
    for status in [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE] {
        let error = refused(move || status.into_response(), &RANGE).await;
        assert!(matches!(error, ChainError::Unreachable { .. }), "{error:?}");
    }
    let error = refused(|| StatusCode::TOO_MANY_REQUESTS.into_response(), &RANGE).await;
    assert!(matches!(error, ChainError::RateLimited { .. }), "{error:?}");
}

#[tokio::test]
async fn an_answer_longer_than_is_read_is_a_refusal_for_the_size() {
    let body = bytes(64 << 20);
    let error = refused(move || body.clone().into_response(), &RANGE).await;
    assert!(matches!(error, ChainError::RangeTooLarge { .. }), "{error:?}");
    assert!(error.to_string().ends_with("it is longer than 67108864 bytes"), "{error}");
}

/// The beginning of an answer, with more bytes than these.
fn bytes(length: usize) -> axum::body::Bytes {
    let mut body = br#"{"jsonrpc":"2.0","id":0,"result":["#.to_vec();
    body.resize(length + body.len(), b' ');
    body.into()
}

#[tokio::test]
async fn no_answer_in_time_is_a_refusal_for_the_size_unless_it_is_one_block() {
    let node = FakeNode::serving(|_, _| None).await;
    let client = node.client().with_timeout(Duration::from_millis(20));
    let error = failure(logs(&client, &RANGE).await);
    assert!(matches!(error, ChainError::RangeTooLarge { .. }), "{error:?}");
    assert!(error.to_string().ends_with("it gave no answer for 9 blocks within 20ms"), "{error}");
    for scope in [LogScope::Range(3..=3), LogScope::Block(word(3))] {
        let error = failure(logs(&client, &scope).await);
        assert!(matches!(error, ChainError::TimedOut { .. }), "{error:?}");
    }
}

/// The range of a question.
fn range(parameters: &Value) -> RangeInclusive<Height> {
    let height = |field: &str| {
        let digits = parameters[0][field].as_str().unwrap().trim_start_matches("0x");
        Height::from_str_radix(digits, 16).unwrap()
    };
    height("fromBlock")..=height("toBlock")
}

/// A node whose head is at 200, with a log in every block, that refuses wide ranges in the words of a provider.
async fn provider(limit: u64, refusal: Value) -> (FakeNode, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let node = FakeNode::answering(move |method, parameters| {
        if method == "eth_getBlockByNumber" {
            return result(&wire_header(200, word(1)));
        }
        count.fetch_add(1, Ordering::Relaxed);
        let asked = range(parameters);
        assert!(asked.start() <= asked.end() && *asked.end() <= 200, "{asked:?}");
        if asked.end() - asked.start() >= limit {
            return refusal.clone();
        }
        result(&asked.map(|height| wire_log(u8::try_from(height).unwrap(), 0)).collect())
    })
    .await;
    (node, calls)
}

#[tokio::test]
async fn a_range_is_read_whatever_the_provider_limits_and_ends_at_the_head() {
    for (limit, refusal, most_calls) in [
        // The number is read, so that one refusal of each question in flight is enough.
        (50, error(-32614, "eth_getLogs is limited to a 50 range"), 12),
        (
            50,
            error(-32005, "query returned more than 50 results. Try with this block range [0x0, 0x31]."),
            12,
        ),
        (50, error(-32005, "query returned more than 10000 results"), 24),
        (10, error(-32602, "block range too large"), 60),
        // It states more than it answers.
        (10, error(35, "ranges over 10000 blocks are not supported on free plan"), 60),
        (1, error(-32005, "limit exceeded"), 260),
    ] {
        let (node, calls) = provider(limit, refusal.clone()).await;
        let reader = LogReader::new(node.client()).with_size(RangeSize::new(128, 128).unwrap());
        let mut walk = reader.walk(LogFilter::default(), 1..=10_000);
        let mut heights = Vec::new();
        while let Some(piece) = walk.next().await {
            let piece = piece.unwrap();
            assert!(piece.logs.iter().all(|log| piece.range.contains(&log.height)));
            heights.extend(piece.logs.iter().map(|log| log.height));
        }
        assert_eq!(heights, (1..=200).collect::<Vec<_>>());
        assert_eq!(walk.next_height(), 201);
        let made = calls.load(Ordering::Relaxed);
        assert!(made <= most_calls, "{refusal}: {made}");
        // The size is remembered: the same takes no more questions, with the few refusals of trials.
        assert!(reader.size().blocks() <= 2 * limit, "{refusal}: {:?}", reader.size());
    }
}

#[tokio::test]
async fn a_block_that_is_refused_alone_needs_another_node() {
    let (node, _) = provider(0, error(-32005, "query returned more than 10000 results")).await;
    let reader = LogReader::new(node.client());
    let mut walk = reader.walk(LogFilter::default(), 5..=9);
    let failed = walk.next().await.unwrap().unwrap_err();
    assert!(matches!(failed, LogsError::OneBlock { height: 5, .. }), "{failed:?}");
    assert!(!failed.is_retryable() && failed.to_string().contains("ask another node"), "{failed}");
    assert_eq!(walk.next_height(), 5);
}

#[tokio::test]
async fn a_limited_rate_and_a_hiccup_change_no_size_and_are_asked_again() {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let node = FakeNode::serving(move |_, body| {
        let nth = count.fetch_add(1, Ordering::Relaxed);
        match nth {
            1 => Some(rpc_error(200, -32005, "project ID request rate exceeded")),
            2 => Some(StatusCode::BAD_GATEWAY.into_response()),
            3 => Some(StatusCode::TOO_MANY_REQUESTS.into_response()),
            _ => Some(answer(&body, |_, asked| {
                result(&range(asked).map(|height| wire_log(u8::try_from(height).unwrap(), 0)).collect())
            })),
        }
    })
    .await;
    let reader = LogReader::new(node.client()).with_in_flight(1).with_size(RangeSize::new(10, 10).unwrap());
    let mut walk = reader.walk(LogFilter::default(), 1..=30).with_head(100);
    let mut steps = Vec::new();
    while let Some(piece) = walk.next().await {
        match piece {
            Ok(piece) => steps.push(piece.range),
            Err(error) => {
                assert!(error.is_retryable(), "{error}");
                // What was complete before it stays so.
                assert_eq!(walk.next_height(), 11);
                steps.push(0..=0);
            }
        }
    }
    assert_eq!(steps, [1..=10, 0..=0, 0..=0, 0..=0, 11..=20, 21..=30]);
    assert_eq!(reader.size().blocks(), 10);
}

/// JSON-RPC promises no order, and on some chains each transaction counts its logs from 0.
#[tokio::test]
async fn logs_in_another_order_are_put_in_order_and_a_transaction_may_count_its_own() {
    let of = |transaction: u8, index: u64| {
        let own = forged(&wire_log(3, index), "transactionHash", format!("0x{}", word(transaction)));
        forged(&own, "transactionIndex", format!("{transaction:#x}"))
    };
    let odd = |log: Value| forged(&log, "transactionIndex", json!({ "a": 1 }));
    let second = |index| Log { transaction: word(2), ..log(3, index) };
    let first = |index| Log { transaction: word(1), ..log(3, index) };
    for (answer, expected) in [
        (vec![wire_log(4, 0), wire_log(3, 1), wire_log(3, 0)], vec![log(3, 0), log(3, 1), log(4, 0)]),
        (vec![of(2, 0), of(1, 1), of(1, 0)], vec![first(0), first(1), second(0)]),
        (vec![of(1, 0), of(1, 1), of(2, 2)], vec![first(0), first(1), second(2)]),
        (vec![odd(wire_log(3, 1)), odd(wire_log(3, 0))], vec![log(3, 0), log(3, 1)]),
    ] {
        let shown = format!("{answer:?}");
        let node = FakeNode::answering(move |_, _| result(&answer.clone().into())).await;
        assert_eq!(logs(&node.client(), &RANGE).await.unwrap(), Some(expected), "{shown}");
    }
}
