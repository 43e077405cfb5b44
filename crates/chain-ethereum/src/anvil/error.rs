//! Errors of nodes that this process starts.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use watchkeeper::report::one_line;

use crate::EndpointError;
use watchkeeper::report::debug_as_text;
use watchkeeper_chain::adapter::ChainError;

/// The environment variable that names the program if it is in none of the usual places.
pub const BINARY_VARIABLE: &str = "WATCHKEEPER_ANVIL";

/// Why a node cannot be started or driven.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum AnvilError {
    /// The program was not found.
    #[error(
        "anvil is not installed: run `npm install --no-save @foundry-rs/anvil`, or name the program in {BINARY_VARIABLE}"
    )]
    NotInstalled,
    /// The environment variable names a file that does not exist.
    #[error("{BINARY_VARIABLE} names {}, and no such file is there: name the program, or unset the variable", named.display())]
    NoSuchBinary {
        /// The file.
        named: PathBuf,
    },
    /// The system did not start it.
    #[error("anvil cannot be started: are setpriv (of util-linux) and sh there?")]
    NotStarted(#[source] io::Error),
    /// It ended before it was ready.
    #[error(
        "anvil ended before it was ready (does it run by hand?); it printed: {}",
        one_line(printed, 1_000)
    )]
    Ended {
        /// The last of what it printed.
        printed: String,
    },
    /// It was not ready in time.
    #[error("anvil was not ready within {after:?}: try again when the machine is less busy")]
    NotReady {
        /// How long was waited.
        after: Duration,
    },
    /// It does not run: it was stopped or killed.
    #[error("anvil does not run: start it again first")]
    NotRunning,
    /// A folder or a signal failed.
    #[error("the system refused to {what}: check free space and permissions, and that it is allowed")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It printed an invalid address.
    #[error("anvil printed an address that cannot be read: see that {BINARY_VARIABLE} names anvil itself")]
    Address(#[from] EndpointError),
    /// A call failed.
    #[error(transparent)]
    Call(#[from] ChainError),
    /// It has no such snapshot: it was reverted to already, or an older one was.
    #[error("anvil has no such snapshot any more: take another one")]
    NoSuchSnapshot,
}

debug_as_text!(AnvilError);
