//! Random lives of a journal on a disk.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use tokio::time::Instant;

use super::disk::{Disk, Fuse};
use super::model::{Checked, Model};
use crate::config::{Durability, JournalConfig};
use crate::medium::Medium;
use crate::recovery;
use crate::segment::position;
use crate::writer::Writer;

/// One call to append: the lengths of its operations' texts.
#[derive(Clone)]
struct Call {
    texts: Vec<usize>,
    is_batch: bool,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.is_batch { "batch" } else { "single" };
        write!(f, "{name}{:?}", self.texts)
    }
}

/// One process: it opens the journal, appends groups of calls, and ends.
#[derive(Clone, Default)]
struct Process {
    /// The operations of the disk that fail.
    fuse: Option<Fuse>,
    groups: Vec<Vec<Call>>,
    closes: bool,
    /// Whether the power is cut at its end.
    cuts: bool,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fuse, groups, closes, cuts } = self;
        let end = if *closes { "close" } else { "kill" };
        write!(f, "fuse {fuse:?}, groups {groups:?}, {end}, power cut {cuts}")
    }
}

#[derive(Clone, Debug)]
pub(super) struct Life {
    durability: Durability,
    segment_bytes: u64,
    segments: u64,
    /// For what the disk loses.
    seed: u64,
    processes: Vec<Process>,
}

pub(super) fn life() -> impl Strategy<Value = Life> {
    let levels = prop_oneof![3 => Just(Durability::Group), 1 => Just(Durability::Always), 2 => Just(Durability::Buffered)];
    (levels, 300..2_000_u64, 2..5_u64, any::<u64>(), vec(process(), 1..5)).prop_map(
        |(durability, segment_bytes, segments, seed, processes)| Life {
            durability,
            segment_bytes,
            segments,
            seed,
            processes,
        },
    )
}

fn process() -> impl Strategy<Value = Process> {
    let fails = prop_oneof![2 => Just(u32::MAX), 1 => 0..6_u32];
    // An opening takes about ten operations.
    let works = prop_oneof![0..16_u32, 0..80_u32];
    let fuse = (works, fails).prop_map(|(works, fails)| Some(Fuse { works, fails }));
    let fuse = prop_oneof![1 => Just(None), 3 => fuse];
    (fuse, vec(vec(call(), 1..4), 0..6), any::<bool>(), any::<bool>())
        .prop_map(|(fuse, groups, closes, cuts)| Process { fuse, groups, closes, cuts })
}

fn call() -> impl Strategy<Value = Call> {
    let text = || prop_oneof![2 => 0..40_usize, 1 => 40..700_usize];
    prop_oneof![
        2 => text().prop_map(|text| Call { texts: vec![text], is_batch: false }),
        1 => vec(text(), 1..5).prop_map(|texts| Call { texts, is_batch: true }),
    ]
}

impl Life {
    /// Lives it, on the disk behind `wrap`. The error is the first violated rule.
    pub(super) fn live(&self, wrap: impl Fn(Disk) -> Arc<dyn Medium>) -> Checked {
        let segments = usize::try_from(self.segments).unwrap();
        let disk = Disk::new(self.seed, segments);
        let medium = wrap(disk.clone());
        let mut model = Model::default();
        for process in self.processes.iter().chain([&Process::default()]) {
            disk.renew_fuse(process.fuse);
            self.process(process, &medium, &disk, &mut model)?;
            disk.renew_fuse(None);
            model.killed();
            if process.cuts {
                disk.cut_power();
                model.power_cut();
            }
        }
        Ok(())
    }

    fn process(
        &self,
        process: &Process,
        medium: &Arc<dyn Medium>,
        disk: &Disk,
        model: &mut Model,
    ) -> Checked {
        let opened = match recovery::open(medium, &AtomicBool::new(false)) {
            Err(_) if disk.is_blown() => return Ok(()),
            opened => opened.map_err(|error| format!("the journal does not open: {error:?}"))?,
        };
        let identity = position(opened.instance);
        let config = JournalConfig {
            durability: self.durability,
            segment_bytes: self.segment_bytes,
            segments: self.segments,
            segment_age: Some(Duration::from_secs(10)),
            reserve: 0,
        };
        let mut now = Instant::now();
        let mut writer = Writer::new(Arc::clone(medium), config, opened, now);
        let fuse = disk.set_fuse(None);
        model.opened(medium, disk, identity, &writer.frontier())?;
        disk.set_fuse(fuse);
        for group in &process.groups {
            let first = model.count();
            let requests: Vec<_> =
                group.iter().map(|call| model.submit(&call.texts, call.is_batch, now)).collect();
            let answers = writer.commit(&requests);
            model.answered(first, &requests, answers)?;
            now += Duration::from_secs(group.len() as u64);
        }
        let fuse = disk.set_fuse(None);
        model.running(medium, disk, &writer.frontier())?;
        disk.set_fuse(fuse);
        if process.closes {
            match writer.close(now) {
                Ok(()) => model.closed(),
                Err((0, _)) => model.written(),
                Err((lost, _)) if lost == model.in_memory() => {}
                Err((lost, _)) => return Err(format!("{lost} are lost, and {} were", model.in_memory())),
            }
        }
        Ok(())
    }
}
