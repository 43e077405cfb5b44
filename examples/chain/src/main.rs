//! The `watchkeeper-chain` command.

mod cli;
#[cfg(test)]
#[allow(dead_code, clippy::unwrap_used, reason = "shared with the tests of endpoints, which need more of it")]
#[path = "../tests/endpoints/fake.rs"]
mod fake;

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use cli::{demo, follow, usage};

/// Follows a chain through its nodes: forks, finality, wallets, transactions.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start two nodes, watch them, send transfers between ten wallets, and make a reorg three deep
    Demo(demo::DemoFlags),
    /// Follow real endpoints until Ctrl-C
    Follow(follow::FollowFlags),
}

#[tokio::main]
async fn main() -> ExitCode {
    let interrupted = async {
        // Without a handler Ctrl-C ends the process as ever.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => match usage::mistake(&error) {
            Some(mistake) => {
                eprintln!("watchkeeper-chain: {mistake}");
                return ExitCode::from(2);
            }
            None => error.exit(),
        },
    };
    match cli.command {
        Command::Demo(flags) => tokio::select! {
            result = demo::run(&flags) => exit(result),
            () = interrupted => {
                eprintln!("watchkeeper-chain: interrupted; the nodes are gone");
                ExitCode::from(130)
            }
        },
        Command::Follow(flags) => exit(follow::run(flags, interrupted).await),
    }
}

/// One line: what failed, and every reason behind it.
fn exit(result: Result<(), impl Error + 'static>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    let mut line = format!("watchkeeper-chain: {error}");
    let mut reason = error.source();
    while let Some(cause) = reason {
        line = format!("{line}: {cause}");
        reason = cause.source();
    }
    eprintln!("{line}");
    ExitCode::FAILURE
}
