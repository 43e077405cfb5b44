//! The program's commands.

pub mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Records what programs did, and what it learns of it
#[derive(Debug, Parser)]
#[command(
    name = "observerd",
    version,
    after_help = "Example:\n  observerd serve --data-dir /var/lib/observerd"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::ServeArgs),
}

impl Cli {
    /// Does what was asked for. 0: done; 1: it found problems; 2: it could not do its work.
    pub async fn run(self) -> ExitCode {
        match self.command {
            Command::Serve(args) => serve::run(args).await,
        }
    }
}
//! The commands of the program.
pub mod check;
pub mod import;
pub mod outcome;
pub mod replay;
mod stop;
mod text;
