//! Words that are not written here: `docs/words.md` names them, and what to write instead.

mod list;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;

use crate::shell;
use crate::verdict::Verdict;
use list::List;

const LIST: &str = "docs/words.md";
/// The most that one run prints.
const SHOWN: usize = 50;

/// No tracked text has a word of the list.
pub(crate) fn words() -> Result<Verdict, String> {
    let read =
        |path: &str| fs::read_to_string(path).map_err(|error| format!("{path} cannot be read: {error}"));
    let list = List::parse(&read(LIST)?).map_err(|error| format!("{LIST}:{error}"))?;
    let tracked = shell::read("git ls-files -- *.rs *.md *.feature *.html *.toml")?;
    let files =
        tracked.lines().map(|path| Ok((path.to_owned(), read(path)?))).collect::<Result<Vec<_>, String>>()?;
    println!("  {} files are read", files.len());
    Verdict::of(&broken(&list, &files))
}

/// A word of the list in a file.
#[derive(Debug)]
struct Hit<'a> {
    path: &'a str,
    line: usize,
    word: &'a str,
    instead: &'a str,
}

/// What is wrong with the files, bounded, and with the list's exceptions.
fn broken(list: &List, files: &[(String, String)]) -> Vec<String> {
    let mut is_needed = vec![false; list.exceptions.len()];
    let mut hits = Vec::new();
    for (path, text) in files {
        let mut found: Vec<Hit<'_>> = Vec::new();
        let words = text::words(text);
        for entry in &list.entries {
            for word in &entry.words {
                for line in text::lines_with(word, &words) {
                    let hit = Hit { path, line, word, instead: &entry.instead };
                    let mut is_excepted = false;
                    for (exception, is_needed) in list.exceptions.iter().zip(&mut is_needed) {
                        if exception.covers(&hit) {
                            (is_excepted, *is_needed) = (true, true);
                        }
                    }
                    if !is_excepted {
                        found.push(hit);
                    }
                }
            }
        }
        found.sort_by_key(|hit| hit.line);
        hits.extend(found);
    }
    let mut broken: Vec<String> = list
        .exceptions
        .iter()
        .zip(is_needed)
        .filter(|(_, is_needed)| !is_needed)
        .map(|(unneeded, _)| format!("{LIST}:{}: nothing needs this exception: take it out", unneeded.line))
        .collect();
    broken.extend(
        hits.iter()
            .take(SHOWN)
            .map(|Hit { path, line, word, instead }| format!("{path}:{line}: \"{word}\": write {instead}")),
    );
    if hits.len() > SHOWN {
        broken.push(format!("the first {SHOWN} of {}: {}", hits.len(), by_folder(&hits)));
    }
    broken
}

/// `src 120, crates/xtask 7`: how many are below each folder.
fn by_folder(hits: &[Hit<'_>]) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for hit in hits {
        let parts: Vec<&str> = hit.path.split('/').collect();
        let depth = if matches!(parts[0], "crates" | "examples") { 2 } else { 1 };
        let folder = if parts.len() == 1 { ".".to_owned() } else { parts[..depth].join("/") };
        *counts.entry(folder).or_default() += 1;
    }
    counts.iter().fold(String::new(), |mut all, (folder, count)| {
        // Writing to a String cannot fail.
        let _ = write!(all, "{}{folder} {count}", if all.is_empty() { "" } else { ", " });
        all
    })
}
