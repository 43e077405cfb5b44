//! What `unwrap` and a failed `main` print for each error: its text and its causes, bounded and escaped.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use watchkeeper::ObservationConfig;
use watchkeeper_scenario::{
    BuildError, DeployError, ExtensionError, ExternalError, ManualCluster, NodeAction, NodeControlError,
    ObserverError, ShutDownError,
};

use crate::common::{Memory, Numbers, Watcher, nothing, scenario};

fn shown(error: &impl Error) -> String {
    format!("{error:?}")
}

#[test]
fn debug_is_the_text() {
    let build = scenario().workload("w", nothing).cooldown(Duration::ZERO).build().unwrap_err();
    let name = || "n1".to_owned();
    let cases: [(String, &str); 9] = [
        (shown(&build), "cooldown is 0ns: it must be more than zero and at most 24 h"),
        (
            shown(&BuildError::EndlessWithoutDuration),
            "all workloads are endless: set with `run_for` how long they run",
        ),
        (
            shown(&ExtensionError::Duplicate { type_name: "u8" }),
            "there is an extension of type u8 already: wrap one of them in its own type",
        ),
        (
            shown(&ObserverError::Over { name: name() }),
            "the run or cluster is over, or its parent was cancelled: start the observer \"n1\" before that, and await its \
             start",
        ),
        (shown(&ExternalError::EmptyName), "an external endpoint needs a name: it may not be empty"),
        (
            shown(&ShutDownError::Observers { observers: vec![name()] }),
            "observers block their threads and were left running: n1; put what blocks into \
             tokio::task::spawn_blocking",
        ),
        (
            shown(&NodeControlError::Unsupported {
                deployer: "local".to_owned(),
                action: NodeAction::Isolate,
                node: name(),
            }),
            "the local deployer cannot isolate n1: use a deployer that can, such as compose",
        ),
        (
            shown(&DeployError::InvalidManifest {
                path: PathBuf::from("a.yml"),
                problem: "no services".to_owned(),
            }),
            "a.yml: no services",
        ),
        (
            shown(&ShutDownError::Panicked { message: "oh no".to_owned() }),
            "the cluster panicked while it went down: end what is left by hand; oh no",
        ),
    ];
    for (debug, expected) in cases {
        assert_eq!(debug, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn debug_has_the_causes() {
    let cluster = ManualCluster::<Numbers>::deploy(&Memory::default(), &1).await.unwrap();
    let config = ObservationConfig { interval: Duration::ZERO, ..Default::default() };
    let error =
        cluster.attach("slow", Watcher::new(&crate::common::Diary::default()), config).await.err().unwrap();
    assert_eq!(
        shown(&error),
        "the observer \"slow\" did not start: ObservationConfig::interval is 0ns: it must be more than \
         zero and at most 24 h"
    );
    let failed = || DeployError::Failed {
        deployer: "local".to_owned(),
        step: "start n1".to_owned(),
        source: "no room".into(),
    };
    let error = ShutDownError::Cluster { source: failed() };
    assert_eq!(
        shown(&error),
        "the cluster did not go down: end what is left by hand: the local deployer could not start n1: no room"
    );
    let kept =
        NodeControlError::Failed { action: NodeAction::Kill, node: "n1".to_owned(), source: failed().into() };
    assert_eq!(shown(&kept), "could not kill n1: the local deployer could not start n1: no room");
}

/// Names and texts of nodes come from outside.
#[test]
fn text_from_outside_is_bounded_and_forges_no_line() {
    let forged = "n1\nall is well\u{1b}[2J".to_owned();
    let long = "x".repeat(1_000_000);
    let errors: [Box<dyn Error>; 6] = [
        Box::new(NodeControlError::UnknownNode { node: forged.clone(), known: vec![forged.clone(); 10_000] }),
        Box::new(NodeControlError::Failed {
            action: NodeAction::Stop,
            node: forged.clone(),
            source: long.clone().into(),
        }),
        Box::new(ObserverError::Unknown { name: long.clone(), known: vec![long.clone(); 3] }),
        Box::new(ExternalError::DuplicateName { name: long.clone(), known: vec![forged.clone()] }),
        Box::new(BuildError::DuplicateName { what: "workload", name: forged.clone() }),
        Box::new(DeployError::Failed { deployer: long.clone(), step: long.clone(), source: long.into() }),
    ];
    for error in errors {
        for text in [error.to_string(), format!("{error:?}")] {
            assert!(text.len() < 40_000, "{} bytes", text.len());
            assert!(!text.contains('\u{1b}') && !text.contains("\nall is well"), "{text}");
        }
    }
}
