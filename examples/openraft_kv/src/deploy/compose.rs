//! The store in containers: `deploy/compose`, and the program for its image, linked statically.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{env, fs};

use watchkeeper::{DynError, async_trait};
use watchkeeper_deploy::compose::{ComposeDeployer, ComposeProgram, first_services, quoted, run_within};
use watchkeeper_scenario::DeployError;

use super::{Deployment, RaftKv};

/// What its clusters and images are called after.
const APP: &str = "openraft_kv";
const STEP: &str = "build the program for its image";
/// Names a program that is built already and linked statically: cargo is not asked for one then.
const PROGRAM: &str = "OPENRAFT_KV_PROGRAM";
/// How long cargo may take: the first time it builds all dependencies.
const BUILD_WITHIN: Duration = Duration::from_secs(900);

/// Starts the store in containers, by this package's `deploy/compose`.
///
/// The image has only this package's program, linked statically. cargo builds it from the source: the first build takes
/// about a minute, an image that is up to date a second. `OPENRAFT_KV_PROGRAM` names one that is built already.
#[must_use]
pub fn compose_deployer() -> ComposeDeployer<RaftKv> {
    compose_deployer_of(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/compose"))
}

/// The same with the `docker-compose.yml` and the `Dockerfile` of `folder`.
#[must_use]
pub fn compose_deployer_of(folder: impl Into<PathBuf>) -> ComposeDeployer<RaftKv> {
    ComposeDeployer::new(APP, folder, RaftKv)
}

#[async_trait]
impl ComposeProgram<RaftKv> for RaftKv {
    fn services(&self, deployment: &Deployment, in_file: &[String]) -> Result<Vec<String>, DynError> {
        first_services(deployment.nodes, in_file)
    }

    fn environment(&self, deployment: &Deployment) -> Vec<(String, String)> {
        let flags: Vec<String> = deployment.node_flags.iter().map(|flag| quoted(flag)).collect();
        vec![("OPENRAFT_KV_FLAGS".to_owned(), flags.join(" "))]
    }

    /// cargo does nothing when nothing has changed, so an image is never older than its source. All but the program
    /// itself is shared with a plain build of it.
    async fn build_context(&self, folder: &Path) -> Result<Option<PathBuf>, DeployError> {
        let program = build_static().await?;
        let context = program.with_file_name("context");
        let laid = lay(&program, &folder.join("Dockerfile"), &context);
        laid.map(|()| Some(context)).map_err(|error| failed(error.into()))
    }
}

/// Builds the program, linked statically, so that an empty image can run it; or returns the one that
/// `OPENRAFT_KV_PROGRAM` names.
///
/// # Errors
///
/// [`DeployError`]: the variable names no file; or cargo is missing, fails, or takes more than 15 minutes.
pub async fn build_static() -> Result<PathBuf, DeployError> {
    match env::var_os(PROGRAM).filter(|path| !path.is_empty()) {
        Some(path) => built_already(path.into()),
        None => build().await,
    }
}

fn built_already(program: PathBuf) -> Result<PathBuf, DeployError> {
    if program.is_file() {
        return Ok(program);
    }
    Err(DeployError::Unavailable {
        deployer: "compose".to_owned(),
        missing: format!("{PROGRAM} names {}, which is no file", program.display()),
        fix: format!("name a program that is linked statically, or unset {PROGRAM} to have it built"),
    })
}

async fn build() -> Result<PathBuf, DeployError> {
    let workspace = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    let folder = target.join("image");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(workspace)
        .args(["rustc", "--quiet", "--package", "openraft_kv", "--bin", "openraft_kv"])
        // The program that is run and tested stays where it is. An older cargo also builds the rest in the folder.
        .env("CARGO_BUILD_BUILD_DIR", &target)
        .env_remove("CARGO_BUILD_TARGET")
        .arg("--target-dir")
        .arg(&folder)
        .args(["--", "-Ctarget-feature=+crt-static", "-Cstrip=symbols"]);
    let hint = "see whether another cargo holds the folder that it builds into";
    let built = run_within(BUILD_WITHIN, cargo, hint).await.map_err(|error| match error.kind() {
        ErrorKind::TimedOut => failed(error.into()),
        _ => DeployError::Unavailable {
            deployer: "compose".to_owned(),
            missing: format!("cargo cannot be started ({error})"),
            fix: "install Rust with rustup, see https://rustup.rs".to_owned(),
        },
    })?;
    if built.success { Ok(folder.join("debug/openraft_kv")) } else { Err(failed(built.error().into())) }
}

/// Another deployment may be reading the same context: each file is replaced atomically.
fn lay(program: &Path, dockerfile: &Path, context: &Path) -> std::io::Result<()> {
    fs::create_dir_all(context)?;
    for (from, name) in [(program, "openraft_kv"), (dockerfile, "Dockerfile")] {
        let new = tempfile::NamedTempFile::new_in(context.with_file_name(""))?;
        fs::copy(from, new.path())?;
        new.persist(context.join(name))?;
    }
    Ok(())
}

fn failed(source: DynError) -> DeployError {
    DeployError::Failed { deployer: "compose".to_owned(), step: STEP.to_owned(), source }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_named_is_used_or_said_to_be_missing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(built_already(file.path().into()).unwrap(), file.path());
        let said = built_already("/no/such/program".into()).unwrap_err().to_string();
        assert!(said.contains("OPENRAFT_KV_PROGRAM names /no/such/program"), "{said}");
    }
}
