//! Clusters that cannot come up: a typed error, and nothing is left.

use std::error::Error;
use std::time::Duration;

use watchkeeper_deploy::local::{LocalDeployer, LocalError, Readiness};
use watchkeeper_scenario::{DeployError, RunningCluster};

use crate::app::{PORT, Program, Runs, SOON, processes_with};

async fn refused(program: Program, nodes: u64) -> DeployError {
    let deployer = LocalDeployer::new(program).start_within(SOON);
    deployer.start(&nodes).await.expect_err("it does not come up")
}

/// The error of a start, and its text with that of the deployer.
async fn fails(deployer: LocalDeployer<crate::app::App>, nodes: u64) -> (LocalError, String) {
    match deployer.start(&nodes).await.expect_err("it does not come up") {
        DeployError::Failed { deployer, step, source } => {
            let text = format!("the {deployer} deployer could not {step}: {source}");
            let error = source.downcast::<LocalError>().expect("the error of the deployer");
            let text = error.source().map_or(text.clone(), |cause| format!("{text}: {cause}"));
            (*error, text)
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn an_invalid_deployment_is_refused_before_anything_starts() {
    let named = |names: fn(u64) -> String| Program { names, ..Program::node() };
    let marked = |mark: &str| Program { readiness: Readiness::Line(mark.into()), ..Program::node() };
    let ports = |ports: &[&'static str]| Program { ports: ports.to_vec(), ..Program::node() };
    let cases = [
        (Program::node(), 0, "a local cluster has 1 to 64 nodes, and this one 0"),
        (Program::node(), 65, "and this one 65"),
        (Program::node(), u64::MAX, "a local cluster has 1 to 64 nodes"),
        (named(|number| format!("a/{number}")), 2, r#"no node can be called "a/1""#),
        (named(|_| "..".to_owned()), 1, r#"no node can be called "..""#),
        (named(|_| String::new()), 1, r#"no node can be called """#),
        (named(|_| "x".repeat(65)), 1, "at most 64"),
        (named(|_| "a\nb".to_owned()), 1, r#""a\nb""#),
        (named(|_| "same".to_owned()), 2, r#"two nodes are called "same""#),
        (ports(&["peer", PORT, "peer"]), 1, r#"two ports of a node are called "peer""#),
        (marked("a\nb"), 1, r#"the mark "a\nb" of `readiness` has a line break"#),
    ];
    for (program, nodes, words) in cases {
        let error = refused(program, nodes).await;
        assert!(matches!(error, DeployError::InvalidDeployment(_)), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

/// The longest `Duration` was a panic, and 25 h the error of a wait.
#[tokio::test]
async fn a_time_out_that_is_zero_or_too_long_is_refused_by_its_name() {
    let ok = || LocalDeployer::new(Program::node());
    for within in [Duration::ZERO, Duration::from_secs(25 * 3600), Duration::MAX] {
        for (deployer, setting) in
            [(ok().start_within(within), "start_within is"), (ok().stop_within(within), "stop_within is")]
        {
            let error = deployer.start(&1).await.unwrap_err();
            assert!(matches!(error, DeployError::InvalidDeployment(_)), "{error}");
            assert!(error.to_string().contains(setting), "{error}");
            assert!(error.to_string().contains("more than zero and at most 24 h"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_log_that_cannot_be_opened_and_an_argument_with_a_nul_byte_are_named() {
    let cluster = Program::script("echo ready; exec sleep 1000").start(1).await;
    let (control, log) = (cluster.node_control(), cluster.directory().join("n1/log"));
    std::fs::remove_file(&log).unwrap();
    std::fs::create_dir(&log).unwrap();
    let refused = control.restart("n1").await.unwrap_err();
    let reason = refused.source().unwrap();
    assert!(matches!(reason.downcast_ref(), Some(LocalError::Log { .. })), "{reason}");
    assert!(reason.to_string().contains("cannot open the log of n1, "), "{reason}");

    let (error, text) = fails(LocalDeployer::new(Program::script("echo ready \0; exec sleep 1000")), 1).await;
    assert!(matches!(error, LocalError::Spawn { .. }), "{error}");
    assert!(text.contains("cannot start n1 from sh: ") && text.contains("remove the NUL byte"), "{text}");
}

#[tokio::test]
async fn a_program_that_cannot_run_is_named() {
    for (program, words) in [
        ("/no/such/program", "/no/such/program, cannot be run: there is no such file"),
        ("watchkeeper-no-such-program", "it is in no directory of PATH: install it"),
        ("/etc/passwd", "chmod +x"),
    ] {
        let deployer = LocalDeployer::new(Program { runs: Runs::Program(program), ..Program::node() });
        let (error, text) = fails(deployer, 2).await;
        assert!(matches!(&error, LocalError::NoProgram { node, .. } if node == "n1"), "{error}");
        assert!(text.starts_with("the local deployer could not start n1: the program of n1, "), "{text}");
        assert!(text.contains(words), "{text}");
    }
}

#[tokio::test]
async fn a_node_that_dies_at_its_start_shows_how_and_its_log() {
    let dies = "echo 'cannot read the store' >&2; exit 7";
    for readiness in [Readiness::Probe, Readiness::Line("ready".into()), Readiness::Address("ready".into())] {
        let (error, text) =
            fails(LocalDeployer::new(Program { readiness, ..Program::script(dies) }), 1).await;
        assert!(matches!(error, LocalError::DiedAtStart { .. }), "{error}");
        for part in [
            "n1 died at its start (exit status: 7)",
            "The end of its log (keep all of it with `in_directory`):\n",
            "cannot read the store",
        ] {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
    }
}

/// The others serve only when nothing is left of the first one, not even a zombie: the start succeeded with two nodes of
/// three.
#[tokio::test]
async fn a_node_that_dies_while_the_others_start_fails_the_start() {
    let script = r#"
if [ "$number" = 1 ]; then
    echo $$ > "$cluster/new" && mv "$cluster/new" "$cluster/first"
    echo 'out of memory' >&2; echo ready; exit 9
fi
until [ -e "$cluster/first" ] && [ ! -e "/proc/$(cat "$cluster/first")" ]; do sleep 0.01; done
echo ready
exec sleep 1000
"#;
    let (error, text) = fails(LocalDeployer::new(Program::script(script)), 3).await;
    assert!(matches!(&error, LocalError::DiedAtStart { node, .. } if node == "n1"), "{error}");
    assert!(text.contains("exit status: 9") && text.contains("out of memory"), "{text}");
}

/// The error named the first node, which only waited for the one that had died.
#[tokio::test]
async fn the_last_node_that_dies_is_named_at_once() {
    let script = r#"[ "$number" = 3 ] && { echo 'no quorum key'; exit 1; }; exec sleep 1000"#;
    let (error, text) = fails(LocalDeployer::new(Program::script(script)), 3).await;
    assert!(matches!(&error, LocalError::DiedAtStart { node, .. } if node == "n3"), "{error}");
    assert!(text.contains("could not start n3") && text.contains("no quorum key"), "{text}");
}

/// A start time-out that is longer than any test.
const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_node_that_is_never_ready_says_what_is_missing() {
    let hangs = "echo 'waiting for a leader'; exec sleep 1000";
    let closes = "echo 'waiting for a leader'; exec >&- 2>&-; exec sleep 1000";
    let cases = [
        (Program { readiness: Readiness::Probe, ..Program::script(hangs) }, "onnection refused"),
        (Program::script(hangs), r#"it printed no line with "ready""#),
        (Program::script(closes), "it closed its output, and runs"),
    ];
    for (program, words) in cases {
        let parent = watchkeeper_process::RunDirectory::new("watchkeeper-test-").unwrap();
        let path = parent.path().join("cluster");
        let deployer = LocalDeployer::new(program).in_directory(&path).start_within(HOUR);
        // Until both have printed, however busy the machine is.
        let time_is_up = async {
            for node in ["n1", "n2"] {
                let log = || std::fs::read_to_string(path.join(node).join("log")).unwrap_or_default();
                let printed = watchkeeper::until("it has printed", || async { log().contains("leader\n") });
                printed.every(Duration::from_millis(5)).within(SOON).await.unwrap();
            }
            tokio::time::pause();
            tokio::time::advance(HOUR).await;
            tokio::time::resume();
        };
        let ((error, text), ()) = tokio::join!(fails(deployer, 2), time_is_up);
        assert!(matches!(error, LocalError::NotReady { .. }), "{error}");
        for part in ["was not ready within 3600s: ", words, "/log:\n", "start_within", "waiting for a leader"]
        {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
    }
}

#[tokio::test]
async fn a_line_that_is_not_an_address_is_shown() {
    let readiness = Readiness::Address("ready".into());
    let (error, text) =
        fails(LocalDeployer::new(Program { readiness, ..Program::script("echo ready; exec sleep 1000") }), 1)
            .await;
    assert!(matches!(error, LocalError::Address { .. }), "{error}");
    assert!(text.contains(r#"printed "ready" and not where it listens"#), "{text}");
    assert!(text.contains("it has another form"), "{text}");
}

/// What an app returns is the cause of the error.
#[tokio::test]
async fn an_app_that_has_no_client_is_an_error() {
    let (error, text) = fails(LocalDeployer::new(Program { ports: Vec::new(), ..Program::node() }), 1).await;
    assert!(matches!(error, LocalError::Client { .. }), "{error}");
    assert!(text.contains("cannot make a client of n1: the node has no port"), "{text}");
}

#[tokio::test]
async fn a_port_that_has_no_name_is_an_error_with_the_names() {
    let program = |ports: &[&'static str]| Program { ports: ports.to_vec(), ..Program::script("true") };
    for (ports, words) in [
        (&["peer", "admin"][..], r#"n1 has no port called "client": `ports` names admin, peer"#),
        (&[], r#"n1 has no port called "client": `ports` names none"#),
    ] {
        let (error, text) = fails(LocalDeployer::new(program(ports)), 1).await;
        assert!(matches!(error, LocalError::Command { .. }), "{error}");
        assert!(text.contains(words), "{text}");
    }
}

/// A log is shown in part, and so that it forges nothing.
#[tokio::test]
async fn what_is_shown_of_a_log_is_bounded_and_escaped() {
    let script =
        r#"i=0; while [ $i -lt 5000 ]; do echo "line $i"; i=$((i+1)); done; printf '\033[2Jlast\n'; exit 1"#;
    let (_, text) = fails(LocalDeployer::new(Program::script(script)), 1).await;
    assert!(text.contains("line 4999") && !text.contains("line 4900"), "{text}");
    assert!(text.contains(r"\u{1b}[2Jlast") && text.len() < 6_000, "{text}");
}

/// The wait for the end of its output had no limit.
#[tokio::test]
async fn a_program_whose_output_another_one_keeps_open_still_counts_as_dead() {
    let script = r#"setsid sh -c 'exec sleep 1000' & echo "escaped $!"; exit 3"#;
    let (error, text) = fails(LocalDeployer::new(Program::script(script)), 1).await;
    assert!(matches!(error, LocalError::DiedAtStart { .. }), "{error}");
    let escaped = text.rsplit_once("escaped ").unwrap().1.trim();
    assert!(std::process::Command::new("kill").args(["-KILL", escaped]).status().unwrap().success());
}

#[tokio::test]
async fn nothing_is_left_of_a_start_that_failed() {
    let parent = watchkeeper_process::RunDirectory::new("watchkeeper-test-").unwrap();
    let path = parent.path().join("cluster");
    let script = r#"[ "$number" = 2 ] && exit 1; exec sleep 1000"#;
    let deployer = LocalDeployer::new(Program::script(script)).in_directory(&path);
    fails(deployer, 3).await;
    assert_eq!(processes_with(path.to_str().unwrap()), 0);
}
