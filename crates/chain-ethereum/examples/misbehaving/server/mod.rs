//! A JSON-RPC server over a scripted chain that misbehaves on demand.

mod modes;
mod script;

use std::collections::BTreeMap;
use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::fake::{SECRET, error, result};
use script::{Script, WireBlock};

pub(crate) use modes::{
    Backends, Batches, Content, Finality, Hashes, Hiccup, HiccupAnswer, Modes, NAMED, Receipts,
};

/// The account whose balance changes.
pub(crate) const ACCOUNT: &str = "0x0707070707070707070707070707070707070707";
/// It pays, and is paid.
const OTHER: &str = "0x0808080808080808080808080808080808080808";
const ZERO: &str = "0x0000000000000000000000000000000000000000";

const UNKNOWN_METHOD: i64 = -32601;

/// The server, until it is dropped.
pub(crate) struct Misbehaving {
    address: SocketAddr,
    node: Arc<Node>,
    server: JoinHandle<()>,
}

struct Node {
    inside: Mutex<Inside>,
    /// How often each method was called; for `latest` and `finalized` also with this after it.
    calls: watch::Sender<BTreeMap<String, u64>>,
}

struct Inside {
    modes: Modes,
    script: Script,
    requests: u64,
    /// Those of them that ask for the head.
    looks: u64,
    /// How many requests each hiccup is for.
    hiccups: Vec<u64>,
}

/// What is sent for a request.
enum Reply {
    Sent(Response),
    Nothing,
}

impl Misbehaving {
    pub(crate) async fn start(modes: Modes) -> Self {
        let inside = Inside {
            script: Script::new(&modes),
            requests: 0,
            looks: 0,
            hiccups: vec![0; modes.hiccups.len()],
            modes,
        };
        let node = Arc::new(Node { inside: Mutex::new(inside), calls: watch::Sender::default() });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = Arc::clone(&node);
        let handler = move |body: Bytes| {
            let node = Arc::clone(&served);
            async move { node.serve(&body).await }
        };
        let app = Router::new().fallback(handler);
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, node, server }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/v3/{SECRET}", self.address)
    }

    /// Adds blocks at the tip.
    pub(crate) fn grow(&self, blocks: u64) {
        let Inside { modes, script, .. } = &mut *self.node.inside.lock().unwrap();
        script.grow(blocks, modes);
    }

    /// Replaces blocks at the tip by others.
    pub(crate) fn reorg(&self, depth: usize, blocks: u64) {
        let Inside { modes, script, .. } = &mut *self.node.inside.lock().unwrap();
        script.reorg(depth, blocks, modes);
    }

    /// Behaves otherwise from now on. Blocks that are there stay.
    pub(crate) fn set(&self, change: impl FnOnce(&mut Modes)) {
        let Inside { modes, hiccups, .. } = &mut *self.node.inside.lock().unwrap();
        change(modes);
        *hiccups = vec![0; modes.hiccups.len()];
    }

    /// How often a method was called.
    pub(crate) fn calls(&self, method: &str) -> u64 {
        self.node.calls.borrow().get(method).copied().unwrap_or_default()
    }

    /// Waits until a method was called so often since now.
    pub(crate) async fn is_asked(&self, method: &str, times: u64) {
        let before = self.calls(method);
        let mut calls = self.node.calls.subscribe();
        let enough = calls.wait_for(|calls| calls.get(method).is_some_and(|calls| calls - before >= times));
        timeout(Duration::from_mins(1), enough).await.unwrap_or_else(|_| panic!("no more {method}")).unwrap();
    }
}

impl Drop for Misbehaving {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Node {
    async fn serve(&self, body: &Bytes) -> Response {
        let (latency, reply) = {
            let mut inside = self.inside.lock().unwrap();
            let latency = inside.modes.latency;
            (latency, inside.reply(body))
        };
        self.count(body);
        sleep(latency).await;
        match reply {
            Reply::Sent(response) => response,
            Reply::Nothing => pending().await,
        }
    }

    fn count(&self, body: &Bytes) {
        let Ok(asked) = serde_json::from_slice(body) else { return };
        let questions = if let Value::Array(questions) = asked { questions } else { vec![asked] };
        self.calls.send_modify(|calls| {
            for question in questions {
                let method = question["method"].as_str().unwrap_or_default();
                *calls.entry(method.to_owned()).or_default() += 1;
                if let Some(tag @ ("latest" | "finalized")) = question["params"][0].as_str() {
                    *calls.entry(format!("{method} {tag}")).or_default() += 1;
                }
            }
        });
    }
}

impl Inside {
    fn reply(&mut self, body: &Bytes) -> Reply {
        self.requests += 1;
        if let Some(each) = self.modes.grows_each {
            self.script.grow_by_time(each, &self.modes);
        }
        let hiccup = self.hiccup(body);
        match hiccup {
            Some(HiccupAnswer::Silent) => return Reply::Nothing,
            Some(HiccupAnswer::Status(status, after)) => return Reply::Sent(refusal(status, after)),
            Some(HiccupAnswer::Html) => {
                let page = "<html><body>Please check your browser</body></html>";
                return Reply::Sent(([("content-type", "text/html; charset=utf-8")], page).into_response());
            }
            Some(HiccupAnswer::Gzip) => {
                let packed = [0x1f_u8, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xab, 0xae, 5, 0].to_vec();
                let headers = [("content-type", "application/json"), ("content-encoding", "gzip")];
                return Reply::Sent((headers, packed).into_response());
            }
            Some(HiccupAnswer::Empty) => return Reply::Sent(StatusCode::OK.into_response()),
            Some(HiccupAnswer::Error(..) | HiccupAnswer::NullError | HiccupAnswer::Truncated) | None => {}
        }
        let Ok(asked) = serde_json::from_slice::<Value>(body) else { return Reply::Sent(refusal(400, None)) };
        let nth = self.requests.to_string();
        // Backends alternate between looks, however many other requests come between them.
        let is_look = body.windows(8).any(|part| part == b"\"latest\"");
        self.looks += u64::from(is_look);
        let turn = if is_look { self.looks } else { self.requests };
        let blocks = self.script.seen(turn, self.modes.backends);
        let one = |question: &Value| {
            let mut reply = match hiccup {
                Some(HiccupAnswer::Error(code, message)) => error(code, &message.replace("{nth}", &nth)),
                _ => answer(&self.modes, blocks, question["method"].as_str().unwrap(), &question["params"]),
            };
            if matches!(hiccup, Some(HiccupAnswer::NullError)) && reply.get("error").is_none() {
                reply["error"] = Value::Null;
            }
            reply["jsonrpc"] = "2.0".into();
            reply["id"] = question["id"].clone();
            reply
        };
        let mut text = match (asked, self.modes.batches) {
            (Value::Array(_), Batches::Status(status)) => return Reply::Sent(refusal(status, None)),
            (Value::Array(_), Batches::Refused(code, message)) => {
                let mut reply = error(code, message);
                (reply["jsonrpc"], reply["id"]) = ("2.0".into(), Value::Null);
                reply.to_string()
            }
            (Value::Array(asked), Batches::FirstAlone) => {
                Value::from(asked.iter().take(1).map(one).collect::<Vec<_>>()).to_string()
            }
            (Value::Array(asked), Batches::Answered) => {
                Value::from(asked.iter().map(one).collect::<Vec<_>>()).to_string()
            }
            (asked, _) => one(&asked).to_string(),
        };
        if matches!(hiccup, Some(HiccupAnswer::Truncated)) {
            text.truncate(text.len() / 2);
        }
        Reply::Sent(([("content-type", "application/json")], text).into_response())
    }

    /// What goes wrong with this request.
    fn hiccup(&mut self, body: &Bytes) -> Option<HiccupAnswer> {
        let body = String::from_utf8_lossy(body);
        let mut now = None;
        for (hiccup, count) in self.modes.hiccups.iter().zip(&mut self.hiccups) {
            if hiccup.of.is_none_or(|method| body.contains(&format!("\"{method}\""))) {
                *count += 1;
                let is_now = *count <= hiccup.first && count.is_multiple_of(hiccup.each);
                now = now.or(is_now.then_some(hiccup.answer));
            }
        }
        now
    }
}

fn refusal(status: u16, retry_after: Option<u64>) -> Response {
    let mut response = StatusCode::from_u16(status).unwrap().into_response();
    if let Some(seconds) = retry_after {
        response.headers_mut().insert("retry-after", seconds.into());
    }
    response
}

/// The answer of a backend that has these blocks.
fn answer(modes: &Modes, blocks: &[Arc<WireBlock>], method: &str, parameters: &Value) -> Value {
    let named = parameters[0].as_str().unwrap_or_default();
    let full = parameters[1] == true;
    let at = |height: usize| result(&blocks.get(height).map_or(Value::Null, |block| block.shown(full)));
    let unknown = || error(UNKNOWN_METHOD, &format!("the method {method} does not exist/is not available"));
    match (method, modes.receipts) {
        ("eth_chainId", _) => result(&"0x1".into()),
        ("eth_getBalance", _) => modes.balance.clone(),
        ("eth_getBlockByNumber", _) => match (named, modes.finality) {
            ("latest", _) => at(blocks.len() - 1),
            ("finalized", Finality::Behind(behind)) => {
                let height = (blocks.len() - 1).checked_sub(usize::try_from(behind).unwrap());
                height.map_or(result(&Value::Null), at)
            }
            ("finalized", Finality::Null) => result(&Value::Null),
            ("finalized", Finality::Error(code, message)) => error(code, message),
            _ => at(usize::from_str_radix(named.trim_start_matches("0x"), 16).unwrap()),
        },
        ("eth_getBlockByHash", _) => {
            result(&find(blocks, named).map_or(Value::Null, |block| block.shown(full)))
        }
        ("eth_getBlockReceipts", Receipts::ByTransaction | Receipts::None)
        | ("eth_getTransactionReceipt", Receipts::None) => unknown(),
        ("eth_getBlockReceipts", receipts) => {
            result(&find(blocks, named).map_or(Value::Null, |block| block.receipts(receipts)))
        }
        ("eth_getTransactionReceipt", receipts) => {
            let mut found = blocks.iter().filter_map(|block| block.receipt(named, receipts));
            result(&found.next().unwrap_or_default())
        }
        _ => unknown(),
    }
}

fn find<'a>(blocks: &'a [Arc<WireBlock>], hash: &str) -> Option<&'a Arc<WireBlock>> {
    blocks.iter().rev().find(|block| block.hash() == hash)
}
