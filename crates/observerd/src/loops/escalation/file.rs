//! `escalations.json`: what was escalated, kept over restarts.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tracing::warn;
use watchkeeper::report::one_line;

use super::ledger::Record;

const NAME: &str = "escalations.json";

/// A larger file is none of ours.
const MOST_BYTES: u64 = 4 * 1024 * 1024;

/// The file, with one writer at a time.
#[derive(Debug)]
pub(super) struct EscalationFile {
    directory: PathBuf,
    writing: Mutex<()>,
}

impl EscalationFile {
    pub(super) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), writing: Mutex::new(()) }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.directory.join(NAME)
    }

    /// Reads the file. A damaged or foreign one is kept beside it, with a warning, and the record is empty.
    pub(super) fn read(&self) -> io::Result<Record> {
        let path = self.path();
        let fault = match Self::parsed(&path)? {
            Ok(record) => return Ok(record),
            Err(fault) => fault,
        };
        let aside = self.directory.join(format!("{NAME}.damaged"));
        fs::rename(&path, &aside)?;
        warn!(
            "{} is not a file of escalations ({fault}): it is kept as {}, and clusters may be posted again",
            path.display(),
            aside.display()
        );
        Ok(Record::default())
    }

    fn parsed(path: &Path) -> io::Result<Result<Record, String>> {
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ok(Record::default())),
            Err(error) => return Err(error),
        };
        // A pipe would block.
        if !metadata.is_file() {
            return Ok(Err("it is no regular file".to_owned()));
        }
        let mut bytes = Vec::new();
        File::open(path)?.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MOST_BYTES {
            return Ok(Err(format!("it has more than {MOST_BYTES} bytes")));
        }
        let parsed = serde_json::from_slice::<Record>(&bytes);
        Ok(match parsed {
            // Its text would have parts of the file.
            Err(error) => Err(format!("line {}, column {}", error.line(), error.column())),
            Ok(record) => match record.fault() {
                Some(fault) => Err(one_line(&fault, 200)),
                None => Ok(record),
            },
        })
    }

    /// Replaces the file, as a whole: after a crash, also of the machine, it is the old or the new one. It blocks.
    pub(super) fn write(&self, record: &Record) -> io::Result<()> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let new = self.directory.join(format!("{NAME}.new"));
        let bytes = serde_json::to_vec(record)?;
        // One that a crash has left may have another mode.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        drop(file);
        fs::rename(&new, self.path())?;
        // Elsewhere a directory cannot be opened.
        #[cfg(unix)]
        File::open(&self.directory)?.sync_all()?;
        Ok(())
    }
}
