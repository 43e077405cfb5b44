//! The program for the image: linked statically, so that an empty image can run it.

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use watchkeeper_scenario::DeployError;

use super::project::run_within;
use super::{failed, unavailable};

const STEP: &str = "build the program for its image";
/// How long cargo may take: the first time it builds all dependencies.
const BUILD_WITHIN: Duration = Duration::from_secs(900);

/// Builds the program, and copies it and `dockerfile` into one folder; returns that folder, the context of
/// the image's build.
///
/// cargo does nothing when nothing has changed, so an image is never older than its source. All but the program
/// itself is shared with a plain build of it.
pub(super) async fn build(dockerfile: &Path) -> Result<PathBuf, DeployError> {
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
        ErrorKind::TimedOut => failed(STEP, error),
        _ => unavailable(
            format!("cargo cannot be started ({error})"),
            "install Rust with rustup, see https://rustup.rs",
        ),
    })?;
    if !built.success {
        return Err(failed(STEP, built.error()));
    }
    let program = folder.join("debug/openraft_kv");
    let context = folder.join("context");
    lay(&program, dockerfile, &context).map_err(|error| failed(STEP, error))?;
    Ok(context)
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
