//! What a text of settings says, and what is wrong with it.

use std::collections::HashSet;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::finding::{Finding, Place};
use super::flags::Flags;
use super::position::Lines;
use super::values::ConfigProblem;
use super::{Config, keys, paths, ranges, shape, variables};

/// The most findings that are looked for.
const MOST: usize = 1_000;

/// How many unknown keys have the nearest known one with them.
const ADVISED: usize = 100;

/// A key of the text that is no table.
struct Key {
    path: Vec<String>,
    /// Its value.
    value: Range<usize>,
    /// The first byte of each entry of a list.
    entries: Vec<usize>,
}

/// What a text says: the settings without those that are wrong.
pub(super) struct Found<'a> {
    lines: Option<Lines<'a>>,
    keys: Vec<Key>,
    config: Option<Config>,
    findings: Vec<Finding>,
    /// The keys that have a finding.
    wrong: HashSet<Vec<String>>,
}

impl Found<'_> {
    pub(super) fn only(finding: Finding) -> Self {
        Found { lines: None, keys: Vec::new(), config: None, findings: vec![finding], wrong: HashSet::new() }
    }

    /// The settings with the flags, or all findings.
    pub(super) fn finish(mut self, flags: &Flags, has_files: bool) -> Result<Config, Vec<Finding>> {
        if let Some(mut config) = self.config.take() {
            flags.apply(&mut config);
            let mut problems = config.observerd.validate();
            if has_files {
                problems.extend(paths::check(&config.observerd));
            }
            problems.retain(|problem| !self.wrong.iter().any(|path| is_key(path, &problem.key)));
            for problem in &problems {
                let finding = self.place(problem, flags);
                self.findings.push(finding);
            }
            if self.findings.is_empty() {
                return Ok(config);
            }
        }
        self.findings.sort();
        self.findings.dedup();
        Err(self.findings)
    }

    fn place(&self, problem: &ConfigProblem, flags: &Flags) -> Finding {
        let text = problem.text();
        if let Some(flag) = flags.of(&problem.key) {
            return Finding { place: Place::Flag(flag), problem: text };
        }
        let key = self.keys.iter().find(|key| is_key(&key.path, &problem.key));
        let byte = key.map(|key| {
            let entry = problem.entry.and_then(|entry| key.entries.get(entry));
            entry.copied().unwrap_or(key.value.start)
        });
        match (byte, &self.lines) {
            (Some(byte), Some(lines)) => Finding::at(lines.position(byte), text),
            _ => Finding { place: Place::Anywhere, problem: text },
        }
    }
}

/// Finds all that is wrong in a text.
pub(super) fn find<'a>(text: &'a str, env: &dyn Fn(&str) -> Option<String>) -> Found<'a> {
    let lines = Lines::of(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut found =
        Found { lines: None, keys: Vec::new(), config: None, findings: Vec::new(), wrong: HashSet::new() };
    if !errors.is_empty() {
        found.findings = syntax(&errors, &lines);
        return found;
    }
    let (span, mut table) = (table.span(), table.into_inner());
    let schema = keys::schema();
    let replaced = variables::replace(&mut table, env);
    list_keys(&table, &mut Vec::new(), &mut found.keys);
    let misfits = shape::misfits(&table, &schema);
    let mut problems = replaced.problems;
    problems.truncate(MOST);
    // What could not be replaced is no value.
    let mut bad: Vec<Vec<String>> = Vec::new();
    for (byte, _) in &problems {
        let is_there = |key: &&Key| key.value.start == *byte || key.entries.contains(byte);
        bad.extend(found.keys.iter().find(is_there).map(|key| key.path.clone()));
    }
    for misfit in misfits {
        problems.push((misfit.byte, misfit.problem));
        bad.push(misfit.path);
    }
    let (config, unknown) = loop {
        for path in bad.drain(..) {
            remove(&mut table, &path);
            found.wrong.insert(path);
        }
        let mut unknown = Vec::new();
        let value = Spanned::new(span.clone(), DeValue::Table(table.clone()));
        let read = serde_ignored::deserialize(ValueDeserializer::from(value), |path| {
            if unknown.len() < MOST {
                unknown.push(segments(&path));
            }
        });
        match read {
            Ok(config) => break (config, unknown),
            Err(error) => {
                let key = key_of(&found.keys, &error, &found.wrong);
                let Some(key) = key else {
                    problems.push((error.span().map_or(0, |span| span.start), error.message().to_owned()));
                    break (Config::default(), unknown);
                };
                let is_secret = replaced.secret.contains(&key.value.start);
                problems.push((key.value.start, wrong_value(key, &error, is_secret)));
                bad.push(key.path.clone());
            }
        }
    };
    let unknown = unknown.iter().enumerate().map(|(place, path)| {
        let advice = if place < ADVISED { keys::advice(&schema, path) } else { String::new() };
        let byte = key_byte(&table, path).unwrap_or_default();
        (byte, format!("unknown key `{}`: {advice}", keys::shown(path)))
    });
    problems.extend(unknown);
    problems.truncate(MOST);
    found.findings = problems.iter().map(|(byte, text)| Finding::at(lines.position(*byte), text)).collect();
    found.config = Some(config);
    found.lines = Some(lines);
    found
}

/// The first error of each line: others follow from it.
fn syntax(errors: &[toml::de::Error], lines: &Lines<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for error in errors.iter().take(MOST) {
        let position = lines.position(error.span().map_or(0, |span| span.start));
        let is_known =
            |finding: &Finding| matches!(finding.place, Place::At { line, .. } if line == position.0);
        if !findings.iter().any(is_known) {
            findings.push(Finding::at(position, format!("this is not TOML: {}", error.message())));
        }
    }
    findings
}

fn list_keys(table: &DeTable<'_>, path: &mut Vec<String>, keys: &mut Vec<Key>) {
    for (name, value) in table {
        path.push(name.get_ref().to_string());
        match value.get_ref() {
            DeValue::Table(table) => list_keys(table, path, keys),
            other => {
                let items = match other {
                    DeValue::Array(items) => items.iter().map(|item| item.span().start).collect(),
                    _ => Vec::new(),
                };
                keys.push(Key { path: path.clone(), value: value.span(), entries: items });
            }
        }
        path.pop();
    }
}

fn remove(table: &mut DeTable<'_>, path: &[String]) {
    let Some((name, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        table.remove(name.as_str());
    } else if let Some(DeValue::Table(table)) = table.get_mut(name.as_str()).map(Spanned::get_mut) {
        remove(table, rest);
    }
}

/// Whether a path is that of a known key, whose names have no dots: `"observerd.bind"` in quotation marks is one name.
fn is_key(path: &[String], key: &str) -> bool {
    path.iter().map(String::as_str).eq(key.split('.'))
}

/// The key that an error is of.
fn key_of<'a>(keys: &'a [Key], error: &toml::de::Error, wrong: &HashSet<Vec<String>>) -> Option<&'a Key> {
    let span = error.span()?;
    keys.iter()
        .find(|key| key.value.start <= span.start && span.end <= key.value.end && !wrong.contains(&key.path))
}

/// What a value of the right type must be. Nothing of it is shown.
fn wrong_value(key: &Key, error: &toml::de::Error, is_secret: bool) -> String {
    let path = key.path.join(".");
    if let Some(range) = ranges::of(&path) {
        return match range {
            ranges::Range::Number(..) => format!("`{path}` must be {}", range.wanted()),
            ranges::Range::Time(..) => {
                format!(
                    "`{path}` must be a duration such as \"500ms\", \"10s\" or \"1h 30m\", {}",
                    range.wanted()
                )
            }
        };
    }
    if path == "observerd.bind" {
        return format!(
            "`{path}` must be an address with a port, such as \"127.0.0.1:3219\" or \"[::1]:3219\"; names are not resolved"
        );
    }
    if let Some((value, names)) = error.message().split_once(", expected ")
        && let Some(value) = value.strip_prefix("unknown variant ")
    {
        let known: Vec<&str> = names.split('`').skip(1).step_by(2).collect();
        let near = keys::nearest(value.trim_matches('`'), known.iter().copied()).filter(|_| !is_secret);
        let listed = known.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
        let near = near.map(|near| format!(": did you mean \"{near}\"?")).unwrap_or_default();
        return format!("`{path}` must be one of {listed}{near}");
    }
    if is_secret {
        format!("`{path}` has a value of the environment that does not fit")
    } else {
        format!("`{path}`: {}", error.message())
    }
}

fn segments(path: &serde_ignored::Path<'_>) -> Vec<String> {
    use serde_ignored::Path as Ignored;
    let mut reversed = Vec::new();
    let mut place = path;
    loop {
        place = match place {
            Ignored::Root => break,
            Ignored::Seq { parent, index } => {
                reversed.push(index.to_string());
                parent
            }
            Ignored::Map { parent, key } => {
                reversed.push(key.clone());
                parent
            }
            Ignored::Some { parent }
            | Ignored::NewtypeStruct { parent }
            | Ignored::NewtypeVariant { parent } => parent,
        };
    }
    reversed.reverse();
    reversed
}

/// The first byte of the last key of a path.
fn key_byte(table: &DeTable<'_>, path: &[String]) -> Option<usize> {
    let (name, rest) = path.split_first()?;
    let (key, value) = table.get_key_value(name.as_str())?;
    match (rest, value.get_ref()) {
        ([], _) => Some(key.span().start),
        (rest, DeValue::Table(table)) => key_byte(table, rest),
        _ => Some(key.span().start),
    }
}
