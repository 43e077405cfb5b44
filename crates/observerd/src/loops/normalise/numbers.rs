//! Numbers with their units, and addresses.

use super::runs::{read, run};
use super::words::{is_hex_id, is_word};

/// Where a variable part ends, and its placeholder.
pub(super) type Part = (usize, &'static str);

pub(super) fn is_digit(text: &[char], at: usize) -> bool {
    text.get(at).is_some_and(char::is_ascii_digit)
}

/// The most characters of a number: what is longer is an id.
const LONGEST: usize = 64;

/// The longest unit, `milliseconds`, and one character more: a longer word is none.
const LONGEST_UNIT: usize = 13;

/// How many digits there are from `at`, at most `most`.
pub(super) fn digits(text: &[char], at: usize, most: usize) -> usize {
    run(text, at, most, |char| char.is_ascii_digit())
}

/// The letters from `at`, if they may be a unit.
fn unit(text: &[char], at: usize) -> String {
    let count = run(text, at, LONGEST_UNIT, char::is_alphabetic);
    text[at..at + count].iter().collect()
}

/// A number with or without a unit. It begins with a digit.
pub(super) fn number(text: &[char], at: usize) -> Option<Part> {
    // Before units of one letter: an id may end with it.
    if let Some(end) = hexadecimal(text, at) {
        return Some((end, "<num>"));
    }
    if let Some(end) = duration(text, at) {
        return Some((end, "<duration>"));
    }
    let end = plain(text, at);
    let unit = unit(text, end);
    let after = end + unit.chars().count();
    if is_word(text.get(after).copied()) {
        return None;
    }
    if unit.is_empty() {
        return Some(spaced_unit(text, end).unwrap_or((end, "<num>")));
    }
    if is_size(&unit) {
        return Some((after, "<size>"));
    }
    match unit.as_str() {
        "st" | "nd" | "rd" | "th" => Some((after, "<num>")),
        "x" | "X" => Some((end, "<num>")),
        _ => None,
    }
}

/// A word of hexadecimal digits with a letter, which is no number with an exponent.
fn hexadecimal(text: &[char], at: usize) -> Option<usize> {
    let count = run(text, at, LONGEST + 1, |char| is_word(Some(char)));
    let word = &text[at..at + count];
    let is_signed = matches!(text.get(at + count), Some('-' | '+')) && matches!(word.last(), Some('e' | 'E'));
    let has_letter = word.iter().any(char::is_ascii_alphabetic);
    (count <= LONGEST && has_letter && !is_signed && is_hex_id(word)).then_some(at + count)
}

/// The end of digits with groups, fractions and an exponent.
fn plain(text: &[char], at: usize) -> usize {
    let mut end = at + digits(text, at, LONGEST);
    while matches!(text.get(end), Some(',' | '_')) && digits(text, end + 1, 4) == 3 && end - at <= LONGEST {
        end += 4;
    }
    while text.get(end) == Some(&'.') && is_digit(text, end + 1) && end - at <= LONGEST {
        end += 1 + digits(text, end + 1, LONGEST);
    }
    if matches!(text.get(end), Some('e' | 'E')) {
        let sign = usize::from(matches!(text.get(end + 1), Some('-' | '+')));
        let exponent = digits(text, end + 1 + sign, 4);
        if exponent > 0 && !is_word(text.get(end + 1 + sign + exponent).copied()) {
            end += 1 + sign + exponent;
        }
    }
    end
}

/// Units of time. After a space, those of one letter are none, but for `s`.
#[rustfmt::skip]
pub(super) const DURATIONS: &[&str] = &[
    "ns", "us", "µs", "μs", "ms", "s", "m", "h", "d", "w",
    "nanosecond", "nanoseconds", "microsecond", "microseconds", "millisecond", "milliseconds",
    "nsec", "usec", "usecs", "msec", "msecs", "millis", "micros", "nanos",
    "sec", "secs", "second", "seconds", "min", "mins", "minute", "minutes",
    "hr", "hrs", "hour", "hours", "day", "days", "week", "weeks",
];

/// `5ms`, `1.5s`, `1h30m15s`.
fn duration(text: &[char], at: usize) -> Option<usize> {
    let mut end = at;
    while is_digit(text, end) && end - at <= LONGEST {
        let mut number = end + digits(text, end, LONGEST);
        if text.get(number) == Some(&'.') && is_digit(text, number + 1) {
            number += 1 + digits(text, number + 1, LONGEST);
        }
        let unit = unit(text, number);
        if !DURATIONS.contains(&unit.as_str()) {
            return None;
        }
        end = number + unit.chars().count();
    }
    (!is_word(text.get(end).copied())).then_some(end)
}

fn is_size(unit: &str) -> bool {
    let unit = unit.to_ascii_lowercase();
    matches!(unit.as_str(), "b" | "byte" | "bytes")
        || unit
            .strip_prefix(['k', 'm', 'g', 't', 'p'])
            .is_some_and(|rest| matches!(rest, "" | "b" | "i" | "ib"))
        || ["kilo", "mega", "giga", "tera", "kibi", "mebi", "gibi", "tebi"]
            .iter()
            .any(|prefix| unit.strip_prefix(prefix).is_some_and(|rest| matches!(rest, "byte" | "bytes")))
}

/// A unit after one space.
fn spaced_unit(text: &[char], end: usize) -> Option<Part> {
    if text.get(end) != Some(&' ') {
        return None;
    }
    let unit = unit(text, end + 1);
    let after = end + 1 + unit.chars().count();
    if is_word(text.get(after).copied()) {
        return None;
    }
    match unit.as_str() {
        "s" => Some((after, "<duration>")),
        unit if unit.len() > 1 && DURATIONS.contains(&unit) => Some((after, "<duration>")),
        unit if unit.len() > 1 && is_size(unit) => Some((after, "<size>")),
        _ => None,
    }
}

/// An address of IPv4, with its port or prefix.
pub(super) fn ipv4(text: &[char], at: usize) -> Option<usize> {
    let mut end = at;
    for group in 0..4 {
        if group > 0 {
            if text.get(end) != Some(&'.') {
                return None;
            }
            end += 1;
        }
        let digits = digits(text, end, 4);
        if !(1..=3).contains(&digits) {
            return None;
        }
        end += digits;
    }
    if is_word(text.get(end).copied()) || (text.get(end) == Some(&'.') && is_digit(text, end + 1)) {
        return None;
    }
    Some(end + suffix(text, end))
}

/// A port or the length of a prefix.
fn suffix(text: &[char], end: usize) -> usize {
    let most = match text.get(end) {
        Some(':') => 5,
        Some('/') => 3,
        _ => return 0,
    };
    let digits = digits(text, end + 1, most);
    if digits == 0 || is_word(text.get(end + 1 + digits).copied()) { 0 } else { 1 + digits }
}

/// `[::1]:80`.
pub(super) fn bracketed_ipv6(text: &[char], at: usize) -> Option<usize> {
    let (end, _) = groups(text, at + 1).filter(|(_, placeholder)| *placeholder == "<ip>")?;
    (text.get(end) == Some(&']')).then(|| end + 1 + suffix(text, end + 1))
}

/// An address of IPv6, or one of hardware: hexadecimal groups with colons.
pub(super) fn groups(text: &[char], at: usize) -> Option<Part> {
    let count = run(text, at, 46, |char| char.is_ascii_hexdigit() || matches!(char, ':' | '.'));
    let mut run = &text[at..at + count];
    while let [rest @ .., '.'] = run {
        run = rest;
    }
    if let [rest @ .., before, ':'] = run
        && *before != ':'
    {
        run = &text[at..=at + rest.len()];
    }
    let end = at + run.len();
    if run.len() > 45 || is_word(text.get(end).copied()) {
        return None;
    }
    let groups: Vec<&[char]> = run.split(|char| *char == ':').collect();
    if groups.len() == 6 && groups.iter().all(|group| group.len() == 2 && !group.contains(&'.')) {
        return Some((end, "<mac>"));
    }
    let (last, first) = groups.split_last()?;
    let are_hex = first.iter().all(|group| group.len() <= 4 && !group.contains(&'.'));
    let is_last = (last.len() <= 4 && !last.contains(&'.')) || ipv4(last, 0) == Some(last.len());
    let empty = run.windows(2).filter(|pair| *pair == [':', ':']).count();
    let count = groups.len() + usize::from(last.contains(&'.'));
    let is_address = if empty == 1 {
        (3..=9).contains(&count) && run.iter().any(char::is_ascii_digit)
    } else {
        empty == 0 && count == 8 && groups.iter().all(|group| !group.is_empty())
    };
    if !(are_hex && is_last && is_address) {
        return None;
    }
    let zone = match text.get(end) {
        Some('%') => super::runs::run(text, end + 1, 16, |char| is_word(Some(char))),
        _ => 0,
    };
    let end = if zone > 0 { end + 1 + zone } else { end };
    let prefix = if text.get(end) == Some(&'/') { suffix(text, end) } else { 0 };
    Some((end + prefix, "<ip>"))
}

/// `550e8400-e29b-41d4-a716-446655440000`.
pub(super) fn uuid(text: &[char], at: usize) -> Option<usize> {
    let text = text.get(at..at + 36)?.iter().chain(text.get(at + 36));
    let mut count = 0;
    for (place, char) in text.enumerate() {
        let fits = match place {
            8 | 13 | 18 | 23 => *char == '-',
            36 => !is_word(Some(*char)),
            _ => char.is_ascii_hexdigit(),
        };
        if !fits {
            return None;
        }
        count += 1;
        read(1);
    }
    (count >= 36).then_some(at + 36)
}
