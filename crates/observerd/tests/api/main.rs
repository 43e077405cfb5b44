//! The service against schemathesis, which makes requests of its description, and checks the answers against it.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

use watchkeeper_process::{Process, Signal, while_parent_lives};

const TOKEN: &str = "token-of-the-tests-0123456789";

#[tokio::test]
async fn schemathesis_finds_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_observerd"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(directory.path());
    command.env("OBSERVERD_TOKEN", TOKEN);
    let (service, ready) = Process::start(while_parent_lives(&command), "listening on http://").unwrap();
    let line = ready.line().await.unwrap();
    let address = line.split("http://").nth(1).unwrap().trim();

    let mut tool = tokio::process::Command::new(root().join("target/schemathesis/bin/schemathesis"));
    tool.arg("--config-file").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("schemathesis.toml"));
    tool.args(["run", "--checks", "all", "--seed", "1", "--no-color", "--header"]);
    tool.arg(format!("Authorization: Bearer {TOKEN}"));
    tool.arg(format!("http://{address}/v1/observer/openapi.json"));
    // It keeps what it finds in its working directory.
    let output = tool.current_dir(directory.path()).kill_on_drop(true).output().await.unwrap();
    let (report, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{report}{errors}");
    assert!(output.status.success(), "schemathesis has ended with {}", output.status);
    assert!(!report.contains("WARNINGS"), "schemathesis could not test all");

    service.signal(Signal::TERM).unwrap();
    assert_eq!(service.exit().wait().await.unwrap().code(), Some(0));
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
