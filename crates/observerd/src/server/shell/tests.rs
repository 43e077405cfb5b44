use axum::body::{Body, to_bytes};
use axum::extract::Path;
use axum::routing::{get, post};
use axum::{Extension, Json};
use serde::Deserialize;
use tower::ServiceExt;

use super::*;
use crate::config::LimitsConfig;
use crate::server::query::Query;

#[derive(Deserialize)]
struct Page {
    limit: u32,
}

fn app() -> Router {
    let limits = LimitsConfig { burst: 1_000, ..LimitsConfig::default() };
    app_with(&limits)
}

fn app_with(limits: &LimitsConfig) -> Router {
    let routes = Router::new()
        .route("/", get(|| async { "here" }))
        .route("/write", post(|Json(page): Json<Page>| async move { page.limit.to_string() }))
        .route("/number/{number}", get(|Path(number): Path<u32>| async move { number.to_string() }))
        .route("/page", get(|Query(page): Query<Page>| async move { page.limit.to_string() }))
        .route("/head", get(|headers: http::HeaderMap| async move { format!("{headers:?}") }))
        .route("/cached", get(|| async { ([("cache-control", "no-cache")], "here") }))
        .route("/fails", get(|| async { (StatusCode::BAD_GATEWAY, "secret words") }))
        .route("/missing", get(|Extension(()): Extension<()>| async { "here" }))
        .route("/later", get(|| async { (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "7")], "") }))
        .route("/panics", get(|| async { std::panic::panic_any("secret words") as () }));
    let hosts = Hosts::new("127.0.0.1:3219".parse().unwrap(), &[]).unwrap();
    shell(routes, Arc::new(Gate { hosts, rate: RateLimit::new(limits) }))
}

async fn ask(app: &Router, method: &str, path: &str) -> (StatusCode, http::HeaderMap, String) {
    let request = Request::builder().method(method).uri(path).header("host", "localhost");
    answer(app, request.body(Body::empty()).unwrap()).await
}

async fn answer(app: &Router, request: Request) -> (StatusCode, http::HeaderMap, String) {
    let response = app.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, 100_000).await.unwrap();
    assert_eq!(parts.headers["x-content-type-options"], "nosniff");
    assert!(parts.headers.contains_key("cache-control"));
    (parts.status, parts.headers, String::from_utf8(body.to_vec()).unwrap())
}

/// The type of a problem, without the part that each has.
fn kind(status: StatusCode, headers: &http::HeaderMap, body: &str) -> String {
    assert_eq!(headers["content-type"], "application/problem+json", "{body}");
    let problem: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(problem["status"], status.as_u16());
    problem["type"].as_str().unwrap().strip_prefix("urn:observerd:problem:").unwrap().to_owned()
}

#[tokio::test]
async fn each_refusal_is_a_problem() {
    let app = app();
    let cases = [
        ("GET", "/nothing", 404, "not-found"),
        ("POST", "/nothing", 404, "not-found"),
        ("DELETE", "/", 405, "method-not-allowed"),
        ("TRACE", "/", 405, "method-not-allowed"),
        ("QUERY", "/write", 405, "method-not-allowed"),
        ("POST", "/write", 415, "unsupported-media-type"),
        ("GET", "/number/x", 400, "invalid-request"),
        ("GET", "/number/%ff", 400, "invalid-request"),
        ("GET", "/page", 400, "invalid-query"),
        ("GET", "/page?limit=x", 400, "invalid-query"),
        ("GET", "/page?limit=1&limit=2", 400, "invalid-query"),
        ("GET", "/fails", 502, "internal"),
        ("GET", "/missing", 500, "internal"),
        ("GET", "/later", 503, "overloaded"),
        ("GET", "/panics", 500, "internal"),
    ];
    for (method, path, expected, slug) in cases {
        let (status, headers, body) = ask(&app, method, path).await;
        assert_eq!(status.as_u16(), expected, "{method} {path} {body}");
        assert_eq!(kind(status, &headers, &body), slug, "{method} {path}");
        assert!(!body.contains("secret"), "{body}");
        assert!(!body.contains("\"detail\":\"\""), "{body}");
    }
}

#[tokio::test]
async fn refusals_of_bodies_say_what_is_wrong() {
    let app = app();
    for (body, expected, part) in
        [("{", 400, "EOF"), ("{}", 422, "limit"), ("{\"limit\":\"x\"}", 422, "limit")]
    {
        let request = Request::post("/write").header("host", "localhost");
        let request = request.header("content-type", "application/json").body(Body::from(body)).unwrap();
        let (status, headers, body) = answer(&app, request).await;
        assert_eq!(status.as_u16(), expected);
        kind(status, &headers, &body);
        assert!(body.contains(part), "{body}");
    }
}

#[tokio::test]
async fn header_fields_of_refusals_are_kept() {
    let app = app();
    let (_, headers, _) = ask(&app, "DELETE", "/").await;
    assert_eq!(headers["allow"], "GET,HEAD");
    let (_, headers, body) = ask(&app, "GET", "/later").await;
    assert_eq!(headers["retry-after"], "7");
    assert!(body.contains("\"retry_after\":7"), "{body}");
    assert_eq!(headers.get_all("retry-after").iter().count(), 1);
}

#[tokio::test]
async fn what_is_served_stays_as_it_is() {
    let app = app();
    let (status, headers, body) = ask(&app, "GET", "/").await;
    assert_eq!((status.as_u16(), body.as_str()), (200, "here"));
    assert_eq!(headers["cache-control"], "no-store");
    let (_, headers, _) = ask(&app, "GET", "/cached").await;
    assert_eq!(headers["cache-control"], "no-cache");
    assert_eq!(ask(&app, "GET", "/page?limit=3").await.2, "3");
}

#[tokio::test]
async fn a_token_is_not_printed_with_the_head() {
    let request =
        Request::get("/head").header("host", "localhost").header("authorization", "Bearer secret words");
    let (_, _, body) = answer(&app(), request.body(Body::empty()).unwrap()).await;
    assert!(body.contains("authorization") && !body.contains("secret"), "{body}");
}

#[tokio::test]
async fn heads_and_options() {
    let app = app();
    let (status, headers, body) = ask(&app, "HEAD", "/").await;
    assert_eq!((status.as_u16(), body.as_str()), (200, ""));
    assert_eq!(headers["content-length"], "4");
    let (status, headers, body) = ask(&app, "OPTIONS", "/").await;
    assert_eq!((status.as_u16(), body.as_str()), (204, ""));
    assert_eq!(headers["allow"], "GET,HEAD");
    assert!(!headers.contains_key("content-type"));
    assert_eq!(ask(&app, "OPTIONS", "*").await.0, 204);
    assert_eq!(ask(&app, "OPTIONS", "/nothing").await.0, 404);
}

#[tokio::test(start_paused = true)]
async fn a_host_is_checked_before_the_quota() {
    let app = app_with(&LimitsConfig { burst: 1, requests_per_second: 1, ..LimitsConfig::default() });
    for _ in 0..10 {
        let request = Request::get("/").header("host", "evil.com").body(Body::empty()).unwrap();
        let (status, headers, body) = answer(&app, request).await;
        assert_eq!(kind(status, &headers, &body), "misdirected");
    }
    assert_eq!(ask(&app, "GET", "/nothing").await.0, 404);
    let (status, headers, body) = ask(&app, "GET", "/").await;
    assert_eq!(kind(status, &headers, &body), "too-many-requests");
    assert_eq!(headers["retry-after"], "1");
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    assert_eq!(ask(&app, "GET", "/").await.0, 200);
}
