//! The program for an image that has nothing else in it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds the program, linked statically, as the Compose deployer does: cargo shares the result.
pub(crate) fn build() -> PathBuf {
    let workspace = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    let folder = target.join("image");
    let built = Command::new(env!("CARGO"))
        .current_dir(workspace)
        .args(["rustc", "--quiet", "--package", "openraft_kv", "--bin", "openraft_kv"])
        .env("CARGO_BUILD_BUILD_DIR", &target)
        .env_remove("CARGO_BUILD_TARGET")
        .arg("--target-dir")
        .arg(&folder)
        .args(["--", "-Ctarget-feature=+crt-static", "-Cstrip=symbols"])
        .status()
        .unwrap();
    assert!(built.success(), "the program for the image does not build");
    folder.join("debug/openraft_kv")
}
