//! One pass over a clean text.

use super::codes;
use super::dates;
use super::numbers::{Part, bracketed_ipv6, groups, ipv4, is_digit, number, uuid};
use super::runs::{read, run};
use super::words::{Word, is_word, kept, word};

/// The placeholders that a pass copies.
const PLACEHOLDERS: [&str; 14] = [
    "<num>",
    "<hex>",
    "<uuid>",
    "<id>",
    "<time>",
    "<duration>",
    "<size>",
    "<ip>",
    "<mac>",
    "<email>",
    "<token>",
    "<query>",
    "<str>",
    "<no message>",
];

/// The text with placeholders, at most `most` characters: only whole parts are dropped, and `…` says so.
pub(super) fn pass(text: &[char], most: usize) -> Vec<char> {
    let mut scanner = Scanner {
        text,
        at: 0,
        out: Vec::with_capacity(most + 64),
        in_url: false,
        unclosed: Vec::new(),
        no_token: 0,
    };
    let mut fits = 0;
    while scanner.at < text.len() && scanner.out.len() <= most {
        scanner.step();
        if scanner.out.len() < most {
            fits = scanner.out.len();
        }
    }
    let mut out = scanner.out;
    let is_cut = out.len() > most;
    if is_cut {
        out.truncate(fits);
    }
    while out.last() == Some(&' ') {
        out.pop();
    }
    if is_cut {
        out.push('…');
    }
    out
}

struct Scanner<'a> {
    text: &'a [char],
    /// The next character.
    at: usize,
    out: Vec<char>,
    in_url: bool,
    /// Quotes that have no end: none that begins later has one.
    unclosed: Vec<char>,
    /// Up to here no token begins: one place before was read so far, and found none.
    no_token: usize,
}

impl Scanner<'_> {
    /// Reads one part: a word, a variable part, or one other character.
    fn step(&mut self) {
        let at = self.at;
        let char = self.text[at];
        if char == ' ' {
            self.in_url = false;
        }
        if let Some(end) = placeholder(self.text, at) {
            return self.copy(end);
        }
        match char {
            '"' | '\'' | '`' | '“' | '‘' => self.quote(char),
            '-' | '+' if self.is_sign() => match number(self.text, at + 1) {
                Some((end, placeholder)) if self.word_before_is_no_code() => self.put(end, placeholder),
                _ => self.copy(at + 1),
            },
            '[' => self.copy_or_put(bracketed_ipv6(self.text, at)),
            ':' if self.text.get(at + 1) == Some(&':') && !is_word(self.before()) => {
                self.copy_or_put(groups(self.text, at).map(|(end, _)| end));
            }
            '?' | '#' => self.query(),
            char if char.is_ascii_alphanumeric() => self.word(),
            char if char.is_numeric() => {
                let count = run(self.text, at, usize::MAX, |char| !char.is_ascii() && char.is_numeric());
                self.put(at + count, "<num>");
            }
            _ => self.copy(at + 1),
        }
    }

    fn before(&self) -> Option<char> {
        self.at.checked_sub(1).map(|before| self.text[before])
    }

    fn copy(&mut self, end: usize) {
        self.out.extend(&self.text[self.at..end]);
        self.at = end;
    }

    fn put(&mut self, end: usize, placeholder: &str) {
        self.out.extend(placeholder.chars());
        self.at = end;
    }

    fn copy_or_put(&mut self, address: Option<usize>) {
        match address {
            Some(end) => self.put(end, "<ip>"),
            None => self.copy(self.at + 1),
        }
    }

    /// Whether the character is a number's sign: it stands where a number may begin.
    fn is_sign(&self) -> bool {
        is_digit(self.text, self.at + 1)
            && self.before().is_none_or(|before| matches!(before, ' ' | '=' | '(' | '[' | ',' | ':' | '{'))
    }

    /// `code -32600` stays, as `code 404` does.
    fn word_before_is_no_code(&self) -> bool {
        codes::number(self.text, self.at + 1).is_none()
    }

    /// What stands in quotes. Constants (`"NOT_FOUND"`), codes, and the names of JSON fields stay.
    fn quote(&mut self, open: char) {
        let at = self.at;
        let close = match open {
            '“' => '”',
            '‘' => '’',
            other => other,
        };
        let is_apostrophe = open == '\'' && is_word(self.before());
        if is_apostrophe || self.unclosed.contains(&open) {
            return self.copy(at + 1);
        }
        let Some(end) = self.closing(open, close) else {
            self.unclosed.push(open);
            return self.copy(at + 1);
        };
        if codes::is_quoted(self.text, at + 1, end) {
            return self.copy(end + 1);
        }
        let content = &self.text[at + 1..end];
        let is_constant =
            content.len() >= 3 && content.iter().all(|char| char.is_ascii_uppercase() || *char == '_');
        let is_name =
            !content.is_empty() && content.iter().all(|char| char.is_ascii_alphabetic() || *char == '_');
        // `"status": 503`: else the code has no word before it.
        let is_before_code = is_name && codes::is_name(content);
        let is_field = is_name
            && self.text.get(end + 1) == Some(&':')
            && self.text[..at]
                .iter()
                .rev()
                .find(|char| **char != ' ')
                .is_some_and(|char| matches!(char, '{' | ','));
        if content.len() <= 40 && (is_constant || is_field || is_before_code) {
            return self.copy(end + 1);
        }
        self.put(end + 1, "<str>");
    }

    fn closing(&self, open: char, close: char) -> Option<usize> {
        let mut place = self.at + 1;
        while let Some(char) = self.text.get(place) {
            match *char {
                '\\' => place += 1,
                // GNU's way: `name'.
                char if (char == close || (open == '`' && char == '\''))
                    && (char != '\'' || !is_word(self.text.get(place + 1).copied())) =>
                {
                    return Some(place);
                }
                _ => {}
            }
            place += 1;
            read(1);
        }
        None
    }

    /// The query or the fragment of a URL, or the query of a path: `/a?b=c`.
    fn query(&mut self) {
        let at = self.at;
        let name = run(self.text, at + 1, 64, |char| is_word(Some(char)) || char == '_');
        let has_name = self.text[at] == '?'
            && name > 0
            && self.text.get(at + 1 + name) == Some(&'=')
            && (is_word(self.before()) || matches!(self.before(), Some('/' | '>')));
        if !(self.in_url || has_name) {
            return self.copy(at + 1);
        }
        let mut end = at + 1;
        while let Some(char) = self.text.get(end) {
            read(1);
            if let Some(after) = placeholder(self.text, end) {
                end = after;
            } else if matches!(char, ' ' | '"' | '\'' | '`' | '<' | '>' | ')' | ']' | '}') {
                break;
            } else {
                end += 1;
            }
        }
        while matches!(self.text[end - 1], '.' | ',' | ';' | ':' | '!') {
            end -= 1;
        }
        self.in_url = false;
        if end == at + 1 {
            return self.copy(end);
        }
        self.out.push('?');
        self.put(end, "<query>");
    }

    /// A word, and what may begin with one.
    fn word(&mut self) {
        let (text, at) = (self.text, self.at);
        if let Some(authority) = url(text, at) {
            self.in_url = true;
            let start = text[at..].iter().position(|char| *char == '/').map_or(at, |slash| at + slash + 2);
            self.copy(start);
            self.at = authority;
            return;
        }
        if let Some(end) = self.token() {
            return self.put(end, "<token>");
        }
        if let Some((end, placeholder)) = variable(text, at) {
            return self.put(end, placeholder);
        }
        if let Some(length) = kept(text, at) {
            return self.copy(at + length);
        }
        if let Some(end) = codes::code(text, at) {
            return self.copy(end);
        }
        if is_digit(text, at)
            && let Some((end, placeholder)) = number(text, at)
        {
            return self.put(end, placeholder);
        }
        let end = at + run(text, at, usize::MAX, |char| is_word(Some(char)));
        match word(&text[at..end], || codes::is_before_name(text, at)) {
            Word::Same => self.copy(end),
            Word::Id => self.put(end, "<id>"),
            Word::Number => self.put(end, "<num>"),
            Word::Numbered(letters) => {
                self.copy(at + letters);
                self.put(end, "<num>");
            }
        }
    }

    /// The end of a JSON web token.
    fn token(&mut self) -> Option<usize> {
        let (text, at) = (self.text, self.at);
        if at < self.no_token || text.get(at..at + 3)? != ['e', 'y', 'J'] {
            return None;
        }
        let is_of_it = |char| is_word(Some(char)) || matches!(char, '.' | '_' | '-' | '=');
        let run = run(text, at, usize::MAX, is_of_it);
        let dots = text[at..at + run].iter().rev().take_while(|char| **char == '.').count();
        let end = at + run - dots;
        if end - at >= 20 && text[at..end].contains(&'.') {
            return Some(end);
        }
        self.no_token = at + run;
        None
    }
}

/// The end of a placeholder.
fn placeholder(text: &[char], at: usize) -> Option<usize> {
    if text[at] != '<' {
        return None;
    }
    let is_it = |name: &&&str| text[at..].iter().take(name.len()).copied().eq(name.chars());
    PLACEHOLDERS.iter().find(is_it).map(|name| at + name.len())
}

/// Where the host of a URL begins: after `scheme://`, and after user and password.
fn url(text: &[char], at: usize) -> Option<usize> {
    let scheme = run(text, at, 16, |char| is_word(Some(char)) || matches!(char, '+' | '-'));
    let start = at + scheme + 3;
    if !text[at].is_ascii_alphabetic() || text.get(at + scheme..start)? != [':', '/', '/'] {
        return None;
    }
    let is_end = |char| matches!(char, '/' | '?' | '#' | ' ' | '"' | '\'' | '`' | ',' | ')');
    let count = run(text, start, 512, |char| !is_end(char));
    let user = text[start..start + count].iter().rposition(|char| *char == '@');
    Some(user.map_or(start, |user| start + user + 1))
}

/// What has a form of its own.
fn variable(text: &[char], at: usize) -> Option<Part> {
    if let Some(end) = email(text, at) {
        return Some((end, "<email>"));
    }
    if text[at] == '0' && matches!(text.get(at + 1), Some('x' | 'X')) {
        let digits = run(text, at + 2, usize::MAX, |char| char.is_ascii_hexdigit());
        if digits > 0 && codes::code(text, at).is_none() && !is_word(text.get(at + 2 + digits).copied()) {
            return Some((at + 2 + digits, "<hex>"));
        }
    }
    if text[at].is_ascii_hexdigit() {
        if let Some(end) = uuid(text, at) {
            return Some((end, "<uuid>"));
        }
        if let Some(part) = groups(text, at) {
            return Some(part);
        }
    }
    let date = if is_digit(text, at) {
        if let Some(end) = ipv4(text, at) {
            return Some((end, "<ip>"));
        }
        dates::numeric(text, at)
    } else {
        dates::named(text, at)
    };
    date.map(|end| (end, "<time>"))
}

fn email(text: &[char], at: usize) -> Option<usize> {
    let is_local = |char| is_word(Some(char)) || matches!(char, '.' | '_' | '%' | '+' | '-');
    let local = run(text, at, 65, is_local);
    if local > 64 || text.get(at + local) != Some(&'@') {
        return None;
    }
    let start = at + local + 1;
    let is_domain = |char| is_word(Some(char)) || matches!(char, '.' | '-');
    let mut end = start + run(text, start, 254, is_domain);
    while end > start && matches!(text[end - 1], '.' | '-') {
        end -= 1;
    }
    let last = text[start..end].rsplit(|char| *char == '.').next()?;
    last.first()?.is_ascii_alphabetic().then_some(end)
}
