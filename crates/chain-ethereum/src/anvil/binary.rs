//! Finding the program.

use std::env;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::error::{AnvilError, BINARY_VARIABLE};

/// The program that `WATCHKEEPER_ANVIL` names; else the one of the npm package in `node_modules` of this folder or
/// one above; else the one in `PATH`.
pub(super) fn find() -> Result<PathBuf, AnvilError> {
    let named = env::var_os(BINARY_VARIABLE).filter(|named| !named.is_empty());
    let folder = env::current_dir().unwrap_or_default();
    find_in(named.map(PathBuf::from), &folder, &env::var_os("PATH").unwrap_or_default())
}

fn find_in(named: Option<PathBuf>, folder: &Path, path: &OsStr) -> Result<PathBuf, AnvilError> {
    if let Some(named) = named {
        return if named.is_file() {
            Ok(without_wrapper(named))
        } else {
            Err(AnvilError::NoSuchBinary { named })
        };
    }
    let in_path = env::split_paths(path).map(|folder| folder.join("anvil"));
    let found = in_packages(folder).chain(in_path).find(|file| file.is_file());
    found.map(without_wrapper).ok_or(AnvilError::NotInstalled)
}

/// The program of an npm package, if `file` is the package's script: a program that the script starts would outlive it.
fn without_wrapper(file: PathBuf) -> PathBuf {
    let is_script = |mut opened: File| {
        let mut begin = [0; 2];
        opened.read_exact(&mut begin).is_ok() && begin == *b"#!"
    };
    let script = File::open(&file).is_ok_and(is_script).then(|| file.canonicalize().ok()).flatten();
    script.and_then(|script| in_packages(&script).find(|program| program.is_file())).unwrap_or(file)
}

/// The package's own program and not its wrapper, which would be killed in its place.
fn in_packages(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let machine = match env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let file = format!("node_modules/@foundry-rs/anvil-{}-{machine}/bin/anvil", env::consts::OS);
    folder.ancestors().map(move |folder| folder.join(&file))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_variable_counts_first_then_the_package_then_the_path() {
        let root = tempfile::tempdir().unwrap();
        let file = |path: &Path| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
            path.to_owned()
        };
        let folder = root.path().join("a/b");
        let path = root.path().join("bin").into_os_string();

        let missing = find_in(None, &folder, &path).unwrap_err().to_string();
        assert!(missing.contains("npm install --no-save @foundry-rs/anvil"), "{missing}");
        let in_path = file(&root.path().join("bin/anvil"));
        assert_eq!(find_in(None, &folder, &path).unwrap(), in_path);
        let in_packages = file(&in_packages(&folder).nth(1).unwrap());
        assert!(in_packages.starts_with(root.path().join("a/node_modules/@foundry-rs")), "{in_packages:?}");
        assert_eq!(find_in(None, &folder, &path).unwrap(), in_packages);
        let named = file(&root.path().join("mine"));
        assert_eq!(find_in(Some(named.clone()), &folder, &path).unwrap(), named);

        // As `npm install --global` does it: a link to a script beside the program.
        let package = root.path().join("npm/lib/node_modules/@foundry-rs");
        let script = file(&package.join("anvil/bin.mjs"));
        fs::write(&script, "#!/usr/bin/env node").unwrap();
        let program = file(&super::in_packages(&root.path().join("npm/lib")).next().unwrap());
        fs::create_dir(root.path().join("npm/bin")).unwrap();
        let linked = root.path().join("npm/bin/anvil");
        std::os::unix::fs::symlink(&script, &linked).unwrap();
        let path = root.path().join("npm/bin").into_os_string();
        let elsewhere = root.path().join("elsewhere");
        assert_eq!(find_in(None, &elsewhere, &path).unwrap(), program.canonicalize().unwrap());
        assert_eq!(find_in(Some(linked), &elsewhere, &path).unwrap(), program.canonicalize().unwrap());
        let wrong = find_in(Some(root.path().join("none")), &folder, &path).unwrap_err().to_string();
        assert!(wrong.starts_with("WATCHKEEPER_ANVIL names /") && wrong.contains("none"), "{wrong}");
    }
}
