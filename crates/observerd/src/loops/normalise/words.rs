//! Words with digits: names that stay, and ids.

use super::runs::{read, run};

/// Names that stay as they are, in small letters.
const KEPT: &[&str] = &[
    "aes128",
    "aes192",
    "aes256",
    "amd64",
    "arm64",
    "armv7",
    "b2b",
    "base32",
    "base58",
    "base64",
    "crc32",
    "d3d11",
    "e2e",
    "ec2",
    "ed25519",
    "es5",
    "es6",
    "f16",
    "f32",
    "f64",
    "float32",
    "float64",
    "fp16",
    "gpt4",
    "h2",
    "h264",
    "h265",
    "h3",
    "http/1.0",
    "http/1.1",
    "http/2",
    "http/2.0",
    "http/3",
    "http1",
    "http2",
    "http3",
    "i128",
    "i16",
    "i18n",
    "i32",
    "i64",
    "i8",
    "int16",
    "int32",
    "int64",
    "int8",
    "ipv4",
    "ipv6",
    "iso-8601",
    "iso-8859-1",
    "iso8601",
    "k3s",
    "k8s",
    "l10n",
    "latin1",
    "log4j",
    "md5",
    "mp3",
    "mp4",
    "neo4j",
    "oauth2",
    "p2p",
    "p50",
    "p90",
    "p95",
    "p99",
    "pbkdf2",
    "pkcs7",
    "pkcs8",
    "python2",
    "python3",
    "rfc3339",
    "rfc822",
    "rsa2048",
    "rsa4096",
    "s3",
    "sha-1",
    "sha-256",
    "sha-512",
    "sha1",
    "sha256",
    "sha3",
    "sha384",
    "sha512",
    "u128",
    "u16",
    "u32",
    "u64",
    "u8",
    "uint16",
    "uint32",
    "uint64",
    "uint8",
    "utf-16",
    "utf-32",
    "utf-8",
    "utf16",
    "utf32",
    "utf8",
    "x509",
    "x86_64",
];

/// Further ones that are no single words, or begin with a digit.
const KEPT_DIGITS: &[&str] = &["2fa", "2xx", "3d", "3xx", "4xx", "5xx", "x64", "x86"];

const LONGEST_KEPT: usize = 10;

/// How many characters from `at` are a name that stays, at a word's begin.
pub(super) fn kept(text: &[char], at: usize) -> Option<usize> {
    read(LONGEST_KEPT + 1);
    let lower: String = text[at..].iter().take(LONGEST_KEPT + 1).map(char::to_ascii_lowercase).collect();
    if !lower.contains(|char: char| char.is_ascii_digit()) {
        return None;
    }
    let longest = KEPT
        .iter()
        .chain(KEPT_DIGITS)
        .filter(|name| lower.starts_with(**name) && !is_word(text.get(at + name.len()).copied()))
        .map(|name| name.len())
        .max();
    longest.or_else(|| version(text, at))
}

/// `v2`, `v1.3`, and `TLSv1.2`; a longer version is a number.
fn version(text: &[char], at: usize) -> Option<usize> {
    let letters = run(text, at, 8, |char| char.is_ascii_alphabetic());
    let is_version = letters > 0
        && text[at + letters - 1].eq_ignore_ascii_case(&'v')
        && (letters == 1 || text[at..at + letters - 1].iter().all(char::is_ascii_uppercase));
    let digits = |at: usize| run(text, at, 3, |char| char.is_ascii_digit());
    let first = digits(at + letters);
    if !is_version || !(1..=2).contains(&first) {
        return None;
    }
    let mut end = at + letters + first;
    if text.get(end) == Some(&'.') {
        let second = digits(end + 1);
        if (1..=2).contains(&second) {
            end += 1 + second;
        }
    }
    let is_longer = text.get(end) == Some(&'.') && text.get(end + 1).is_some_and(char::is_ascii_digit);
    (!is_word(text.get(end).copied()) && !is_longer).then_some(end - at)
}

/// Whether a character belongs to a word.
pub(super) fn is_word(char: Option<char>) -> bool {
    char.is_some_and(|char| char.is_ascii_alphanumeric())
}

/// What becomes of a word of letters and digits that is not kept.
pub(super) enum Word {
    /// It stays.
    Same,
    /// It is an id.
    Id,
    /// It is a number, in digits or in hexadecimal ones.
    Number,
    /// So many letters stay, and digits follow.
    Numbered(usize),
}

/// What a word of letters and digits is. `is_error` says whether it may be the name of an error by what is before it.
pub(super) fn word(word: &[char], is_error: impl FnOnce() -> bool) -> Word {
    if word.len() > 64 {
        return Word::Id;
    }
    let digits = word.iter().filter(|char| char.is_ascii_digit()).count();
    if digits == 0 {
        let is_hex = word.len() >= 16 && word.iter().all(char::is_ascii_hexdigit);
        return if is_hex { Word::Number } else { Word::Same };
    }
    if digits == word.len() || is_hex_id(word) {
        return Word::Number;
    }
    let letters = word.iter().take_while(|char| char.is_ascii_alphabetic()).count();
    if letters > 0 && letters + digits == word.len() {
        let name: String = word[..letters].iter().collect();
        let may_be_error = (3..=5).contains(&digits) && name.chars().all(|char| char.is_ascii_uppercase());
        let is_error = match letters {
            1 | 2 => may_be_error && !matches!(&*name, "ID" | "NO" | "NR"),
            3 | 4 => may_be_error && (name.starts_with("ERR") || is_error()),
            _ => false,
        };
        return if is_error { Word::Same } else { Word::Numbered(letters) };
    }
    if word.len() <= 3 { Word::Same } else { Word::Id }
}

/// At least 7 hexadecimal digits, one of them a digit, with letters of one case.
pub(super) fn is_hex_id(word: &[char]) -> bool {
    word.len() >= 7
        && word.iter().any(char::is_ascii_digit)
        && (word.iter().all(|char| matches!(char, '0'..='9' | 'a'..='f'))
            || word.iter().all(|char| matches!(char, '0'..='9' | 'A'..='F')))
}
