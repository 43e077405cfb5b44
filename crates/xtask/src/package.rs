//! What is published: each package is complete.

use std::fs;
use std::path::Path;

use crate::shell;
use crate::verdict::Verdict;
use crate::workspace::{self, Package};

const LICENCES: [&str; 2] = ["LICENSE-APACHE", "LICENSE-MIT"];

/// All published packages are made from one selection, so that each finds the others, which no registry has.
///
/// They are not built: the step `features` builds each by itself, and here every source and every file that it
/// includes is found in its package.
pub(crate) fn package() -> Result<Verdict, String> {
    let packages = workspace::packages()?;
    let published: Vec<&Package> =
        packages.iter().filter(|package| package.is_member && package.is_published).collect();
    let mut broken = Vec::new();
    for package in &published {
        broken.extend(package.unstated.iter().map(|key| format!("{} states no {key}", package.name)));
        let line = format!("cargo package --offline --allow-dirty --list --package {}", package.name);
        let list: Vec<String> = shell::read(&line)?.lines().map(str::to_owned).collect();
        let sources: Vec<(String, String)> = sources(&package.folder)?;
        broken.extend(absent(&sources, &list).into_iter().map(|what| format!("{}: {what}", package.name)));
        broken.extend(licences(package, &list));
    }
    let names: Vec<&str> = published.iter().map(|package| package.name.as_str()).collect();
    let all = names.join(" --package ");
    broken.extend(
        shell::run(&format!("cargo package --offline --allow-dirty --no-verify --package {all}")).err(),
    );
    Verdict::of(&broken)
}

/// Each tracked Rust file below `src` of a package's folder: its path from there, and its text.
fn sources(folder: &str) -> Result<Vec<(String, String)>, String> {
    let at = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    shell::read(&format!("git ls-files -- {at}src/*.rs"))?
        .lines()
        .map(|path| {
            let text = fs::read_to_string(path).map_err(|error| format!("{path} cannot be read: {error}"))?;
            Ok((path.strip_prefix(&at).unwrap_or(path).to_owned(), text))
        })
        .collect()
}

/// The sources and the files that they include which are not in the list of a package's files.
fn absent(sources: &[(String, String)], list: &[String]) -> Vec<String> {
    let is_there = |path: &str| list.iter().any(|other| other == path);
    let mut absent = Vec::new();
    for (path, text) in sources {
        if !is_there(path) {
            absent.push(format!("{path} is not in the package"));
        }
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for included in included(text) {
            match below(folder, included) {
                Some(file) if is_there(&file) => {}
                Some(file) => absent.push(format!("{path} includes {file}, which is not in the package")),
                None => absent.push(format!("{path} includes {included}, which is outside of the package")),
            }
        }
    }
    absent
}

/// The paths in `include_str!("..")` and its like.
fn included(text: &str) -> impl Iterator<Item = &str> {
    ["include_str!(\"", "include_bytes!(\"", "include!(\""]
        .into_iter()
        .flat_map(move |call| text.split(call).skip(1))
        .filter_map(|rest| rest.split_once('"').map(|(path, _)| path))
}

/// `path` from `folder`, without `..`; `None` if it leaves the package.
fn below(folder: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/').filter(|part| *part != ".") {
        if part == ".." {
            parts.pop()?;
        } else {
            parts.push(part);
        }
    }
    Some(parts.join("/"))
}

fn licences(package: &Package, list: &[String]) -> Vec<String> {
    let mut broken = Vec::new();
    for licence in LICENCES {
        let name = &package.name;
        let own = fs::read_to_string(Path::new(&package.folder).join(licence));
        if !list.iter().any(|file| file == licence) {
            broken
                .push(format!("{name}: {licence} is not in the package: link it from the workspace's root"));
        } else if own.ok() != fs::read_to_string(licence).ok() {
            broken.push(format!("{name}: {licence} is not that of the workspace"));
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_these_libraries() {
        let packages = workspace::packages().expect("cargo metadata is read");
        let mut published: Vec<&str> = packages
            .iter()
            .filter(|package| package.is_member && package.is_published)
            .map(|package| package.name.as_str())
            .collect();
        published.sort_unstable();
        let expected = [
            "watchkeeper",
            "watchkeeper-chain",
            "watchkeeper-chain-ethereum",
            "watchkeeper-console",
            "watchkeeper-cucumber",
            "watchkeeper-deploy",
            "watchkeeper-fsm",
            "watchkeeper-journal",
            "watchkeeper-pipeline",
            "watchkeeper-process",
            "watchkeeper-scenario",
        ];
        assert_eq!(published, expected);
    }

    #[test]
    fn a_source_or_a_file_that_it_includes_and_the_package_lacks_is_named() {
        let list = ["src/lib.rs", "src/a/b.rs", "README.md", "docs/x.md"].map(str::to_owned);
        let cases: [(&str, &str, &[&str]); 7] = [
            ("src/lib.rs", "#![doc = include_str!(\"../README.md\")]", &[]),
            ("src/a/b.rs", "include_str!(\"./../../docs/x.md\") include_bytes!(\"b.rs\")", &[]),
            ("src/lib.rs", "include_str!(concat!(\"x\"))", &[]),
            ("src/c.rs", "", &["src/c.rs is not in the package"]),
            (
                "src/lib.rs",
                "include_str!(\"../docs/y.md\"), include_str!(\"x.txt\")",
                &[
                    "src/lib.rs includes docs/y.md, which is not in the package",
                    "src/lib.rs includes src/x.txt, which is not in the package",
                ],
            ),
            (
                "src/lib.rs",
                "include!(\"y.rs\")",
                &["src/lib.rs includes src/y.rs, which is not in the package"],
            ),
            (
                "src/lib.rs",
                "include_str!(\"../../README.md\")",
                &["src/lib.rs includes ../../README.md, which is outside of the package"],
            ),
        ];
        for (path, text, expected) in cases {
            assert_eq!(absent(&[(path.to_owned(), text.to_owned())], &list), expected, "{path}: {text}");
        }
    }
}
