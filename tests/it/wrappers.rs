//! What wraps another forwards every method of its trait: one that is left out has a default, so that nothing else
//! would notice.

use std::fs;
use std::path::Path;

fn source(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The names of the methods between `begins` and the line `}`, in order, without those that are hidden in the docs.
fn methods(code: &str, begins: &str) -> Vec<String> {
    let (_, code) = code.split_once(begins).unwrap_or_else(|| panic!("there is {begins}"));
    let (block, _) = code.split_once("\n}\n").unwrap();
    let (mut found, mut hidden) = (Vec::new(), false);
    for line in block.lines() {
        let declared = line.strip_prefix("    async fn ").or(line.strip_prefix("    fn "));
        if let Some(declared) = declared {
            if !hidden {
                found.push(declared.split(['(', '<']).next().unwrap().to_owned());
            }
            hidden = false;
        }
        hidden |= line.trim() == "#[doc(hidden)]";
    }
    found
}

/// The methods in the table under `# Wrappers`.
fn listed(code: &str) -> Vec<String> {
    let (_, section) = code.split_once("/// # Wrappers\n").unwrap();
    let rows = section.lines().skip_while(|line| !line.starts_with("/// |"));
    let rows = rows.take_while(|line| line.starts_with("/// |"));
    rows.filter_map(|row| Some(row.split("[`").nth(1)?.split('`').next()?.to_owned())).collect()
}

#[test]
fn the_table_of_each_trait_has_all_that_its_wrappers_forward() {
    let observer = source("src/observer.rs");
    let mut methods_of_observer = methods(&observer, "pub trait Observer");
    methods_of_observer.retain(|name| !["init", "poll", "snapshot"].contains(&&**name));
    assert_eq!(listed(&observer), methods_of_observer);
    assert!(listed(&observer).len() == 6 && observer.contains("forwards these six to it"));

    let provider = source("src/source/mod.rs");
    let methods_of_provider = methods(&provider, "pub trait SourceProvider");
    assert_eq!(listed(&provider), methods_of_provider);
    assert_eq!(methods_of_provider, ["sources", "revision"]);
}

#[test]
fn ours_forward_all_of_them() {
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };
    let all = sorted(methods(&source("src/observer.rs"), "pub trait Observer"));
    for (path, begins) in [
        ("src/runtime/transactional.rs", "Observer for Transactional<O>"),
        ("src/per_source/mod.rs", "Observer for PerSource<"),
        ("crates/chain/src/projection/projected.rs", "Observer for Projected<O, P>"),
        ("crates/chain/src/observer/mod.rs", "Observer for ChainObserver<C>"),
        ("examples/openraft_kv/src/observer.rs", "Observer for RaftObserver"),
    ] {
        assert_eq!(sorted(methods(&source(path), begins)), all, "{path}");
    }
    // With those that are hidden: what is held by value is dropped item by item.
    let provider = source("src/source/mod.rs");
    for begins in ["SourceProvider<S> for Box<P>", "SourceProvider<S> for Arc<P>"] {
        let found = sorted(methods(&provider, begins));
        assert_eq!(found, ["drop_one_by_one", "drop_shared", "revision", "sources"], "{begins}");
    }
    let found =
        sorted(methods(&source("crates/scenario/src/manual.rs"), "SourceProvider<C> for ClusterSources<C>"));
    assert_eq!(found, ["revision", "sources"]);
}
