use axum::Router;
use axum::body::Body;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use tower::ServiceExt;

use super::*;

const TOKEN: &str = "0123456789abcdef";

fn access() -> Access {
    Access::token(Token::new(TOKEN).unwrap())
}

#[test]
fn authorizations() {
    let cases: [(&[&str], Option<&str>); 19] = [
        (&["Bearer 0123456789abcdef"], None),
        (&["bearer 0123456789abcdef"], None),
        (&["BEARER   0123456789abcdef"], None),
        (&["Bearer 0123456789abcdef "], None),
        (&[], Some("is missing")),
        (&["Bearer 0123456789abcdeF"], Some("is wrong")),
        (&["Bearer 0123456789abcde"], Some("is wrong")),
        (&["Bearer 0123456789abcdef0"], Some("is wrong")),
        (&["Bearer 0123456789abcdef x"], Some("is wrong")),
        (&["Bearer \"0123456789abcdef\""], Some("is wrong")),
        (&["Bearer"], Some("another form")),
        (&["Bearer "], Some("another form")),
        (&[""], Some("another form")),
        (&["0123456789abcdef"], Some("another form")),
        (&["Basic 0123456789abcdef"], Some("another form")),
        (&["Bearer0123456789abcdef"], Some("another form")),
        (&["Bearer\t0123456789abcdef"], Some("another form")),
        (&["Bearer 0123456789abcdef", "Bearer 0123456789abcdef"], Some("is repeated")),
        (&["Bearer 0123456789abcdef", ""], Some("is repeated")),
    ];
    for (given, expected) in cases {
        let mut headers = HeaderMap::new();
        for value in given {
            headers.append(header::AUTHORIZATION, value.parse().unwrap());
        }
        match (access().check(&headers), expected) {
            (Ok(()), None) => {}
            (Err(problem), Some(part)) => {
                assert_eq!(problem.status, 401);
                assert!(problem.detail.contains(part), "{given:?}: {}", problem.detail);
                assert!(!problem.detail.contains("0123456789"), "{}", problem.detail);
            }
            (result, _) => panic!("{given:?}: {result:?}"),
        }
        assert!(Access::loopback_open("127.0.0.1:1".parse().unwrap()).unwrap().check(&headers).is_ok());
    }
}

#[tokio::test]
async fn a_refusal_has_a_challenge_and_a_route_does_not_see_the_token() {
    let has_token =
        |headers: HeaderMap| async move { headers.contains_key(header::AUTHORIZATION).to_string() };
    let routes = Router::new()
        .route("/", get(has_token))
        .route_layer(from_fn_with_state(Arc::new(access()), require_token));

    let request = Request::get("/").body(Body::empty()).unwrap();
    let refused = routes.clone().oneshot(request).await.unwrap();
    assert_eq!(refused.status(), 401);
    assert_eq!(refused.headers()[header::WWW_AUTHENTICATE], "Bearer realm=\"observerd\"");
    assert_eq!(refused.headers()[header::CONTENT_TYPE], "application/problem+json");

    let request = Request::get("/").header("authorization", format!("Bearer {TOKEN}"));
    let served = routes.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(served.status(), 200);
    assert_eq!(axum::body::to_bytes(served.into_body(), 100).await.unwrap(), "false");
}

#[test]
fn a_service_is_open_on_loopback_alone() {
    for bind in ["127.0.0.1:3219", "127.9.9.9:0", "[::1]:3219", "[::ffff:127.0.0.1]:3219"] {
        assert!(Access::loopback_open(bind.parse().unwrap()).unwrap().is_open(), "{bind}");
    }
    for bind in
        ["0.0.0.0:3219", "[::]:3219", "192.0.2.7:1", "10.0.0.1:1", "[::ffff:0.0.0.0]:1", "[fe80::1]:1"]
    {
        let error = Access::loopback_open(bind.parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains("is not a loopback address: bind to"), "{bind}: {error}");
    }
}
