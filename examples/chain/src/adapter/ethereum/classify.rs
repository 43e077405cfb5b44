//! What an error of JSON-RPC means: there are hardly any common codes, and providers give one code several meanings.

use std::time::Duration;

use serde_json::Value;

/// What to do about an error of JSON-RPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// The rate of requests is limited, and perhaps for how long.
    RateLimited(Option<Duration>),
    /// It took the node too long: ask again, or for less.
    TimedOut,
    /// The node cannot answer right now.
    Busy,
    /// The question is for more blocks, or has more results, than the node gives at once: ask for less.
    RangeTooLarge,
    /// The questions of a batch must be asked alone, or fewer at once.
    NoBatch,
    /// The node had it, and has dropped it.
    Pruned,
    /// The node does not have this method.
    NoMethod,
    /// The node does not have this block, or not yet.
    UnknownBlock,
    /// The node does not understand the parameters.
    Misunderstood,
    /// Anything else.
    Refused,
}

/// One meaning, and how nodes and providers express it. In a text, `*` is any other text.
struct Row {
    class: Class,
    codes: &'static [i64],
    texts: &'static [&'static str],
}

const fn says(class: Class, texts: &'static [&'static str]) -> Row {
    Row { class, codes: &[], texts }
}

const fn has_code(class: Class, codes: &'static [i64]) -> Row {
    Row { class, codes, texts: &[] }
}

const LIMITED: Class = Class::RateLimited(None);

/// The first row that matches counts. Texts come before codes: -32005 is a limited rate or too many results, -32602 is
/// a range that is too wide or a block above the head, -32000 is anything. What passes comes before what stays: a text
/// about a limited rate of "archive" requests says nothing about the state.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    says(LIMITED, &[
        "rate limit", "rate-limit", "ratelimit", "rate exceeded", "over rate", "too many request", "per second",
        "request count exceeded",
    ]),
    says(Class::NoBatch, &[
        "batch request", "batch size", "batch limit", "batch too", "batch is too", "batch of", "batch call", "batches",
        "batching", "batched", "in batch", "in a batch", "no batch",
    ]),
    says(Class::UnknownBlock, &[
        "beyond current head", "beyond the head", "block is out of range", "blockoutofrange",
        "block height is*but requested", "future block", "above the head", "above head", "greater than latest",
        "must be less than or equal to the current", "not yet available", "not available yet",
        "cannot query unfinalized data",
    ]),
    says(Class::Misunderstood, &["invalid block range"]),
    says(Class::RangeTooLarge, &[
        "block range", "blocks range", "range too", "range is too", "range limit", "range*exceed", "exceed*range",
        "ranges over", "max range", "limited to*range", "limited to*blocks", "maximum*blocks", "smaller range",
        "narrow", "returned more than", "more than*results", "more than*logs", "too many logs", "too many results",
        "too many events", "too many blocks", "must be smaller than size", "max results", "query exceeds", "logs*exceed", "limit the query to", "try with this",
        "exceeds limit of", "response size", "response too large", "response is too", "response exceed",
        "result too large", "too large, max is", "less number of address", "too many address",
    ]),
    says(LIMITED, &[
        "too many concurrent", "concurrent requests", "too many connections", "request limit", "requests limited",
        "requests exceeded", "requests per", "calls per", "call rate", "credits", "compute unit", "throughput",
        "quota", "capacity", "throttl", "usage limit", "usage exceeded", "reached the free tier", "free tier limit",
        "limit reached", "plan limit", "has exceeded", "exceeded its", "slow down",
    ]),
    says(Class::TimedOut, &["timeout", "timed out", "timed-out", "deadline exceeded", "execution aborted"]),
    says(Class::Busy, &[
        "temporar", "try again", "retry later", "please retry", "retry in", "retry after", "overload", "busy",
        "too much load", "under heavy load", "service unavailable", "in progress", "indexing", "not fully indexed",
        "still syncing", "is syncing", "node is not synced", "not synced yet", "catching up", "cooldown",
        "maintenance", "shutting down", "starting up", "cannot fulfill request", "unable to perform request",
        "relay attempt", "route your request",
    ]),
    says(Class::Pruned, &[
        "missing trie node", "missingtrienode", "trie node*missing", "historical state", "state unavailable",
        "state is unavailable", "no state available", "state not available", "state is not available",
        "state*is not available", "old data not available", "data before*not available", "history unavailable",
        "lowest height is", "pruned", "pruning", "archive",
    ]),
    says(Class::NoMethod, &[
        "method not found", "method*not found", "method*not support", "method*unsupported", "unsupported method",
        "unsupported rpc", "method*does not exist", "method*not available", "method*not whitelisted",
        "method*not allowed", "method*disabled", "method*not enabled", "method*not implemented", "no such method",
        "unknown method", "does not exist/is not available",
    ]),
    says(Class::UnknownBlock, &[
        "block not found", "block*not found", "header not found", "header for hash not found", "header*not found",
        "unknown block", "unknown header", "no such block", "block does not exist", "cannot find block",
        "could not find block", "block not available", "block is not available",
    ]),
    says(Class::Busy, &[
        "connection reset", "connection refused", "connection closed", "econnreset", "econnrefused", "broken pipe",
        "unexpected eof", "context cancel", "upstream", "backend", "gateway", "no available", "no nodes", "no node",
        "nodes available", "unhealthy", "not healthy", "offline", "unavailable", "internal server error",
        "not ready", "out of sync",
    ]),
    says(Class::Misunderstood, &[
        "invalid argument", "invalid param", "cannot unmarshal", "invalid type", "block tag", "invalid tag",
        "unsupported tag", "unknown tag",
    ]),
    has_code(Class::RangeTooLarge, &[-32614]),
    has_code(Class::Pruned, &[4444]),
    has_code(LIMITED, &[429, 1008, -32005, -32007, -32016, -32029, -32090, -32091, -32097]),
    has_code(Class::Busy, &[-32603, -32002, -32010, -32011, -32012, -32013, -32015, -32018, -32046, -32055, 500, 502, 503, 504]),
    has_code(Class::NoMethod, &[-32601, -32004]),
    has_code(Class::UnknownBlock, &[-39001]),
    has_code(Class::Misunderstood, &[-32602, -32600, -32700]),
];

/// What an error of JSON-RPC means, by its text first. Of `data`, texts and a time to wait are read.
pub(super) fn classify(code: i64, message: &str, data: Option<&Value>) -> Class {
    let text = format!("{message}\n{}", texts(data)).to_lowercase();
    let matches = |row: &&Row| match row.texts {
        [] => row.codes.contains(&code),
        texts => texts.iter().any(|pattern| contains(&text, pattern)),
    };
    match TABLE.iter().find(matches).map_or(Class::Refused, |row| row.class) {
        Class::RateLimited(_) => Class::RateLimited(wait_in_data(data).or_else(|| wait_in_text(&text))),
        class => class,
    }
}

/// Whether the parts of `pattern` between its `*` are in `text`, in this order and in one line.
fn contains(text: &str, pattern: &str) -> bool {
    text.lines().any(|line| {
        let mut rest = line;
        pattern.split('*').all(|part| {
            let found = rest.find(part);
            rest = found.map_or("", |at| &rest[at + part.len()..]);
            found.is_some()
        })
    })
}

/// What is for people in the data of an error. The rest may repeat the question.
fn texts(data: Option<&Value>) -> String {
    const NAMES: [&str; 6] = ["message", "reason", "error", "details", "description", "cause"];
    match data {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Object(fields)) => {
            let texts = NAMES.iter().filter_map(|name| fields.get(*name)?.as_str());
            texts.collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

/// A longer wait is not believed.
pub(super) const LONGEST_WAIT: Duration = Duration::from_hours(24);

/// The time to wait in the data of an error: Infura has `rate.backoff_seconds`, others a field of their own.
fn wait_in_data(data: Option<&Value>) -> Option<Duration> {
    const NAMES: [&str; 6] =
        ["backoff_seconds", "retry_after", "retryAfter", "retry_after_seconds", "try_again_in", "retry_in"];
    let data = data?;
    let values = [data.get("rate"), Some(data)].into_iter().flatten();
    let mut values = values.flat_map(|fields| NAMES.iter().filter_map(|name| fields.get(*name)));
    values.find_map(|value| match value {
        Value::String(text) => duration(text),
        value => seconds(value.as_f64()?),
    })
}

/// The time to wait in a text such as "try again in 1.5s".
fn wait_in_text(text: &str) -> Option<Duration> {
    const BEFORE: [&str; 6] =
        ["again in ", "again after ", "retry in ", "retry after ", "wait for ", "wait "];
    BEFORE.iter().find_map(|before| duration(text.split_once(before)?.1))
}

/// The time that a text begins with; a number alone is seconds.
fn duration(text: &str) -> Option<Duration> {
    let text = text.trim_start();
    let digits = text.find(|char: char| !char.is_ascii_digit() && char != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.trim_end_matches('.').parse().ok()?;
    let unit = unit.trim_start();
    let unit = &unit[..unit.find(|char: char| !char.is_ascii_alphabetic()).unwrap_or(unit.len())];
    let factor = match unit {
        "ms" | "msec" | "millisecond" | "milliseconds" => 0.001,
        "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
        "h" | "hour" | "hours" => 3_600.0,
        _ => 1.0,
    };
    seconds(number * factor)
}

fn seconds(seconds: f64) -> Option<Duration> {
    let wait = Duration::try_from_secs_f64(seconds).ok().filter(|wait| !wait.is_zero())?;
    Some(wait.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Each text and each code of the table has its meaning: no row above hides it.
    #[test]
    fn every_row_of_the_table_counts() {
        for row in TABLE {
            for text in row.texts {
                let message = format!("Sorry: {} (0x2a)", text.replace('*', " it ").to_uppercase());
                assert_eq!(classify(-32000, &message, None), row.class, "{text}");
                assert_eq!(classify(-1, "failed", Some(&json!(message))), row.class, "{text} in the data");
                assert_eq!(classify(-1, "failed", Some(&json!({ "reason": message }))), row.class, "{text}");
            }
            for code in row.codes {
                assert_eq!(classify(*code, "", None), row.class, "{code}");
            }
        }
        assert_eq!(classify(-32000, "the key has expired", None), Class::Refused);
        let question = json!({ "request": "eth_getLogs over this block range", "see": ["archive"] });
        assert_eq!(classify(-32000, "no", Some(&question)), Class::Refused);
    }

    #[test]
    fn the_time_to_wait_is_read_where_providers_give_it() {
        let milliseconds = |wait: u64| Some(Duration::from_millis(wait));
        for (message, data, wait) in [
            (
                "daily request count exceeded",
                json!({ "rate": { "backoff_seconds": 30.5 } }),
                milliseconds(30_500),
            ),
            (
                "daily request count exceeded",
                json!({ "rate": { "backoff_seconds": 30 } }),
                milliseconds(30_000),
            ),
            ("rate limit", json!({ "retry_after": 3 }), milliseconds(3_000)),
            ("rate limit", json!({ "try_again_in": "120.5ms" }), milliseconds(120)),
            ("rate limit: try again in 1.5s", Value::Null, milliseconds(1_500)),
            ("Rate limit, Try Again In 4ms", Value::Null, milliseconds(4)),
            ("call rate limit exhausted, retry in 10s", Value::Null, milliseconds(10_000)),
            ("rate limit: retry after 2 minutes.", Value::Null, milliseconds(120_000)),
            ("rate limit: wait 7", Value::Null, milliseconds(7_000)),
            ("rate limit", json!({ "retry_after": 1e300 }), None),
            ("rate limit", json!({ "retry_after": 1e9 }), Some(LONGEST_WAIT)),
            ("rate limit", json!({ "retry_after": -1 }), None),
            ("rate limit", json!({ "retry_after": 0 }), None),
            ("rate limit: try again in a while", Value::Null, None),
            ("rate limit: try again in 1.2.3.4s", Value::Null, None),
            ("rate limit", Value::Null, None),
        ] {
            let class = classify(-32005, message, Some(&data));
            let wait = wait.map(|wait| wait.as_millis());
            let Class::RateLimited(found) = class else { panic!("{message}: {class:?}") };
            assert_eq!(found.map(|found| found.as_millis()), wait, "{message} {data}");
        }
    }
}
