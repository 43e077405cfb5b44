//! What can go wrong with a local cluster.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use watchkeeper::DynError;
use watchkeeper::report::{debug_as_text, one_line};

/// Bytes shown of a path or of a line that a program printed.
const SHOWN: usize = 300;

/// Why a local cluster cannot do what was asked. Each text says which node and what to do; it is the source of a
/// [`DeployError`](watchkeeper_scenario::DeployError) or a
/// [`NodeControlError`](watchkeeper_scenario::NodeControlError).
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum LocalError {
    /// The directory for data and logs cannot be made.
    #[error("cannot make {} for data and logs: it must not exist, and its parent must", shown(path))]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No port can be reserved.
    #[error(
        "cannot reserve the port {port:?} of {node}: see in `ss --summary` whether all ports or files are in use"
    )]
    Port {
        /// Which node.
        node: String,
        /// The name of the port.
        port: String,
        /// Why.
        source: io::Error,
    },
    /// The application has no command for the node.
    #[error("there is no command for {node}")]
    Command {
        /// Which node.
        node: String,
        /// Why, in the application's words.
        source: DynError,
    },
    /// The program is not there, or is no program.
    #[error("the program of {node}, {}, cannot be run: {reason}", shown(program))]
    NoProgram {
        /// Which node.
        node: String,
        /// The program.
        program: PathBuf,
        /// Why, and what to do.
        reason: &'static str,
    },
    /// The log of the node cannot be written.
    #[error("cannot open the log of {node}, {}: see who owns it, and whether there is room", shown(path))]
    Log {
        /// Which node.
        node: String,
        /// The log.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The system cannot start the program, or this process cannot start any: `source` says why, and what to do.
    #[error("cannot start {node} from {}", shown(program))]
    Spawn {
        /// Which node.
        node: String,
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The node ended before it was ready, or before all were.
    #[error("{node} died at its start ({status}): its log says why. The end of {}:\n{tail}", kept(log.as_deref()))]
    DiedAtStart {
        /// Which node.
        node: String,
        /// How it ended.
        status: String,
        /// Its log; `None` if it is removed with the cluster's temporary directory.
        log: Option<PathBuf>,
        /// The last lines of the log.
        tail: String,
    },
    /// The node runs but was not ready in time.
    #[error(
        "{node} was not ready within {after:?}: {reason}. Give it more time with `start_within`, or see in the end of {}:\n{tail}",
        kept(log.as_deref())
    )]
    NotReady {
        /// Which node.
        node: String,
        /// How long all nodes had.
        after: Duration,
        /// The last answer to the probe, or which line is missing.
        reason: String,
        /// Its log; `None` if it is removed with the cluster's temporary directory.
        log: Option<PathBuf>,
        /// The last lines of the log.
        tail: String,
    },
    /// The line that was to say where the node listens does not.
    #[error(
        "{node} printed {:?} and not where it listens: check that it is the right program",
        one_line(line, SHOWN)
    )]
    Address {
        /// Which node.
        node: String,
        /// What it printed.
        line: String,
        /// Why the application does not accept it.
        source: DynError,
    },
    /// No client can be made.
    #[error("cannot make a client of {node}")]
    Client {
        /// Which node.
        node: String,
        /// Why, in the application's words.
        source: DynError,
    },
    /// The node does not run.
    #[error("{node} does not run: start it first")]
    NotRunning {
        /// Which node.
        node: String,
    },
    /// The node is paused, so it cannot be started.
    #[error("{node} runs and is paused: resume it first, or kill it")]
    Paused {
        /// Which node.
        node: String,
    },
    /// The node did not stop. A paused one is not asked to: it would stop when it is resumed. Any other is killed when
    /// it does not stop in time; then the kernel holds it.
    #[error("{node} did not stop{}", if *paused {
        " and was not asked to, since it is paused: resume it first, or kill it".to_owned()
    } else {
        format!(" within {after:?}, although it was killed: see in /proc what it waits for")
    })]
    DidNotStop {
        /// Which node.
        node: String,
        /// How long the deployer waited; nothing if it is paused.
        after: Duration,
        /// Whether it is paused.
        paused: bool,
    },
    /// The cluster was shut down, before or during the action.
    #[error("the cluster was shut down: deploy another one")]
    ShutDown,
    /// The kernel refused a signal.
    #[error("cannot signal {node}: see in its log whether it has ended")]
    Signal {
        /// Which node.
        node: String,
        /// Why.
        source: io::Error,
    },
}

debug_as_text!(LocalError);

/// A log, or how it is kept.
fn kept(log: Option<&std::path::Path>) -> String {
    log.map_or_else(|| "its log (keep all of it with `in_directory`)".to_owned(), shown)
}

fn shown(path: &std::path::Path) -> String {
    one_line(&path.to_string_lossy(), SHOWN)
}
