//! The adapter's answers and errors on such endpoints.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use watchkeeper_chain::adapter::{ChainClient, ChainError};
use watchkeeper_chain::{Detail, Hash, Header};
use watchkeeper_chain_ethereum::{EndpointError, EthereumClient};

use crate::fake::{FakeNode, SECRET, client, error, forged, hash, result, wire_header};

/// The error, after a check that its text has no secret.
pub(crate) fn failure(answer: Result<impl std::fmt::Debug, ChainError>) -> ChainError {
    let error = answer.unwrap_err();
    for text in [error.to_string(), format!("{error:?}")] {
        assert!(!text.contains(SECRET) && !text.contains("password"), "{text}");
        assert!(text.contains("http://127.0.0.1:"), "{text}");
    }
    error
}

#[tokio::test]
async fn a_header_is_read_as_it_is() {
    let wire = wire_header(3, Hash([1; 32]));
    let header = Header { hash: hash(&wire), parent: Hash([1; 32]), height: 3, work: 7, time: 100 };
    let node = FakeNode::answering(move |_, _| result(&wire)).await;
    assert_eq!(node.client().head().await.unwrap(), header);
    assert_eq!(node.client().header(header.hash).await.unwrap(), Some(header));
    assert_eq!(node.client().header_at(3).await.unwrap(), Some(header));
}

#[tokio::test]
async fn lies_are_detected() {
    let true_header = wire_header(3, Hash([1; 32]));
    let other = wire_header(3, Hash([2; 32]));
    let asked = hash(&true_header);
    for (lie, header, says) in [
        ("another block", other.clone(), format!("block {} was given for {asked}", hash(&other))),
        (
            "a wrong parent",
            forged(&true_header, "parentHash", other["parentHash"].clone()),
            "has the hash".to_owned(),
        ),
        ("a wrong height", forged(&true_header, "number", "0x4"), "at height 4 has the hash".to_owned()),
        ("a wrong time", forged(&true_header, "timestamp", "0x65"), "has the hash".to_owned()),
    ] {
        let node = FakeNode::answering(move |_, _| result(&header)).await;
        let error = failure(node.client().header(asked).await);
        assert!(matches!(error, ChainError::Untrue { method: "eth_getBlockByHash", .. }), "{lie}: {error:?}");
        assert!(error.to_string().contains(&says), "{lie}: {error}");
    }
}

#[tokio::test]
async fn another_height_is_no_answer() {
    let node = FakeNode::answering(|method, _| {
        result(&if method == "eth_chainId" { "0x1".into() } else { wire_header(4, Hash([1; 32])) })
    })
    .await;
    let error = failure(node.client().header_at(3).await);
    assert!(matches!(error, ChainError::Untrue { .. }), "{error:?}");
    assert!(error.to_string().ends_with("height 4 was given for 3"), "{error}");
    let error = failure(node.client().identity().await);
    assert!(error.to_string().ends_with("height 4 was given for 0"), "{error}");
}

#[tokio::test]
async fn hashes_are_believed_on_demand_and_answers_must_still_match_the_request() {
    let header = wire_header(3, Hash([1; 32]));
    let forged = forged(&header, "timestamp", "0x65");
    let node = FakeNode::answering(move |_, _| result(&forged)).await;
    let client = node.client().trusting_hashes();
    assert_eq!(client.header(hash(&header)).await.unwrap().unwrap().time, 101);
    assert!(matches!(failure(client.header(Hash([9; 32])).await), ChainError::Untrue { .. }));
    assert!(matches!(failure(client.header_at(2).await), ChainError::Untrue { .. }));
}

#[tokio::test]
async fn another_chain_behind_the_address_is_another_identity() {
    let (one, two) = (wire_header(0, Hash([0; 32])), wire_header(0, Hash([1; 32])));
    let mut identities = Vec::new();
    for (id, genesis) in [("0x1", one.clone()), ("0x5", one), ("0x1", two)] {
        let node =
            FakeNode::answering(
                move |method, _| {
                    if method == "eth_chainId" { result(&id.into()) } else { result(&genesis) }
                },
            )
            .await;
        identities.push(node.client().identity().await.unwrap());
    }
    assert_eq!(identities[0].id, "1");
    assert!(
        identities[0] != identities[1] && identities[0] != identities[2] && identities[1] != identities[2]
    );
}

#[tokio::test]
async fn an_empty_chain_has_no_head() {
    let node = FakeNode::answering(|method, _| {
        result(&if method == "eth_chainId" { "0x1".into() } else { Value::Null })
    })
    .await;
    assert!(matches!(failure(node.client().head().await), ChainError::Empty { .. }));
    assert!(matches!(failure(node.client().identity().await), ChainError::Empty { .. }));
    assert_eq!(node.client().finalised().await.unwrap(), None);
    assert_eq!(node.client().header_at(0).await.unwrap(), None);
    assert_eq!(node.client().block(Hash([1; 32]), Detail::Results).await.unwrap(), None);
}

#[tokio::test]
async fn an_unreadable_answer_is_malformed() {
    let no_parent = {
        let mut header = wire_header(1, Hash([0; 32]));
        header.as_object_mut().unwrap().remove("parentHash");
        json!({ "jsonrpc": "2.0", "id": 0, "result": header }).to_string()
    };
    for body in [
        "",
        "{",
        "<html>it works</html>",
        "[]",
        "{}",
        "7",
        r#"{"jsonrpc":"2.0","id":0}"#,
        r#"{"jsonrpc":"2.0","id":0,"result":7}"#,
        r#"{"jsonrpc":"2.0","id":0,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":0,"result":{"hash":"0x0123456789abcdef"}}"#,
        &no_parent,
    ] {
        let body = body.to_owned();
        let text = body.clone();
        let node = FakeNode::serving(move |_, _| Some(text.clone().into_response())).await;
        let error = failure(node.client().head().await);
        assert!(
            matches!(error, ChainError::Malformed { method: "eth_getBlockByNumber", .. }),
            "{body}: {error:?}"
        );
        let error = failure(node.client().identity().await);
        assert!(matches!(error, ChainError::Malformed { .. }), "{body}: {error:?}");
        let error = failure(node.client().block(Hash([1; 32]), Detail::Results).await);
        assert!(matches!(error, ChainError::Malformed { .. }), "{body}: {error:?}");
    }
}

#[tokio::test]
async fn an_endless_answer_is_read_up_to_a_bound() {
    let node = FakeNode::serving(|_, _| Some(" ".repeat(65 << 20).into_response())).await;
    let error = failure(node.client().with_timeout(Duration::from_mins(1)).head().await);
    assert!(matches!(error, ChainError::Malformed { .. }), "{error:?}");
    assert!(error.to_string().ends_with("it is longer than 67108864 bytes"), "{error}");
}

#[tokio::test]
async fn refusals_are_reported_with_their_reason() {
    for (status, body, says) in [
        (200, error(-32601, "no such method"), "no such method (code -32601)"),
        (400, error(-32602, "bad parameters"), "bad parameters (code -32602)"),
        (200, error(-1, &format!("the key {SECRET} has expired")), "the key *** has expired (code -1)"),
        (401, json!("go away"), "HTTP status 401 Unauthorized"),
        (302, json!({}), "HTTP status 302 Found"),
    ] {
        let node = FakeNode::serving(move |_, _| {
            let mut body = body.clone();
            if body.get("error").is_some() {
                body["id"] = Value::Null;
                body["jsonrpc"] = "2.0".into();
            }
            Some((StatusCode::from_u16(status).unwrap(), body.to_string()).into_response())
        })
        .await;
        for error in [
            failure(node.client().head().await),
            failure(node.client().block(Hash([1; 32]), Detail::Results).await),
        ] {
            assert!(matches!(error, ChainError::Refused { .. }), "{error:?}");
            assert!(error.to_string().ends_with(says), "{error}");
        }
    }
}

/// A proxy in front of the node answers like this, also in JSON-RPC.
#[tokio::test]
async fn a_temporarily_unavailable_node_is_unreachable() {
    for status in [408, 425, 502, 503, 504].map(|code| StatusCode::from_u16(code).unwrap()) {
        for body in ["", r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"no backend"}}"#] {
            let node = FakeNode::serving(move |_, _| Some((status, body).into_response())).await;
            for error in [failure(node.client().head().await), failure(node.client().identity().await)] {
                assert!(matches!(error, ChainError::Unreachable { .. }), "{error:?}");
                assert!(error.is_retryable(), "{error:?}");
                assert!(error.to_string().ends_with(&format!(": HTTP status {status}")), "{error}");
            }
        }
    }
}

/// The answers of nodes that have no final block yet, or do not know a block.
#[tokio::test]
async fn a_block_that_is_not_there_is_no_error() {
    for refusal in [
        error(-32000, "finalized block not found"),
        error(-39001, "Unknown block"),
        error(-39001, "Unknown block error"),
        result(&Value::Null),
    ] {
        let node = FakeNode::answering(move |_, _| refusal.clone()).await;
        assert_eq!(node.client().finalised().await.unwrap(), None);
        assert_eq!(node.client().header(Hash([1; 32])).await.unwrap(), None);
        assert_eq!(node.client().header_at(7).await.unwrap(), None);
        assert!(matches!(failure(node.client().head().await), ChainError::Empty { .. }));
    }
    for other in ["the database is closed", "we are experiencing an outage", "stage Finish failed"] {
        let node = FakeNode::answering(move |_, _| error(-32000, other)).await;
        assert!(matches!(failure(node.client().finalised().await), ChainError::Refused { .. }), "{other}");
    }
}

#[tokio::test]
async fn the_greatest_height_is_untrue() {
    let node = FakeNode::answering(|_, _| result(&wire_header(u64::MAX, Hash([1; 32])))).await;
    let error = failure(node.client().head().await);
    assert!(matches!(error, ChainError::Untrue { .. }), "{error:?}");
    assert!(error.to_string().ends_with("is at height 18446744073709551615, above which there is none"));
}

#[tokio::test]
async fn an_answer_with_control_characters_is_escaped() {
    let node = FakeNode::answering(|_, _| error(-1, "gone\u{1b}[1A\u{1b}[2K\nall is well")).await;
    let text = failure(node.client().head().await).to_string();
    assert!(text.ends_with(r"gone\u{1b}[1A\u{1b}[2K\nall is well (code -1)"), "{text}");
}

#[tokio::test]
async fn a_limited_rate_is_reported_with_the_time_to_wait() {
    let second = Duration::from_secs(1);
    for (after, expected) in
        [(Some("7"), Some(7 * second)), (None, None), (Some("soon"), None), (Some("-1"), None)]
    {
        let node = FakeNode::serving(move |_, _| {
            let mut response = (StatusCode::TOO_MANY_REQUESTS, "slow down").into_response();
            if let Some(after) = after {
                response.headers_mut().insert("retry-after", after.parse().unwrap());
            }
            Some(response)
        })
        .await;
        let error = failure(node.client().head().await);
        assert!(
            matches!(error, ChainError::RateLimited { retry_after, .. } if retry_after == expected),
            "{after:?}: {error:?}"
        );
        assert_eq!(error.to_string().ends_with(": ask again in 7 s"), expected.is_some(), "{error}");
    }
    for refusal in
        [error(-32005, "limit exceeded"), error(429, "too fast"), error(-32000, "Rate limit reached")]
    {
        let node = FakeNode::answering(move |_, _| refusal.clone()).await;
        for error in [failure(node.client().head().await), failure(node.client().identity().await)] {
            assert!(matches!(error, ChainError::RateLimited { retry_after: None, .. }), "{error:?}");
        }
    }
}

#[tokio::test]
async fn a_node_that_limits_the_rate_is_not_asked_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let node = FakeNode::serving(move |_, _| {
        count.fetch_add(1, Ordering::Relaxed);
        Some((StatusCode::TOO_MANY_REQUESTS, [("retry-after", "60")]).into_response())
    })
    .await;
    let client = node.client();
    for _ in 0..3 {
        for error in [
            failure(client.head().await),
            failure(client.clone().block(Hash([1; 32]), Detail::Results).await),
        ] {
            let ChainError::RateLimited { retry_after: Some(left), .. } = error else { panic!("{error:?}") };
            assert!(left <= Duration::from_mins(1));
        }
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    failure(node.client().head().await);
    assert_eq!(asked.load(Ordering::Relaxed), 2, "another client is not limited");
}

#[tokio::test]
async fn a_node_that_does_not_answer_times_out() {
    let limit = Duration::from_millis(50);
    let node = FakeNode::serving(|_, _| None).await;
    let client = node.client().with_timeout(limit);
    for error in [
        failure(client.head().await),
        failure(client.identity().await),
        failure(client.block(Hash([1; 32]), Detail::Results).await),
    ] {
        assert!(matches!(error, ChainError::TimedOut { after, .. } if after == limit), "{error:?}");
    }
}

#[tokio::test]
async fn a_closed_port_is_unreachable() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = failure(client(address).head().await);
    assert!(matches!(error, ChainError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("Connection refused"), "{error}");
}

#[tokio::test]
async fn a_connection_that_breaks_is_unreachable() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        loop {
            drop(listener.accept().await.unwrap());
        }
    });
    let error = failure(client(address).head().await);
    assert!(matches!(error, ChainError::Unreachable { .. }), "{error:?}");
    server.abort();
}

#[tokio::test]
async fn user_password_and_path_reach_the_node_and_are_not_shown() {
    let node = FakeNode::serving(|headers, _| {
        // `user:password` in base64.
        let known = headers.get("authorization").is_some_and(|header| header == "Basic dXNlcjpwYXNzd29yZA==");
        let body = json!({ "jsonrpc": "2.0", "id": 0, "result": wire_header(1, Hash([0; 32])) }).to_string();
        Some(if known { body.into_response() } else { StatusCode::UNAUTHORIZED.into_response() })
    })
    .await;
    let client = node.client();
    assert_eq!(client.head().await.unwrap().height, 1);
    assert_eq!(client.endpoint().to_string(), format!("http://{}/…", node.address));
    let shown = format!("{client:?}");
    assert!(!shown.contains(SECRET) && !shown.contains("dXNlcjpwYXNzd29yZA"), "{shown}");
}

#[test]
fn a_client_needs_an_http_address() {
    let refused = EthereumClient::new("ws://127.0.0.1:1".parse().unwrap());
    assert!(matches!(refused, Err(EndpointError::WrongScheme { .. })));
}

/// Some servers give every answer the id 0 or 1, but not that of another question.
#[tokio::test]
async fn the_answer_to_another_question_is_refused() {
    for (id, is_read) in
        [(json!(0), true), (json!(1), true), (json!(null), true), (json!(999), false), (json!("999"), false)]
    {
        let body = json!({ "id": id, "result": wire_header(3, Hash([1; 32])) }).to_string();
        let node = FakeNode::serving(move |_, _| Some(body.clone().into_response())).await;
        let client = node.client();
        for asked in 0..3 {
            let head = client.head().await;
            if is_read {
                assert_eq!(head.unwrap().height, 3, "{id}");
            } else {
                let error = failure(head);
                assert!(matches!(error, ChainError::Malformed { .. }), "{error:?}");
                let says = format!("it has the id 999, and the question {asked}");
                assert!(error.to_string().ends_with(&says), "{error}");
            }
        }
    }
}
