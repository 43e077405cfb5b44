//! The secret that callers have.

use std::ffi::OsStr;
use std::fmt::{self, Write as _};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use watchkeeper::report::debug_as_text;

/// The name of a generated token's file.
pub const TOKEN_FILE: &str = "token";

/// The least and the most characters of a token.
const LENGTH: std::ops::RangeInclusive<usize> = 16..=4_096;

/// Who may use a token's file besides its owner.
const OTHERS: u32 = 0o077;

/// Who besides its owner may change a token's file.
const OTHERS_WRITE: u32 = 0o022;

/// A token: its SHA-256. The token itself is not kept, and nothing prints it.
#[derive(Clone)]
pub struct Token {
    hash: [u8; 32],
}

impl Token {
    /// A token from text: 16 to 4,096 visible ASCII characters.
    ///
    /// # Errors
    ///
    /// [`TokenError::Invalid`].
    pub fn new(text: &str) -> Result<Self, TokenError> {
        let is_valid = LENGTH.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_valid {
            return Err(TokenError::Invalid { place: "the token".to_owned() });
        }
        Ok(Self { hash: Sha256::digest(text.as_bytes()).into() })
    }

    /// The token in the environment: the value of `OBSERVERD_TOKEN`.
    ///
    /// # Errors
    ///
    /// [`TokenError::Invalid`].
    pub fn from_environment(value: &OsStr) -> Result<Self, TokenError> {
        let token = value.to_str().and_then(|text| Self::new(text).ok());
        token.ok_or_else(|| TokenError::Invalid { place: "OBSERVERD_TOKEN".to_owned() })
    }

    /// The token of a file that a person or a deployment made: its text without one newline at the end. If others than its owner may read
    /// the file, as in a container's volume of secrets, this is logged as a warning.
    ///
    /// # Errors
    ///
    /// [`TokenError`]; also if others than its owner may change the file.
    pub fn from_file(path: &Path) -> Result<Self, TokenError> {
        let (token, mode) = read(path)?;
        if mode & OTHERS_WRITE != 0 {
            return Err(TokenError::Exposed { path: path.to_owned(), mode: mode & 0o777 });
        }
        if mode & OTHERS != 0 {
            tracing::warn!(
                path = %path.display(),
                mode = format!("{:03o}", mode & 0o777),
                "others than its owner may read the file of the token: chmod 600"
            );
        }
        Ok(token)
    }

    /// The token in the file `token` of a directory, which only its owner may read. The file is made if it is not there; of two processes
    /// that make it at once, both get the same token. Returns whether it was made.
    ///
    /// # Errors
    ///
    /// [`TokenError`]; also if others than its owner may read the file.
    pub fn in_directory(directory: &Path) -> Result<(Self, bool), TokenError> {
        let path = directory.join(TOKEN_FILE);
        let is_made = match fs::symlink_metadata(&path) {
            Ok(_) => false,
            Err(error) if error.kind() == io::ErrorKind::NotFound => generate(directory, &path)?,
            Err(source) => return Err(TokenError::Read { path, source }),
        };
        let (token, mode) = read(&path)?;
        if mode & OTHERS != 0 {
            return Err(TokenError::Exposed { path, mode: mode & 0o777 });
        }
        Ok((token, is_made))
    }

    /// Whether this is the token. The time that it takes says nothing of the token.
    #[must_use]
    pub fn is(&self, presented: &[u8]) -> bool {
        let presented: [u8; 32] = Sha256::digest(presented).into();
        self.hash.ct_eq(&presented).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

fn read(path: &Path) -> Result<(Token, u32), TokenError> {
    let failed = |source| TokenError::Read { path: path.to_owned(), source };
    // Without NONBLOCK, a named pipe would block until something writes to it.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(failed(io::Error::other("it is not a regular file")));
    }
    let mut text = Vec::new();
    file.take(*LENGTH.end() as u64 + 3).read_to_end(&mut text).map_err(failed)?;
    let text = text.strip_suffix(b"\n").unwrap_or(&text);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    let token = std::str::from_utf8(text).ok().and_then(|text| Token::new(text).ok());
    let token = token.ok_or_else(|| TokenError::Invalid { place: path.display().to_string() })?;
    Ok((token, metadata.mode()))
}

/// Writes a new token, unless the file exists. Returns whether it was written.
fn generate(directory: &Path, path: &Path) -> Result<bool, TokenError> {
    let written = |source| TokenError::Write { path: path.to_owned(), source };
    let mut token = [0; 32];
    getrandom::fill(&mut token).map_err(|error| written(io::Error::other(error)))?;
    let mut name = [0; 8];
    getrandom::fill(&mut name).map_err(|error| written(io::Error::other(error)))?;
    let temporary = Temporary(directory.join(format!(".token-{}", hex(&name))));
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary.0).map_err(written)?;
    file.write_all(format!("{}\n", hex(&token)).as_bytes()).map_err(written)?;
    file.sync_all().map_err(written)?;
    // A link does not replace a file, as a rename would.
    match fs::hard_link(&temporary.0, path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(source) => return Err(written(source)),
    }
    drop(temporary);
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(written)?;
    Ok(true)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A file that is removed when this is dropped.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// There is no token.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It is too short, too long, or has other characters.
    #[error("{place} must be 16 to 4096 visible ASCII characters: openssl rand -hex 32 makes such a token")]
    Invalid {
        /// The file, or that it is not from a file.
        place: String,
    },
    /// Its file cannot be read.
    #[error("cannot read the token in {path}: check the path and its owner", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its file cannot be written.
    #[error(
        "cannot write a token to {path}: make the directory writable, or set OBSERVERD_TOKEN or token_file",
        path = path.display()
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than its owner may use its file.
    #[error(
        "others than its owner may use the token in {path} (mode {mode:03o}): it may be known, so replace it, and chmod 600",
        path = path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
}

debug_as_text!(TokenError);

#[cfg(test)]
mod tests;
