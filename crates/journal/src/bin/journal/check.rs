//! `journal check`.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};
use watchkeeper::report::error_chain;
use watchkeeper_journal::{CheckReport, JournalError, check, runs};

use crate::Outcome;
use crate::error::{Printed, ProgramError, printed};
use crate::text::{self, count};

/// Read every record, and print what is damaged or missing; it changes nothing
///
/// It also works while another process writes the journal. A finding is one line: the file, the byte, whether it is a
/// problem or a note, and what it is. A torn tail is a note: it is what a crash or a write in progress leaves. The
/// journals of runs, in run/NAME, are checked too, also if they are all there is.
///
/// Exit codes: 0 without problems, 1 with problems, 2 if something could not be read.
#[derive(Args)]
#[command(after_help = "Example: journal check /var/lib/observerd/journal")]
pub(crate) struct CheckFlags {
    /// The directory of the journal
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What was found so far.
#[derive(Default)]
struct Totals {
    problems: u64,
    is_incomplete: bool,
}

pub(crate) fn run(flags: &CheckFlags) -> Result<Outcome, ProgramError> {
    let mut out = BufWriter::new(io::stdout().lock());
    let (report, runs) = match check(&flags.directory) {
        Ok(report) => (Some(report), runs(&flags.directory)),
        // A directory that has recordings alone.
        Err(error @ JournalError::NoJournal { .. }) => match runs(&flags.directory) {
            Ok(runs) if !runs.is_empty() => (None, Ok(runs)),
            _ => return Err(error.into()),
        },
        Err(error) => return Err(error.into()),
    };
    // The report has it if they cannot be listed.
    let runs = runs.unwrap_or_default();
    let mut totals = Totals::default();
    if flags.json {
        printed(print_json(&mut out, report.as_ref(), &runs, &mut totals))?;
    } else {
        if let Some(report) = &report {
            printed(print(&mut out, "", report, &mut totals))?;
        }
        for run in &runs {
            printed(print_run(&mut out, run, &mut totals))?;
        }
    }
    printed(out.flush())?;
    Ok(match totals {
        Totals { is_incomplete: true, .. } => Outcome::Incomplete,
        Totals { problems: 0, .. } => Outcome::Fine,
        _ => Outcome::Problems,
    })
}

/// The name of a run's directory.
fn name(run: &Path) -> String {
    text::path(Path::new(run.file_name().unwrap_or_default()))
}

fn print_run(out: &mut impl Write, run: &Path, totals: &mut Totals) -> Printed {
    match check(run) {
        Ok(report) => print(out, &format!("run/{}/", name(run)), &report, totals),
        Err(error) => {
            totals.is_incomplete = true;
            writeln!(out, "run/{}: problem: {}", name(run), error_chain(&error))
        }
    }
}

fn print(out: &mut impl Write, prefix: &str, report: &CheckReport, totals: &mut Totals) -> Printed {
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
    summary(out, report)
}

fn summary(out: &mut impl Write, report: &CheckReport) -> Printed {
    let CheckReport { place, first, next, records, lost, bytes, problems, .. } = report;
    let segments = count(report.segments.len() as u64, "segment");
    write!(out, "{place}: {}", count(*records, "record"))?;
    if next > first {
        write!(out, " of the numbers {first} to {}", next - 1)?;
    }
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

fn print_json(
    out: &mut impl Write,
    report: Option<&CheckReport>,
    runs: &[PathBuf],
    totals: &mut Totals,
) -> Printed {
    let mut object = report.map_or_else(|| json!({}), |report| value(report, totals));
    let runs = runs.iter().map(|run| {
        let mut object = match check(run) {
            Ok(report) => value(&report, totals),
            Err(error) => {
                totals.is_incomplete = true;
                json!({ "error": error_chain(&error) })
            }
        };
        object["name"] = name(run).into();
        object
    });
    object["runs"] = runs.collect();
    writeln!(out, "{}", text::json(&object.to_string()))
}

fn value(report: &CheckReport, totals: &mut Totals) -> Value {
    totals.problems += report.problems;
    totals.is_incomplete |= !report.is_complete;
    // Strings, numbers and lists of them.
    let mut object = serde_json::to_value(report).unwrap_or_default();
    for (place, finding) in report.findings.iter().enumerate() {
        object["findings"][place]["is_problem"] = finding.is_problem().into();
        object["findings"][place]["text"] = finding.kind.to_string().into();
    }
    object
}
