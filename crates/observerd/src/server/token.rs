//! The secret that callers have.

use std::ffi::OsStr;
use std::fmt::{self, Write as _};
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
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
        let (token, metadata) = read(path, OFlags::empty())?;
        let mode = metadata.mode();
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
    /// that make it at once, both get the same token. Returns whether it was made. If it is made in a directory of this user that group or
    /// others may write, as by a umask of 002, they may not any more.
    ///
    /// # Errors
    ///
    /// [`TokenError`]; also if others than its owner may read the file, if it is a link, if it is of another user than this one or root, or if
    /// others may write the directory: they could put another file in its place.
    pub fn in_directory(directory: &Path) -> Result<(Self, bool), TokenError> {
        let path = directory.join(TOKEN_FILE);
        let is_made = match fs::symlink_metadata(&path) {
            Ok(_) => false,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                tighten(directory);
                generate(directory, &path)?
            }
            Err(source) => return Err(TokenError::Read { path, source }),
        };
        let above = fs::metadata(directory)
            .map_err(|source| TokenError::Read { path: directory.to_owned(), source })?;
        if above.mode() & OTHERS_WRITE != 0 {
            return Err(TokenError::Directory { path: directory.to_owned(), mode: above.mode() & 0o777 });
        }
        let (token, metadata) = read(&path, OFlags::NOFOLLOW)?;
        if !is_of_us(&metadata) {
            return Err(TokenError::Owner { path, user: metadata.uid() });
        }
        if metadata.mode() & OTHERS != 0 {
            return Err(TokenError::Exposed { path, mode: metadata.mode() & 0o777 });
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

/// Whether a file is of this process's user, or of root.
fn is_of_us(metadata: &Metadata) -> bool {
    let user = metadata.uid();
    user == 0 || user == rustix::process::geteuid().as_raw()
}

/// Takes the right to write from group and others, if the directory is of this user. If it cannot, the check after it says so.
fn tighten(directory: &Path) {
    let Ok(metadata) = fs::metadata(directory) else { return };
    let is_own = metadata.uid() == rustix::process::geteuid().as_raw();
    if is_own && metadata.mode() & OTHERS_WRITE != 0 {
        let mode = metadata.mode() & 0o7777 & !OTHERS_WRITE;
        if fs::set_permissions(directory, Permissions::from_mode(mode)).is_ok() {
            tracing::warn!(
                path = %directory.display(),
                mode = format!("{mode:03o}"),
                "others could write the directory of the token: they cannot any more"
            );
        }
    }
}

fn read(path: &Path, also: OFlags) -> Result<(Token, Metadata), TokenError> {
    let failed = |source| TokenError::Read { path: path.to_owned(), source };
    // Without NONBLOCK, a named pipe would block until something writes to it.
    let flags = i32::try_from((OFlags::NONBLOCK | also).bits()).unwrap_or_default();
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
    Ok((token, metadata))
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
    #[error("cannot read the token in {path}: check the path and its owner; a generated token is no link", path = path.display())]
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
    /// The generated token is of another user.
    #[error(
        "the token in {path} is of the user {user}, who knows it: remove the file, and check who may write its directory",
        path = path.display()
    )]
    Owner {
        /// The file.
        path: PathBuf,
        /// Its owner.
        user: u32,
    },
    /// Others may write the directory of the generated token.
    #[error(
        "others may write {path} (mode {mode:03o}), and so replace the token in it: chmod go-w, or set OBSERVERD_TOKEN or token_file",
        path = path.display()
    )]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
}

debug_as_text!(TokenError);

#[cfg(test)]
mod tests;
