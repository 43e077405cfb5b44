//! The answers of the HTTP API, above all to bad requests.

use openraft_kv::api::{ErrorCode, Role};
use openraft_kv::{ClientError, NodeClient};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::{Cluster, agreed_leader, formed, options, write};

/// Sends the request as it is, and returns status and body.
async fn raw(client: &NodeClient, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(client.addr()).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {answer}"));
    (status, body)
}

#[tokio::test]
async fn bad_requests_are_http_errors_with_a_json_body() {
    let cluster = formed(options(1)).await;
    let client = cluster.client(1);
    let deep = format!("{{\"key\":\"a\",\"x\":{}", "[".repeat(500));
    // method, path, body; status, error, what the message names
    #[rustfmt::skip]
    let cases = [
        ("POST", "/kv/write", "{\"key\":", 400, "bad_request", "line 1 column 7"),
        ("POST", "/kv/write", "", 400, "bad_request", "object"),
        ("POST", "/kv/write", r#"["a","1",1]"#, 400, "bad_request", "object"),
        ("POST", "/kv/write", &deep, 400, "bad_request", "`x`"),
        ("POST", "/kv/write", r#"{"key":"a","value":"1"}"#, 400, "bad_request", "`serial`"),
        ("POST", "/kv/write", r#"{"key":"a","value":"1","serial":-1}"#, 400, "bad_request", "`-1`"),
        ("POST", "/kv/write", r#"{"key":"a","value":"1","serial":1,"ttl":5}"#, 400, "bad_request", "`ttl`"),
        ("POST", "/kv/write", r#"{"key":"","value":"1","serial":1}"#, 400, "bad_request", "`key`"),
        ("POST", "/kv/read", r#"{"key":""}"#, 400, "bad_request", "`key`"),
        ("POST", "/kv/read", r#"{"key":"nobody wrote it"}"#, 404, "key_not_found", "nobody wrote it"),
        ("POST", "/admin/init", r#"{"members":[{"node_id":7,"addr":"h:1"}]}"#, 409, "already_initialized", "/admin/change-membership"),
        ("POST", "/admin/init", r#"{"members":[{"node_id":7,"addr":"h:1"},{"node_id":7,"addr":"h:2"}]}"#, 400, "bad_request", "twice"),
        ("POST", "/admin/init", r#"{"members":[{"node_id":1,"addr":"elsewhere:1"}]}"#, 400, "bad_request", "elsewhere:1"),
        ("POST", "/admin/add-learner", r#"{"node_id":2,"addr":"no port"}"#, 400, "bad_request", "no port"),
        ("POST", "/admin/add-learner", r#"{"node_id":0,"addr":"h:1"}"#, 400, "bad_request", "begin at 1"),
        ("POST", "/admin/add-learner", r#"{"node_id":1,"addr":"elsewhere:1"}"#, 409, "other_address", "node 1 is a member at 127.0.0.1"),
        ("POST", "/admin/change-membership", r#"{"voters":[]}"#, 400, "bad_request", "empty"),
        ("POST", "/admin/change-membership", r#"{"voters":[1,9]}"#, 409, "unknown_learner", "node 9"),
        ("POST", "/raft/vote", "{}", 400, "bad_request", "`vote`"),
        ("GET", "/nowhere", "", 404, "not_found", "/nowhere"),
        ("GET", "/kv/write", "", 405, "method_not_allowed", "POST"),
        ("POST", "/state", "", 405, "method_not_allowed", "GET"),
    ];
    for (method, path, body, status, error, named) in cases {
        let case = format!("{method} {path} {body}");
        let (got, answer) = raw(&client, method, path, body).await;
        assert_eq!(got, status, "{case}: {answer}");
        assert_eq!(answer["error"], error, "{case}: {answer}");
        let message = answer["message"].as_str().unwrap();
        assert!(message.contains(named), "{case}: {message}");
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let cluster = formed(options(1)).await;
    let client = cluster.client(1);
    let large = "x".repeat((1 << 20) + 1);
    match client.write("a", &large, 1).await {
        Err(ClientError::Refused { status, error, .. }) => {
            assert_eq!((status, error), (413, ErrorCode::TooLarge));
        }
        // The node may close before the client has sent everything.
        Err(ClientError::Broken { .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(client.read("a").await.unwrap(), None);
}

#[tokio::test]
async fn a_node_in_no_cluster_serves_and_says_that_it_has_no_leader() {
    let cluster = Cluster::start(options(1)).await;
    let client = cluster.client(1);
    assert_eq!(client.health().await.unwrap().node_id, 1);
    let state = client.state().await.unwrap();
    assert_eq!((state.role, state.current_leader), (Role::Learner, None));
    assert_eq!(state.public_addr, client.addr());
    assert!(state.voters.is_empty() && state.kv.is_empty());
    let (status, answer) = raw(&client, "POST", "/kv/write", r#"{"key":"a","value":"1","serial":1}"#).await;
    assert_eq!((status, &answer["error"]), (503, &"no_leader".into()));
}

#[tokio::test]
async fn a_follower_names_the_leader() {
    let cluster = formed(options(3)).await;
    let clients = cluster.clients();
    let leader = agreed_leader(&clients).await;
    let follower = clients.iter().find(|c| c.id() != Some(leader)).unwrap();
    let body = r#"{"key":"a","value":"1","serial":1}"#;
    let (status, answer) = raw(follower, "POST", "/kv/write", body).await;
    assert_eq!((status, &answer["error"]), (421, &"not_leader".into()));
    assert_eq!(answer["leader"]["node_id"], leader);
    let addr = answer["leader"]["addr"].as_str().unwrap();
    assert_eq!(addr, cluster.client(leader).addr());

    for refused in [
        follower.write("a", "1", 1).await.map(|_| ()),
        follower.read("a").await.map(|_| ()),
        follower.change_membership([1].into()).await.map(|_| ()),
    ] {
        match refused {
            Err(ClientError::NotLeader { leader: Some(named), .. }) => assert_eq!(named.node_id, leader),
            other => panic!("{other:?}"),
        }
    }
    // The leader that was named takes it.
    NodeClient::new(addr).write("a", "1", 1).await.unwrap();
}

#[tokio::test]
async fn a_repeated_serial_gets_the_first_answer_and_is_applied_once() {
    let cluster = formed(options(1)).await;
    let clients = cluster.clients();
    let first = write(&clients, "a", "1", 5).await;
    assert_eq!((first.value.as_str(), first.serial), ("1", 5));
    assert_eq!(write(&clients, "a", "1", 5).await, first);
    assert_eq!(write(&clients, "a", "something else", 5).await, first);
    assert_eq!(clients[0].read("a").await.unwrap().unwrap(), "1");

    cluster.kill(1).await;
    cluster.restart(1).await;
    assert_eq!(write(&clients, "a", "1", 5).await, first);

    write(&clients, "a", "2", 6).await;
    match clients[0].write("a", "1", 5).await {
        Err(ClientError::Refused { status, error, .. }) => {
            assert_eq!((status, error), (409, ErrorCode::StaleSerial));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(clients[0].read("a").await.unwrap().unwrap(), "2");
}

#[tokio::test]
async fn a_client_refuses_to_talk_to_the_node_of_another_cluster() {
    let cluster = formed(options(1)).await;
    let addr = cluster.client(1).addr().to_owned();
    for stranger in [
        NodeClient::new(addr.as_str()).expecting("another cluster", 1),
        NodeClient::new(addr.as_str()).expecting("another cluster", 2),
    ] {
        match stranger.state().await {
            Err(ClientError::Refused { status, error, .. }) => {
                assert_eq!((status, error), (421, ErrorCode::WrongNode));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn each_client_error_names_the_node() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = closed.local_addr().unwrap().to_string();
    drop(closed);
    let unreachable = NodeClient::new(addr.as_str()).expecting("c", 4);
    let error = unreachable.state().await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("node 4") && text.contains(&addr), "{text}");
}
