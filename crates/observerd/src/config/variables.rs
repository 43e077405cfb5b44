//! `${VAR}` in strings: replaced by the environment's variable.

use std::collections::HashSet;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What the replacement has found.
#[derive(Default)]
pub(super) struct Replaced {
    /// What is wrong, and the first byte of its string.
    pub(super) problems: Vec<(usize, String)>,
    /// The first bytes of the strings that have a value of the environment, which is not to be shown.
    pub(super) secret: HashSet<usize>,
}

/// Replaces `${VAR}` in all strings of a table; `$${VAR}` stands for `${VAR}`.
pub(super) fn replace(table: &mut DeTable<'_>, env: &dyn Fn(&str) -> Option<String>) -> Replaced {
    let mut replaced = Replaced::default();
    in_table(table, env, &mut replaced);
    replaced
}

fn in_table(table: &mut DeTable<'_>, env: &dyn Fn(&str) -> Option<String>, replaced: &mut Replaced) {
    for (_, value) in table.iter_mut() {
        in_value(value, env, replaced);
    }
}

fn in_value(value: &mut Spanned<DeValue<'_>>, env: &dyn Fn(&str) -> Option<String>, replaced: &mut Replaced) {
    let Range { start, .. } = value.span();
    match value.get_mut() {
        DeValue::String(text) if text.contains("${") => match expand(text, env) {
            Ok((expanded, has_values)) => {
                *text = expanded.into();
                if has_values {
                    replaced.secret.insert(start);
                }
            }
            Err(problem) => replaced.problems.push((start, problem)),
        },
        DeValue::Array(items) => {
            for item in items.iter_mut() {
                in_value(item, env, replaced);
            }
        }
        DeValue::Table(table) => in_table(table, env, replaced),
        _ => {}
    }
}

/// The text with its variables, and whether there are any.
fn expand(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<(String, bool), String> {
    let (mut expanded, mut rest, mut has_values) = (String::new(), text, false);
    while let Some(at) = rest.find("${") {
        let (before, after) = (&rest[..at], &rest[at + 2..]);
        if let Some(before) = before.strip_suffix('$') {
            expanded.push_str(before);
            expanded.push_str("${");
            rest = after;
            continue;
        }
        expanded.push_str(before);
        let Some((name, after)) = after.split_once('}') else {
            return Err("`${` has no `}`: write ${NAME}, or $${ for the characters themselves".to_owned());
        };
        if !is_name(name) {
            return Err(format!(
                "`${{{name}}}` is no variable: a name has letters, digits and _, and does not begin with a digit; write \
                 $${{ for the characters themselves"
            ));
        }
        let Some(value) = env(name) else {
            return Err(format!(
                "the variable {name} is not set, or is not UTF-8: set it, or write $${{{name}}}"
            ));
        };
        expanded.push_str(&value);
        has_values = true;
        rest = after;
    }
    expanded.push_str(rest);
    Ok((expanded, has_values))
}

fn is_name(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty() && !name.as_bytes()[0].is_ascii_digit() && name.bytes().all(is_inner)
}
