//! Messages of JSON-RPC 2.0, read with patience: servers leave out `jsonrpc`, give `"error": null` beside a result, or
//! write numbers as texts.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::classify::{Class, classify};

/// The code of Ethereum's JSON-RPC for any limit.
const LIMIT_EXCEEDED: i64 = -32005;

/// A method with its parameters.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) method: &'static str,
    parameters: Box<RawValue>,
}

#[derive(Serialize)]
struct Question<'a> {
    jsonrpc: &'static str,
    id: u64,
    method: &'a str,
    params: &'a RawValue,
}

/// The error object of JSON-RPC.
#[derive(Clone, Debug)]
pub(super) struct NodeError {
    pub(super) code: i64,
    pub(super) message: String,
    pub(super) data: Option<Value>,
}

/// The answer to one question; no outcome if it has neither a result nor an error.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) id: Option<u64>,
    pub(super) outcome: Option<Result<Box<RawValue>, NodeError>>,
}

/// What a server answers with.
#[derive(Debug)]
pub(super) enum Packet {
    One(Reply),
    Many(Vec<Reply>),
}

impl Call {
    /// Fails if the parameters cannot be written as JSON. `()` are none.
    pub(super) fn new(method: &'static str, parameters: impl Serialize) -> serde_json::Result<Self> {
        let parameters = to_raw_value(&parameters)?;
        let parameters = if parameters.get() == "null" { to_raw_value(&[(); 0])? } else { parameters };
        Ok(Self { method, parameters })
    }

    fn with_id(&self, id: u64) -> Question<'_> {
        Question { jsonrpc: "2.0", id, method: self.method, params: &self.parameters }
    }
}

/// One question as a request.
pub(super) fn single(call: &Call, id: u64) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&call.with_id(id))
}

/// Several questions as one request, with ids from `first` on.
pub(super) fn batch(calls: &[Call], first: u64) -> serde_json::Result<Vec<u8>> {
    let questions = (first..).zip(calls).map(|(id, call)| call.with_id(id));
    serde_json::to_vec(&questions.collect::<Vec<_>>())
}

impl Packet {
    pub(super) fn read(body: &[u8]) -> serde_json::Result<Self> {
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        let is_list = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
        if is_list {
            serde_json::from_slice(body).map(Self::Many)
        } else {
            serde_json::from_slice(body).map(Self::One)
        }
    }
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.message, self.code)
    }
}

impl NodeError {
    /// Whether it says no more than that some limit is exceeded. Public nodes of BNB Smart Chain answer this to a range
    /// of any size, and others for a limited rate.
    pub(super) fn is_bare_limit(&self) -> bool {
        let is_bare = self.message.trim().eq_ignore_ascii_case("limit exceeded");
        self.code == LIMIT_EXCEEDED && is_bare && self.data.as_ref().is_none_or(Value::is_null)
    }

    /// The text with the data as JSON.
    pub(super) fn whole_text(&self) -> String {
        let data = self.data.as_ref().map(Value::to_string).unwrap_or_default();
        format!("{} {data}", self.message)
    }

    pub(super) fn class(&self) -> Class {
        classify(self.code, &self.message, self.data.as_ref())
    }
}

/// The members of an answer, and those of gateways that answer with an object of their own.
#[derive(Deserialize)]
struct WireAnswer {
    #[serde(default)]
    id: Value,
    #[serde(default, deserialize_with = "present")]
    result: Option<Box<RawValue>>,
    #[serde(default)]
    error: Value,
    #[serde(default)]
    code: Value,
    #[serde(default)]
    message: Value,
}

/// `null` is a result too.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

impl<'de> Deserialize<'de> for Reply {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let WireAnswer { id, result, error, code, message } = WireAnswer::deserialize(deserializer)?;
        let outcome = match (error, result) {
            (Value::Null | Value::Bool(false), Some(result)) => Some(Ok(result)),
            (Value::Object(fields), Some(result)) if fields.is_empty() => Some(Ok(result)),
            (Value::Null | Value::Bool(false), None) => match message {
                Value::String(message) => Some(Err(NodeError { code: whole(&code), message, data: None })),
                _ => None,
            },
            (Value::Object(mut fields), _) => {
                let message =
                    fields.remove("message").and_then(|message| message.as_str().map(str::to_owned));
                let code = fields.get("code").map_or(0, whole);
                let message = message.unwrap_or_default();
                Some(Err(NodeError { code, message, data: fields.remove("data") }))
            }
            (Value::String(message), _) => Some(Err(NodeError { code: whole(&code), message, data: None })),
            (error, _) => Some(Err(NodeError { code: 0, message: error.to_string(), data: None })),
        };
        let id = match id {
            Value::String(text) => text.parse().ok(),
            id => id.as_u64(),
        };
        Ok(Self { id, outcome })
    }
}

/// A number, also as a text; 0 if it is none.
fn whole(value: &Value) -> i64 {
    value.as_i64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_however_it_is_written() {
        for (body, id, expected) in [
            (r#"{"jsonrpc":"2.0","id":1,"result":7}"#, Some(1), Ok("7")),
            (r#"{"id":"1","result":null}"#, Some(1), Ok("null")),
            (r#"{"id":1,"result":7,"error":null,"more":{}}"#, Some(1), Ok("7")),
            (r#"{"id":1,"error":{"code":-5,"message":"no"},"result":null}"#, Some(1), Err((-5, "no"))),
            (r#"{"id":1,"error":{},"result":7}"#, Some(1), Ok("7")),
            (r#"{"id":null,"error":{"code":"-5","message":"no","data":[]}}"#, None, Err((-5, "no"))),
            (r#"{"error":{"code":-5,"message":null}}"#, None, Err((-5, ""))),
            (r#"{"error":"no"}"#, None, Err((0, "no"))),
            (r#"{"message":"no","code":429}"#, None, Err((429, "no"))),
            ("\u{feff} {\"id\":1,\"result\":7}", Some(1), Ok("7")),
        ] {
            let Packet::One(answer) = Packet::read(body.as_bytes()).unwrap() else { panic!("{body}") };
            let outcome = answer.outcome.unwrap();
            let found = outcome.as_ref().map(|raw| raw.get()).map_err(|error| (error.code, &*error.message));
            assert_eq!((answer.id, found), (id, expected), "{body}");
        }
        for nothing in ["{}", r#"{"id":1}"#, r#"{"id":1,"error":null}"#] {
            let Packet::One(answer) = Packet::read(nothing.as_bytes()).unwrap() else { panic!("{nothing}") };
            assert!(answer.outcome.is_none(), "{nothing}");
        }
        for broken in ["", "7", "{", "<html>", r#"{"id":1,"result":}"#, "[7]"] {
            assert!(Packet::read(broken.as_bytes()).is_err(), "{broken}");
        }
    }
}
