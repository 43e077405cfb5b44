//! The program `observerd`.

use std::process::ExitCode;

use clap::Parser;
use observerd::cli::Cli;

fn main() -> ExitCode {
    Cli::parse().run()
}
