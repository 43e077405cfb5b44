//! The steps that are more than one fixed command.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{self, Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::circles;
use crate::engine::Engine;
use crate::shell;
use crate::verdict::Verdict;
use crate::workspace::{self, Named, Package};

/// What a package may be built with: its place in the layout.
#[derive(Debug)]
enum Rule {
    /// These packages and no other.
    Only(&'static [&'static str]),
    /// None of these, nor of the packages named after them (`hyper` stands for `hyper-util` too).
    Never(&'static [&'static str]),
}

/// The machine has no runtime, clock, I/O or randomness; the library has nothing heavy, behind no feature; the
/// chain's observer has no client of any node, and its command line does without minutes of C++.
const DIRECTIONS: &[(&str, Rule)] = &[
    (
        "watchkeeper-fsm",
        Rule::Only(&[
            "statig",
            "statig_macro",
            "proc-macro-error2",
            "proc-macro-error-attr2",
            "proc-macro2",
            "quote",
            "syn",
            "unicode-ident",
        ]),
    ),
    (
        "watchkeeper",
        Rule::Never(&["axum", "hyper", "wasmtime", "alloy", "async-nats", "bollard", "kube", "cucumber"]),
    ),
    (
        "watchkeeper-chain",
        Rule::Never(&[
            "alloy",
            "bitcoin",
            "http",
            "hyper",
            "rustls",
            "tokio-tungstenite",
            "watchkeeper-process",
        ]),
    ),
    ("chain", Rule::Never(&["bitcoin", "bitcoinkernel", "libbitcoinkernel-sys"])),
];

/// The README's first command has its first result within some 100 s, from a clone whose dependencies are fetched:
/// what takes minutes to build is behind a feature.
const FIRST_COMMAND: (&str, Rule) =
    ("openraft_kv", Rule::Never(&["kube", "k8s-openapi", "bollard", "cucumber", "rustls", "aws-lc"]));

/// Dependencies point the way that the layout says, the first command builds little, and no modules import in a circle.
pub(crate) fn directions() -> Result<Verdict, String> {
    let mut broken = first_command(&workspace::built_by_default(FIRST_COMMAND.0)?);
    for (package, rule) in DIRECTIONS {
        let below = workspace::built_with(package)?;
        println!("  {package} is built with {} packages", below.len());
        broken.extend(
            rule.broken_by(&below).map(|named| format!("{package} must not be built with {}", named.name)),
        );
    }
    broken.extend(circles::of_workspace()?);
    Verdict::of(&broken)
}

/// What the README's first command must not build.
fn first_command(below: &[Named]) -> Vec<String> {
    let (package, rule) = FIRST_COMMAND;
    println!("  {package} is built with {} packages by default", below.len());
    let wrong = rule.broken_by(below);
    wrong
        .map(|named| format!("{package} must not be built with {} by default: make it a feature", named.name))
        .collect()
}

impl Rule {
    fn broken_by<'a>(&self, below: &'a [Named]) -> impl Iterator<Item = &'a Named> {
        below.iter().filter(move |named| match self {
            Self::Only(allowed) => !allowed.contains(&named.name.as_str()),
            Self::Never(denied) => denied.iter().any(|denied| is_of(&named.name, denied)),
        })
    }
}

/// Whether `name` is the package `family` or is named after it.
fn is_of(name: &str, family: &str) -> bool {
    name.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_']))
}

/// A published package builds with the Rust that it states, and so do its dependencies.
pub(crate) fn msrv() -> Result<Verdict, String> {
    let packages = workspace::packages()?;
    let mut broken = Vec::new();
    for package in packages.iter().filter(|package| package.is_member && package.is_published) {
        let below = workspace::built_with(&package.name)?;
        broken.extend(needs_newer_rust(package, &below, &packages)?);
    }
    Verdict::of(&broken)
}

fn needs_newer_rust(package: &Package, below: &[Named], packages: &[Package]) -> Result<Vec<String>, String> {
    let Some(stated) = &package.rust_version else {
        return Ok(vec![format!("{} is published and states no rust-version", package.name)]);
    };
    let mut broken = Vec::new();
    for named in below {
        let found = packages.iter().find(|other| other.name == named.name && other.version == named.version);
        let Some(needed) = found.and_then(|other| other.rust_version.as_ref()) else { continue };
        if release(needed)? > release(stated)? {
            let Named { name, version } = named;
            broken
                .push(format!("{} states Rust {stated}, but {name} {version} needs {needed}", package.name));
        }
    }
    Ok(broken)
}

/// `1.88` and `1.88.0` are the same release.
fn release(text: &str) -> Result<[u32; 3], String> {
    let mut release = [0; 3];
    for (at, part) in text.split('.').enumerate() {
        let number = part.parse().ok();
        let (Some(place), Some(number)) = (release.get_mut(at), number) else {
            return Err(format!("`{text}` is no Rust release such as 1.88.0"));
        };
        *place = number;
    }
    Ok(release)
}

/// Each package that others build is checked by itself, and every feature alone.
pub(crate) fn features() -> Result<Verdict, String> {
    let packages = workspace::packages()?;
    let broken: Vec<String> =
        feature_checks(&packages).iter().filter_map(|line| shell::run(line).err()).collect();
    Verdict::of(&broken)
}

/// A workspace build gives every package the features that any other asks for; these commands do not.
///
/// An application's own features are switched alone too, but on the dependencies that the clippy step has checked:
/// beside all features of the other packages but those that the feature itself has to switch on. By itself, without
/// them, an application is built for the demonstration.
fn feature_checks(packages: &[Package]) -> Vec<String> {
    let members = || packages.iter().filter(|package| package.is_member && package.name != LEFT_OUT);
    let mut lines = Vec::new();
    for Package { name, features, is_published, .. } in members() {
        if *is_published {
            let line = |features: &str| {
                format!("cargo clippy --package {name} --no-default-features{features} -- -D warnings")
            };
            lines.push(line(""));
            lines.extend(features.keys().map(|feature| line(&format!(" --features {feature}"))));
            continue;
        }
        let of_others = members()
            .filter(|other| other.name != *name)
            .flat_map(|other| other.features.keys().map(move |feature| format!("{}/{feature}", other.name)));
        let of_others: Vec<String> = of_others.collect();
        lines.extend(features.iter().map(|(feature, on)| {
            let own = format!("{name}/{feature}");
            let others = of_others.iter().filter(|other| !on.contains(other));
            let features = others.chain([&own]).map(String::as_str).collect::<Vec<_>>().join(",");
            format!(
                "cargo clippy --workspace --exclude {LEFT_OUT} --bin {name} --example counter \
                 --no-default-features --features {features} -- -D warnings"
            )
        }));
    }
    lines
}

/// The package that has a step of its own.
const LEFT_OUT: &str = "watchkeeper-chain-bitcoin";

/// Where the libraries build beside Linux. To check needs no linker of theirs.
const PLATFORMS: &[&str] = &["x86_64-pc-windows-gnu", "aarch64-apple-darwin"];
const PORTABLE: &[&str] = &[
    "watchkeeper-fsm",
    "watchkeeper",
    "watchkeeper-scenario",
    "watchkeeper-cucumber",
    "watchkeeper-pipeline",
    "watchkeeper-journal",
    "watchkeeper-console",
    "watchkeeper-chain",
];
const LINUX_ONLY: &str = "watchkeeper-process";

/// The libraries build elsewhere, and what is for Linux only does not.
pub(crate) fn platforms() -> Result<Verdict, String> {
    let (absent, present): (Vec<&str>, Vec<&str>) =
        PLATFORMS.iter().partition(|target| shell::run(&format!("rustup target add {target}")).is_err());
    let mut broken: Vec<String> = Vec::new();
    if !present.is_empty() {
        broken.extend(shell::run(&portable_line(&present)).err());
    }
    for target in present {
        let printed = shell::failing(&format!("cargo check --package {LINUX_ONLY} --target {target}"))?;
        broken.extend(not_only_linux(printed.as_deref()).map(|what| format!("for {target}, {what}")));
    }
    if broken.is_empty() && !absent.is_empty() {
        return Ok(Verdict::Skipped(format!("rustup could not add {}", absent.join(", "))));
    }
    Verdict::of(&broken)
}

/// What is wrong with the way in which [`LINUX_ONLY`] did not build: there is to be one error, which says so. The
/// examples that start processes depend on it, so that they end with the same one.
fn not_only_linux(printed: Option<&str>) -> Option<String> {
    let Some(printed) = printed else {
        return Some(format!("{LINUX_ONLY} builds, and is for Linux only: has its error gone?"));
    };
    let errors: Vec<&str> = printed.lines().filter(|line| line.starts_with("error")).collect();
    match errors[..] {
        [said, end] if said.contains("are for Linux only") && end.starts_with("error: could not compile") => {
            None
        }
        _ => Some(format!("{LINUX_ONLY} does not build for other reasons: {errors:?}")),
    }
}

fn portable_line(targets: &[&str]) -> String {
    let (packages, targets) = (PORTABLE.join(" --package "), targets.join(" --target "));
    format!("cargo check --package {packages} --all-features --keep-going --target {targets}")
}

/// Our concurrent code under every interleaving that loom finds.
pub(crate) fn models() -> Result<Verdict, String> {
    if !mentions(Path::new("src"), "watchkeeper_loom")? {
        return Ok(Verdict::Skipped("no source in src mentions cfg(watchkeeper_loom)".to_owned()));
    }
    // A run without a single model is a failure: nextest's `--no-tests fail`.
    shell::run(
        "RUSTFLAGS=--cfg=watchkeeper_loom cargo nextest run --package watchkeeper --lib --cargo-profile models \
         --profile ci --no-tests fail loom",
    )?;
    Ok(Verdict::Passed)
}

/// What is flipped: where a fault goes unnoticed for long. Folders end with `/`.
const FLIPPED: &[&str] = &[
    "src/wait/",
    "src/publish/history.rs",
    "src/publish/queue.rs",
    "src/subscription.rs",
    "src/task/deadline.rs",
    "src/pulse.rs",
    "src/pulse/",
    "src/waiting.rs",
];
/// The same in the machine, a package of its own: its tests alone are run, and take seconds.
const FLIPPED_IN_THE_MACHINE: &[&str] = &["fsm/src/"];
/// What is flipped a second time, for the models to notice: what goes wrong in some orders only.
const FLIPPED_FOR_MODELS: &[&str] =
    &["src/publish/queue.rs", "src/publish/history.rs", "src/subscription.rs"];

/// Flips the code line by line and runs the tests on each. Every flip that none of them notices is named.
pub(crate) fn mutants() -> Result<Verdict, String> {
    let broken: Vec<String> = [
        (
            "target/mutants-of-fsm",
            mutants_line("watchkeeper-fsm", "target/mutants-of-fsm", FLIPPED_IN_THE_MACHINE, ""),
        ),
        // A tenth of the lives that the models play: each flip plays them again.
        (
            "target/mutants",
            format!("PROPTEST_CASES=250 {}", mutants_line("watchkeeper", "target/mutants", FLIPPED, "")),
        ),
        (
            "target/mutants-of-models",
            format!(
                "RUSTFLAGS=--cfg=watchkeeper_loom {}",
                mutants_line("watchkeeper", "target/mutants-of-models", FLIPPED_FOR_MODELS, " -- --lib loom")
            ),
        ),
    ]
    .into_iter()
    .filter_map(|(output, line)| {
        let made = fs::create_dir_all(output).map_err(|error| format!("{output} cannot be made: {error}"));
        let flipped = made.and_then(|()| shell::run(&line));
        flipped
            .err()
            .map(|error| format!("{error}: {output}/mutants.out/missed.txt names what went unnoticed"))
    })
    .collect();
    Verdict::of(&broken)
}

/// With `=`, so that no shell takes the patterns for its own.
fn mutants_line(package: &str, output: &str, files: &[&str], tests: &str) -> String {
    let files = files.iter().fold(String::new(), |files, file| {
        let all = if file.ends_with('/') { "**" } else { "" };
        files + &format!(" --file={file}{all}")
    });
    format!(
        "cargo mutants --package={package} --test-tool=nextest --all-features --output={output}{files} \
         --exclude=**/loom_tests.rs --exclude=**/tests.rs --exclude=fsm/src/tests/** \
         --exclude-re=tests::{tests}"
    )
}

fn mentions(folder: &Path, word: &str) -> Result<bool, String> {
    let unread = |error: std::io::Error| format!("{} cannot be read: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(unread)? {
        let path = entry.map_err(unread)?.path();
        let found = if path.is_dir() {
            mentions(&path, word)?
        } else {
            path.extension().is_some_and(|extension| extension == "rs")
                && fs::read_to_string(&path).map_err(unread)?.contains(word)
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The longest that the demonstration may take, once built.
const DEMO_LIMIT: Duration = Duration::from_secs(120);

/// The README's first command, as a program reads it: one JSON object a line, exit code 0.
pub(crate) fn demo() -> Result<Verdict, String> {
    shell::run("cargo build --package openraft_kv")?;
    let lines = shell::lines_within("cargo run --package openraft_kv -- --json", DEMO_LIMIT)?;
    are_events(&lines)?;
    Ok(Verdict::Passed)
}

fn are_events(lines: &[String]) -> Result<(), String> {
    if lines.is_empty() {
        return Err("the demonstration printed no event".to_owned());
    }
    match lines.iter().find(|line| !serde_json::from_str::<Value>(line).is_ok_and(|value| value.is_object()))
    {
        Some(line) => Err(format!("the demonstration printed a line that is no JSON object: {line}")),
        None => Ok(()),
    }
}

/// What the steps build whose tests the other steps leave out: as those do, for the whole workspace.
///
/// With another selection of packages or features all dependencies would be built again.
pub(crate) const AS_THE_OTHERS: &str = "--workspace --exclude watchkeeper-chain-bitcoin --all-features";

/// The tests of other steps, which `--all-targets` leaves out, and beside which cargo would not see them.
const TESTS_OF_OTHER_STEPS: &str =
    "--test anvil --test api --test chain_features --test containers --test etcd_features --test pods";

/// Everything compiles without a warning.
pub(crate) fn clippy() -> Result<Verdict, String> {
    let broken: Vec<String> = ["--all-targets", TESTS_OF_OTHER_STEPS]
        .iter()
        .filter_map(|targets| shell::run(&clippy_of(targets)).err())
        .collect();
    Verdict::of(&broken)
}

fn clippy_of(targets: &str) -> String {
    format!("cargo clippy {AS_THE_OTHERS} {targets} -- -D warnings")
}

fn nextest_of(targets: &str) -> String {
    format!("cargo nextest run {AS_THE_OTHERS} {targets} --profile ci")
}

/// The tests that need a container engine: the other steps leave them out.
pub(crate) fn containers() -> Result<Verdict, String> {
    // A test that asked cargo for it would wait for cargo's lock while other steps build.
    let program = image_program()?;
    let settings = format!("OPENRAFT_KV_PROGRAM={}", program.display());
    let engine = Engine::bring()?;
    let tested =
        shell::run(&format!("DOCKER_HOST={} {settings} {}", engine.host(), nextest_of("--test containers")));
    let stopped = engine.stop();
    tested.and(stopped)?;
    Ok(Verdict::Passed)
}

/// The tests that need Podman and root: the other steps leave them out.
pub(crate) fn pods() -> Result<Verdict, String> {
    // The first that needs an image builds it, as a user's test does.
    shell::run(&nextest_of("--test pods"))?;
    Ok(Verdict::Passed)
}

/// Builds the program for the images, and returns where it is.
fn image_program() -> Result<PathBuf, String> {
    let target =
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| Path::new(crate::ROOT).join("target"), PathBuf::from);
    let target =
        path::absolute(&target).map_err(|error| format!("{} has no place: {error}", target.display()))?;
    let folder = target.join("image");
    // As `build_static` of openraft_kv does, which the step `pods` has for itself.
    shell::run(&format!(
        "env --unset=CARGO_BUILD_TARGET CARGO_BUILD_BUILD_DIR={} cargo rustc --quiet --package openraft_kv \
         --bin openraft_kv --target-dir {} -- -Ctarget-feature=+crt-static -Cstrip=symbols",
        target.display(),
        folder.display()
    ))?;
    Ok(folder.join("debug/openraft_kv"))
}

/// The scenario on the cluster of the kubeconfig, which is no step: nobody can install one.
pub(crate) fn k8s(image: Option<&str>) -> Result<(), String> {
    let Some(kubeconfig) = find_kubeconfig(env::var_os("KUBECONFIG"), env::home_dir()) else {
        return Err(
            "there is no kubeconfig: set KUBECONFIG to that of a cluster that can get the image".to_owned()
        );
    };
    println!("The cluster is that of {}.", kubeconfig.display());
    let image = image.map_or_else(String::new, |image| format!(" --image {image}"));
    shell::run(&format!("cargo run --package openraft_kv --features k8s -- --deployer k8s{image}"))
}

/// As kubectl finds it: the first that exists of a list in the variable, or the one in the home.
fn find_kubeconfig(variable: Option<OsString>, home: Option<PathBuf>) -> Option<PathBuf> {
    match variable.filter(|paths| !paths.is_empty()) {
        Some(paths) => env::split_paths(&paths).find(|path| path.is_file()),
        None => home.map(|home| home.join(".kube/config")).filter(|path| path.is_file()),
    }
}

/// The tests of the service's description: the other steps leave them out.
pub(crate) fn api() -> Result<Verdict, String> {
    shell::run(&nextest_of("--test api"))?;
    Ok(Verdict::Passed)
}

/// The tests that need a real node of a chain: the other steps leave them out.
pub(crate) fn chains() -> Result<Verdict, String> {
    shell::run(&nextest_of("--test anvil --test chain_features"))?;
    Ok(Verdict::Passed)
}

/// The longest that the scenario on real etcd may take.
const ETCD_LIMIT: Duration = Duration::from_secs(120);

/// The example on real etcd, which the other steps only build: its features and its scenario.
pub(crate) fn etcd() -> Result<Verdict, String> {
    const FEATURES: &str = "--test etcd_features";
    let program = format!("ETCD={}/target/etcd/usr/bin/etcd", crate::ROOT);
    // Which also builds the program of the package.
    shell::run(&format!("{program} cargo test {AS_THE_OTHERS} {FEATURES}"))?;
    let lines = shell::lines_within(&format!("{program} target/debug/etcd"), ETCD_LIMIT)?;
    has_agreed(&lines)?;
    Ok(Verdict::Passed)
}

fn has_agreed(lines: &[String]) -> Result<(), String> {
    let members = lines.iter().filter(|line| line.contains(r#": {"hash":"#)).count();
    if members == 3 {
        return Ok(());
    }
    Err(format!("the scenario printed the stores of {members} members that agree, and not of 3"))
}

/// The same with the one package that the others leave out: it changes no feature of a dependency.
const WITH_BITCOIN: &str = "--workspace --all-features";

/// All that the other steps check, for the package that builds Bitcoin Core's consensus library: minutes of C++.
///
/// What is of the other packages has been built before, and is selected only so that cargo finds it again.
const BITCOIN: [(&str, &str); 3] = [
    ("cargo clippy", "--all-targets -- -D warnings"),
    ("RUSTDOCFLAGS=-Dwarnings cargo doc", "--no-deps --lib --bin xtask --example counter"),
    ("cargo nextest run", "--profile bitcoin"),
];
/// Of the package alone: to compile the doctests of all others again takes longer than some of its dependencies.
const DOCTESTS_OF_BITCOIN: &str = "cargo test --doc --package watchkeeper-chain-bitcoin --all-features";

pub(crate) fn bitcoin() -> Result<Verdict, String> {
    for (command, rest) in BITCOIN {
        shell::run(&format!("{command} {WITH_BITCOIN} {rest}"))?;
    }
    shell::run(DOCTESTS_OF_BITCOIN)?;
    Ok(Verdict::Passed)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::steps::{STEPS, Work};

    fn named(name: &str) -> Named {
        Named { name: name.to_owned(), version: "1.0.0".to_owned() }
    }

    fn package(name: &str, rust_version: Option<&str>) -> Package {
        Package {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            rust_version: rust_version.map(str::to_owned),
            features: BTreeMap::new(),
            is_member: true,
            is_published: true,
            roots: Vec::new(),
            folder: String::new(),
            unstated: Vec::new(),
        }
    }

    #[test]
    fn a_rule_finds_the_packages_that_break_it() {
        let broken = |rule: &Rule, names: &[&str]| -> Vec<String> {
            let below: Vec<Named> = names.iter().map(|name| named(name)).collect();
            rule.broken_by(&below).map(|named| named.name.clone()).collect()
        };
        let only = Rule::Only(&["statig", "syn"]);
        assert_eq!(broken(&only, &["statig", "syn"]), [""; 0]);
        assert_eq!(broken(&only, &["statig", "tokio", "syn", "statig_macro"]), ["tokio", "statig_macro"]);
        let never = Rule::Never(&["hyper", "async-nats"]);
        assert_eq!(broken(&never, &["tokio", "hyperfine", "async-trait"]), [""; 0]);
        assert_eq!(
            broken(&never, &["hyper", "hyper-util", "async-nats"]),
            ["hyper", "hyper-util", "async-nats"]
        );
    }

    /// It took five minutes, most of them for what the default run never touches.
    #[test]
    fn the_first_command_builds_neither_kubernetes_nor_containers() {
        let below = workspace::built_by_default(FIRST_COMMAND.0).expect("cargo tree is read");
        assert_eq!(first_command(&below), [""; 0]);
        assert!(below.iter().any(|named| named.name == "openraft"), "{below:?}");
        let all = workspace::built_with(FIRST_COMMAND.0).expect("cargo tree is read");
        let broken = first_command(&all).join("\n");
        for heavy in ["kube", "k8s-openapi", "bollard"] {
            assert!(broken.contains(&format!("built with {heavy} by default")), "{heavy}: {broken}");
        }
    }

    /// The one error of another platform named two of the four.
    #[test]
    fn all_libraries_that_build_elsewhere_are_named_where_that_is_said() {
        let read = |file: &str| fs::read_to_string(Path::new(crate::ROOT).join(file)).unwrap();
        let (process, readme, architecture) =
            (read("crates/process/src/lib.rs"), read("README.md"), read("ARCHITECTURE.md"));
        let between = |text: &'_ str, from: &str, to: &str| {
            let text = text.split_once(from).unwrap_or_else(|| panic!("{from:?} is gone")).1;
            text.split_once(to).unwrap_or_else(|| panic!("{to:?} is gone")).0.to_owned()
        };
        for (said, named) in [
            (between(&process, "compile_error!(", ");"), "-p "),
            (between(&process, "//! Linux only", "//!\n"), "`"),
            (between(&readme, "## Platforms", "## "), "`"),
            (between(&architecture, "**`crates/process/`**", "**`crates/xtask/`**"), "`"),
        ] {
            for library in PORTABLE {
                let end = if named == "`" { ["`", "`"] } else { [" ", "`"] };
                assert!(
                    end.iter().any(|end| said.contains(&format!("{named}{library}{end}"))),
                    "{library}: {said}"
                );
            }
        }
    }

    #[test]
    fn what_is_for_linux_only_says_so_in_one_error() {
        let said = "error: watchkeeper-process, and the examples, are for Linux only: ..";
        let end = "error: could not compile `watchkeeper-process` (lib) due to 1 previous error";
        let printed = |lines: &[&str]| not_only_linux(Some(&lines.join("\n")));
        assert_eq!(
            printed(&["    Checking libc v0.2", said, "  --> crates/process/src/lib.rs:27:1", end]),
            None
        );
        for other in
            [&[end][..], &[said, "error[E0432]: unresolved import", end], &["error: no such package"]]
        {
            assert!(printed(other).unwrap().contains("for other reasons"), "{other:?}");
        }
        assert!(not_only_linux(None).unwrap().contains("has its error gone?"));
    }

    #[test]
    fn a_dependency_newer_than_the_stated_rust_is_named() {
        let packages =
            [package("old", Some("1.56")), package("new", Some("1.90.0")), package("silent", None)];
        let below = ["old", "new", "silent"].map(named);
        let check = |stated| needs_newer_rust(&package("core", stated), &below, &packages);
        assert_eq!(check(Some("1.90")), Ok(vec![]));
        assert_eq!(
            check(Some("1.88")),
            Ok(vec!["core states Rust 1.88, but new 1.0.0 needs 1.90.0".to_owned()])
        );
        assert_eq!(check(None), Ok(vec!["core is published and states no rust-version".to_owned()]));
        assert!(check(Some("1.88-beta")).is_err());
    }

    #[test]
    fn releases_compare_by_number() {
        assert_eq!(release("1.88"), release("1.88.0"));
        assert!(release("1.100") > release("1.88.3"));
        assert!(release("1.88.0.1").is_err() && release("").is_err());
    }

    #[test]
    fn published_packages_and_features_are_checked_one_by_one() {
        let core = package("core", None);
        let features = |all: &[(&str, &[&str])]| {
            let owned = |(name, on): &(&str, &[&str])| {
                ((*name).to_owned(), on.iter().map(|&on| on.to_owned()).collect())
            };
            all.iter().map(owned).collect()
        };
        let with_features =
            Package { features: features(&[("default", &[]), ("json", &[])]), ..package("with", None) };
        let app_features = features(&[("k8s", &["with/json"]), ("log", &[])]);
        let app = Package { features: app_features, is_published: false, ..package("app", None) };
        let left_out = Package { features: features(&[("own", &[])]), ..package(LEFT_OUT, None) };
        let tool = Package { is_published: false, ..package("tool", None) };
        let foreign = Package { is_member: false, ..package("serde", None) };
        let expected = [
            "cargo clippy --package core --no-default-features -- -D warnings",
            "cargo clippy --package with --no-default-features -- -D warnings",
            "cargo clippy --package with --no-default-features --features default -- -D warnings",
            "cargo clippy --package with --no-default-features --features json -- -D warnings",
            "cargo clippy --workspace --exclude watchkeeper-chain-bitcoin --bin app --example counter \
             --no-default-features --features with/default,app/k8s -- -D warnings",
            "cargo clippy --workspace --exclude watchkeeper-chain-bitcoin --bin app --example counter \
             --no-default-features --features with/default,with/json,app/log -- -D warnings",
        ];
        assert_eq!(feature_checks(&[core, with_features, app, tool, left_out, foreign]), expected);
    }

    /// Two steps asked for fewer features, and each built all dependencies a second time.
    #[test]
    fn what_is_left_out_elsewhere_is_built_with_the_selection_of_the_other_steps() {
        let of_step = |name: &str| {
            STEPS.iter().find_map(|step| match step.work {
                Work::Line(line) if step.name == name => Some(line),
                _ => None,
            })
        };
        let nextest = of_step("nextest").unwrap();
        for line in [nextest, &clippy_of("--all-targets"), &nextest_of("--test pods")] {
            let selects = ["--workspace --exclude watchkeeper-chain-bitcoin ", " --all-features "];
            assert!(selects.iter().all(|selects| line.contains(selects)), "{line}");
            assert!(!line.contains("--package") && !line.contains("--features "), "{line}");
        }
        let doc = of_step("doc").unwrap();
        let (_, rest) = BITCOIN[1];
        assert!(rest.split(' ').all(|flag| doc.contains(flag)), "{doc}");
    }

    #[test]
    fn clippy_names_the_tests_that_all_targets_leave_out() {
        let listed = shell::read(&format!("git -C {} ls-files -- *Cargo.toml", crate::ROOT)).unwrap();
        let root = Path::new(crate::ROOT);
        let manifests = listed.lines().map(|path| fs::read_to_string(root.join(path)).unwrap());
        let mut left_out: Vec<String> = Vec::new();
        for manifest in manifests {
            let tables = manifest.split("[[test]]").skip(1).filter_map(|rest| rest.split("\n[").next());
            let names = tables
                .filter(|table| table.contains("\ntest = false"))
                .filter_map(|table| table.split("name = \"").nth(1)?.split('"').next());
            left_out.extend(names.map(str::to_owned));
        }
        left_out.sort_unstable();
        left_out.dedup();
        let words = TESTS_OF_OTHER_STEPS.split("--test ").skip(1);
        let mut named: Vec<&str> = words.map(str::trim).collect();
        named.sort_unstable();
        assert_eq!(named, left_out);
    }

    #[test]
    fn what_is_flipped_is_there() {
        let root = Path::new(crate::ROOT);
        for file in [FLIPPED, FLIPPED_IN_THE_MACHINE, FLIPPED_FOR_MODELS].into_iter().flatten() {
            let path = root.join(file);
            assert!(if file.ends_with('/') { path.is_dir() } else { path.is_file() }, "{file}");
        }
        assert_eq!(
            mutants_line("watchkeeper", "target/x", &["src/wait/", "src/publish/history.rs"], " -- loom"),
            "cargo mutants --package=watchkeeper --test-tool=nextest --all-features --output=target/x \
             --file=src/wait/** --file=src/publish/history.rs --exclude=**/loom_tests.rs --exclude=**/tests.rs \
             --exclude=fsm/src/tests/** --exclude-re=tests:: -- loom"
        );
    }

    #[test]
    fn a_word_is_found_in_any_rust_file_below() {
        assert_eq!(mentions(Path::new("src"), "a_word_is_found_in_any_rust_file_below"), Ok(true));
        assert_eq!(mentions(Path::new("."), concat!("zzz", "zzz")), Ok(false));
        assert!(mentions(Path::new("no-such-folder"), "x").is_err());
    }

    #[test]
    fn a_kubeconfig_is_found_as_kubectl_finds_it() {
        let home = env::temp_dir().join(format!("watchkeeper-kubeconfig-{}", std::process::id()));
        let (own, other) = (home.join(".kube/config"), home.join("other"));
        fs::create_dir_all(home.join(".kube")).unwrap();
        assert_eq!(find_kubeconfig(None, Some(home.clone())), None);
        assert_eq!(find_kubeconfig(None, None), None);
        fs::write(&own, "").unwrap();
        fs::write(&other, "").unwrap();
        assert_eq!(find_kubeconfig(None, Some(home.clone())), Some(own.clone()));
        assert_eq!(find_kubeconfig(Some(OsString::new()), Some(home.clone())), Some(own));
        let listed = env::join_paths([home.join("absent"), other.clone()]).unwrap();
        assert_eq!(find_kubeconfig(Some(listed), Some(home.clone())), Some(other));
        assert_eq!(find_kubeconfig(Some(home.join("absent").into()), Some(home.clone())), None);
        fs::remove_dir_all(home).unwrap();
    }

    #[test]
    fn three_members_have_to_agree() {
        let lines = |members: usize| vec![r#"n1: {"hash":42,"revision":"3"}"#.to_owned(); members];
        assert_eq!(has_agreed(&lines(3)), Ok(()));
        assert!(has_agreed(&lines(2)).is_err_and(|error| error.contains("2 members")));
    }

    #[test]
    fn events_are_one_json_object_a_line() {
        let check =
            |lines: &[&str]| are_events(&lines.iter().map(|&line| line.to_owned()).collect::<Vec<_>>());
        assert_eq!(check(&[r#"{"event":"leader"}"#, "{}"]), Ok(()));
        assert!(check(&[]).is_err_and(|error| error.contains("no event")));
        for wrong in ["3 nodes started", "1", ""] {
            assert!(check(&["{}", wrong]).is_err_and(|error| error.contains("no JSON object")), "{wrong}");
        }
    }
}
