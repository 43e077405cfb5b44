//! The program `observerd`.

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use observerd::cli::{check, import, outcome::exit_code, replay};

/// A witness.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Check(check::CheckArgs),
    Import(import::ImportArgs),
    Replay(Box<replay::ReplayArgs>),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let Ok(runtime) = tokio::runtime::Runtime::new() else { return ExitCode::from(2) };
    let mut out = io::BufWriter::new(io::stdout());
    let result = match cli.command {
        Command::Check(args) => runtime.block_on(check::run(&args, &mut out)),
        Command::Import(args) => runtime.block_on(import::run(&args, &mut out)),
        Command::Replay(args) => runtime.block_on(replay::run(&args, &mut out)),
    };
    // Standard input may not end.
    runtime.shutdown_background();
    exit_code(result)
}
