//! A server with scripted answers.

use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use watchkeeper_chain::Hash;
use watchkeeper_chain_ethereum::EthereumClient;

/// A part of the path of every address here; no error may show it.
pub(crate) const SECRET: &str = "0123456789abcdef";

/// A server with scripted answers in place of a node.
pub(crate) struct FakeNode {
    pub(crate) address: SocketAddr,
    server: JoinHandle<()>,
}

impl FakeNode {
    /// Answers every request with the result of `answer` for its method and parameters.
    pub(crate) async fn answering(answer: impl Fn(&str, &Value) -> Value + Send + Sync + 'static) -> Self {
        Self::serving(move |_, body| Some(self::answer(&body, &answer))).await
    }

    /// Answers with the result of `serve` for headers and body; `None` is no answer.
    pub(crate) async fn serving(
        serve: impl Fn(HeaderMap, Bytes) -> Option<Response> + Send + Sync + 'static,
    ) -> Self {
        let serve = Arc::new(serve);
        let handler = move |headers: HeaderMap, body: Bytes| {
            let serve = Arc::clone(&serve);
            async move {
                match serve(headers, body) {
                    Some(response) => response,
                    None => pending().await,
                }
            }
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().fallback(handler);
        let server = tokio::spawn(async { axum::serve(listener, app).await.unwrap() });
        Self { address, server }
    }

    pub(crate) fn client(&self) -> EthereumClient {
        client(self.address)
    }
}

/// The results of `answer` for the method and parameters of each call in a request.
pub(crate) fn answer(body: &Bytes, answer: impl Fn(&str, &Value) -> Value) -> Response {
    let one = |question: &Value| {
        let mut reply = answer(question["method"].as_str().unwrap(), &question["params"]);
        reply["jsonrpc"] = "2.0".into();
        reply["id"] = question["id"].clone();
        reply
    };
    let reply: Value = match serde_json::from_slice(body).unwrap() {
        Value::Array(questions) => questions.iter().map(one).collect(),
        question => one(&question),
    };
    reply.to_string().into_response()
}

/// Answers like a node that has this branch, lowest first, whose blocks are all empty.
pub(crate) fn chain(id: &'static str, branch: Vec<Value>) -> impl Fn(&str, &Value) -> Value {
    move |method, parameters| {
        let tag = parameters[0].as_str().unwrap_or_default();
        let number = tag.strip_prefix("0x").and_then(|digits| usize::from_str_radix(digits, 16).ok());
        let found = match (method, tag) {
            ("eth_chainId", _) => return result(&id.into()),
            ("eth_getBlockReceipts", _) => return result(&json!([])),
            ("eth_getBlockByHash", _) => branch.iter().find(|header| header["hash"] == tag),
            (_, "latest") => branch.last(),
            (_, _) => number.and_then(|number| branch.get(number)),
        };
        result(&found.map_or(Value::Null, |header| forged(header, "transactions", json!([]))))
    }
}

/// A branch with this many blocks above its first one, which `seed` distinguishes from others.
pub(crate) fn branch(seed: u8, blocks: u64) -> Vec<Value> {
    let mut branch = vec![wire_header(0, Hash([seed; 32]))];
    for height in 1..=blocks {
        let parent = branch.last().map_or(Hash([0; 32]), hash);
        branch.push(wire_header(height, parent));
    }
    branch
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.server.abort();
    }
}

pub(crate) fn client(address: SocketAddr) -> EthereumClient {
    EthereumClient::new(format!("http://user:password@{address}/v3/{SECRET}").parse().unwrap()).unwrap()
}

pub(crate) fn result(result: &Value) -> Value {
    json!({ "result": result })
}

pub(crate) fn error(code: i64, message: &str) -> Value {
    json!({ "error": { "code": code, "message": message } })
}

/// The transactions root in the header of an empty block.
pub(crate) const ROOT_OF_NONE: &str = "0x56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421";

/// The header of an empty block as nodes return it, with its true hash.
pub(crate) fn wire_header(height: u64, parent: Hash) -> Value {
    header_with(height, parent, ROOT_OF_NONE)
}

/// The header of a block whose transactions have this root.
pub(crate) fn header_with(height: u64, parent: Hash, transactions_root: &str) -> Value {
    sealed_header(height, parent, transactions_root, 0)
}

/// The same with another seal, and so another hash; 0 is none.
pub(crate) fn sealed_header(height: u64, parent: Hash, transactions_root: &str, seal: u8) -> Value {
    let mut header = json!({
        "parentHash": format!("0x{parent}"),
        "number": format!("{height:#x}"),
        "difficulty": "0x7",
        "timestamp": "0x64",
        "gasLimit": "0x0",
        "gasUsed": "0x0",
        "extraData": if seal == 0 { "0x".to_owned() } else { format!("0x{seal:02x}") },
        "nonce": "0x0000000000000000",
        "miner": format!("0x{}", "0".repeat(40)),
        "logsBloom": format!("0x{}", "0".repeat(512)),
    });
    for root in ["hash", "sha3Uncles", "stateRoot", "receiptsRoot", "mixHash"] {
        header[root] = format!("0x{}", "0".repeat(64)).into();
    }
    header["transactionsRoot"] = transactions_root.into();
    let read: alloy::rpc::types::Header = serde_json::from_value(header.clone()).unwrap();
    header["hash"] = format!("{:#x}", read.inner.hash_slow()).into();
    header
}

pub(crate) fn hash(header: &Value) -> Hash {
    header["hash"].as_str().unwrap().parse().unwrap()
}

/// The header with one field changed and the hash unchanged.
pub(crate) fn forged(header: &Value, field: &str, value: impl Into<Value>) -> Value {
    let mut header = header.clone();
    header[field] = value.into();
    header
}
