//! The `chain` command.

mod cli;
#[cfg(test)]
#[allow(dead_code, clippy::unwrap_used, reason = "shared with the tests of endpoints, which need more of it")]
#[path = "../../../crates/chain-ethereum/tests/endpoints/fake.rs"]
mod fake;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use tokio::runtime::Runtime;
use tokio::signal::ctrl_c;
use tokio::sync::oneshot;
use tokio::time::sleep;
use watchkeeper::report::error_chain;

use cli::{demo, follow, forks, usage};

/// Follows a chain through its nodes: forks, finality, wallets, transactions.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start two nodes, observe them, send transfers between ten wallets, and make a reorg three deep
    Demo(demo::DemoFlags),
    /// Follow real endpoints until Ctrl-C
    Follow(Box<follow::FollowFlags>),
    /// Print the live branches of a chain, how far they are from its tip, and the ways between
    Forks(Box<forks::ForksFlags>),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => match usage::mistake(&error) {
            Some(mistake) => {
                eprintln!("chain: {mistake}");
                return ExitCode::from(2);
            }
            None => error.exit(),
        },
    };
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("chain: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run(cli.command));
    // A name server that does not answer holds a thread: do not wait for it.
    runtime.shutdown_background();
    code
}

async fn run(command: Command) -> ExitCode {
    let interrupted = interrupted();
    match command {
        Command::Demo(flags) => tokio::select! {
            result = demo::run(&flags) => exit(result),
            () = interrupted => {
                eprintln!("chain: interrupted; the nodes have ended");
                ExitCode::from(130)
            }
        },
        Command::Follow(flags) => exit(follow::run(*flags, interrupted).await),
        Command::Forks(flags) => exit(forks::run(*flags, interrupted).await),
    }
}

/// Waits for Ctrl-C. A second one ends the process at once.
fn interrupted() -> impl Future<Output = ()> {
    let (sender, receiver) = oneshot::channel();
    // In a separate task: printing may block on a slow reader.
    tokio::spawn(async {
        // Without a handler Ctrl-C ends the process as usual.
        if ctrl_c().await.is_ok() {
            let _ = sender.send(());
            // A signal that arrives twice, by the process and by its group, counts once.
            sleep(Duration::from_millis(500)).await;
            if ctrl_c().await.is_ok() {
                std::process::exit(130);
            }
        }
    });
    async {
        if receiver.await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Prints one line: what failed, and all its causes.
fn exit(result: Result<(), impl Error + 'static>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    eprintln!("chain: {}", error_chain(&error));
    ExitCode::FAILURE
}
