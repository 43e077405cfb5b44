//! What one sync costs in this run.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use super::samples::median;

const SYNCS: usize = 300;

/// The median in microseconds.
pub(crate) fn fdatasync(directory: &Path) -> f64 {
    let own = tempfile::tempdir_in(directory).expect("a directory");
    let mut file = File::create(own.path().join("synced")).expect("it is made");
    let mut once = |n: usize| {
        let began = Instant::now();
        file.write_all(format!("{n:0199}\n").as_bytes()).expect("it is written");
        file.sync_data().expect("it is synced");
        began.elapsed().as_secs_f64() * 1e6
    };
    median((0..SYNCS).map(&mut once).collect())
}
