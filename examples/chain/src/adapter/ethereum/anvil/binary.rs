//! Where the program is.

use std::env;
use std::path::{Path, PathBuf};

use super::AnvilError;

/// Names the program where it is in none of the usual places.
pub const BINARY_VARIABLE: &str = "WATCHKEEPER_ANVIL";

/// The program that `WATCHKEEPER_ANVIL` names; else the one of the npm package in `node_modules` of this folder or
/// one above; else the one in `PATH`.
pub(super) fn find() -> Result<PathBuf, AnvilError> {
    if let Some(named) = env::var_os(BINARY_VARIABLE).filter(|named| !named.is_empty()) {
        let named = PathBuf::from(named);
        return if named.is_file() { Ok(named) } else { Err(AnvilError::NoSuchBinary { named }) };
    }
    let folder = env::current_dir().unwrap_or_default();
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path = env::split_paths(&path).map(|folder| folder.join("anvil"));
    in_packages(&folder).chain(in_path).find(|file| file.is_file()).ok_or(AnvilError::NotInstalled)
}

/// The package's own program and not its wrapper, which would be killed in its place.
fn in_packages(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let machine = match env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let package = format!("node_modules/@foundry-rs/anvil-{}-{machine}/bin/anvil", env::consts::OS);
    folder.ancestors().map(|folder| folder.join(&package)).collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_looked_for_from_here_upwards() {
        let places: Vec<_> = in_packages(Path::new("/a/b")).collect();
        assert_eq!(places.len(), 3);
        assert!(places[0].starts_with("/a/b/node_modules/@foundry-rs"), "{places:?}");
        assert!(places[2].starts_with("/node_modules/@foundry-rs"), "{places:?}");
    }
}
