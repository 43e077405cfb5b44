//! A mistake in a file is one error that names the file and, if there is one, the line.

use std::fs;
use std::path::Path;

use openraft_kv::deploy::Deployment;
use openraft_kv::deploy::compose::{compose_deployer, compose_deployer_of};
use tempfile::TempDir;
use watchkeeper_scenario::{DeployError, Deployer};

use crate::common::{Engine, Labelled};

const COMPOSE: &str = "docker-compose.yml";

/// A copy of the files with `from` replaced by `to` in `file`, and the line of that.
fn changed(file: &str, from: &str, to: &str) -> (TempDir, usize) {
    let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/compose");
    let folder = tempfile::tempdir().unwrap();
    for name in [COMPOSE, "Dockerfile"] {
        fs::copy(original.join(name), folder.path().join(name)).unwrap();
    }
    let path = folder.path().join(file);
    let text = fs::read_to_string(&path).unwrap();
    let at = text.find(from).unwrap_or_else(|| panic!("{file} no longer contains {from:?}"));
    fs::write(path, text.replacen(from, to, 1)).unwrap();
    let line = text[..at].matches('\n').count() + 1;
    (folder, line)
}

#[tokio::test]
async fn a_mistake_in_a_file_is_named_with_its_place() {
    let engine = Engine::alone().await;
    // The file, what is changed in it to what, and words of the error.
    let cases: &[(&str, &str, &str, &[&str])] = &[
        (COMPOSE, "hostname: n2", "hostnam: n2", &["line ", "hostnam"]),
        (COMPOSE, "  n2:\n", "  n2\n", &["line "]),
        (COMPOSE, "networks: [raft]", "networks: [rafd]", &["line ", "rafd"]),
        ("Dockerfile", "ENTRYPOINT", "ENTRYPONT", &["line ", "ENTRYPONT"]),
        ("Dockerfile", "COPY openraft_kv ", "COPY openraft_kvv ", &["line ", "openraft_kvv"]),
    ];
    for (file, from, to, words) in cases {
        let (folder, line) = changed(file, from, to);
        let path = folder.path().join(file);
        let deployer = compose_deployer_of(folder.path());
        let Err(error) = deployer.deploy(&Deployment::default()).await else { panic!("{to:?} is a mistake") };
        assert!(
            matches!(&error, DeployError::InvalidManifest { path: named, .. } if *named == path),
            "{error:?}"
        );
        let error = error.to_string();
        assert_eq!(error.lines().count(), 1, "{error}");
        for word in *words {
            assert!(error.contains(word), "{to:?}: {error}");
        }
        assert!(error.contains(&format!("line {line}")), "{to:?} is in line {line}: {error}");
    }
    engine.ends_as_it_began().await;
}

#[tokio::test]
async fn a_file_that_only_the_engine_refuses_leaves_nothing_of_what_was_made_before() {
    let engine = Engine::alone().await;
    let (folder, _) = changed(COMPOSE, "hostname: n3", "hostname: n3\n    mem_limit: 1k");
    let deployer = compose_deployer_of(folder.path());
    let (deployment, network) = (Deployment::default(), |labelled: &Labelled| labelled[1] >= 1);
    let (deployed, ()) = tokio::join!(
        deployer.deploy(&deployment),
        engine.eventually("the network is there before the refusal", network),
    );
    let Err(DeployError::Failed { step, source, .. }) = deployed else { panic!("no node lives in 1 KiB") };
    assert_eq!(step, "start its containers");
    let reason = source.to_string();
    assert!(reason.contains("n3") && reason.contains("memory") && !reason.contains("Creating"), "{reason}");
    engine.ends_as_it_began().await;
}

#[tokio::test]
async fn more_nodes_than_services_are_refused() {
    let deployment = Deployment { nodes: 4, ..Deployment::default() };
    let _engine = Engine::alone().await;
    let Err(error) = compose_deployer().deploy(&deployment).await else { panic!("there are three services") };
    assert!(matches!(error, DeployError::InvalidDeployment(_)), "{error:?}");
}
