//! Why a command has ended early.

use std::io;

use watchkeeper::report::debug_as_text;
use watchkeeper_journal::ReadFromError;
use watchkeeper_journal::{CloseError, ImportError, JournalError, ReadError};

#[derive(thiserror::Error)]
pub(crate) enum ProgramError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Close(#[from] CloseError),
    #[error("--from: give a number or a cursor of this journal, as `journal show --json` prints them")]
    Cursor(#[from] ReadFromError),
    #[error("cannot open {file}: check that it exists and can be read")]
    File {
        file: String,
        #[source]
        source: io::Error,
    },
    #[error("{file}")]
    Import {
        file: String,
        #[source]
        source: ImportError,
    },
    #[error(
        "{file}: interrupted after {records} records were appended: `journal show` prints the last one; import the lines \
         after it"
    )]
    Interrupted { file: String, records: u64 },
    #[error("cannot write the output: check the disk or the pipe that it goes to")]
    Output(#[source] io::Error),
    #[error("cannot start: check the limits of this process")]
    Start(#[source] io::Error),
}

debug_as_text!(ProgramError);

/// A write to the output.
pub(crate) type Printed = io::Result<()>;

/// A failed write to the output, as an error of the program.
pub(crate) fn printed(result: Printed) -> Result<(), ProgramError> {
    result.map_err(ProgramError::Output)
}
