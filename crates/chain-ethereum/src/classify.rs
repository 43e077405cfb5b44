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
    /// The node has dropped the state of a block, or does not have it yet.
    NoState,
    /// The node does not have this method.
    NoMethod,
    /// The node does not have this block, or not yet.
    UnknownBlock,
    /// The node does not understand the parameters.
    Misunderstood,
    /// Anything else.
    Refused,
}

/// One meaning, and how nodes and providers express it. In a text, `*` is any other text, and `|` is where a word begins
/// or ends.
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
    says(Class::NoBatch, &[
        "batch limit", "batch size limit", "batch request limit", "batch requests limited", "requests in batch",
        "requests in a batch", "requests per batch",
    ]),
    says(LIMITED, &[
        "rate limit", "rate-limit", "ratelimit", "rate exceeded", "over rate", "request rate", "call rate", "|rps|",
        "per second", "per minute", "per day", "/sec|", "too many request", "too many concurrent",
        "concurrent requests", "too many connections", "request count exceeded", "request limit", "requests limited",
        "requests exceeded", "requests per", "calls per", "daily request", "daily limit", "credits", "compute unit",
        "throughput", "quota", "capacity", "allowance", "throttl", "usage limit", "usage exceeded",
        "reached the free tier", "free tier limit", "plan limit", "slow down",
    ]),
    says(Class::NoBatch, &[
        "batch request", "batch size", "batch too", "batch is too", "batch call", "batches", "batching",
        "batched", "no batch",
    ]),
    says(Class::UnknownBlock, &[
        "beyond current head", "beyond the head", "extends beyond", "block*out of range", "blockoutofrange",
        "block height is*but requested", "future block", "above the head", "above head", "higher than the head",
        "greater than latest", "last accepted", "must be less than or equal to the current", "not yet available",
        "not available yet", "cannot query unfinalized data",
    ]),
    says(Class::Misunderstood, &["invalid block range"]),
    says(Class::RangeTooLarge, &[
        "block range", "blocks range", "range too", "range is too", "range limit", "range*exceed",
        "exceed*block range", "exceeds range", "exceed*allowed range", "range*more than", "range*bigger than",
        "range*larger than", "up to a*range", "ranges over", "max range", "limited to*range", "limited to*blocks",
        "maximum*blocks", "blocks distance", "smaller range", "narrow", "returned more than", "more than*results",
        "more than*logs", "too many logs", "too many results", "too many events", "too many blocks",
        "allowed number of logs", "must be smaller than size", "max results", "query exceeds", "logs exceed",
        "logs matched*exceed", "number of logs*exceed", "limit the query to", "try with this", "exceeds limit of",
        "size exceeded", "response size", "response too large", "response is too", "response exceed",
        "result too large", "too large, max is", "less number of address", "too many address",
    ]),
    // These may be about anything that is limited.
    says(LIMITED, &["limit reached", "has exceeded", "have exceeded", "exceeded its", "exceeded your"]),
    // How a gateway reaches its nodes.
    says(Class::Busy, &[
        "connection reset", "connection refused", "connection closed", "econnreset", "econnrefused",
        "connect etimedout", "broken pipe", "dial tcp", "no such host", "no route to host", "network is unreachable",
        "getaddrinfo", "eai_again", "enotfound", "socket hang up", "fetch failed", "failed to connect", ": eof",
        "unexpected eof", "no healthy", "unhealthy", "not healthy",
    ]),
    says(Class::TimedOut, &[
        "timeout", "timed out", "timed-out", "timedout", "time out", "time limit", "execution time", "took too long",
        "deadline exceeded", "execution aborted",
    ]),
    says(Class::Busy, &[
        "temporar", "try again", "retry later", "please retry", "retry in", "retry after", "overload", "busy",
        "too much load", "under heavy load", "service unavailable", "currently unavailable",
        "currently not available", "in progress", "indexing", "not fully indexed", "been fully indexed",
        "still syncing", "is syncing", "node is not synced", "not synced yet", "catching up", "cooldown",
        "maintenance", "shutting down", "starting up", "is starting", "cannot fulfill request",
        "unable to perform request", "relay attempt", "route your request",
    ]),
    says(Class::Pruned, &[
        "missing trie node", "missingtrienode", "trie node*missing", "historical state", "state unavailable",
        "state is unavailable", "no state available", "state not available", "state is not available",
        "state*is not available", "old data not available", "data before*not available", "history unavailable",
        "lowest height is", "pruned", "pruning",
    ]),
    says(Class::NoState, &["no state found for block"]),
    says(Class::NoMethod, &["method*could not be found", "method*cannot be found"]),
    says(Class::Refused, &[
        "receipt*could not be found", "receipt*cannot be found", "authorization header", "maximum proof window",
    ]),
    says(Class::UnknownBlock, &[
        "|block not found", "|block*not found", "header not found", "header for hash not found",
        "|header*not found", "unknown block", "unknown header", "no such block", "|block does not exist",
        "cannot find block", "could not find block", "|block not available", "|block is not available",
        "could not be found", "cannot be found", "resource not found",
    ]),
    says(Class::NoMethod, &[
        "method not found", "eth_getblockreceipts not found", "method*not support", "method*unsupported",
        "unsupported method", "unsupported rpc", "method*does not exist", "method*not available",
        "method*not whitelisted", "method*not allowed", "method*disabled", "method*not enabled",
        "method*not implemented", "no such method", "unknown method", "does not exist/is not available",
    ]),
    says(Class::Refused, &["authenticat", "unauthorized", "unauthorised", "api key", "access denied", "forbidden"]),
    says(Class::Busy, &[
        "context cancel", "upstream", "backend", "gateway", "no available", "no nodes", "no node", "nodes available",
        "offline", "unavailable", "internal server error", "not ready", "out of sync",
    ]),
    says(Class::Pruned, &[
        "archive state", "archive node", "archive request", "archive data", "archive mode", "archive access",
        "archival",
    ]),
    says(Class::Misunderstood, &[
        "invalid argument", "invalid param", "cannot unmarshal", "invalid type", "block tag", "invalid tag",
        "unsupported tag", "unknown tag",
    ]),
    has_code(Class::RangeTooLarge, &[-32614, -32020]),
    has_code(Class::Pruned, &[4444]),
    has_code(LIMITED, &[429, 1008, -32005, -32007, -32016, -32029, -32090, -32091, -32097]),
    has_code(Class::Busy, &[
        -32603, -32002, -32010, -32011, -32012, -32013, -32015, -32018, -32046, -32055, 500, 502, 503, 504,
    ]),
    has_code(Class::NoMethod, &[-32601, -32004]),
    has_code(Class::UnknownBlock, &[-39001]),
    has_code(Class::Misunderstood, &[-32602, -32600, -32700]),
];

/// What an error of JSON-RPC means, by its text first. Of `data`, texts and a time to wait are read.
pub(super) fn classify(code: i64, message: &str, data: Option<&Value>) -> Class {
    let text = format!("{message}\n{}", data.map_or_else(String::new, |data| texts(data, 2))).to_lowercase();
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
pub(super) fn contains(text: &str, pattern: &str) -> bool {
    text.lines().any(|line| {
        let end = pattern.split('*').try_fold(0, |from, part| end_of(part, line, from));
        end.is_some()
    })
}

/// Where the first occurrence of a part ends, from this place of a line on.
fn end_of(part: &str, line: &str, from: usize) -> Option<usize> {
    let (begins, part) = part.strip_prefix('|').map_or((false, part), |part| (true, part));
    let (ends, part) = part.strip_suffix('|').map_or((false, part), |part| (true, part));
    let places = line[from..].match_indices(part).map(|(at, _)| (from + at, from + at + part.len()));
    let is_inside = |(at, end): &(usize, usize)| {
        begins && line[..*at].ends_with(char::is_alphanumeric)
            || ends && line[*end..].starts_with(char::is_alphanumeric)
    };
    places.into_iter().find(|place| !is_inside(place)).map(|(_, end)| end)
}

/// What is for people in the data of an error, in fields down to this depth. The rest may repeat the question.
fn texts(data: &Value, depth: usize) -> String {
    const NAMES: [&str; 8] =
        ["message", "reason", "error", "details", "description", "cause", "payload", "data"];
    match data {
        Value::String(text) => text.clone(),
        Value::Object(fields) if depth > 0 => {
            let texts = NAMES.iter().filter_map(|name| Some(texts(fields.get(*name)?, depth - 1)));
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

/// The time that a text begins with, such as `1.5s`, `1m30s` and `2 minutes`; a number alone is seconds.
fn duration(text: &str) -> Option<Duration> {
    let (first, mut rest) = number_with_unit(text)?;
    let mut sum = first;
    while rest.trim_start().starts_with(|char: char| char.is_ascii_digit()) {
        let Some((next, after)) = number_with_unit(rest) else { break };
        sum += next;
        rest = after;
    }
    seconds(sum)
}

/// The seconds that a text begins with, and the rest of the text.
fn number_with_unit(text: &str) -> Option<(f64, &str)> {
    let text = text.trim_start();
    let digits = text.find(|char: char| !char.is_ascii_digit() && char != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.trim_end_matches('.').parse().ok()?;
    let unit = unit.trim_start();
    let (unit, rest) = unit.split_at(unit.find(|char: char| !char.is_alphabetic()).unwrap_or(unit.len()));
    let factor = match unit {
        "" | "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "ns" | "nanoseconds" => 1e-9,
        "us" | "µs" | "μs" | "microseconds" => 1e-6,
        "ms" | "msec" | "millisecond" | "milliseconds" => 1e-3,
        "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3_600.0,
        "d" | "day" | "days" => 86_400.0,
        _ => return None,
    };
    Some((number * factor, rest))
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
                let message = text.replace('*', " it ").replace('|', " ").to_uppercase();
                let message = format!("Sorry: {message} (0x2a)");
                assert_eq!(classify(-32000, &message, None), row.class, "{text}");
                assert_eq!(classify(-1, "failed", Some(&json!(message))), row.class, "{text} in the data");
                assert_eq!(classify(-1, "no", Some(&json!({ "payload": message }))), row.class, "{text}");
                let nested = json!({ "error": { "message": message } });
                assert_eq!(classify(-1, "no", Some(&nested)), row.class, "{text}");
            }
            for code in row.codes {
                assert_eq!(classify(*code, "", None), row.class, "{code}");
            }
        }
        assert_eq!(classify(-32000, "the key has expired", None), Class::Refused);
        let question = json!({ "request": "eth_getLogs over this block range", "see": ["archive"] });
        assert_eq!(classify(-32000, "no", Some(&question)), Class::Refused);
    }

    /// Texts in which the words of several rows meet.
    #[test]
    #[rustfmt::skip]
    fn what_passes_is_not_read_as_what_stays() {
        use Class::{Busy, Misunderstood, NoBatch, NoMethod, NoState, Pruned, RangeTooLarge, Refused, TimedOut, UnknownBlock};
        for (code, message, class) in [
            // A connection of a gateway to a node whose name has "archive" in it.
            (-32000, "Post \"http://erigon-archive:8545\": dial tcp 10.0.0.7:8545: connect: connection refused", Busy),
            (0, "dial tcp: lookup bsc-archive-0.svc: no such host", Busy),
            (0, "no healthy upstream for archive", Busy),
            (-32000, "failed to reach the upstream archive node", Busy),
            (-32005, "You have exceeded your monthly archive request allowance", LIMITED),
            (-32000, "archive state is not kept", Pruned),
            (-32000, "connect ETIMEDOUT 10.0.0.1:8545", Busy),
            (-32000, "socket hang up", Busy),
            (-32000, "Post \"http://geth:8545\": EOF", Busy),
            (-32000, "getaddrinfo EAI_AGAIN geth", Busy),
            (-32000, "fetch failed", Busy),
            (-32000, "request took too long", TimedOut),
            (-32000, "RPS limit exceeded", LIMITED),
            (-32000, "corps limit", Refused),
            (-32000, "daily limit exceeded", LIMITED),
            (-32000, "state histories haven't been fully indexed yet", Busy),
            // A block that a backend lacks.
            (-32001, "0x0123456789abcdef could not be found", UnknownBlock),
            (-32000, "One of the blocks specified in filter (fromBlock, toBlock or blockHash) cannot be found", UnknownBlock),
            (-32001, "Resource not found", UnknownBlock),
            (-32000, "receipt 0x01 could not be found", Refused),
            (-32000, "method eth_getBlockReceipts could not be found", NoMethod),
            (-32000, "method eth_getBlockReceipts: block not found", UnknownBlock),
            (-32000, "method eth_getBlockReceipts not found", NoMethod),
            (-32601, "The method eth_getBlockByHash was not found", NoMethod),
            (-32000, "this method is currently not available, node is starting", Busy),
            // A key that is missing.
            (-32600, "Must be authenticated!", Refused),
            (-32600, "Unauthorized", Refused),
            (-32600, "Access denied", Refused),
            (0, "Authorization header not found", Refused),
            // A quota is no size of an answer, and no size of a batch.
            (-32000, "eth_getLogs: daily quota exceeded", LIMITED),
            (-32000, "logs are limited: usage exceeded", LIMITED),
            (-32000, "Monthly capacity limit exceeded; consider batching your requests", LIMITED),
            (-32000, "too many requests in a batch", NoBatch),
            (-32603, "internal error in batch of requests", Busy),
            (-32602, "eth_getLogs with a range of more than 2000 blocks is forbidden", RangeTooLarge),
            (-32020, "", RangeTooLarge),
            (-32000, "distance to target block exceeds maximum proof window", Refused),
            (-32603, "no state found for block number 49107280", NoState),
            (-32000, "invalid value in /security", Refused),
            (-32602, "", Misunderstood),
        ] {
            assert_eq!(classify(code, message, None), class, "{message}");
        }
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
            ("rate limit: retry in 2 days", Value::Null, Some(LONGEST_WAIT)),
            ("rate limit: retry in 1500us", Value::Null, milliseconds(1)),
            ("rate limit: retry in 1m30s", Value::Null, milliseconds(90_000)),
            ("rate limit: retry in 1 minute 30 seconds", Value::Null, milliseconds(90_000)),
            ("rate limit: retry in 10 s, or 5 keys", Value::Null, milliseconds(10_000)),
            ("rate limit: wait for 3 blocks", Value::Null, None),
            ("rate limit", json!({ "retry_in": "2 fortnights" }), None),
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
