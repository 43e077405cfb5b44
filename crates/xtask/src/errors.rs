//! Errors print their sentence: no source of the workspace derives `Debug` for one.
//!
//! `main` and `unwrap` print an error by its `Debug`. A derived one shows fields, and nobody sees what to do.

use std::fs;
use std::path::{Path, PathBuf};

/// The types of a source that are errors and derive `Debug`; test modules are not read.
fn derived(source: &str) -> Vec<String> {
    let lines: Vec<&str> = source.lines().collect();
    // Only a module that is written out ends the file: others are declared at its top.
    let is_tests = |pair: &[&str]| {
        let is_for_tests = pair[0].starts_with("#[cfg(test)]") || pair[0].starts_with("#[cfg(all(test");
        is_for_tests && pair[1].starts_with("mod ") && pair[1].ends_with('{')
    };
    let end = lines.windows(2).position(is_tests).unwrap_or(lines.len());
    let lines = &lines[..end];
    let (mut found, mut derives, mut is_open) = (Vec::new(), String::new(), false);
    for line in lines {
        let line = line.trim_start();
        if is_open || line.starts_with("#[derive(") {
            derives.push_str(line);
            is_open = !line.contains(")]");
        } else if let Some(name) = type_name(line) {
            let is_error = derives.contains("Error") || lines.iter().any(|line| is_error_for(line, name));
            if is_error && derives.contains("Debug") {
                found.push(name.to_owned());
            }
            derives.clear();
        }
    }
    found
}

/// `impl std::error::Error for Name {`, or of a generic type.
fn is_error_for(line: &str, name: &str) -> bool {
    let Some((head, of)) = line.split_once("Error for ") else { return false };
    let is_named = of.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '<', ':']));
    head.trim_start().starts_with("impl") && is_named
}

/// The name that a line like `pub enum Name {` declares.
fn type_name(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace().skip_while(|word| word.starts_with("pub"));
    matches!(words.next(), Some("enum" | "struct")).then_some(())?;
    words.next()?.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && !name.starts_with('.') && !["target", "tests", "benches"].contains(&name) {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_error_derives_debug() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let mut all = Vec::new();
    sources(root, &mut all);
    assert!(all.len() > 200, "{} files", all.len());
    // This file has an example of each below.
    all.retain(|path| !path.ends_with(file!()));
    let broken: Vec<String> = all
        .iter()
        .flat_map(|path| {
            let names = derived(&fs::read_to_string(path).unwrap());
            names.into_iter().map(move |name| format!("{}: {name}", path.display()))
        })
        .collect();
    assert!(broken.is_empty(), "print the text instead, by `debug_as_text!`:\n{}", broken.join("\n"));
}

#[test]
fn an_error_that_derives_debug_is_found() {
    let source = r#"
        #[derive(Clone, Debug)]
        pub struct Fine {
        #[derive(Clone, thiserror::Error)]
        #[error("no")]
        pub enum Good {
        #[derive(Debug, thiserror::Error)]
        #[error("no")]
        pub(crate) enum Bad {
        #[derive(Clone, Debug)]
        #[non_exhaustive]
        pub struct ByHand<T>;
        impl std::error::Error for Other {}
        impl Error for ByHand {}
    "#;
    assert_eq!(derived(source), ["Bad", "ByHand"]);
    let tests = "#[cfg(all(test, unix))]\nmod tests {\n#[derive(Debug, Error)]\nenum E {";
    assert_eq!(derived(tests), [""; 0]);
    let declared = tests.replace("mod tests {", "mod tests;");
    assert_eq!(derived(&declared), ["E"], "what is tested elsewhere");
    let split = "#[derive(\n    Clone,\n    Debug,\n)]\npub struct E<T> {\nimpl<T: Debug> Error for E<T> {";
    assert_eq!(derived(split), ["E"], "on several lines, and generic");
}
