//! The program `observerd`.

use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    observerd::cli::Cli::parse().run().await
}
