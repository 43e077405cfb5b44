//! Running commands, in this process and as the program.

use std::process::{Command, Output};

use clap::{Args, Parser};
use observerd::cli::outcome::{CommandError, Outcome};

#[derive(Parser)]
#[command(no_binary_name = true)]
struct Cli<T: Args> {
    #[command(flatten)]
    args: T,
}

/// The arguments as the program reads them.
pub(crate) fn args<T: Args>(words: &[&str]) -> T {
    match Cli::try_parse_from(words) {
        Ok(Cli { args }) => args,
        Err(error) => panic!("{error}"),
    }
}

/// What clap says to wrong ones.
pub(crate) fn refused<T: Args>(words: &[&str]) -> String {
    match Cli::<T>::try_parse_from(words) {
        Ok(_) => panic!("{words:?} are accepted"),
        Err(error) => error.to_string(),
    }
}

/// What a command has printed, and how it has ended.
pub(crate) fn ended(
    out: Vec<u8>,
    result: Result<Outcome, CommandError>,
) -> (String, Result<Outcome, String>) {
    (String::from_utf8(out).unwrap(), result.map_err(|error| format!("{error:?}")))
}

/// Runs the program.
pub(crate) fn program(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_observerd")).args(words).output().unwrap()
}

/// A pipe that nobody reads.
pub(crate) struct ClosedPipe;

impl std::io::Write for ClosedPipe {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
