//! The `openraft_kv` command.

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use openraft_kv::api::Ready;
use openraft_kv::demo::{self, DemoError, DemoFlags};
use openraft_kv::{Node, NodeConfig, NodeError, NodeFlags};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// openraft logs every failed message to a dead peer; only its other errors are useful.
const DEFAULT_LOG: &str = "info,openraft=error,openraft::replication=off,openraft_kv=info";

/// A key-value store replicated by Raft.
#[derive(Parser)]
///
/// Without a command: starts a cluster, kills its leader, and shows what the observation sees.
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    demo: DemoFlags,
}

#[derive(Subcommand)]
enum Command {
    /// Run one node until SIGTERM or Ctrl-C
    Node(NodeFlags),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Node(flags)) => exit(node(flags)),
        None => show(&cli.demo),
    }
}

fn exit(result: Result<(), impl Error>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // `Debug` prints the text and its causes.
            eprintln!("openraft_kv: {error:?}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the demo until it ends or a signal ends it. No node is left when this returns.
#[tokio::main]
async fn show(flags: &DemoFlags) -> ExitCode {
    // Registered before the first child is started, so that no signal can leave a child running.
    let stop = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    match demo::run(flags, any(stop)).await {
        Err(error @ DemoError::Interrupted { .. }) => {
            eprintln!("openraft_kv: {error:?}");
            ExitCode::from(130)
        }
        result => exit(result),
    }
}

fn node(flags: NodeFlags) -> Result<(), NodeError> {
    let flags = flags.with_file()?;
    let config = NodeConfig::try_from(flags)?;
    log_to_stderr();
    run(config)
}

#[tokio::main]
async fn run(config: NodeConfig) -> Result<(), NodeError> {
    let stop = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    let node = Node::start(config).await?;
    announce(&node);
    node.serve_until(any(stop)).await
}

fn announce(node: &Node) {
    let ready = Ready { node_id: node.id(), listening: node.public_addr().to_owned() };
    let mut line = serde_json::to_vec(&ready).expect("a number and a string are JSON");
    line.push(b'\n');
    // The reader may have closed the pipe; the node serves anyway.
    let _ = io::stdout().write_all(&line);
}

fn log_to_stderr() {
    let asked = std::env::var("RUST_LOG").ok().and_then(|asked| asked.parse::<Targets>().ok());
    let filter = asked.unwrap_or_else(|| DEFAULT_LOG.parse().expect("the default filter is valid"));
    let lines =
        tracing_subscriber::fmt::layer().with_ansi(io::stderr().is_terminal()).with_writer(io::stderr);
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
}

/// Ready when either signal comes.
async fn any([first, second]: [io::Result<Signal>; 2]) {
    async fn wait(signal: io::Result<Signal>) {
        match signal {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    }
    tokio::select! {
        () = wait(first) => {}
        () = wait(second) => {}
    }
}
