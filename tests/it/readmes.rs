//! A block of dependencies in a README or guide can be copied: it names what there is, at the version that is used, and
//! all that the code around it needs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The entry of one crate in a table of dependencies.
#[derive(Debug, Default, PartialEq)]
struct Dependency {
    version: Option<String>,
    git: Option<String>,
}

type Dependencies = BTreeMap<String, Dependency>;

/// The value of `key = "value"` in `text`.
fn value(text: &str, key: &str) -> Option<String> {
    let after = text.split(&format!("{key} = \"")).nth(1)?;
    after.split('"').next().map(str::to_owned)
}

/// The entries of the tables in `toml` whose name `is_wanted`.
fn dependencies(toml: &str, is_wanted: impl Fn(&str) -> bool) -> Dependencies {
    let (mut wanted, mut found) = (false, Dependencies::new());
    for line in toml.lines() {
        if let Some(table) = line.strip_prefix('[') {
            wanted = is_wanted(table.trim_start_matches('[').split(']').next().unwrap());
        } else if let Some((name, what)) = line.split_once(" = ").filter(|_| wanted && !line.starts_with('#'))
        {
            let entry = if what.starts_with('"') {
                Dependency { version: value(line, name), git: None }
            } else {
                Dependency { version: value(what, "version"), git: value(what, "git") }
            };
            found.insert(name.to_owned(), entry);
        }
    }
    found
}

/// The blocks of `text` in the language that `is_wanted`, without hidden lines.
fn blocks(text: &str, is_wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let fenced = text.split("\n```").skip(1).step_by(2);
    let named = fenced.filter_map(|block| block.split_once('\n')).filter(|(language, _)| is_wanted(language));
    let shown = |code: &str| -> String {
        code.lines().filter(|line| !line.starts_with("# ")).flat_map(|line| [line, "\n"]).collect()
    };
    named.map(|(_, code)| shown(code)).collect()
}

fn is_rust(language: &str) -> bool {
    language.is_empty() || language.starts_with("rust")
}

/// Which of `known` the code names, as `name::` or by a macro of it.
fn needed<'a>(code: &str, known: impl Iterator<Item = &'a String>) -> Vec<&'a str> {
    let is_named = |name: &str| {
        let path = format!("{}::", name.replace('-', "_"));
        let part_of_another = |c: char| c == '_' || c == ':' || c.is_alphanumeric();
        let named = code.match_indices(&path).any(|(at, _)| !code[..at].ends_with(part_of_another));
        named || (name == "serde_json" && code.contains("json!("))
    };
    known.map(String::as_str).filter(|name| is_named(name)).collect()
}

/// Whether `version` is one that Cargo accepts for the requirement `stated`.
fn fits(version: &str, stated: &str) -> bool {
    let numbers = |text: &str| text.split('.').map(|part| part.parse().unwrap()).collect::<Vec<u64>>();
    let (version, stated) = (numbers(version), numbers(stated));
    // Up to the first number that is not 0 all are equal; from there on it is not older.
    let equal = stated.iter().position(|number| *number > 0).unwrap_or(0) + 1;
    version[..equal] == stated[..equal] && version[..stated.len()] >= stated[..]
}

/// All READMEs and guides of the workspace.
fn pages(root: &Path) -> Vec<PathBuf> {
    let mut pages = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let is_ours = !name.starts_with('.') && !["target", "src", "node_modules"].contains(&name);
            if path.is_dir() && !path.is_symlink() && is_ours {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    pages
}

#[test]
fn a_block_of_dependencies_is_true_and_has_all_that_the_code_beside_it_needs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    let (manifest, lock) = (read("Cargo.toml"), read("Cargo.lock"));
    let repository = value(&manifest, "repository").unwrap();
    let known = dependencies(&manifest, |table| table == "workspace.dependencies");
    let locked = |name: &str, stated: &str| {
        let packages = lock.split("[[package]]").filter(|one| value(one, "name").as_deref() == Some(name));
        packages.filter_map(|one| value(one, "version")).any(|version| fits(&version, stated))
    };
    let mut checked = Vec::new();
    for page in pages(root) {
        let text = fs::read_to_string(&page).unwrap();
        let page = page.strip_prefix(root).unwrap().display().to_string();
        let stated = blocks(&text, |language| language == "toml").concat();
        let stated = dependencies(&stated, |table| table.ends_with("dependencies"));
        if stated.is_empty() {
            continue;
        }
        for (name, entry) in &stated {
            let Some(used) = known.get(name) else { panic!("{page}: the workspace has no {name}") };
            if let Some(git) = &entry.git {
                let ours = ["", "fsm/", &format!("crates/{}/", name.trim_start_matches("watchkeeper-"))]
                    .map(|folder| root.join(folder).join("Cargo.toml"))
                    .iter()
                    .filter_map(|manifest| fs::read_to_string(manifest).ok())
                    .any(|manifest| value(&manifest, "\nname").as_deref() == Some(&**name));
                assert!(ours && *git == repository, "{page}: {name} is not at {git}");
            } else {
                assert_eq!(entry.version, used.version, "{page}: {name}");
                let version = entry.version.as_ref().unwrap();
                assert!(locked(name, version), "{page}: {name} {version} is not what is built");
            }
        }
        for name in needed(&blocks(&text, is_rust).concat(), known.keys()) {
            assert!(stated.contains_key(name), "{page}: its code needs {name}");
        }
        // A test target with its own `main` is no test without it.
        assert!(!text.contains("[[test]]") || text.contains("harness = false"), "{page}");
        checked.push(page);
    }
    checked.sort();
    let all = [
        "README.md",
        "crates/cucumber/README.md",
        "crates/deploy/README.md",
        "crates/process/README.md",
        "crates/scenario/README.md",
        "docs/first_observer.md",
    ];
    assert_eq!(checked, all);
}

#[test]
fn a_version_fits_as_cargo_says() {
    for (version, stated, expected) in [
        ("1.54.0", "1.54", true),
        ("1.60.2", "1.54", true),
        ("1.53.9", "1.54", false),
        ("2.0.0", "1.54", false),
        ("0.23.1", "0.23", true),
        ("0.24.0", "0.23", false),
        ("1.0.9", "1", true),
        ("0.0.4", "0.0.3", false),
    ] {
        assert_eq!(fits(version, stated), expected, "{version} for {stated}");
    }
}
