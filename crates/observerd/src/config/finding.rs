//! What is wrong with the settings, and where.

use std::fmt;
use std::io;

use watchkeeper::report::{debug_as_text, one_line};

/// How many findings of a file are printed. Further ones are counted.
const SHOWN: usize = 20;

/// The longest text of a finding, in bytes.
const LONGEST: usize = 400;

/// Where a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the file: line and column, both from 1.
    At {
        /// The line.
        line: usize,
        /// The column, in characters.
        column: usize,
    },
    /// A flag of the command line.
    Flag(&'static str),
    /// Not at one place: a setting that is not given.
    Anywhere,
}

/// One problem. Its text is one line, and shows no value of a variable of the environment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Where it is.
    pub place: Place,
    /// What is wrong, and how to fix it.
    pub problem: String,
}

impl Finding {
    pub(super) fn at((line, column): (usize, usize), problem: impl AsRef<str>) -> Self {
        Self { place: Place::At { line, column }, problem: one_line(problem.as_ref(), LONGEST) }
    }
}

/// `3:7: problem: ...`, without the file.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::At { line, column } => write!(f, "{line}:{column}: problem: {}", self.problem),
            Place::Flag(flag) => write!(f, "{flag}: problem: {}", self.problem),
            Place::Anywhere => write!(f, "problem: {}", self.problem),
        }
    }
}

/// Why settings cannot be used.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {file}: check that it is there, that it is a file, and that this user may read it")]
    Unreadable {
        /// The file.
        file: String,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// Something in it is wrong: all of it that was found, in the order of the file. The text has the first 20.
    #[error("{}", listed(file, findings))]
    Invalid {
        /// The file; empty without one.
        file: String,
        /// What is wrong.
        findings: Vec<Finding>,
    },
}

debug_as_text!(ConfigError);

/// One line for each finding: `FILE:LINE:COLUMN: problem: ...`.
fn listed(file: &str, findings: &[Finding]) -> String {
    let mut lines: Vec<String> = findings.iter().take(SHOWN).map(|finding| line(file, finding)).collect();
    if let Some(more @ 1..) = findings.len().checked_sub(SHOWN) {
        lines.push(format!("{file}: {more} further problems are not shown: fix these first"));
    }
    lines.join("\n")
}

fn line(file: &str, finding: &Finding) -> String {
    match finding.place {
        Place::At { .. } => format!("{file}:{finding}"),
        Place::Anywhere if !file.is_empty() => format!("{file}: {finding}"),
        _ => finding.to_string(),
    }
}
