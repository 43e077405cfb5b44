//! The list: two tables of a Markdown file.

use super::Hit;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct List {
    pub(super) entries: Vec<Entry>,
    pub(super) exceptions: Vec<Exception>,
}

/// Words or phrases that are not written, in small letters, and what is written instead.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) words: Vec<String>,
    pub(super) instead: String,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Exception {
    /// A path, in which `*` stands for any text.
    pub(super) files: String,
    /// `*` for each.
    pub(super) word: String,
    /// Where in the list it is.
    pub(super) line: usize,
}

impl List {
    /// Reads the rows below `## Words` and `## Exceptions`; an error begins with the line.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut list = Self::default();
        let mut section = "";
        // A table begins with two lines of its own: titles and dashes.
        let mut titles = 0;
        for (at, line) in text.lines().enumerate() {
            if let Some(heading) = line.strip_prefix("## ") {
                (section, titles) = (heading.trim(), 2);
            }
            let Some(row) = line.strip_prefix('|') else { continue };
            if titles > 0 {
                titles -= 1;
                continue;
            }
            let cells: Vec<&str> = row.trim_end().trim_end_matches('|').split('|').map(str::trim).collect();
            list.add(section, &cells, at + 1).map_err(|error| format!("{}: {error}", at + 1))?;
        }
        if list.entries.is_empty() {
            return Err("1: there are no words below `## Words`".to_owned());
        }
        Ok(list)
    }

    fn add(&mut self, section: &str, cells: &[&str], line: usize) -> Result<(), String> {
        if cells.iter().any(|cell| cell.is_empty()) {
            return Err("a row has an empty cell".to_owned());
        }
        let is_known =
            |word: &str| self.entries.iter().any(|entry| entry.words.iter().any(|other| other == word));
        match (section, cells) {
            ("Words", [words, instead]) => {
                let words: Vec<String> = words.split(',').map(|word| word.trim().to_lowercase()).collect();
                if let Some(twice) = words.iter().find(|word| is_known(word)) {
                    return Err(format!("`{twice}` is in the list twice"));
                }
                self.entries.push(Entry { words, instead: (*instead).to_owned() });
            }
            ("Exceptions", [files, word, _reason]) => {
                if *word != "*" && !is_known(word) {
                    return Err(format!("`{word}` is no word of the list"));
                }
                let (files, word) = ((*files).to_owned(), (*word).to_owned());
                self.exceptions.push(Exception { files, word, line });
            }
            ("Words", _) => return Err("a row of words is `| not | but |`".to_owned()),
            _ => return Err("a row of exceptions is `| files | word | reason |`".to_owned()),
        }
        Ok(())
    }
}

impl Exception {
    pub(super) fn covers(&self, hit: &Hit<'_>) -> bool {
        (self.word == "*" || self.word == hit.word) && matches(&self.files, hit.path)
    }
}

fn matches(pattern: &str, path: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == path,
        Some((start, rest)) => path.strip_prefix(start).is_some_and(|path| {
            path.char_indices().map(|(at, _)| at).chain([path.len()]).any(|at| matches(rest, &path[at..]))
        }),
    }
}
