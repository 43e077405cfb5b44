//! For how many blocks nodes and providers would answer a question for logs that they refuse.

/// Texts right before a number of blocks.
const BEFORE: [&str; 29] = [
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
    "range of more than ",
    "ranges over ",
    "range exceeds ",
    "smaller than size ",
    "requested blocks is ",
    "narrow your filter: ",
];

/// For how many blocks the node says it would answer: the width of a range that it suggests, else the lowest number of
/// blocks that it states. Numbers of logs and bytes are left out where the text names them.
pub(super) fn at_most(text: &str) -> Option<u64> {
    let text = &*text.to_ascii_lowercase();
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
    let counts = |unit: &&str| rest.trim_start().starts_with(*unit);
    (!["results", "logs", "bytes", "mb", "kb"].iter().any(counts)).then_some(number)
}

#[cfg(test)]
mod tests;
