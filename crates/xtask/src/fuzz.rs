//! Fuzzing, by hand.

use std::fs;

use crate::needs::{self, Need};
use crate::shell;

/// A fuzz target, and the directory of its package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) name: &'static str,
    directory: &'static str,
}

const JOURNAL: &str = "crates/journal/fuzz";
const OBSERVERD: &str = "crates/observerd/fuzz";

/// The first one is the usual one.
pub(crate) const TARGETS: [Target; 5] = [
    Target { name: "recovery", directory: JOURNAL },
    Target { name: "config", directory: OBSERVERD },
    Target { name: "event", directory: OBSERVERD },
    Target { name: "events", directory: OBSERVERD },
    Target { name: "sse_id", directory: OBSERVERD },
];

/// Fuzzes a target. Nothing is installed: the error says how.
///
/// The corpus of the repository is read. What the fuzzer adds stays in `target/corpus` beside it, and inputs that fail in
/// `artifacts/`.
pub(crate) fn fuzz(target: Target, args: &[String]) -> Result<(), String> {
    has_all(&[&needs::NIGHTLY, &needs::CARGO_FUZZ])?;
    let grown = grown(target);
    fs::create_dir_all(&grown).map_err(|error| format!("{grown} cannot be made: {error}"))?;
    shell::run(&line(target, args))
}

fn has_all(needs: &[&Need]) -> Result<(), String> {
    let missing: Vec<String> = needs
        .iter()
        .filter(|need| !need.is_present())
        .map(|need| format!("{} is missing, install it: {}", need.name, need.how_to_install()))
        .collect();
    if missing.is_empty() { Ok(()) } else { Err(missing.join("; ")) }
}

fn grown(Target { name, directory }: Target) -> String {
    format!("{directory}/target/corpus/{name}")
}

fn line(target: Target, args: &[String]) -> String {
    let Target { name, directory } = target;
    let (grown, args) = (grown(target), args.iter().fold(String::new(), |args, arg| args + " " + arg));
    format!(
        "rustup run nightly cargo fuzz run --fuzz-dir {directory} {name} {grown} {directory}/corpus/{name} -- \
         -max_len=4096 -malloc_limit_mb=256 -timeout=20 -detect_leaks=0{args}"
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_fuzzer_reads_the_corpus_and_writes_beside_it() {
        let args = ["-runs=1".to_owned(), "-jobs=2".to_owned()];
        assert_eq!(
            line(TARGETS[0], &args),
            "rustup run nightly cargo fuzz run --fuzz-dir crates/journal/fuzz recovery \
             crates/journal/fuzz/target/corpus/recovery crates/journal/fuzz/corpus/recovery -- \
             -max_len=4096 -malloc_limit_mb=256 -timeout=20 -detect_leaks=0 -runs=1 -jobs=2"
        );
    }

    #[test]
    fn each_target_is_there() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for Target { name, directory } in TARGETS {
            let file = root.join(directory).join("fuzz_targets").join(name).with_extension("rs");
            assert!(file.is_file(), "{}", file.display());
        }
    }

    #[test]
    fn a_missing_tool_is_named_with_what_installs_it() {
        let there = Need { name: "cargo", probe: "cargo --version", install: &[] };
        let missing = Need { name: "tool", probe: "false", install: &["cargo install tool"] };
        assert_eq!(has_all(&[&there]), Ok(()));
        let error = has_all(&[&there, &missing]).unwrap_err();
        assert_eq!(error, "tool is missing, install it: cargo install tool");
    }
}
