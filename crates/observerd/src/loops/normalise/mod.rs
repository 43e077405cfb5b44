//! What is the same of two messages: everything but numbers, ids and other variable parts.
//!
//! A hand-written scanner: each place of the text is read a bounded number of times, whatever the text is. Variable parts become
//! placeholders:
//!
//! | placeholder | of |
//! |---|---|
//! | `<num>` | numbers, versions and counts: `42`, `-1.5`, `1,024`, `1e-9`, `12th`; hexadecimal digits, at least 7 with a digit among them: one in forty hashes of 8 has no letter, and is the same error |
//! | `<hex>` | `0x7ffd` |
//! | `<uuid>`, `<id>` | UUIDs; ULIDs, hashes and other words that mix letters and digits; words over 64 characters |
//! | `<time>` | dates, times of day, both, and dates of HTTP headers and of syslog |
//! | `<duration>`, `<size>` | `1.5s`, `30 ms`, `2 milliseconds`, `1h30m`; `12 MB`, `4096 bytes` |
//! | `<ip>`, `<mac>` | addresses, with their port or prefix |
//! | `<email>`, `<token>` | addresses of mail; JSON web tokens |
//! | `<query>` | the query and the fragment of a URL. Its user and password are dropped |
//! | `<str>` | what stands in quotes, but for constants, names of JSON fields, and codes |
//!
//! A path stays, and its parts are read as words: `/users/17/a.txt` is `/users/<num>/a.txt`. So do names with digits that are no
//! ids: `v2`, `utf-8`, `HTTP/1.1`, `ipv4`, `sha256`. Other letters with digits at their end keep their letters: `worker12` is
//! `worker<num>`, `JOB1234` is `JOB<num>`.
//!
//! 404 and 503 are not the same error. So these stay:
//!
//! - A number of at most 5 digits after `code`, `status`, `errno`, `signal`, `hresult`, a word that ends with one of them (`exitcode`,
//!   `errorCode`, `http_status`; not `decode`, `zipcode`), `http`, `ORA-`, or `os error`, `HTTP error` and the like. Between them may
//!   be quotes, separators, `is` or `was`: `"status":404`, `status is 503`, `status "503"`.
//! - `0x` with at most 8 digits after such a word, `error` or `exception`: `HRESULT 0x80070005`.
//! - Five capital letters and digits after `sqlstate`, and one like `42P01` after such a word.
//! - One or two capital letters with 3 to 5 digits: `E0308`, `TS2345`; not `ID1234`. With three or four letters if they begin with
//!   `ERR`, or come after such a word, or right after `error`, `warning` or `exception`: `error LNK1104`.
//!
//! Escape sequences of terminals are dropped, control characters and white space become one space. Letters keep their case.

mod clean;
mod codes;
mod dates;
mod numbers;
mod runs;
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
pub(crate) use runs::counter::steps;

#[cfg(test)]
mod tests;
