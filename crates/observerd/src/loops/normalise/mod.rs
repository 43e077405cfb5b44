//! What is the same of two messages: everything but numbers, ids and other variable parts.
//!
//! A hand-written scanner: each place of the text is read a bounded number of times, whatever the text is. Variable parts become
//! placeholders:
//!
//! | placeholder | of |
//! |---|---|
//! | `<num>` | numbers, versions and counts: `42`, `-1.5`, `1,024`, `1e-9`, `12th` |
//! | `<hex>` | `0x7ffd`, and hexadecimal digits with letters and digits, at least 7 |
//! | `<uuid>`, `<id>` | UUIDs; ULIDs, hashes and other words that mix letters and digits; words over 64 characters |
//! | `<time>` | dates, times of day, both, and dates of HTTP headers and of syslog |
//! | `<duration>`, `<size>` | `1.5s`, `30 ms`, `1h30m`; `12 MB`, `4096 bytes` |
//! | `<ip>`, `<mac>` | addresses, with their port or prefix |
//! | `<email>`, `<token>` | addresses of mail; JSON web tokens |
//! | `<query>` | the query and the fragment of a URL. Its user and password are dropped |
//! | `<str>` | what stands in quotes |
//!
//! A path stays, and its parts are read as words: `/users/17/a.txt` is `/users/<num>/a.txt`. So do names with digits that are no
//! ids: `v2`, `utf-8`, `HTTP/1.1`, `E0308`, `ipv4`, `sha256`. A short number after `http`, `status`, `code`, `errno`, `signal`,
//! `sqlstate` or `os error` stays, because 404 and 503 are not the same error. Other letters with digits at their end keep their
//! letters: `worker12` is `worker<num>`.
//!
//! Escape sequences of terminals are dropped, control characters and white space become one space. Letters keep their case.

mod clean;
mod dates;
mod numbers;
mod scan;
mod words;

/// The most characters of a normalised message.
pub const MAX_MESSAGE: usize = 200;

/// What an empty message becomes.
pub const NO_MESSAGE: &str = "<no message>";

/// How much of a message is read, in characters.
const MAX_READ: usize = 16 * 1024;

/// The message without its variable parts, at most [`MAX_MESSAGE`] characters. Applied twice it changes nothing.
#[must_use]
pub fn normalise(message: &str) -> String {
    let mut text = clean::clean(message, MAX_READ);
    // A placeholder may make another variable part of its neighbours. Each further pass replaces characters, or drops some, and
    // has at most `MAX_MESSAGE` of them: it ends.
    loop {
        let next = scan::pass(&text, MAX_MESSAGE);
        if next == text {
            break;
        }
        text = next;
    }
    if text.is_empty() { NO_MESSAGE.to_owned() } else { text.into_iter().collect() }
}

#[cfg(test)]
mod tests;
