//! What nodes and providers answered to questions for logs, as public reports have it up to October 2026.

use super::*;
use crate::classify::Class::{
    Busy, Misunderstood, NoBatch, NoMethod, Pruned, RangeTooLarge, Refused, TimedOut, UnknownBlock,
};
use crate::classify::{Class, classify};
use serde_json::Value;

const LIMITED: Class = Class::RateLimited(None);

type Row = (&'static str, i64, &'static str, &'static str, Class, Option<u64>);

/// The provider, the code, the message, the data as JSON, its meaning, and for how many blocks it would answer.
fn check(rows: &[Row]) {
    for (who, code, message, data, class, blocks) in rows {
        let json: Option<Value> = (!data.is_empty()).then(|| serde_json::from_str(data).unwrap());
        let found = classify(*code, message, json.as_ref());
        let is_class =
            found == *class || matches!((found, class), (Class::RateLimited(_), Class::RateLimited(_)));
        assert!(is_class, "{who}: {message}: {found:?}");
        if *class == RangeTooLarge {
            assert_eq!(at_most(&format!("{message} {data}")), *blocks, "{who}: {message}");
        }
    }
}

#[test]
#[rustfmt::skip]
fn a_refused_number_of_blocks_is_recognised_with_the_number_that_is_stated() {
    check(&[
        ("Infura, Linea", -32602, "range 1000000 exceeds limit of 10000", "", RangeTooLarge, Some(10_000)),
        ("Alchemy, free", -32600, "Under the Free tier plan, you can make eth_getLogs requests with up to a 10 block range. Based on your parameters, this block range should work: [0x18708eb, 0x18708f4]. Upgrade to PAYG for expanded block range.", "", RangeTooLarge, Some(10)),
        ("Alchemy, Blast", -32600, "You can make eth_getLogs requests with up to a 500 block range. Based on your parameters, this block range should work: [0x7e9b85, 0x7e9d78]", "", RangeTooLarge, Some(500)),
        ("Blast, paid", -32000, "block range exceeds the range allowed for your plan (5000 > 100)", "", RangeTooLarge, Some(100)),
        ("QuickNode, Base, Optimism, Monad", -32614, "eth_getLogs is limited to a 10,000 range", "", RangeTooLarge, Some(10_000)),
        ("QuickNode, discover", -32614, "eth_getLogs is limited to a 5 range, upgrade from discover plan", "", RangeTooLarge, Some(5)),
        ("QuickNode, Optimism", -32614, "eth_getLogs and eth_newFilter are limited to a 10,000 blocks range", "", RangeTooLarge, Some(10_000)),
        ("1rpc", -32602, "eth_getLogs is limited to 0 - 50 blocks range", "", RangeTooLarge, Some(50)),
        ("BlockPi", -32602, "eth_getLogs is limited to 1024 block range", "", RangeTooLarge, Some(1_024)),
        ("Ankr", -32600, "block range is too wide", "", RangeTooLarge, None),
        ("Moonriver", -32603, "block range is too wide (maximum 1024)", "", RangeTooLarge, Some(1_024)),
        ("Chainstack", -32000, "Block range limit exceeded. See more details at the documentation.", "", RangeTooLarge, None),
        ("dRPC, free", 35, "ranges over 10000 blocks are not supported on free plan", "", RangeTooLarge, Some(10_000)),
        ("dRPC, free, before", 35, "ranges over 10000 blocks are not supported on freetier", "", RangeTooLarge, Some(10_000)),
        ("PublicNode", -32701, "exceed maximum block range: 50000", "", RangeTooLarge, Some(50_000)),
        ("BSC", -32000, "exceed maximum block range: 5000", "", RangeTooLarge, Some(5_000)),
        ("BSC, public", -32005, "limit exceeded", "", LIMITED, None),
        ("Immutable", -32000, "exceeded maximum block range: 5000", "", RangeTooLarge, Some(5_000)),
        ("Tron", -32000, "exceed max block range: 5000", "", RangeTooLarge, Some(5_000)),
        ("Polygon zkEVM, Merlin, cdk-erigon", -32005, "block range too large, max range: 10000", "", RangeTooLarge, Some(10_000)),
        ("Cloudflare", -32047, "Invalid eth_getLogs request. 'fromBlock'-'toBlock' range too large. Max range: 800", "", RangeTooLarge, Some(800)),
        ("Reth", -32602, "query exceeds max block range 100000", "", RangeTooLarge, Some(100_000)),
        ("Erigon", -32000, "query block range exceeds server limit, narrow your filter: 1000", "", RangeTooLarge, Some(1_000)),
        ("Besu", -32005, "Requested range exceeds maximum RPC range limit", "", RangeTooLarge, None),
        ("Scroll, geth", -32000, "block range is bigger than maxBlockRange", "", RangeTooLarge, None),
        ("Morph", -32000, "block range is larger than max block range, block range = 5120, max block range = 5000", "", RangeTooLarge, Some(5_000)),
        ("Celo", -32602, "query exceeds range, retry smaller (max block range 5000, got 16777216)", "", RangeTooLarge, Some(5_000)),
        ("Celo, before", -32602, "query exceeds range, retry smaller (max blocks 1000)", "", RangeTooLarge, Some(1_000)),
        ("Mantle, Swell", -32602, "block range greater than 10000 max", "", RangeTooLarge, Some(10_000)),
        ("Avalanche", -32000, "requested too many blocks from 50331648 to 51380224, maximum is set to 2048", "", RangeTooLarge, Some(2_048)),
        ("Flare", -32000, "requested too many blocks from 1048576 to 17825792, maximum is set to 30", "", RangeTooLarge, Some(30)),
        ("Cronos, Kava", -32000, "maximum [from, to] blocks distance: 2000", "", RangeTooLarge, Some(2_000)),
        ("Sonic", -32000, "too wide blocks range, the limit is 100", "", RangeTooLarge, Some(100)),
        ("Harmony", -32000, "GetLogs query must be smaller than size 1024", "", RangeTooLarge, Some(1_024)),
        ("Somnia", -32000, "block range exceeds 1000", "", RangeTooLarge, Some(1_000)),
        ("Merkle", -32000, "eth_getLogs range is too large, max is 1k blocks", "", RangeTooLarge, Some(1_000)),
        ("Coinbase", -32602, "please limit the query to at most 1000 blocks", "", RangeTooLarge, Some(1_000)),
        ("thirdweb", -32602, "Maximum allowed number of requested blocks is 1000", "", RangeTooLarge, Some(1_000)),
        ("Candle", -32600, "block range too high", "", RangeTooLarge, None),
        ("Heco", -32000, "maximum block range 5000", "", RangeTooLarge, Some(5_000)),
        ("Klaytn", -32005, "In eth_getLogs, eth_newFilter, klay_getLogs, and klay_newFilter, the block range is limited to 2000.", "", RangeTooLarge, Some(2_000)),
        ("eRPC", -32012, "getLogs request exceeded max allowed range threshold", "", RangeTooLarge, None),
        ("Scroll, Etherlink", -32062, "Block range is too large", "", RangeTooLarge, None),
    ]);
}

#[test]
#[rustfmt::skip]
fn a_refused_number_of_logs_is_recognised_with_the_range_that_is_suggested() {
    check(&[
        ("Infura", -32005, "query returned more than 10000 results", "", RangeTooLarge, None),
        ("Infura, zkSync", -32005, "query returned more than 10000 results. Try with this block range [0xBDE5F8, 0xBDE600].", "", RangeTooLarge, Some(9)),
        ("Alchemy", -32602, "Log response size exceeded. You can make eth_getLogs requests with up to a 2K block range and no limit on the response size, or you can request any block range with a cap of 10K logs in the response. Based on your parameters and the response size limit, this block range should work: [0x64, 0x95]", "", RangeTooLarge, Some(50)),
        ("Alchemy, before", -32602, "Log response size exceeded. Please reduce query block range.", "", RangeTooLarge, None),
        ("Alchemy, bytes", -32008, "Response size is larger than 150MB limit", "", RangeTooLarge, None),
        ("Reth, Base", -32602, "query exceeds max results 20000, retry with the range 25766988-25766999", "", RangeTooLarge, Some(12)),
        ("Reth, before", -32602, "query exceeds max results 20000", "", RangeTooLarge, None),
        ("Optimism, Base", -32020, "backend response too large", "", RangeTooLarge, None),
        ("Erigon", -32000, "query returns too many logs, narrow your filter: 20000", "", RangeTooLarge, Some(20_000)),
        ("Arbitrum", -32000, "logs matched by query exceeds limit of 10000", "", RangeTooLarge, Some(10_000)),
        ("PulseChain", -32000, "query returned more than allowed number of logs, try with smaller block range", "", RangeTooLarge, None),
        ("1rpc", -32602, "response size should not greater than 10000000 bytes", "", RangeTooLarge, None),
        ("Geth", -32003, "response too large", "", RangeTooLarge, None),
    ]);
}

#[test]
#[rustfmt::skip]
fn a_question_that_took_too_long_is_recognised() {
    check(&[
        ("Infura", -32005, "query timeout exceeded", "", TimedOut, None),
        ("Chainstack and others", -32002, "request timed out", "", TimedOut, None),
        ("dRPC, free", 30, "Request timeout on the free tier, please upgrade your tier to the paid one", "", TimedOut, None),
        ("Go", -32000, "context deadline exceeded", "", TimedOut, None),
    ]);
}

#[test]
#[rustfmt::skip]
fn what_a_smaller_range_does_not_help_is_no_range_limit() {
    check(&[
        ("Infura, rate", -32005, "project ID request rate exceeded", "", LIMITED, None),
        ("Infura, day", -32005, "daily request count exceeded, request rate limited", "", LIMITED, None),
        ("Alchemy, rate", 429, "Your app has exceeded its compute units per second capacity. If you have retries enabled, you can safely ignore this message.", "", LIMITED, None),
        ("QuickNode, rate", -32012, "credits limited to 6000/sec", "", LIMITED, None),
        ("QuickNode, rate", -32007, "15/second request limit reached - reduce calls per second or upgrade your account", "", LIMITED, None),
        ("Chainstack, rate", -32005, "You've exceeded the RPS limit available on the current plan.", "", LIMITED, None),
        ("dRPC, rate", -32090, "Too many requests, reason: call rate limit exhausted, retry in 10s", "", LIMITED, None),
        ("any, rate", -32029, "Too many requests", "", LIMITED, None),
        ("any, rate", -32005, "You reached Public endpoint rate limit", "", LIMITED, None),
        ("Reth, above the head", -32602, "block range extends beyond current head block", "", UnknownBlock, None),
        ("Anvil, above the head", -32602, "BlockOutOfRangeError: block height is 5 but requested was 10", "", UnknownBlock, None),
        ("proxyd, above the head", -32019, "block is out of range", "", UnknownBlock, None),
        ("Geth, from above to", -32602, "invalid block range params", "", Misunderstood, None),
        ("Avalanche, above the head", -32000, "cannot query unfinalized data: requested block 12 is after last accepted block 10", "", UnknownBlock, None),
        ("Besu, batch", -32005, "Number of requests exceeds max batch size", "", NoBatch, None),
        ("Geth, topics", -32602, "exceed max topics", "", Misunderstood, None),
        ("Geth, addresses", -32602, "exceed max addresses or topics per search position", "", Misunderstood, None),
        ("PublicNode, pruned", -32602, "Archive requests require a personal token. Get one at: https://www.allnodes.com/publicnode", "", Pruned, None),
        ("Geth, pruned", 4444, "pruned history unavailable", "", Pruned, None),
        ("unknown block", -32000, "unknown block", "", UnknownBlock, None),
        ("no method", -32601, "the method eth_getLogs does not exist/is not available", "", NoMethod, None),
        ("no backend", -32011, "no backend is currently healthy to serve traffic", "", Busy, None),
        ("no backend", -32603, "service temporarily unavailable", "", Busy, None),
        ("another", -32000, "header not found", "", UnknownBlock, None),
        ("another", -32602, "invalid argument 0: json: cannot unmarshal", "", Misunderstood, None),
        ("another", -32000, "Unauthorized: You must authenticate your request with an API key", "", Refused, None),
        ("dRPC, plan", 35, "chain is not available on free plan, please upgrade to paid plan", "", Refused, None),
        ("rate under a code of a range", -32614, "rate limit exceeded", "", LIMITED, None),
    ]);
}

#[test]
#[rustfmt::skip]
fn the_data_of_an_error_counts_as_its_message() {
    check(&[
        ("Nethermind, Gnosis", -32602, "invalid params", r#""Query returned more than 50000 results. Try with this block range [0x1000000, 0x1080000].""#, RangeTooLarge, Some(0x80_001)),
        ("Ronin", -32602, "Invalid params", r#""requested block range 16777217 exceeds the limit of 200; narrow your fromBlock/toBlock""#, RangeTooLarge, Some(200)),
        ("Tenderly", -32602, "invalid params", r#"{"error_id":"4ed94073","payload":"range 9009594 is bigger than range limit 2000"}"#, RangeTooLarge, Some(2_000)),
        ("Infura", -32005, "query returned more than 10000 results", r#"{"from":"0xBDE5F8","limit":10000,"to":"0xBDE600"}"#, RangeTooLarge, Some(9)),
        ("Taiko", -32012, "range threshold exceeded", r#"{"details":{"maxAllowedRange":1000}}"#, RangeTooLarge, Some(1_000)),
        ("Aurora", -32005, "query returned more than 10000 results", r#"{"host":"localhost:8545"}"#, RangeTooLarge, None),
        ("a rate", -32005, "limit exceeded", r#"{"rate":"requests per second"}"#, LIMITED, None),
        ("none", -32602, "invalid params", "null", Misunderstood, None),
        ("nested", -32602, "invalid params", r#"{"code":-32602,"message":"invalid params","data":{"payload":"range 9009594 is bigger than range limit 2000"}}"#, RangeTooLarge, Some(2_000)),
        ("any", -32602, "eth_getLogs with a range of more than 2000 blocks is forbidden", "", RangeTooLarge, Some(2_000)),
    ]);
}

#[test]
fn odd_texts_state_no_number() {
    for text in [
        "max range: ",
        "max range: 99999999999999999999999",
        "block range too large, max range: -5",
        "block range too large, max range: 0",
        "max range: é",
        "block range is too large [0x2, 0x1]",
        "block range is too large [0x, 0x]",
        "block range is too large [",
        "too many logs with the range ",
        "too many logs with the range 5",
        "too many logs \"from\" \"to\"",
        "range limit > ",
    ] {
        assert_eq!(at_most(text), None, "{text}");
    }
}
