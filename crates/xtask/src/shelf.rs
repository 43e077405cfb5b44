//! The shelf of examples: small programs that assert.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::checks::AS_THE_OTHERS;
use crate::shell;
use crate::verdict::Verdict;

/// An example has fewer lines.
const LINES: usize = 80;

/// The longest that one may run.
const LIMIT: Duration = Duration::from_secs(60);

/// What an example may not use: its assertions would depend on how busy the machine is. `Instant` may be that of tokio.
const WALL_CLOCK: [&str; 3] = ["std::time::Instant", "SystemTime", "thread::sleep"];

/// How an example asserts.
const ASSERTIONS: [&str; 4] = ["assert!(", "assert_eq!(", "assert_ne!(", "expect_"];

/// Examples that cannot run by themselves, and why.
const NOT_RUN: [(&str, &str); 1] =
    [("crates/observerd/examples/client.rs", "it reports to a service that runs already")];

/// Every example in `examples/` and `crates/*/examples/` is short, builds, and holds what it asserts.
pub(crate) fn examples() -> Result<Verdict, String> {
    let shelf = list(Path::new("."))?;
    let mut broken = Vec::new();
    for path in &shelf {
        let text = fs::read_to_string(path).map_err(|error| format!("{path} cannot be read: {error}"))?;
        broken.extend(wrong_with(&text).map(|what| format!("{path} {what}")));
    }
    let mut runs = Vec::new();
    for path in &shelf {
        match NOT_RUN.iter().find(|(other, _)| path == other) {
            Some((_, why)) => println!("  {path} is not run: {why}"),
            None => runs.push(path),
        }
    }
    let names = runs.iter().fold(String::new(), |names, path| names + " --example " + name(path));
    let built = shell::read(&format!("cargo build {AS_THE_OTHERS}{names} --message-format json"))?;
    let programs = programs(&built)?;
    for path in runs {
        broken.extend(match programs.get(path.as_str()) {
            Some(program) => shell::lines_within(program, LIMIT).err(),
            None => Some(format!("{path} was not built: does another example have its name?")),
        });
    }
    Verdict::of(&broken)
}

/// The paths of all examples that are one file, from `root`.
fn list(root: &Path) -> Result<Vec<String>, String> {
    let mut folders = vec!["examples".to_owned()];
    folders
        .extend(entries(&root.join("crates"))?.into_iter().map(|entry| format!("crates/{entry}/examples")));
    let mut shelf = Vec::new();
    for folder in folders.iter().filter(|folder| root.join(folder).is_dir()) {
        let files = entries(&root.join(folder))?;
        let is_code = |file: &String| Path::new(file).extension().is_some_and(|extension| extension == "rs");
        shelf.extend(files.into_iter().filter(is_code).map(|file| format!("{folder}/{file}")));
    }
    Ok(shelf)
}

fn entries(folder: &Path) -> Result<Vec<String>, String> {
    let unread = |error: std::io::Error| format!("{} cannot be read: {error}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(unread)? {
        let name = entry.map_err(unread)?.file_name();
        names.push(name.into_string().map_err(|name| format!("{} is no text", name.display()))?);
    }
    names.sort();
    Ok(names)
}

fn name(path: &str) -> &str {
    let file = path.rsplit_once('/').map_or(path, |(_, file)| file);
    file.strip_suffix(".rs").unwrap_or(file)
}

fn wrong_with(text: &str) -> impl Iterator<Item = String> {
    let lines = text.lines().count();
    let long = (lines >= LINES).then(|| format!("has {lines} lines: an example has fewer than {LINES}"));
    let code = code(text);
    let silent = !ASSERTIONS.iter().any(|assertion| code.contains(assertion));
    let silent = silent.then(|| "asserts nothing: a reader cannot know whether it works".to_owned());
    let is_used = |word: &&str| match *word {
        "std::time::Instant" => uses_std_instant(&code),
        word => code.contains(word),
    };
    let clocks = WALL_CLOCK.into_iter().filter(is_used);
    let clocks =
        clocks.map(|word| format!("uses {word}: what it asserts would depend on the machine's load"));
    long.into_iter().chain(silent).chain(clocks.collect::<Vec<_>>())
}

/// The text without its comments.
fn code(text: &str) -> String {
    let of_line = |line: &str| match line.split_once("//") {
        // An address in a string is no comment.
        Some((code, _)) if !code.ends_with(':') => code.to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(of_line).collect::<Vec<_>>().join("\n")
}

/// Whether `Instant` comes from `std::time`, by its path or in a group.
fn uses_std_instant(code: &str) -> bool {
    let code: String = code.split_whitespace().collect();
    let is_named = |path: &str| {
        path.starts_with("Instant")
            || path.strip_prefix('{').is_some_and(|group| {
                let group = group.split_once('}').map_or(group, |(group, _)| group);
                group.split(',').any(|name| name == "Instant" || name.starts_with("Instantas"))
            })
    };
    let of_std = |prefix: &str| code.split(prefix).skip(1).any(is_named);
    // `use std::{time::{Duration, Instant}, ..}`: the group of `std` reaches to the end of its item.
    let nested = code.split("usestd::{").skip(1).any(|rest| {
        let item = rest.split_once(';').map_or(rest, |(item, _)| item);
        item.split("time::").skip(1).any(is_named)
    });
    of_std("std::time::") || nested
}

/// The programs of examples, by their source from here.
fn programs(messages: &str) -> Result<BTreeMap<String, String>, String> {
    let here = std::env::current_dir().map_err(|error| format!("there is no working directory: {error}"))?;
    let mut programs = BTreeMap::new();
    for line in messages.lines() {
        let message: Value =
            serde_json::from_str(line).map_err(|error| format!("cargo printed no JSON: {error}: {line}"))?;
        let target = &message["target"];
        let is_example =
            target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "example"));
        if let (true, Some(source), Some(program)) =
            (is_example, target["src_path"].as_str(), message["executable"].as_str())
        {
            let source = Path::new(source).strip_prefix(&here).unwrap_or(Path::new(source));
            programs.insert(source.display().to_string(), program.to_owned());
        }
    }
    Ok(programs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shelf_is_found_by_listing() {
        let shelf = list(Path::new(crate::ROOT)).expect("the folders are read");
        for path in ["examples/counter.rs", "examples/waits.rs", "crates/scenario/examples/scenario.rs"] {
            assert!(shelf.iter().any(|listed| listed == path), "{path}: {shelf:?}");
        }
        assert!(shelf.iter().all(|path| !path.contains("openraft_kv")), "{shelf:?}");
        for (path, _) in NOT_RUN {
            assert!(shelf.iter().any(|listed| listed == path), "{path} is an exception, and is not there");
        }
        let mut names: Vec<&str> = shelf.iter().map(|path| name(path)).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), shelf.len(), "cargo writes examples of one name over each other: {names:?}");
    }

    #[test]
    fn a_long_a_silent_and_an_impatient_example_are_named() {
        let wrong = |text: &str| wrong_with(text).collect::<Vec<_>>();
        assert_eq!(wrong(&"assert!(x)\n".repeat(79)), [""; 0]);
        assert_eq!(wrong(&"assert!(x)\n".repeat(80)), ["has 80 lines: an example has fewer than 80"]);
        for silent in ["fn main() {} // assert!(x)", "//! It asserts.\nfn main() {}", "assertion();"] {
            assert!(wrong(silent)[0].starts_with("asserts nothing"), "{silent}");
        }
        assert_eq!(wrong("let url = \"http://node\"; assert_ne!(url, other)"), [""; 0]);
        for clock in [
            "use std::time::{Duration, Instant};",
            "use std::time::{\n    Instant as Now,\n};",
            "use std::{fmt, time::{Duration, Instant}};",
            "use std::time::Instant;",
        ] {
            let text = format!("{clock}\nassert!(x)");
            assert!(wrong(&text)[0].starts_with("uses std::time::Instant"), "{clock}");
        }
        let tokio = "use std::time::Duration;\nuse tokio::time::{self, Instant};\nassert!(x)";
        assert_eq!(wrong(tokio), [""; 0]);
        assert!(wrong("fn main() {}")[0].starts_with("asserts nothing"));
        assert!(wrong("assert!(std::time::Instant::now() > x)")[0].starts_with("uses std::time::Instant"));
    }

    #[test]
    fn a_program_is_found_by_its_source() {
        let here = std::env::current_dir().expect("there is one").display().to_string();
        let message = |kind: &str, program: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","target":{{"kind":["{kind}"],"src_path":"{here}/examples/a.rs"}},"executable":{program}}}"#
            )
        };
        let of = |messages: &[String]| programs(&messages.join("\n"));
        let a = BTreeMap::from([("examples/a.rs".to_owned(), "/t/a".to_owned())]);
        assert_eq!(of(&[message("lib", "null"), message("example", "\"/t/a\"")]), Ok(a));
        assert_eq!(of(&[message("example", "null"), message("bin", "\"/t/a\"")]), Ok(BTreeMap::new()));
        assert!(of(&["no JSON".to_owned()]).is_err());
    }
}
