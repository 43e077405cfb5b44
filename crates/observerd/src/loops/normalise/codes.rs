//! Codes, which say which error it is: they stay.

use super::numbers::{digits, is_digit};
use super::runs::{run, run_back};
use super::words::is_word;

/// The ends of words before a code.
const ENDS: [&str; 6] = ["code", "errno", "hresult", "signal", "sqlstate", "status"];

/// Whole words before a code.
const WHOLE: [&str; 14] = [
    "curlerror",
    "http",
    "httperror",
    "https",
    "httpserror",
    "mysqlerror",
    "ora",
    "oserror",
    "pls",
    "socketerror",
    "sqlerror",
    "tns",
    "win32error",
    "windowserror",
];

/// Words that end with `code`, and have none after them.
const NONE: [&str; 13] = [
    "barcode",
    "decode",
    "encode",
    "geocode",
    "keycode",
    "passcode",
    "pincode",
    "postalcode",
    "postcode",
    "qrcode",
    "transcode",
    "unicode",
    "zipcode",
];

/// The end of a code that begins at `at`: a short number, `0x80070005`, `42P01`.
pub(super) fn code(text: &[char], at: usize) -> Option<usize> {
    number(text, at).or_else(|| hexadecimal(text, at)).or_else(|| sqlstate(text, at))
}

/// The end of a quoted code: what is between `start` and `end`.
pub(super) fn is_quoted(text: &[char], start: usize, end: usize) -> bool {
    let sign = usize::from(text.get(start) == Some(&'-') && is_digit(text, start + 1));
    end - start <= 10 && code(text, start + sign) == Some(end)
}

/// A short number; its sign is before `at`.
pub(super) fn number(text: &[char], at: usize) -> Option<usize> {
    let count = digits(text, at, 6);
    let end = at + count;
    let is_longer =
        is_word(text.get(end).copied()) || (text.get(end) == Some(&'.') && is_digit(text, end + 1));
    if !(1..=5).contains(&count) || is_longer {
        return None;
    }
    is_before_code(&word_before(text, at)).then_some(end)
}

/// `0x` with at most 8 digits: more are an address.
fn hexadecimal(text: &[char], at: usize) -> Option<usize> {
    if text[at] != '0' || !matches!(text.get(at + 1), Some('x' | 'X')) {
        return None;
    }
    let count = run(text, at + 2, 9, |char| char.is_ascii_hexdigit());
    let end = at + 2 + count;
    let fits = (1..=8).contains(&count) && !is_word(text.get(end).copied());
    (fits && is_before_error(text, at)).then_some(end)
}

/// The five characters of an SQLSTATE. Only after its name they may be any.
fn sqlstate(text: &[char], at: usize) -> Option<usize> {
    let code = text.get(at..at + 5)?;
    let end = at + 5;
    let is_of_it = |char: &char| char.is_ascii_uppercase() || char.is_ascii_digit();
    if !code.iter().all(is_of_it) || is_word(text.get(end).copied()) || text.get(end) == Some(&'_') {
        return None;
    }
    let is_typical = code.iter().enumerate().all(|(place, char)| (place == 2) == char.is_ascii_uppercase());
    if !code.iter().any(char::is_ascii_digit) {
        return None;
    }
    let word = word_before(text, at);
    (word.ends_with("sqlstate") || (is_typical && is_before_code(&word))).then_some(end)
}

/// Whether what is before `at` says that an error follows.
fn is_before_error(text: &[char], at: usize) -> bool {
    let word = word_before(text, at);
    ["error", "exception"].iter().any(|end| word.ends_with(end)) || is_before_code(&word)
}

/// Whether what is before `at` says that the name of an error follows: `error LNK1104`. After `error: ` there is a message.
pub(super) fn is_before_name(text: &[char], at: usize) -> bool {
    let word = word_before(text, at);
    let is_error = matches!(text[..at], [.., before, ' ' | '[' | '('] if is_word(Some(before)))
        && ["error", "exception", "warning"].iter().any(|end| word.ends_with(end));
    is_error || is_before_code(&word)
}

/// Whether a word with code characters only, such as the name of a field, is one before a code.
pub(super) fn is_name(name: &[char]) -> bool {
    name.len() <= LONGEST_WORD && is_before_code(&small(name))
}

fn is_before_code(word: &str) -> bool {
    let has_end = ENDS.iter().any(|end| word.ends_with(end)) && !NONE.contains(&word);
    has_end || WHOLE.contains(&word)
}

/// The most characters of a word before a code.
const LONGEST_WORD: usize = 40;

/// The word before what begins at `at`, in small letters and without `_`. Quotes and other separators are between them, and `is` may
/// be. Empty if there is none, or if it is a part of a path.
fn word_before(text: &[char], at: usize) -> String {
    let Some((mut before, is_path)) = separated(&text[..at]) else { return String::new() };
    // `HTTP/1.1 500`: the version is between them.
    for version in ["/1.0", "/1.1", "/2", "/2.0", "/3"] {
        let start = before.len().saturating_sub(version.len());
        if before[start..].iter().copied().eq(version.chars()) {
            before = &before[..start];
            break;
        }
    }
    let (mut word, mut rest) = last_word(before);
    if matches!(&*word, "is" | "was") {
        let Some((before, _)) = separated(rest) else { return String::new() };
        (word, rest) = last_word(before);
    }
    if word == "error"
        && let Some(rest) = rest.strip_suffix(&[' '])
    {
        let (qualifier, _) = last_word(rest);
        let joined = qualifier + &word;
        return if WHOLE.contains(&&*joined) { joined } else { word };
    }
    if is_path && word != "http" { String::new() } else { word }
}

/// The text without the separators at its end, and whether a slash is one of them.
fn separated(text: &[char]) -> Option<(&[char], bool)> {
    let is_it = |char| {
        matches!(
            char,
            ' ' | ':'
                | '='
                | '/'
                | '('
                | '['
                | '{'
                | '#'
                | '-'
                | '.'
                | '>'
                | '!'
                | '"'
                | '\''
                | '`'
                | '“'
                | '”'
                | '‘'
                | '’'
                | '\\'
        )
    };
    let count = run_back(text, 8, is_it);
    let (before, separators) = text.split_at(text.len() - count);
    (count > 0).then(|| (before, separators.contains(&'/')))
}

/// The word at the end, and what is before it.
fn last_word(text: &[char]) -> (String, &[char]) {
    let count = run_back(text, LONGEST_WORD, |char| is_word(Some(char)) || char == '_');
    let (rest, word) = text.split_at(text.len() - count);
    (small(word), rest)
}

fn small(word: &[char]) -> String {
    word.iter().filter(|char| **char != '_').map(char::to_ascii_lowercase).collect()
}
