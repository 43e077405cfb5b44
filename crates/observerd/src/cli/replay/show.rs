//! Printing a run.

use std::io::Write;

use serde_json::json;
use watchkeeper::report::one_line;
use watchkeeper_journal::{Gap, GapCause, JournalView, ReadFrom, ReadItem, Record, ViewReader};

use super::item::ItemKind;
use super::publication::Publication;
use super::select::Filter;
use super::timeline::Timeline;
use super::{INTERVAL, ReplayArgs};
use crate::cli::outcome::{CommandError, printed};
use crate::cli::stop::Stop;
use crate::cli::text;

pub(super) async fn show(
    args: &ReplayArgs,
    mut view: JournalView,
    out: &mut impl Write,
    stop: &Stop,
) -> Result<(), CommandError> {
    let mut skip = 0;
    if let Some(last) = args.last {
        let mut counted = Show::new(args, Count::default());
        counted.existing(&mut view.reader(ReadFrom::Oldest)?, stop)?;
        skip = counted.to.lines.saturating_sub(last.into());
    }
    let mut reader = view.reader(ReadFrom::Oldest)?;
    let mut shown = Show::new(args, Print { out, skip });
    shown.existing(&mut reader, stop)?;
    while args.follow && !(args.until_stop && shown.has_stopped) && stop.wait(INTERVAL).await {
        if view.refresh()? {
            reader.extend(&view);
            shown.existing(&mut reader, stop)?;
        }
    }
    Ok(())
}

/// Where lines go.
trait Lines {
    fn line(&mut self, text: impl FnOnce() -> String) -> Result<(), CommandError>;
    fn flush(&mut self) -> Result<(), CommandError>;
}

/// They are counted.
#[derive(Default)]
struct Count {
    lines: u64,
}

impl Lines for Count {
    fn line(&mut self, _: impl FnOnce() -> String) -> Result<(), CommandError> {
        self.lines += 1;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), CommandError> {
        Ok(())
    }
}

/// They are printed, without the first ones.
struct Print<'a, W> {
    out: &'a mut W,
    skip: u64,
}

impl<W: Write> Lines for Print<'_, W> {
    fn line(&mut self, text: impl FnOnce() -> String) -> Result<(), CommandError> {
        if self.skip > 0 {
            self.skip -= 1;
            return Ok(());
        }
        printed(writeln!(self.out, "{}", text()))
    }

    fn flush(&mut self) -> Result<(), CommandError> {
        printed(self.out.flush())
    }
}

struct Show<T> {
    filter: Filter,
    is_json: bool,
    width: usize,
    timeline: Timeline,
    /// Records that are missing before the next one.
    gap: Option<Gap>,
    /// The same, if the next one is not exported.
    missing: Option<Gap>,
    has_stopped: bool,
    to: T,
}

impl<T: Lines> Show<T> {
    fn new(args: &ReplayArgs, to: T) -> Self {
        let (filter, timeline) = (args.filter(), Timeline::default());
        let (is_json, width) = (args.json, args.width());
        Self { filter, is_json, width, timeline, gap: None, missing: None, has_stopped: false, to }
    }

    /// What there is now.
    fn existing(&mut self, reader: &mut ViewReader, stop: &Stop) -> Result<(), CommandError> {
        for item in reader {
            if stop.is_stopped() {
                break;
            }
            match item? {
                ReadItem::Gap(gap) => self.gap = Some(joined(self.gap.take(), gap)),
                ReadItem::Record(record) => self.record(&record)?,
            }
        }
        self.to.flush()
    }

    fn record(&mut self, record: &Record) -> Result<(), CommandError> {
        let gap = self.gap.take();
        let publication: Publication = match record.parse() {
            Ok(publication) => publication,
            Err(error) => return self.foreign(record.number(), &error),
        };
        self.has_stopped = publication.is_stop();
        if self.is_json {
            self.export(record, gap, &publication)?;
        } else if self.filter.is_within(&publication) {
            self.lines(gap.as_ref(), &publication)?;
        }
        self.timeline.apply(publication);
        Ok(())
    }

    fn lines(&mut self, gap: Option<&Gap>, publication: &Publication) -> Result<(), CommandError> {
        for item in self.timeline.items(gap, publication) {
            if self.filter.has(&item) {
                let line = || {
                    let time = one_line(&short_time(&publication.time), 40);
                    let cycle = publication.of_cycle();
                    let line = format!("{time} cycle {cycle} {}: {}", item.kind.word(), item.text);
                    one_line(&line, if self.width == 0 { usize::MAX } else { self.width })
                };
                self.to.line(line)?;
            }
        }
        Ok(())
    }

    fn export(
        &mut self,
        record: &Record,
        gap: Option<Gap>,
        publication: &Publication,
    ) -> Result<(), CommandError> {
        let is_there = self.filter.is_within(publication) && {
            let items = self.timeline.items(gap.as_ref(), publication);
            self.filter.has_record(&items, record.body())
        };
        if let Some(gap) = gap {
            self.missing = Some(joined(self.missing.take(), gap));
        }
        if !is_there {
            return Ok(());
        }
        let missing = self.missing.take();
        self.to.line(|| exported(record, missing.as_ref(), publication.record.is_some()))
    }

    /// Something else has written into the journal.
    fn foreign(&mut self, number: u64, error: &serde_json::Error) -> Result<(), CommandError> {
        let is_asked = self.filter.only.is_empty() || self.filter.only.contains(&ItemKind::Gaps);
        if self.is_json || !is_asked {
            return Ok(());
        }
        let line = format!("-- record {number} is no publication of a run: {error}");
        self.to.line(|| one_line(&line, 300))
    }
}

/// Two gaps as one: the cause is that of the first.
fn joined(before: Option<Gap>, mut gap: Gap) -> Gap {
    if let Some(before) = before {
        (gap.first, gap.cause) = (before.first, before.cause);
    }
    gap
}

/// The record's own text, after its number.
fn exported(record: &Record, missing: Option<&Gap>, was_exported: bool) -> String {
    let mut begin = Vec::new();
    // An exported run that was imported has a number already.
    if !was_exported {
        begin.push(format!("\"record\":{},", record.number()));
        begin.extend(missing.map(|Gap { first, last, cause, .. }| {
            let cause = match cause {
                GapCause::Retired => "retired",
                GapCause::Damaged { .. } => "damaged",
                _ => "missing",
            };
            format!("\"missing\":{},", json!({ "first": first, "last": last, "cause": cause }))
        }));
    }
    let fields = record.body().trim_start().strip_prefix('{').unwrap_or_default();
    text::json(&format!("{{{}{fields}", begin.concat()))
}

/// To the millisecond.
fn short_time(time: &str) -> String {
    match time.split_once('.') {
        Some((seconds, fraction)) if time.ends_with('Z') => {
            let digits = fraction.trim_end_matches('Z');
            format!("{seconds}.{}Z", &digits[..digits.floor_char_boundary(3)])
        }
        _ => time.to_owned(),
    }
}
