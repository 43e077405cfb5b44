//! Answers that are no JSON-RPC, or are written otherwise than usual.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode};
use axum::response::IntoResponse;
use serde_json::Value;
use watchkeeper_chain::Hash;
use watchkeeper_chain::adapter::{ChainClient, ChainError};

use crate::adapter::failure;
use crate::fake::{FakeNode, SECRET, wire_header};

/// The text of the error for such an answer.
async fn refused(
    status: u16,
    headers: &'static [(&'static str, &'static str)],
    body: &'static [u8],
) -> String {
    let node = FakeNode::serving(move |_, _| {
        let mut response = (StatusCode::from_u16(status).unwrap(), Body::from(body)).into_response();
        for (name, value) in headers {
            response.headers_mut().insert(*name, value.parse().unwrap());
        }
        Some(response)
    })
    .await;
    let error = failure(node.client().head().await);
    let text = error.to_string();
    let other = failure(node.client().identity().await).to_string();
    let kind = text.rsplit_once(": ").unwrap().1;
    assert!(other.ends_with(kind), "the same in a batch: {other} and {text}");
    text
}

#[tokio::test]
async fn a_web_page_is_named_with_its_content_type() {
    let html = &[("content-type", "text/html; charset=utf-8")][..];
    let page = b"<!DOCTYPE html><title>Just a moment...</title>";
    for (status, begins) in [(200, "it is a web page"), (403, "HTTP status 403"), (404, "HTTP status 404")] {
        let text = refused(status, html, page).await;
        assert!(text.contains("a web page, content-type: text/html; charset=utf-8"), "{text}");
        assert!(text.contains(begins), "{text}");
    }
    let text = refused(200, &[], page).await;
    assert!(text.ends_with("it is a web page, content-type: none"), "{text}");
    let text = refused(200, html, b"").await;
    assert!(text.ends_with("text/html; charset=utf-8"), "{text}");
}

#[tokio::test]
async fn a_compressed_answer_is_named_with_its_encoding() {
    let gzip = &[("content-encoding", "gzip"), ("content-type", "application/json")][..];
    for headers in [gzip, &[]] {
        let text = refused(200, headers, b"\x1f\x8b\x08\x00\x00\x00\x00\x00").await;
        assert!(text.contains("content-encoding: gzip"), "{text}");
    }
    let text = refused(403, gzip, b"\x1f\x8b\x08\x00\x00\x00\x00\x00").await;
    assert!(text.contains("HTTP status 403 Forbidden (compressed") && text.contains("gzip"), "{text}");
}

#[tokio::test]
async fn an_empty_or_truncated_answer_is_named() {
    let text = refused(200, &[], b"").await;
    assert!(text.ends_with("it is empty"), "{text}");
    let text = refused(200, &[], br#"{"jsonrpc":"2.0","id":0,"result":{"#).await;
    assert!(text.contains("EOF while parsing"), "{text}");
}

/// What a server says of itself is bounded, and printed without control characters and secrets.
#[tokio::test]
async fn the_content_type_is_bounded_and_without_secrets() {
    let node = FakeNode::serving(|_, _| {
        let mut response = "<html>".into_response();
        let long = format!("text/html; {SECRET}; \u{9b}31m{}", "x".repeat(5_000));
        response.headers_mut().insert("content-type", HeaderValue::from_bytes(long.as_bytes()).unwrap());
        Some(response)
    })
    .await;
    let text = failure(node.client().head().await).to_string();
    assert!(text.contains("text/html; ***; \\u{9b}31m") && text.len() < 500, "{text}");
}

/// A secret is recognised as a whole: the text is truncated after it is removed.
#[tokio::test]
async fn a_secret_where_the_content_type_is_truncated_is_not_shown_in_part() {
    for before in 44..=60 {
        let node = FakeNode::serving(move |_, _| {
            let long = format!("{:x<before$}{SECRET}", "text/html; ");
            Some(([("content-type", long)], "<html>").into_response())
        })
        .await;
        let text = failure(node.client().head().await).to_string();
        assert!(!text.contains("x0"), "{before}: {text}");
    }
}

#[tokio::test]
async fn an_answer_is_read_in_unusual_forms() {
    let header = wire_header(3, Hash([1; 32]));
    let one = |text: &str| text.replace("HEADER", &header.to_string());
    for body in [
        r#"{"id":0,"result":HEADER}"#,
        r#"{"jsonrpc":"2.0","id":"0","result":HEADER}"#,
        r#"{"jsonrpc":"2.0","id":0,"result":HEADER,"error":null}"#,
        r#"{"jsonrpc":"2.0","error":null,"id":0,"result":HEADER,"more":[1]}"#,
        r#"{"jsonrpc":"2.0","id":null,"result":HEADER}"#,
        r#"{"result":HEADER}"#,
        r#" [{"jsonrpc":"2.0","id":0,"result":HEADER}] "#,
    ] {
        let text = one(body);
        let node = FakeNode::serving(move |_, _| Some(text.clone().into_response())).await;
        assert_eq!(node.client().head().await.unwrap().height, 3, "{body}");
    }
    for body in [
        r#"{"jsonrpc":"2.0","id":0,"result":null,"error":{"code":-1,"message":"no"}}"#,
        r#"{"jsonrpc":"2.0","id":0,"result":HEADER,"error":{"code":-1,"message":"no"}}"#,
        r#"{"jsonrpc":"2.0","id":0,"error":{"code":"-1","message":"no"}}"#,
    ] {
        let text = one(body);
        let node = FakeNode::serving(move |_, _| Some(text.clone().into_response())).await;
        let error = failure(node.client().head().await);
        assert!(matches!(error, ChainError::Refused { .. }), "{error:?}");
        assert!(error.to_string().ends_with("no (code -1)"), "{error}");
    }
}

/// Both questions of a batch with `"error": null`, ids as texts, in another order, and one answer more.
#[tokio::test]
async fn a_batch_is_read_in_unusual_forms() {
    let genesis = wire_header(0, Hash([1; 32]));
    let node = FakeNode::serving(move |_, body| {
        let questions: Value = serde_json::from_slice(&body).unwrap();
        let mut answers: Vec<Value> = questions
            .as_array()
            .unwrap()
            .iter()
            .map(|question| {
                let is_id = question["method"] == "eth_chainId";
                let result = if is_id { 100.into() } else { genesis.clone() };
                let id = question["id"].to_string();
                serde_json::json!({ "id": id, "result": result, "error": null, "took": 3 })
            })
            .collect();
        answers.push(serde_json::json!({ "id": 77, "result": "0x0" }));
        answers.reverse();
        Some(Value::Array(answers).to_string().into_response())
    })
    .await;
    assert_eq!(node.client().identity().await.unwrap().id, "100");
}
