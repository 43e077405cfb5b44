//! Reading the settings of a file.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use watchkeeper::report::one_line;

use super::Config;
use super::finding::{ConfigError, Finding, Place};
use super::flags::Flags;
use super::found::{Found, find};
use super::position::Lines;

/// The most bytes of a file of settings.
pub const MAX_FILE: u64 = 1024 * 1024;

/// Reads a file, and checks what it says and what its paths name.
///
/// # Errors
///
/// [`ConfigError`] has all that is wrong.
pub fn read(path: impl AsRef<Path>) -> Result<Config, ConfigError> {
    load(Some(path.as_ref()), &Flags::default())
}

/// The same with flags, which win; without a file, the defaults and the flags.
///
/// # Errors
///
/// [`ConfigError`] has all that is wrong with file and flags together.
pub fn load(path: Option<&Path>, flags: &Flags) -> Result<Config, ConfigError> {
    let file = path.map_or_else(String::new, |path| one_line(&path.display().to_string(), 300));
    let env = |name: &str| std::env::var(name).ok();
    let bytes = match path {
        Some(path) => bytes(path).map_err(|source| ConfigError::Unreadable { file: file.clone(), source })?,
        None => Vec::new(),
    };
    let found = text(&bytes).map_or_else(Found::only, |text| find(text, &env));
    found.finish(flags, true).map_err(|findings| ConfigError::Invalid { file, findings })
}

/// Reads a text, with `env` for the variables of the environment. No file is read.
///
/// # Errors
///
/// All that is wrong, in the order of the text.
pub fn parse(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Vec<Finding>> {
    find(text, env).finish(&Flags::default(), false)
}

/// At most one byte more than is allowed.
fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn text(bytes: &[u8]) -> Result<&str, Finding> {
    if bytes.len() as u64 > MAX_FILE {
        let problem = "the file is over 1 MiB, and no file of settings: give another one";
        return Err(Finding { place: Place::Anywhere, problem: problem.to_owned() });
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let valid = error.valid_up_to();
        let before = std::str::from_utf8(&bytes[..valid]).unwrap_or_default();
        let position = Lines::of(before).position(valid);
        Finding::at(position, format!("byte {valid} is not UTF-8: save the file as UTF-8"))
    })
}
