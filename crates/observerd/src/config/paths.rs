//! What the paths of the settings name.

use std::fs;
use std::io;
use std::path::Path;

use super::ObserverdConfig;
use super::values::ConfigProblem;

/// What is wrong with what is there. Nothing is made or changed.
pub(super) fn check(config: &ObserverdConfig) -> Vec<ConfigProblem> {
    let checks = [
        ("persist_path", persist_problem(&config.persist_path)),
        ("token_file", token_problem(&config.token_file)),
        ("corrections.path", corrections_problem(&config.corrections.path)),
    ];
    checks
        .into_iter()
        .filter_map(|(key, problem)| problem.map(|problem| ConfigProblem::new(key, problem)))
        .collect()
}

fn metadata(path: &Path) -> Option<io::Result<fs::Metadata>> {
    // Another check has a NUL.
    (!path.as_os_str().is_empty() && !path.as_os_str().as_encoded_bytes().contains(&0))
        .then(|| fs::metadata(path))
}

/// A directory that is missing is made.
fn persist_problem(path: &Path) -> Option<&'static str> {
    match metadata(path)? {
        Ok(found) if found.is_dir() => None,
        Ok(_) => Some(
            "names a file, and must name a directory. For the JSON lines of the replaced system: import them into a \
             new directory with `observerd import FILE --data DIR`, and set DIR here",
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Some("is below a file: each part but the last must be a directory")
        }
        Err(_) => Some("cannot be read: check the permissions of its directories"),
    }
}

fn token_problem(path: &Path) -> Option<&'static str> {
    match metadata(path)? {
        Ok(found) if found.is_dir() => Some("names a directory: give a file that has the token alone"),
        Ok(found) if found.is_file() && found.len() == 0 => {
            Some("names an empty file: write the token into it")
        }
        Ok(_) => None,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Some("names no file: write the token into it, or remove the key, and a token is generated")
        }
        Err(_) => Some("cannot be read: check the permissions of its directories"),
    }
}

/// A file that is missing may come later.
fn corrections_problem(path: &Path) -> Option<&'static str> {
    match metadata(path)? {
        Ok(found) if found.is_dir() => Some("names a directory: give the file of JSON lines"),
        _ => None,
    }
}
