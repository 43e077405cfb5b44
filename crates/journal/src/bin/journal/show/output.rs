//! Records and gaps as lines.

use std::io::Write;

use serde::de::IgnoredAny;
use watchkeeper_journal::{Gap, GapCause, Record};

use crate::error::Printed;
use crate::text::{json, json_string, line};

pub(crate) struct Output<W> {
    pub(crate) out: W,
    pub(crate) is_json: bool,
    pub(crate) width: usize,
}

impl<W: Write> Output<W> {
    pub(crate) fn record(&mut self, record: &Record) -> Printed {
        if !self.is_json {
            return writeln!(self.out, "{} {}", record.number(), line(record.body(), self.width));
        }
        let or_null =
            |text: Option<String>| text.map_or_else(|| "null".to_owned(), |text| json_string(&text));
        let batch = match record.batch() {
            Some(batch) => format!(r#"{{"first":{},"count":{}}}"#, batch.first, batch.count),
            None => "null".to_owned(),
        };
        // What a journal has written is an object; a line of somebody else may have a valid sum.
        let body = if record.parse::<IgnoredAny>().is_ok() { json(record.body()) } else { "null".to_owned() };
        writeln!(
            self.out,
            r#"{{"number":{},"cursor":"{}","key":{},"position":{},"batch":{batch},"body":{body}}}"#,
            record.number(),
            record.cursor(),
            or_null(record.key()),
            or_null(record.position()),
        )
    }

    pub(crate) fn gap(&mut self, gap: &Gap) -> Printed {
        if !self.is_json {
            return writeln!(self.out, "-- {gap}");
        }
        let cause = match &gap.cause {
            GapCause::Retired => r#""cause":"retired""#.to_owned(),
            GapCause::Damaged { segment, offset, bytes } => {
                let segment = json_string(segment);
                format!(r#""cause":"damaged","segment":{segment},"byte":{offset},"bytes":{bytes}"#)
            }
            _ => r#""cause":"missing""#.to_owned(),
        };
        writeln!(self.out, r#"{{"gap":{{"first":{},"last":{},{cause}}}}}"#, gap.first, gap.last)
    }
}
