//! How a command ends.

use std::io::{self, Write};
use std::process::ExitCode;

use watchkeeper::report::{debug_as_text, error_chain};
use watchkeeper_journal::run::ReplayError;
use watchkeeper_journal::{CloseError, ImportError, JournalError, ReadError, ReadFromError};

use crate::config::ConfigError;

/// What a command that has ended has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is wrong: exit code 0.
    Fine,
    /// Something is wrong, and was printed: exit code 1.
    Problems,
    /// A part could not be done, and why was printed: exit code 2.
    Incomplete,
}

/// Why a command could not do its work: exit code 2.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The settings cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no journal that can be opened.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A journal cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A journal has no such position.
    #[error(transparent)]
    ReadFrom(#[from] ReadFromError),
    /// A journal could not be closed.
    #[error(transparent)]
    Close(#[from] CloseError),
    /// A run cannot be replayed.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// A file cannot be opened.
    #[error("cannot open {file}: check that it exists, that it is a file, and that it can be read")]
    File {
        /// The file.
        file: String,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// An import has ended early.
    #[error("{file}")]
    Import {
        /// The file.
        file: String,
        /// The error.
        #[source]
        source: ImportError,
    },
    /// A signal has ended an import.
    #[error(
        "{file}: interrupted after line {line}: go on with the next one, as by `tail -n +{} FILE | observerd import - \
         --data DIR`",
        line + 1
    )]
    Interrupted {
        /// The file.
        file: String,
        /// The last line that was read, counted from 1; 0 for none. It and those before it are imported, or skipped and counted.
        line: u64,
    },
    /// The arguments do not fit together, or to what is there.
    #[error("{0}")]
    Usage(String),
    /// The output cannot be written.
    #[error("cannot write the output: check the disk or the pipe that it goes to")]
    Output(#[source] io::Error),
    /// The operating system gives no signals, or no runtime.
    #[error("cannot start: check the limits of this process")]
    Start(#[source] io::Error),
}

debug_as_text!(CommandError);

impl CommandError {
    /// Whether nobody reads the output any more.
    #[must_use]
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// The exit code. An error is printed to standard error.
#[must_use]
pub fn exit_code(result: Result<Outcome, CommandError>) -> ExitCode {
    match result {
        Ok(Outcome::Fine) => ExitCode::SUCCESS,
        Ok(Outcome::Problems) => ExitCode::from(1),
        Ok(Outcome::Incomplete) => ExitCode::from(2),
        Err(error) => {
            note(&error_chain(&error));
            ExitCode::from(2)
        }
    }
}

/// Prints lines beside the output.
pub(super) fn note(text: &str) {
    // Nobody may read it.
    let _ = writeln!(io::stderr(), "observerd: {text}");
}

/// A failed write to the output, as an error of the command.
pub(super) fn printed(result: io::Result<()>) -> Result<(), CommandError> {
    result.map_err(CommandError::Output)
}
