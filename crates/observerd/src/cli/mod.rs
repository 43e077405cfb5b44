//! The program's commands.

pub mod check;
pub mod import;
pub mod outcome;
pub mod replay;
pub mod serve;
mod stop;
mod text;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use outcome::{CommandError, exit_code};

/// Records what programs did, and what it learns of it
///
/// Exit codes: 0 done, 1 problems were found, 2 it could not do its work.
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
    Check(check::CheckArgs),
    Import(import::ImportArgs),
    Replay(Box<replay::ReplayArgs>),
}

impl Cli {
    /// Does what was asked for.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let runtime = match tokio::runtime::Runtime::new() {
            Ok(runtime) => runtime,
            Err(error) => return exit_code(Err(CommandError::Start(error))),
        };
        let mut out = io::BufWriter::new(io::stdout());
        let code = runtime.block_on(async {
            match self.command {
                Command::Serve(args) => serve::run(args).await,
                Command::Check(args) => exit_code(check::run(&args, &mut out).await),
                Command::Import(args) => exit_code(import::run(&args, &mut out).await),
                Command::Replay(args) => exit_code(replay::run(&args, &mut out).await),
            }
        });
        // Standard input may not end.
        runtime.shutdown_background();
        code
    }
}
