//! The Compose file and the Dockerfile, and where in them a mistake is.

use std::fs;
use std::path::{Path, PathBuf};

use watchkeeper_scenario::DeployError;

/// What a Compose file may be called, in the order of `docker compose`: of several, the first is taken.
const COMPOSE_FILES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];

/// The Compose file of a folder, and its Dockerfile, if it has one.
#[derive(Clone, Debug)]
pub(super) struct Manifest {
    pub(super) compose_file: PathBuf,
    dockerfile: Option<PathBuf>,
}

impl Manifest {
    pub(super) fn of(folder: &Path) -> Result<Self, DeployError> {
        let mut files = COMPOSE_FILES.iter().map(|name| folder.join(name));
        let Some(compose_file) = files.find(|path| path.is_file()) else {
            let [first, others @ ..] = COMPOSE_FILES;
            let problem = format!(
                "there is no {first} ({} will do too): name the folder that has it",
                others.join(", ")
            );
            return Err(DeployError::InvalidManifest { path: folder.to_owned(), problem });
        };
        let dockerfile = Some(folder.join("Dockerfile")).filter(|path| path.is_file());
        Ok(Self { compose_file, dockerfile })
    }

    /// The mistake, from the output of a failed build.
    pub(super) fn build_failed(&self, output: &str, error: &str) -> DeployError {
        let mut steps = output.lines().filter_map(|line| line.strip_prefix("Step ")?.split_once(" : "));
        match (steps.next_back(), &self.dockerfile) {
            (Some((_, instruction)), Some(file)) => invalid(file, error, |line| line.trim() == instruction),
            (None, Some(file)) if error.to_lowercase().contains("dockerfile") => {
                invalid(file, error, |_| false)
            }
            _ => invalid_compose(&self.compose_file, error),
        }
    }
}

/// The mistake in a Compose file: its checker names a line only if the file is not YAML.
pub(super) fn invalid_compose(file: &Path, error: &str) -> DeployError {
    let word = error.rsplit(['\'', '"']).nth(1).unwrap_or_default();
    let is_of_word = |c: char| c.is_alphanumeric() || "_-./".contains(c);
    invalid(file, error, |line| line.split(|c| !is_of_word(c)).any(|other| !word.is_empty() && other == word))
}

/// Adds the line if `error` does not name it and only one line is meant.
fn invalid(file: &Path, error: &str, is_meant: impl Fn(&str) -> bool) -> DeployError {
    let text = fs::read_to_string(file).unwrap_or_default();
    let mut meant = text.lines().zip(1..).filter(|(line, _)| is_meant(line)).map(|(_, number)| number);
    let problem = match (meant.next(), meant.next()) {
        (Some(line), None) if !error.contains("line ") => format!("line {line}: {error}"),
        _ => error.to_owned(),
    };
    DeployError::InvalidManifest { path: file.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "services:\n  n1:\n    hostname: n1\n    hostnam: n1\n    image: kv\n";

    fn problem(error: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("docker-compose.yml");
        fs::write(&file, FILE).unwrap();
        let error = invalid_compose(&file, error).to_string();
        error.strip_prefix(&format!("{}: ", file.display())).unwrap().to_owned()
    }

    #[test]
    fn the_line_of_the_wrong_word_is_named_if_it_is_the_only_one() {
        assert_eq!(problem("unsupported option: 'hostnam'"), "line 4: unsupported option: 'hostnam'");
        assert_eq!(problem("unsupported option: \"hostnam\""), "line 4: unsupported option: \"hostnam\"");
        assert_eq!(problem("there are two of 'n1' and more"), "there are two of 'n1' and more");
        assert_eq!(problem("there is no 'network'"), "there is no 'network'");
        assert_eq!(problem("at 'hostnam', line 7, column 2"), "at 'hostnam', line 7, column 2");
        assert_eq!(problem("out of words"), "out of words");
    }

    #[test]
    fn a_missing_file_and_the_instruction_that_failed_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = Manifest::of(folder.path()).unwrap_err().to_string();
        let says = ": there is no compose.yaml (compose.yml, docker-compose.yml, docker-compose.yaml will do too): name \
                    the folder that has it";
        assert!(error.ends_with(says), "{error}");
        for name in COMPOSE_FILES.into_iter().rev() {
            fs::write(folder.path().join(name), FILE).unwrap();
            assert!(Manifest::of(folder.path()).unwrap().compose_file.ends_with(name));
        }
        for name in ["compose.yaml", "compose.yml", "docker-compose.yaml"] {
            fs::remove_file(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("docker-compose.yml"), FILE).unwrap();
        // Without a Dockerfile of its own, the application's images are those that the Compose file names.
        let error =
            Manifest::of(folder.path()).unwrap().build_failed("Step 1/1 : FROM kv\n", "no such image");
        assert!(error.to_string().ends_with("docker-compose.yml: no such image"), "{error}");
        fs::write(folder.path().join("Dockerfile"), "# An image.\nFROM scratch\nCOPY a /a\n").unwrap();
        let manifest = Manifest::of(folder.path()).unwrap();
        let begun = "Step 1/2 : FROM scratch\n ---> \nStep 2/2 : COPY a /a\n";
        let cases = [
            (begun, "no such file", "Dockerfile: line 3: no such file"),
            (
                "",
                "dockerfile parse error line 2: unknown",
                "Dockerfile: dockerfile parse error line 2: unknown",
            ),
            ("", "no network is called 'kv'", "docker-compose.yml: line 5: no network is called 'kv'"),
        ];
        for (output, error, expected) in cases {
            let named = manifest.build_failed(output, error).to_string();
            assert!(named.ends_with(expected), "{named}");
        }
    }
}
