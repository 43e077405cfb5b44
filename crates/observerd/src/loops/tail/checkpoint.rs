//! The file that says up to which record the journal need not be searched.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use watchkeeper_journal::Cursor;

use super::mark::Position;

/// The file's name in the data directory.
pub(super) const NAME: &str = "tail.json";

/// A file that is larger is none of ours.
const MAX_BYTES: u64 = 4_096;

/// No record before `cursor` has a newer position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub(super) position: Option<Position>,
    pub(super) cursor: Cursor,
}

#[derive(Serialize, Deserialize)]
struct Written {
    format: u32,
    position: Option<String>,
    cursor: String,
}

impl Checkpoint {
    /// The checkpoint of a directory; `None` if there is none that can be read.
    pub(super) fn load(directory: &Path) -> Option<Self> {
        let mut text = String::new();
        File::open(directory.join(NAME)).ok()?.take(MAX_BYTES).read_to_string(&mut text).ok()?;
        let checkpoint = serde_json::from_str::<Written>(&text).ok().and_then(|written| {
            let position = written.position.map(|text| text.parse()).transpose().ok()?;
            (written.format == 1).then_some(())?;
            Some(Self { position, cursor: written.cursor.parse().ok()? })
        });
        if checkpoint.is_none() {
            tracing::warn!("{NAME} is damaged, or of another version: the journal is searched");
        }
        checkpoint
    }

    /// Writes it, all or not at all. What it is of must survive a power cut that it survives: unless the journal is synced, its
    /// newest segment is synced before. The older ones are.
    pub(super) fn save(&self, directory: &Path, is_synced: bool) -> io::Result<()> {
        if !is_synced && let Some(newest) = newest_segment(directory)? {
            File::open(newest)?.sync_all()?;
        }
        let written = Written {
            format: 1,
            position: self.position.map(|position| position.to_string()),
            cursor: self.cursor.to_string(),
        };
        let text = serde_json::to_string(&written)?;
        let new = directory.join(format!("{NAME}.new"));
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        drop(file);
        fs::rename(&new, directory.join(NAME))?;
        File::open(directory)?.sync_all()
    }
}

/// The names of segments are numbers of the same length.
fn newest_segment(directory: &Path) -> io::Result<Option<PathBuf>> {
    let mut newest = None;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let is_number = |stem: &OsStr| stem.as_encoded_bytes().iter().all(u8::is_ascii_digit);
        if path.extension().is_some_and(|extension| extension == "jsonl")
            && path.file_stem().is_some_and(is_number)
        {
            newest = newest.max(Some(path));
        }
    }
    Ok(newest)
}
