//! What `cargo xtask test` runs, fast checks first.

use std::fmt::Write;

use crate::checks;
use crate::needs::{self, Need};
use crate::package;
use crate::shelf;
use crate::verdict::Verdict;
use crate::words;

/// A check of the tree. A new one is an added row in [`STEPS`].
#[derive(Debug)]
pub(crate) struct Step {
    /// What `--only` calls it.
    pub(crate) name: &'static str,
    /// What holds when it passes.
    pub(crate) why: &'static str,
    /// The tools without which it is left out.
    pub(crate) needs: &'static [&'static Need],
    pub(crate) work: Work,
}

#[derive(Debug)]
pub(crate) enum Work {
    /// One command, written as it is typed.
    Line(&'static str),
    /// Commands and questions that depend on the workspace. An error is a failure.
    Check(fn() -> Result<Verdict, String>),
}

pub(crate) static STEPS: &[Step] = &[
    Step {
        name: "fmt",
        why: "every file is formatted",
        needs: &[&needs::RUSTFMT],
        work: Work::Line("cargo fmt --all --check"),
    },
    Step {
        name: "words",
        why: "no text has a word of docs/words.md",
        needs: &[],
        work: Work::Check(words::words),
    },
    Step {
        name: "clippy",
        why: "libraries, tests, examples and benchmarks compile without a warning",
        needs: &[&needs::CLIPPY],
        work: Work::Check(checks::clippy),
    },
    Step {
        name: "doc",
        why: "the documentation has no broken link",
        needs: &[],
        // With an example, cargo asks for the features of dev-dependencies too: those that clippy has built with.
        // Without one, this step would check 80 dependencies a second time.
        work: Work::Line(concat!(
            "RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --exclude watchkeeper-chain-bitcoin ",
            "--no-deps --all-features --lib --bin xtask --example counter"
        )),
    },
    Step {
        name: "deny",
        why: "licences, bans and sources are as deny.toml says (advisories need a database that is not fetched)",
        needs: &[&needs::CARGO_DENY],
        work: Work::Line(
            "cargo deny --workspace --all-features check --hide-inclusion-graph licenses bans sources",
        ),
    },
    Step {
        name: "directions",
        why: concat!(
            "the machine is built with no runtime, clock, I/O or randomness, the library and the first command with ",
            "nothing heavy, and no modules import in a circle"
        ),
        needs: &[],
        work: Work::Check(checks::directions),
    },
    Step {
        name: "msrv",
        why: "no dependency of a published package needs a newer Rust than the package states",
        needs: &[],
        work: Work::Check(checks::msrv),
    },
    Step {
        name: "package",
        why: "each published package is complete: what a registry shows, both licences, and every file that it includes",
        needs: &[],
        work: Work::Check(package::package),
    },
    Step {
        name: "nextest",
        why: "unit and integration tests pass",
        needs: &[&needs::CARGO_NEXTEST],
        work: Work::Line(concat!(
            "cargo nextest run --workspace --exclude watchkeeper-chain-bitcoin ",
            "--all-features --profile ci"
        )),
    },
    Step {
        name: "doctest",
        why: "the examples in the documentation pass",
        needs: &[],
        work: Work::Line("cargo test --doc --workspace --exclude watchkeeper-chain-bitcoin --all-features"),
    },
    // Before what makes an image: it builds nearly all of the program that goes into it.
    Step {
        name: "demo",
        why: "the README's first command works",
        needs: &[],
        work: Work::Check(checks::demo),
    },
    Step {
        name: "examples",
        why: "each example is short, runs, and holds what it asserts",
        needs: &[],
        work: Work::Check(shelf::examples),
    },
    Step {
        name: "features",
        why: "each published package compiles by itself, and each feature alone",
        needs: &[&needs::CLIPPY],
        work: Work::Check(checks::features),
    },
    Step {
        name: "platforms",
        why: "the libraries build on macOS and Windows, and what does not says so (skipped where Rust's targets cannot be added)",
        needs: &[],
        work: Work::Check(checks::platforms),
    },
    Step {
        name: "models",
        why: "our concurrent code holds under every interleaving",
        needs: &[&needs::CARGO_NEXTEST],
        work: Work::Check(checks::models),
    },
    Step {
        name: "pods",
        why: "the pods of the Kubernetes manifests run under Podman, restricted, and fail over",
        needs: &[&needs::CARGO_NEXTEST, &needs::PODMAN, &needs::CATATONIT, &needs::RUNC, &needs::IPROUTE],
        work: Work::Check(checks::pods),
    },
    Step {
        name: "api",
        why: "the service answers schemathesis as its own description says",
        needs: &[&needs::CARGO_NEXTEST, &needs::PYTHON, &needs::SCHEMATHESIS],
        work: Work::Check(checks::api),
    },
    Step {
        name: "etcd",
        why: "three real etcd are deployed, lose their leader, elect another, and agree again",
        needs: &[&needs::ETCD],
        work: Work::Check(checks::etcd),
    },
    Step {
        name: "chains",
        why: "the chain adapters and their observer hold on real nodes",
        needs: &[&needs::CARGO_NEXTEST, &needs::NPM, &needs::ANVIL],
        work: Work::Check(checks::chains),
    },
    Step {
        name: "bitcoin",
        why: "the Bitcoin adapter holds on the real consensus code, which no other step builds",
        needs: &[&needs::CARGO_NEXTEST, &needs::CLIPPY, &needs::CXX, &needs::CMAKE, &needs::BOOST],
        work: Work::Check(checks::bitcoin),
    },
    Step {
        name: "containers",
        why: "the example in containers fails over, is cut in two, heals, and leaves nothing behind",
        needs: &[&needs::CARGO_NEXTEST, &needs::DOCKER, &needs::DOCKER_COMPOSE, &needs::IPTABLES],
        work: Work::Check(checks::containers),
    },
];

/// Steps that mostly wait for servers: in a run of all steps they run beside those that come after [`BUILT`] and build,
/// in processes of their own, one after the other in the order of [`STEPS`].
pub(crate) const BESIDE: &[&str] = &["pods", "api", "etcd", "chains", "containers"];

/// After this step nearly all is built that the steps of [`BESIDE`] need.
pub(crate) const BUILT: &str = "demo";

/// By hand, and in no run of all steps: it takes hours.
pub(crate) static MUTANTS: Step = Step {
    name: "mutants",
    why: "a test notices each flip in waits, history, subscription, deadline and the lifecycle machine",
    needs: &[&needs::CARGO_NEXTEST, &needs::CARGO_MUTANTS],
    work: Work::Check(checks::mutants),
};

/// The steps' names for a message.
pub(crate) fn names() -> String {
    STEPS.iter().map(|step| step.name).collect::<Vec<_>>().join(", ")
}

/// One line for each step: what holds when it passes, and the tools it needs.
pub(crate) fn list() -> String {
    STEPS.iter().fold(String::new(), |mut list, step| {
        let needs: Vec<&str> = step.needs.iter().map(|need| need.name).collect();
        let needs = if needs.is_empty() { String::new() } else { format!(" (needs {})", needs.join(", ")) };
        // Writing to a String cannot fail.
        let _ = writeln!(list, "{:<11} {}{needs}", step.name, step.why);
        list
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_step_for_the_whole_workspace_builds_the_consensus_code() {
        let builds = |line: &str| ["clippy", "doc", "nextest", "test"].iter().any(|word| line.contains(word));
        let lines: Vec<&str> = STEPS
            .iter()
            .filter_map(|step| match step.work {
                Work::Line(line) => Some(line),
                Work::Check(_) => None,
            })
            .filter(|line| line.contains("--workspace") && builds(line))
            .collect();
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines.iter().all(|line| line.contains("--exclude watchkeeper-chain-bitcoin ")), "{lines:?}");
    }

    #[test]
    fn what_runs_beside_others_comes_after_what_is_built_for_it() {
        let place = |name: &str| STEPS.iter().position(|step| step.name == name);
        let built = place(BUILT).expect("it is a step");
        for name in BESIDE {
            assert!(place(name).expect("it is a step") > built, "{name}");
        }
    }

    #[test]
    fn every_step_has_a_name_of_its_own() {
        let names: BTreeSet<&str> = STEPS.iter().map(|step| step.name).collect();
        assert_eq!(names.len(), STEPS.len());
    }

    #[test]
    fn the_list_shows_each_step_and_what_it_needs() {
        let list = list();
        assert_eq!(list.lines().count(), STEPS.len());
        assert!(list.contains("deny        licences, bans"), "{list}");
        assert!(list.contains("(needs cargo-deny)"), "{list}");
    }
}
