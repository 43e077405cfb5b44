//! The program for an image that has nothing else in it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds the program, linked statically, as the Compose deployer does: cargo shares the result.
pub(crate) fn build() -> PathBuf {
    let workspace = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    let target = target.join("image");
    let triple = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let built = Command::new(env!("CARGO"))
        .current_dir(workspace)
        .args(["build", "--quiet", "--package", "openraft_kv", "--bin", "openraft_kv"])
        .args(["--profile", "container", "--target", &triple, "--target-dir"])
        .arg(&target)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .status()
        .unwrap();
    assert!(built.success(), "the program for the image does not build");
    target.join(triple).join("container/openraft_kv")
}
