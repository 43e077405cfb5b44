//! What a journal is kept on.
//!
//! A [`Medium`] has files with names, in one directory. Two are here: [`Directory`], files of the operating system, and
//! [`Memory`]. Tests have others, which lose what was not synced.

mod directory;
mod memory;

use std::any::Any;
use std::io;
use std::sync::Arc;

pub use directory::Directory;
pub use memory::Memory;

/// A directory of files.
///
/// A name has no directory, or `quarantine/` in front. Errors are those of the operating system; what they mean is
/// decided by their [kind](io::ErrorKind).
pub trait Medium: Send + Sync + 'static {
    /// The directory as a person reads it.
    fn place(&self) -> String;

    /// Makes the directory if it is missing, and keeps other processes out until the returned value is dropped.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock): another process has it.
    fn lock(&self) -> io::Result<Box<dyn Any + Send>>;

    /// The names in the directory, without what [`lock`](Self::lock) has made.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes a new empty file.
    ///
    /// # Errors
    ///
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists), or another error of the operating system.
    fn create(&self, name: &str) -> io::Result<Arc<dyn MediumFile>>;

    /// Opens a file.
    ///
    /// # Errors
    ///
    /// [`NotFound`](io::ErrorKind::NotFound), or another error of the operating system.
    fn open(&self, name: &str, writes: bool) -> io::Result<Arc<dyn MediumFile>>;

    /// Gives a file another name; a file of that name is replaced.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes new, renamed and removed names durable, those of `quarantine/` too.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    fn sync_names(&self) -> io::Result<()>;

    /// Whether nothing blocks, because everything is in memory.
    fn is_memory(&self) -> bool {
        false
    }
}

/// An open file.
pub trait MediumFile: Send + Sync {
    /// Appends, and returns how many bytes were written.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    fn append(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Replaces bytes that are there. A [`sync`](Self::sync) of the file makes it durable.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    fn overwrite(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Reads from `offset` and returns how many bytes were read; 0 at the end.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize>;

    /// The number of bytes.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    fn size(&self) -> io::Result<u64>;

    /// Cuts the file to `size` bytes.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    fn truncate(&self, size: u64) -> io::Result<()>;

    /// Makes content and size durable (`fdatasync`).
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    fn sync(&self) -> io::Result<()>;

    /// Whether the file has lost its name: somebody has removed it.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    fn is_removed(&self) -> io::Result<bool>;

    /// Both at once: the number of bytes, and whether the file has lost its name.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    fn size_and_removal(&self) -> io::Result<(u64, bool)> {
        Ok((self.size()?, self.is_removed()?))
    }
}

/// Appends everything, or returns how many bytes were appended before the error.
pub(crate) fn append_all(file: &dyn MediumFile, bytes: &[u8]) -> Result<(), io::Error> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match file.append(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => rest = &rest[count.min(rest.len())..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads until `bytes` is full or the file ends.
pub(crate) fn read_full(file: &dyn MediumFile, mut offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < bytes.len() {
        match file.read_at(offset, &mut bytes[length..]) {
            Ok(0) => break,
            Ok(count) => {
                length += count;
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}
