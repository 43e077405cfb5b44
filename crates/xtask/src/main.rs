//! The project's own commands. `cargo xtask test` answers whether the tree is good; `cargo xtask mutants`, by hand,
//! whether its tests are, and `cargo xtask fuzz`, by hand too, looks for inputs that no test has.
//!
//! Two tables say what is done: the steps in `steps.rs` and the tools they need in `needs.rs`. A new check
//! or a new tool is an added row; the rest runs the tables and reports.

mod args;
mod beside;
mod checks;
mod circles;
mod engine;
#[cfg(test)]
mod errors;
mod fuzz;
mod needs;
mod package;
mod run;
mod shelf;
mod shell;
mod steps;
mod verdict;
mod words;
mod workspace;

use std::env;
use std::process::ExitCode;

use args::Request;

/// The workspace: steps name files relative to it, from wherever they are started.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let request = match args::parse(&words) {
        Ok(request) => request,
        Err(message) => {
            eprintln!("xtask: {message}");
            return ExitCode::from(2);
        }
    };
    if let Err(error) = env::set_current_dir(ROOT) {
        eprintln!("xtask: the workspace has moved from {ROOT}: {error}; build xtask again");
        return ExitCode::FAILURE;
    }
    match request {
        Request::Help => println!("{}", args::USAGE),
        Request::List => print!("{}", steps::list()),
        Request::K8s { image } => {
            if let Err(message) = checks::k8s(image.as_deref()) {
                eprintln!("xtask: {message}");
                return ExitCode::FAILURE;
            }
        }
        Request::Fuzz { target, args } => {
            if let Err(message) = fuzz::fuzz(target, &args) {
                eprintln!("xtask: {message}");
                return ExitCode::FAILURE;
            }
        }
        Request::Mutants { install } => {
            if !run::run(&[&steps::MUTANTS], install).is_good() {
                return ExitCode::FAILURE;
            }
        }
        Request::Test { steps, install } => {
            let report = run::run(&steps, install);
            println!("\n{report}");
            if !report.is_good() {
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
