//! `observerd check`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use watchkeeper::report::error_chain;
use watchkeeper_journal::{CheckReport, JournalError, check, runs};

use super::outcome::{CommandError, Outcome, printed};
use super::text::{self, count};
use crate::config::{self, Config, ConfigError, ObserverdConfig};
use crate::outgoing::{Connector, OutgoingError, OutgoingFilter, OutgoingUrl};

/// Check settings, and a data directory with the runs in it; nothing is changed
///
/// Every mistake of a file of settings is one line: the file, the line, the column, and what is wrong. A finding in a
/// journal is one line: the file, the byte, whether it is a problem or a note, and what it is. A torn tail is a note: it
/// is what a crash or a write in progress leaves. A data directory is also checked while a service writes it.
///
/// Exit codes: 0 without problems, 1 with problems, 2 if something could not be read.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  observerd check --config /etc/observerd.toml
  observerd check --data /var/lib/observerd")]
#[group(id = "what", required = true, multiple = true)]
pub struct CheckArgs {
    /// The file of settings
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The data directory
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// Checks what is given, and prints what is found.
///
/// # Errors
///
/// [`CommandError`]: a file or a directory cannot be read.
#[expect(clippy::unused_async, reason = "all commands are the same")]
pub async fn run(args: &CheckArgs, out: &mut impl Write) -> Result<Outcome, CommandError> {
    match check_all(args, out) {
        // What was not printed is not known to be fine.
        Err(error) if error.is_closed_pipe() => Ok(Outcome::Problems),
        result => result,
    }
}

fn check_all(args: &CheckArgs, out: &mut impl Write) -> Result<Outcome, CommandError> {
    let mut totals = Totals::default();
    if let Some(file) = &args.config {
        match config::read(file) {
            Ok(config) => {
                let file = text::path(file);
                match outgoing(&config.observerd) {
                    Ok(()) => printed(print_settings(out, &file, &config))?,
                    Err(error) => {
                        totals.problems += 1;
                        printed(writeln!(out, "{file}: problem: {}", error_chain(&error)))?;
                    }
                }
            }
            Err(error @ ConfigError::Invalid { .. }) => {
                totals.problems += 1;
                printed(writeln!(out, "{error}"))?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    if let Some(directory) = &args.data {
        check_data(directory, out, &mut totals)?;
    }
    printed(out.flush())?;
    Ok(match totals {
        Totals { is_incomplete: true, .. } => Outcome::Incomplete,
        Totals { problems: 0, .. } => Outcome::Fine,
        _ => Outcome::Problems,
    })
}

/// What a start refuses of the webhook: an address that is not allowed, a list that cannot be read. No name is looked up.
fn outgoing(settings: &ObserverdConfig) -> Result<(), OutgoingError> {
    let connector = Connector::new(OutgoingFilter::new(&settings.outgoing.allow)?);
    if settings.escalation.webhook.is_empty() {
        return Ok(());
    }
    let url =
        OutgoingUrl::parse(&settings.escalation.webhook).map_err(|fault| OutgoingError::Url { fault })?;
    connector.check(&url)
}

fn print_settings(out: &mut impl Write, file: &str, config: &Config) -> io::Result<()> {
    let settings = &config.observerd;
    if settings.persist_path.as_os_str().is_empty() {
        writeln!(
            out,
            "{file}: note: `observerd.persist_path` is empty: everything is in memory, and is gone with the process"
        )?;
    }
    if settings.auth == config::Auth::LoopbackOpen {
        writeln!(
            out,
            "{file}: note: `observerd.auth` is \"loopback-open\": every process of this machine may call"
        )?;
    }
    writeln!(out, "{file}: no problems")
}

/// What was found so far.
#[derive(Default)]
struct Totals {
    problems: u64,
    is_incomplete: bool,
}

fn check_data(directory: &Path, out: &mut impl Write, totals: &mut Totals) -> Result<(), CommandError> {
    let (report, runs) = match check(directory) {
        Ok(report) => (Some(report), runs(directory)),
        // A directory that has runs alone, such as that of a service in memory.
        Err(error @ JournalError::NoJournal { .. }) => match runs(directory) {
            Ok(runs) if !runs.is_empty() => (None, Ok(runs)),
            _ => return Err(error.into()),
        },
        Err(error) => return Err(error.into()),
    };
    if let Some(report) = &report {
        printed(print(out, "", report, totals))?;
    }
    // The report has it if they cannot be listed.
    for run in &runs.unwrap_or_default() {
        printed(print_run(out, run, totals))?;
    }
    Ok(())
}

fn print_run(out: &mut impl Write, run: &Path, totals: &mut Totals) -> io::Result<()> {
    let name = text::path(Path::new(run.file_name().unwrap_or_default()));
    match check(run) {
        Ok(report) => print(out, &format!("run/{name}/"), &report, totals),
        Err(error) => {
            totals.is_incomplete = true;
            writeln!(out, "run/{name}: problem: {}", error_chain(&error))
        }
    }
}

fn print(out: &mut impl Write, prefix: &str, report: &CheckReport, totals: &mut Totals) -> io::Result<()> {
    totals.problems += report.problems;
    totals.is_incomplete |= !report.is_complete;
    for finding in &report.findings {
        let level = if finding.is_problem() { "problem" } else { "note" };
        writeln!(out, "{prefix}{}: byte {}: {level}: {}", finding.file, finding.byte, finding.kind)?;
    }
    if report.more_findings > 0 {
        writeln!(out, "{prefix}more: note: {} are not printed", count(report.more_findings, "finding"))?;
    }
    if report.first > 0 {
        let first = report.first;
        writeln!(
            out,
            "{prefix}retired: note: records before {first} were removed, because there were newer ones"
        )?;
    }
    if report.quarantine_files > 0 {
        let (files, bytes) = (count(report.quarantine_files, "file"), count(report.quarantine_bytes, "byte"));
        writeln!(out, "{prefix}quarantine: note: {files} with {bytes}, copied from damaged places")?;
    }
    print_summary(out, report)
}

fn print_summary(out: &mut impl Write, report: &CheckReport) -> io::Result<()> {
    let CheckReport { place, first, next, records, lost, bytes, problems, .. } = report;
    write!(out, "{place}: {}", count(*records, "record"))?;
    if next > first {
        write!(out, " of the numbers {first} to {}", next - 1)?;
    }
    let segments = count(report.segments.len() as u64, "segment");
    write!(out, " in {segments} of {}", count(*bytes, "byte"))?;
    if *lost > 0 {
        write!(out, "; {} lost", count(*lost, "record"))?;
    }
    match problems {
        0 => write!(out, "; no problems")?,
        problems => write!(out, "; {}", count(*problems, "problem"))?,
    }
    writeln!(out, "{}", if report.is_complete { "" } else { "; not everything could be read" })
}
