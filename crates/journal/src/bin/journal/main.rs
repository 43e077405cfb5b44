//! The program `journal`: checks, shows and imports journals.

mod check;
mod error;
mod import;
mod show;
mod signals;
mod text;
mod usage;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use watchkeeper::report::error_chain;

use error::ProgramError;

/// Checks, shows and imports journals: directories with JSON lines.
///
/// Exit codes: 0 without problems, 1 if problems were found or lines were skipped, 2 for wrong usage, a directory that
/// cannot be read, or an import that did not end.
#[derive(Parser)]
#[command(name = "journal", version, after_help = "Example: journal check /var/lib/observerd/journal")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Read every record, and print what is damaged or missing; it changes nothing
    Check(check::CheckFlags),
    /// Print the records, one a line
    Show(show::ShowFlags),
    /// Append the lines of a file to a new or an existing journal
    Import(import::ImportFlags),
}

/// What a command that has ended has found.
enum Outcome {
    Fine,
    Problems,
    /// A part could not be read.
    Incomplete,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => match usage::mistake(&error) {
            Some(mistake) => return failed(&mistake),
            None => {
                return match write!(io::stdout(), "{}", error.render()) {
                    // Without a command there was no question.
                    Ok(()) if error.use_stderr() => ExitCode::from(2),
                    _ => ExitCode::SUCCESS,
                };
            }
        },
    };
    let is_show = matches!(cli.command, Command::Show(_));
    let result = match cli.command {
        Command::Check(flags) => check::run(&flags),
        Command::Show(flags) => show::run(&flags),
        Command::Import(flags) => import::run(&flags),
    };
    match result {
        Ok(Outcome::Fine) => ExitCode::SUCCESS,
        Ok(Outcome::Problems) => ExitCode::from(1),
        Ok(Outcome::Incomplete) => ExitCode::from(2),
        // The reader has seen enough. What was not printed of a check or an import is not known to be fine.
        Err(ProgramError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            if is_show {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(1)
            }
        }
        Err(error) => failed(&error_chain(&error)),
    }
}

/// Prints one line.
fn failed(text: &str) -> ExitCode {
    note(text);
    ExitCode::from(2)
}

/// Prints one line beside the output.
fn note(text: &str) {
    // Nobody may read it.
    let _ = writeln!(io::stderr(), "journal: {text}");
}
