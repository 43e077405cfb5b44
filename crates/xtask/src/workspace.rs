//! What cargo says about the workspace and the packages it is built from.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::shell;

/// A package of the dependency graph, the workspace's own included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    /// The oldest Rust it declares to build with.
    pub(crate) rust_version: Option<String>,
    /// Each feature, with what it switches on.
    pub(crate) features: BTreeMap<String, Vec<String>>,
    /// Whether it is of this workspace.
    pub(crate) is_member: bool,
    /// Whether others may depend on it.
    pub(crate) is_published: bool,
    /// The root files of its library and programs, from the workspace's root; none of another workspace's package.
    pub(crate) roots: Vec<String>,
    /// Its folder from the workspace's root; empty for that of the root.
    pub(crate) folder: String,
    /// What its manifest does not state of what a registry shows.
    pub(crate) unstated: Vec<&'static str>,
}

/// What a registry shows of a package.
const SHOWN: [&str; 6] = ["description", "license", "repository", "readme", "keywords", "categories"];

/// A package as `cargo tree` names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) version: String,
}

/// Every package of the lock file that any target needs.
pub(crate) fn packages() -> Result<Vec<Package>, String> {
    parse_metadata(&shell::read("cargo metadata --format-version 1 --all-features")?)
}

/// What `package` is built with, on any target and with all features: normal and build dependencies, and theirs.
pub(crate) fn built_with(package: &str) -> Result<Vec<Named>, String> {
    tree(package, "--target all --all-features")
}

/// What `package` is built with here, where no feature is asked for.
pub(crate) fn built_by_default(package: &str) -> Result<Vec<Named>, String> {
    tree(package, "")
}

fn tree(package: &str, selection: &str) -> Result<Vec<Named>, String> {
    let line = format!(
        "cargo tree --package {package} --edges normal,build {selection} --prefix none --format {{p}}"
    );
    let tree = parse_tree(&shell::read(&line)?)?;
    Ok(tree.into_iter().filter(|named| named.name != package).collect())
}

fn parse_metadata(json: &str) -> Result<Vec<Package>, String> {
    let metadata: Value =
        serde_json::from_str(json).map_err(|error| format!("cargo metadata printed no JSON: {error}"))?;
    let members = metadata["workspace_members"].as_array().ok_or("cargo metadata names no members")?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata names no packages")?;
    let root = metadata["workspace_root"].as_str().ok_or("cargo metadata names no workspace root")?;
    packages
        .iter()
        .map(|package| {
            let text = |key: &str| package[key].as_str().map(str::to_owned);
            Ok(Package {
                name: text("name").ok_or("cargo metadata has a package without a name")?,
                version: text("version").ok_or("cargo metadata has a package without a version")?,
                rust_version: text("rust_version"),
                features: package["features"]
                    .as_object()
                    .map(|all| all.iter().map(|(feature, on)| (feature.clone(), texts(on))).collect())
                    .unwrap_or_default(),
                is_member: members.contains(&package["id"]),
                // `publish = false` is an empty list of registries, no statement is null.
                is_published: package["publish"].is_null(),
                roots: root_files(&package["targets"], root),
                folder: text("manifest_path")
                    .and_then(|manifest| {
                        below(&manifest, root)?.strip_suffix("Cargo.toml").map(str::to_owned)
                    })
                    .map_or_else(String::new, |folder| folder.trim_end_matches('/').to_owned()),
                unstated: SHOWN.into_iter().filter(|key| is_empty(&package[*key])).collect(),
            })
        })
        .collect()
}

fn texts(array: &Value) -> Vec<String> {
    let all = array.as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

fn root_files(targets: &Value, workspace: &str) -> Vec<String> {
    let targets = targets.as_array().map(Vec::as_slice).unwrap_or_default();
    let is_code = |target: &&Value| {
        let kinds = target["kind"].as_array().map(Vec::as_slice).unwrap_or_default();
        kinds.iter().any(|kind| kind == "lib" || kind == "bin" || kind == "proc-macro")
    };
    let path = |target: &Value| Some(below(target["src_path"].as_str()?, workspace)?.to_owned());
    targets.iter().filter(is_code).filter_map(path).collect()
}

/// `path` from `folder`.
fn below<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    path.strip_prefix(folder)?.strip_prefix('/')
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::String(text) => text.trim().is_empty(),
        Value::Array(all) => all.is_empty(),
        _ => true,
    }
}

/// Lines such as `syn v2.0.1 (proc-macro) (*)`, in which a package may return.
fn parse_tree(tree: &str) -> Result<Vec<Named>, String> {
    let mut all = tree
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
            [name, version, ..] if version.starts_with('v') => {
                Ok(Named { name: name.to_owned(), version: version[1..].to_owned() })
            }
            _ => Err(format!("cargo tree printed a line that names no package: {line}")),
        })
        .collect::<Result<Vec<_>, _>>()?;
    all.sort();
    all.dedup();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_names_members_features_roots_and_what_is_published() {
        let json = r#"{
            "workspace_root": "/w",
            "workspace_members": ["path+file:///w#core@0.1.0", "path+file:///w/tool#0.1.0"],
            "packages": [
                {"id": "path+file:///w#core@0.1.0", "name": "core", "version": "0.1.0", "rust_version": "1.88",
                 "features": {"default": [], "json": ["dep:serde"]}, "publish": null,
                 "targets": [{"kind": ["lib"], "src_path": "/w/src/lib.rs"},
                             {"kind": ["test"], "src_path": "/w/tests/it.rs"}]},
                {"id": "path+file:///w/tool#0.1.0", "name": "tool", "version": "0.1.0", "rust_version": null,
                 "features": {}, "publish": [], "manifest_path": "/w/crates/tool/Cargo.toml",
                 "description": "A tool.", "license": "MIT", "readme": null, "keywords": ["x"], "categories": []},
                {"id": "registry+https://x#serde@1.0.0", "name": "serde", "version": "1.0.0",
                 "rust_version": "1.56", "features": {}, "publish": null}
            ]}"#;
        let package = |name: &str,
                       version: &str,
                       rust: Option<&str>,
                       features: &[(&str, &[&str])],
                       member,
                       published| Package {
            name: name.to_owned(),
            version: version.to_owned(),
            rust_version: rust.map(str::to_owned),
            features: features
                .iter()
                .map(|(feature, on)| ((*feature).to_owned(), on.iter().map(|&on| on.to_owned()).collect()))
                .collect(),
            is_member: member,
            is_published: published,
            roots: Vec::new(),
            folder: String::new(),
            unstated: SHOWN.to_vec(),
        };
        let core =
            package("core", "0.1.0", Some("1.88"), &[("default", &[]), ("json", &["dep:serde"])], true, true);
        let expected = vec![
            Package { roots: vec!["src/lib.rs".to_owned()], ..core },
            Package {
                folder: "crates/tool".to_owned(),
                unstated: vec!["repository", "readme", "categories"],
                ..package("tool", "0.1.0", None, &[], true, false)
            },
            package("serde", "1.0.0", Some("1.56"), &[], false, true),
        ];
        assert_eq!(parse_metadata(json), Ok(expected));
    }

    #[test]
    fn metadata_of_another_form_is_an_error() {
        for json in
            ["", "[]", r#"{"workspace_members": []}"#, r#"{"workspace_members": [], "packages": [{}]}"#]
        {
            assert!(parse_metadata(json).is_err(), "{json}");
        }
    }

    #[test]
    fn a_tree_names_each_package_and_version_once() {
        let tree = "core v0.1.0 (/w/core)\nsyn v2.0.1\nsyn v1.0.9 (proc-macro)\n\nsyn v2.0.1 (*)\n";
        let named = |name: &str, version: &str| Named { name: name.to_owned(), version: version.to_owned() };
        let expected = vec![named("core", "0.1.0"), named("syn", "1.0.9"), named("syn", "2.0.1")];
        assert_eq!(parse_tree(tree), Ok(expected));
        assert!(parse_tree("[build-dependencies]").is_err());
    }

    #[test]
    fn cargo_still_prints_what_is_read_here() {
        let all = packages().expect("cargo metadata is read");
        let own = all.iter().find(|package| package.name == "xtask").expect("xtask is a package");
        assert!(own.is_member && !own.is_published, "{own:?}");
        assert_eq!(own.roots, ["crates/xtask/src/main.rs"]);
        assert_eq!(
            (own.folder.as_str(), &own.unstated[..]),
            ("crates/xtask", &["readme", "keywords", "categories"][..])
        );
        let below = built_with("xtask").expect("cargo tree is read");
        assert!(below.iter().any(|named| named.name == "serde_json"), "{below:?}");
        assert!(below.iter().all(|named| named.name != "xtask"), "{below:?}");
    }
}
