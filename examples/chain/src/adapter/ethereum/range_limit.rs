//! How nodes and providers refuse a question for logs for the size of its range or of its answer.
//!
//! The text decides before the code: the same codes mean a limited rate, invalid parameters and a block above the head.

/// A question for logs was refused for its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RangeLimit {
    /// It has too many blocks or logs. With how many blocks would be answered, if the text states that.
    TooLarge { at_most: Option<u64> },
    /// It took the node too long.
    TookTooLong,
}

/// Texts of a limited rate: these never mean the range.
const RATE: [&str; 16] = [
    "rate limit",
    "rate-limit",
    "ratelimit",
    "request rate",
    "rate exceeded",
    "too many requests",
    "per second",
    "per minute",
    "per day",
    "/sec",
    "rps",
    "throughput",
    "credits",
    "daily request",
    "quota",
    "request limit",
];

/// Texts of a range that is wrong in another way, above all above the head.
const OTHER: [&str; 9] = [
    "beyond current head",
    "extends beyond",
    "out of range",
    "outofrange",
    "invalid block range",
    "after last accepted block",
    "last accepted",
    "future block",
    "greater than latest",
];

/// What a limit is about, with the texts that make it one.
const SIZE: [(&[&str], &[&str]); 3] = [
    (
        &["range"],
        &[
            "too large",
            "too wide",
            "too high",
            "too big",
            "too many",
            "exceed",
            "limit",
            "max",
            "greater than",
            "larger than",
            "bigger than",
            "more than",
            "ranges over",
            "should work",
            "up to a",
            "smaller",
            "narrow",
            "reduce",
        ],
    ),
    (
        &["blocks", "block distance"],
        &[
            "too many blocks",
            "too wide",
            "maximum",
            "at most",
            "limited to",
            "distance",
            "more than",
            "max blocks",
        ],
    ),
    (
        &["results", "logs", "response", "result set", "entries", "query"],
        &[
            "returned more than",
            "too many logs",
            "too many results",
            "max results",
            "max logs",
            "logs limit",
            "result limit",
            "too large",
            "too big",
            "size exceeded",
            "size limit",
            "length limit",
            "exceeds limit of",
            "exceed the limit",
            "should not greater than",
            "larger than",
            "must be smaller",
            "maximum number of logs",
            "allowed number of logs",
        ],
    ),
];

const LATE: [&str; 8] = [
    "timed out",
    "timedout",
    "time out",
    "timeout",
    "took too long",
    "deadline exceeded",
    "execution time",
    "time limit",
];

/// Codes that some providers use for this alone, whatever the text: QuickNode and Base, and OP Stack's proxyd.
const CODES: [i64; 2] = [-32614, -32020];

/// The code of Ethereum's JSON-RPC for any limit.
const LIMIT_EXCEEDED: i64 = -32005;

/// Whether an error of JSON-RPC refuses the size of a range; `data` is its field of this name, as text.
pub(super) fn range_limit(code: i64, message: &str, data: Option<&str>) -> Option<RangeLimit> {
    let text = format!("{message} {}", data.unwrap_or_default()).to_ascii_lowercase();
    let has = |texts: &[&str]| texts.iter().any(|one| text.contains(one));
    if has(&RATE) || has(&OTHER) {
        return None;
    }
    let is_size = SIZE.iter().any(|(subjects, limits)| has(subjects) && has(limits));
    // Public nodes of BNB Smart Chain answer this, with that code and no other word, at any range.
    let is_bare = code == LIMIT_EXCEEDED && message.trim().eq_ignore_ascii_case("limit exceeded");
    if is_size || is_bare || (CODES.contains(&code) && !has(&LATE)) {
        return Some(RangeLimit::TooLarge { at_most: at_most(&text) });
    }
    has(&LATE).then_some(RangeLimit::TookTooLong)
}

/// Texts right before a number of blocks.
const BEFORE: [&str; 28] = [
    "max range: ",
    "max range ",
    "max block range: ",
    "max block range ",
    "max block range = ",
    "maximum block range: ",
    "maximum block range ",
    "maximum range: ",
    "max blocks ",
    "maximum is set to ",
    "the limit is ",
    "max is ",
    "limited to a ",
    "limited to 0 - ",
    "limited to ",
    "exceeds limit of ",
    "exceeds the limit of ",
    "range limit ",
    "range limit: ",
    "up to a ",
    "at most ",
    "blocks distance: ",
    "range greater than ",
    "ranges over ",
    "range exceeds ",
    "smaller than size ",
    "requested blocks is ",
    "narrow your filter: ",
];

/// For how many blocks the node says it would answer: the width of a range that it suggests, else the lowest number of
/// blocks that it states. Numbers of logs and bytes are left out where the text names them.
fn at_most(text: &str) -> Option<u64> {
    if let Some(width) = suggested_width(text) {
        return Some(width);
    }
    let stated =
        BEFORE.iter().flat_map(|before| text.match_indices(before).map(|(at, _)| &text[at + before.len()..]));
    let stated = stated.filter_map(number);
    let camel = text.split_once("maxallowedrange");
    let camel = camel.and_then(|(_, after)| number(after.trim_start_matches(['"', ':', ' '])));
    // "(5000 > 100)"
    let plan = text.split_once(" > ").and_then(|(_, after)| number(after));
    let wide = text.split_once("(maximum ").and_then(|(_, after)| number(after));
    stated.chain(camel).chain(plan).chain(wide).filter(|blocks| *blocks > 0).min()
}

/// The width of `[0x1, 0x2]`, `1-2` after "with the range", or `"from":"0x1"` with `"to":"0x2"`.
fn suggested_width(text: &str) -> Option<u64> {
    let width = |from: &str, to: &str| {
        let read = |text: &str| match text.trim().strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => text.trim().parse().ok(),
        };
        read(to)?.checked_sub(read(from)?)?.checked_add(1)
    };
    let brackets = text.split('[').skip(1).filter_map(|after| after.split_once(']'));
    let brackets = brackets.filter_map(|(inside, _)| inside.split_once(','));
    if let Some(found) = brackets.into_iter().find_map(|(from, to)| width(from, to)) {
        return Some(found);
    }
    if let Some((_, after)) = text.split_once("with the range ") {
        let end = after.find(|char: char| !char.is_ascii_hexdigit() && !"-x".contains(char));
        let (from, to) = after[..end.unwrap_or(after.len())].split_once('-')?;
        return width(from, to);
    }
    let field = |name: &str| {
        let (_, after) = text.split_once(name)?;
        after.trim_start_matches([' ', ':']).strip_prefix('"')?.split('"').next()
    };
    width(field("\"from\"")?, field("\"to\"")?)
}

/// The number at the beginning: `5000`, `10,000` and `2k`; `None` if it counts something else than blocks.
fn number(text: &str) -> Option<u64> {
    let end = text.find(|char: char| !char.is_ascii_digit() && !",_".contains(char)).unwrap_or(text.len());
    let digits: String = text[..end].chars().filter(char::is_ascii_digit).collect();
    let number: u64 = digits.parse().ok()?;
    let rest = &text[end..];
    let thousands =
        rest.strip_prefix('k').filter(|rest| !rest.starts_with(|char: char| char.is_ascii_alphabetic()));
    let (number, rest) = match thousands {
        Some(rest) => (number.checked_mul(1_000)?, rest),
        None => (number, rest),
    };
    let counts = |unit: &&str| rest.trim_start().starts_with(unit);
    if ["results", "logs", "bytes", "mb", "kb"].iter().any(|unit| counts(&unit)) {
        None
    } else {
        Some(number)
    }
}

#[cfg(test)]
mod tests;
