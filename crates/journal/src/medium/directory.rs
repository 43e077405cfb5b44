//! Files of the operating system.

use std::any::Any;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use watchkeeper::report::one_line;

use super::{Medium, MediumFile};

const LOCK: &str = "lock";

/// A directory of the operating system. It is made when it is first locked.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// The directory at `path`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    fn sync(path: &Path) -> io::Result<()> {
        // Elsewhere a directory cannot be opened, and names need no sync.
        #[cfg(unix)]
        File::open(path)?.sync_all()?;
        #[cfg(not(unix))]
        let _ = path;
        Ok(())
    }

    /// Makes missing directories, each durable in the one above it.
    fn make(path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent {
            Self::make(parent)?;
        }
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            made => made?,
        }
        Self::sync(parent.unwrap_or(Path::new(".")))
    }
}

impl Directory {
    /// What is locked: the directory itself, which nobody can replace by a file of the same name.
    #[cfg(unix)]
    fn lock_file(&self) -> io::Result<File> {
        File::open(&self.path)
    }

    /// What is locked, where a directory cannot be.
    #[cfg(not(unix))]
    fn lock_file(&self) -> io::Result<File> {
        OpenOptions::new().create(true).read(true).append(true).open(self.path.join(LOCK))
    }

    /// The file with the right to change what is there, which one that appends does not have everywhere.
    fn open_to_change(path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).open(path)
    }
}

impl Medium for Directory {
    fn place(&self) -> String {
        one_line(&self.path.display().to_string(), 300)
    }

    fn lock(&self) -> io::Result<Box<dyn Any + Send>> {
        Self::make(&self.path)?;
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        // A process before may have made the directory, and have ended before this. Not every file system knows it.
        let _ = Self::sync(parent.unwrap_or(Path::new(".")));
        let file = self.lock_file()?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            if name != LOCK {
                names.push(name.to_string_lossy().into_owned());
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn MediumFile>> {
        let path = self.path.join(name);
        if let Some(parent) = path.parent().filter(|parent| *parent != self.path) {
            Self::make(parent)?;
        }
        let file = OpenOptions::new().read(true).append(true).create_new(true).open(&path)?;
        Ok(Arc::new(OsFile { file, path }))
    }

    fn open(&self, name: &str, writes: bool) -> io::Result<Arc<dyn MediumFile>> {
        let path = self.path.join(name);
        let file = OpenOptions::new().read(true).append(writes).open(&path)?;
        Ok(Arc::new(OsFile { file, path }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        let quarantine = self.path.join("quarantine");
        if quarantine.is_dir() {
            Self::sync(&quarantine)?;
        }
        Self::sync(&self.path)
    }
}

struct OsFile {
    file: File,
    path: PathBuf,
}

impl MediumFile for OsFile {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        (&self.file).write(bytes)
    }

    fn overwrite(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        use std::io::{Seek, SeekFrom};
        // A file that appends ignores positions.
        let mut file = Directory::open_to_change(&self.path)?;
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(bytes)
    }

    #[cfg(unix)]
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.file, bytes, offset)
    }

    #[cfg(windows)]
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_read(&self.file, bytes, offset)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        if cfg!(windows) {
            Directory::open_to_change(&self.path)?.set_len(size)
        } else {
            self.file.set_len(size)
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    #[cfg(unix)]
    fn is_removed(&self) -> io::Result<bool> {
        use std::os::unix::fs::MetadataExt;
        Ok(self.file.metadata()?.nlink() == 0)
    }

    #[cfg(unix)]
    fn size_and_removal(&self) -> io::Result<(u64, bool)> {
        use std::os::unix::fs::MetadataExt;
        let metadata = self.file.metadata()?;
        Ok((metadata.len(), metadata.nlink() == 0))
    }

    #[cfg(not(unix))]
    fn is_removed(&self) -> io::Result<bool> {
        Ok(!self.path.exists())
    }
}
