//! The two files that a person may get wrong, and where in them a mistake is.

use std::fs;
use std::path::{Path, PathBuf};

use watchkeeper_scenario::DeployError;

/// The Compose file and the Dockerfile of a folder.
#[derive(Clone, Debug)]
pub(super) struct Manifest {
    pub(super) compose_file: PathBuf,
    pub(super) dockerfile: PathBuf,
}

impl Manifest {
    pub(super) fn of(folder: &Path) -> Self {
        Self { compose_file: folder.join("docker-compose.yml"), dockerfile: folder.join("Dockerfile") }
    }

    /// What is wrong, from what a failed build has printed.
    pub(super) fn build_failed(&self, output: &str, error: &str) -> DeployError {
        let mut steps = output.lines().filter_map(|line| line.strip_prefix("Step ")?.split_once(" : "));
        match steps.next_back() {
            Some((_, instruction)) => invalid(&self.dockerfile, error, |line| line.trim() == instruction),
            None if error.to_lowercase().contains("dockerfile") => {
                invalid(&self.dockerfile, error, |_| false)
            }
            None => invalid_compose(&self.compose_file, error),
        }
    }
}

/// What is wrong with a Compose file: its checker names a line only when it is no YAML.
pub(super) fn invalid_compose(file: &Path, error: &str) -> DeployError {
    let word = error.rsplit(['\'', '"']).nth(1).unwrap_or_default();
    invalid(file, error, |line| !word.is_empty() && line.contains(word))
}

/// Names the line that is meant if `error` does not, and if there is only one such line.
fn invalid(file: &Path, error: &str, is_meant: impl Fn(&str) -> bool) -> DeployError {
    let text = fs::read_to_string(file).unwrap_or_default();
    let mut meant = text.lines().zip(1..).filter(|(line, _)| is_meant(line)).map(|(_, number)| number);
    let problem = match (meant.next(), meant.next()) {
        (Some(line), None) if !error.contains("line ") => format!("line {line}: {error}"),
        _ => error.to_owned(),
    };
    DeployError::InvalidManifest { path: file.to_owned(), problem }
}
