//! Secrets in the texts of errors: what is posted to others must not have them.

/// What is in place of a secret.
const MASK: &str = "<masked>";

/// The least characters of a word that may be a token by itself.
const LEAST: usize = 20;

/// Names whose value is a secret, after `=` or `:`.
const NAMES: [&str; 12] = [
    "password",
    "passwd",
    "pwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "api_key",
    "api-key",
    "access_key",
    "authorization",
    "credential",
];

/// Names whose value is a secret after `=` alone: `key: value` is a way to write of keys.
const NAMES_OF_QUERIES: [&str; 8] = ["key", "auth", "sig", "signature", "session", "sid", "cookie", "pass"];

/// Words before a secret in the value of `Authorization`; the first one also elsewhere.
const SCHEMES: [&str; 4] = ["bearer", "basic", "digest", "token"];

/// The text without what looks like a secret: values of names such as `password`, what follows `Bearer`, users of URLs, and words of at least
/// 20 characters that look random. It is a guess: a secret in another form stays.
pub(super) fn masked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    // A secret is expected: after a name with its sign, or after a scheme.
    let mut is_value = false;
    while let Some(first) = rest.chars().next() {
        if !is_of_word(first) {
            let end = rest.find(is_of_word).unwrap_or(rest.len());
            let (between, after) = rest.split_at(end);
            if let Some(begin) = odd_value(&out, between) {
                let (between, value) = rest.split_at(begin);
                out.push_str(between);
                out.push_str(MASK);
                rest = &value[value.find(is_end_of_value).unwrap_or(value.len())..];
                is_value = false;
                continue;
            }
            is_value = names_a_secret(&out, between) || (is_value && between.chars().all(is_before_value));
            out.push_str(between);
            rest = after;
            continue;
        }
        if let Some(user) = user(&out, rest) {
            out.push_str("//");
            out.push_str(MASK);
            rest = &rest[user..];
            continue;
        }
        let is_end = |c: char| if is_value { is_end_of_value(c) } else { !is_of_word(c) };
        let end = rest.find(is_end).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let schemes = if is_value { &SCHEMES[..] } else { &SCHEMES[..1] };
        let is_scheme = schemes.iter().any(|scheme| word.eq_ignore_ascii_case(scheme));
        if is_scheme && after.starts_with(' ') {
            out.push_str(word);
            is_value = true;
        } else if is_value {
            if out.ends_with('<') {
                // A placeholder, which has a bracket of its own.
                out.pop();
            }
            out.push_str(MASK);
            is_value = false;
        } else {
            mask_word(word, &mut out);
        }
        rest = after;
    }
    out
}

/// Where a value begins that begins like no word, such as `$3cr3t`, after the name of a secret and its sign.
fn odd_value(before: &str, between: &str) -> Option<usize> {
    let sign = between.find(['=', ':'])?;
    let value = between[sign + 1..].find(|c: char| !is_before_value(c))?;
    let begin = sign + 1 + value;
    let is_odd = !between[begin..].starts_with(is_end_of_value);
    (is_odd && names_a_secret(before, &between[..begin])).then_some(begin)
}

/// Whether a value follows: a name of a secret is before, and its sign is here.
fn names_a_secret(before: &str, between: &str) -> bool {
    let sign = between.trim_start_matches(['"', '\'', '\\', ' ']);
    let is_query = sign.starts_with('=');
    if !(is_query || sign.starts_with(':')) || !sign[1..].chars().all(is_before_value) {
        return false;
    }
    let start = before.rfind(|c: char| !is_of_name(c)).map_or(0, |at| at + 1);
    let start = (start..before.len()).find(|at| before.is_char_boundary(*at)).unwrap_or(before.len());
    let name = before[start..].to_ascii_lowercase();
    let ends = |names: &[&str]| names.iter().any(|known| name.ends_with(known));
    ends(&NAMES) || (is_query && ends(&NAMES_OF_QUERIES))
}

/// Where the user of a URL ends, if `rest` is what follows its scheme.
fn user(before: &str, rest: &str) -> Option<usize> {
    let authority = rest.strip_prefix("//").filter(|_| before.ends_with(':'))?;
    let end = authority.find(|c: char| c == '/' || c.is_whitespace()).unwrap_or(authority.len());
    authority[..end].rfind('@').map(|at| at + 2)
}

/// Masks the parts of a word that look random.
fn mask_word(word: &str, out: &mut String) {
    let has = |is: fn(&char) -> bool| word.chars().any(|c| is(&c));
    let is_mixed =
        has(char::is_ascii_digit) && has(char::is_ascii_uppercase) && has(char::is_ascii_lowercase);
    if word.len() >= LEAST && is_mixed {
        out.push_str(MASK);
        return;
    }
    for piece in word.split_inclusive(['/', '+', '=', '-', '_']) {
        let bare = piece.trim_end_matches(['/', '+', '=', '-', '_']);
        if bare.len() >= LEAST && bare.bytes().any(|byte| byte.is_ascii_digit()) {
            out.push_str(MASK);
            out.push_str(&piece[bare.len()..]);
        } else {
            out.push_str(piece);
        }
    }
}

fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '/' | '+' | '-' | '_') || c == '%'
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_')
}

/// What may be between a name's sign and its value.
fn is_before_value(c: char) -> bool {
    matches!(c, ' ' | '"' | '\'' | '\\' | '=' | ':' | '<')
}

fn is_end_of_value(c: char) -> bool {
    c.is_whitespace() || matches!(c, '&' | ',' | ';' | '"' | '\'' | '\\' | ')' | ']' | '}')
}

#[cfg(test)]
mod tests;
