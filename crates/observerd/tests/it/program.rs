//! The program `observerd`, as systemd and a shell see it.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use watchkeeper_process::Signal;

use crate::support::*;

#[tokio::test]
async fn systemd_is_notified_of_start_and_stop() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    let receive = move || {
        let mut bytes = [0; 256];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    };
    let environment = [("NOTIFY_SOCKET", path.to_str().unwrap())];
    let program = Program::start_with(&directory.path().join("data"), &[], &environment).await;
    let (started, receive) = tokio::task::spawn_blocking(|| (receive(), receive)).await.unwrap();
    assert_eq!(started.trim(), "READY=1");
    program.signal(Signal::TERM);
    assert_eq!(tokio::task::spawn_blocking(receive).await.unwrap().trim(), "STOPPING=1");
    assert_eq!(program.ended().await.code(), Some(0));
}

#[tokio::test]
async fn what_was_answered_before_a_signal_is_there_after_it() {
    let directory = tempfile::tempdir().unwrap();
    for (signal, total) in [(Signal::TERM, 1), (Signal::INT, 2), (Signal::KILL, 3)] {
        let program = Program::start(directory.path(), &[]).await;
        let _open = program.client.stream("events").await;
        let answer = program.client.post("event", r#"{"endpoint":"/put"}"#).await.json();
        assert_eq!(answer["durability"], "group");
        assert_eq!(program.client.get("stats").await.json()["total"], total);
        program.signal(signal);
        let status = program.ended().await;
        assert_eq!(status.code(), (signal != Signal::KILL).then_some(0), "{signal:?}");
    }
}

/// A request that does not end holds the drain; a second signal does not wait for it, and leaves no token behind.
#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let environment = [("TMPDIR", directory.path().to_str().unwrap())];
    let program = Program::in_memory(&environment).await;
    let tokens = || std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(tokens(), 1);
    let address = program.client.address;
    let token = std::fs::read_dir(directory.path()).unwrap().next().unwrap().unwrap().path().join("token");
    let token = std::fs::read_to_string(token).unwrap();
    let mut open = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /observer/event HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\nexpect: 100-continue\r\ncontent-length: 100\r\n\r\n",
        token.trim()
    );
    open.write_all(head.as_bytes()).await.unwrap();
    // The body is being read: the service has asked for it.
    let mut continues = [0; 25];
    open.read_exact(&mut continues).await.unwrap();
    assert_eq!(&continues, b"HTTP/1.1 100 Continue\r\n\r\n");
    program.signal(Signal::TERM);
    // The port is closed once it drains.
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    program.signal(Signal::TERM);
    assert_eq!(program.ended().await.code(), Some(1));
    assert_eq!(tokens(), 0);
}

/// What programs report is for the service's user, whatever the umask was.
#[tokio::test]
async fn files_are_for_the_user_alone() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let program = Program::start(&data, &[]).await;
    program.client.post("event", r#"{"endpoint":"/put"}"#).await;
    for file in [
        data.clone(),
        data.join("00000000000000000000.jsonl"),
        data.join("journal.json"),
        data.join("run/errors"),
    ] {
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}: {mode:o}", file.display());
    }
    program.kill().await;
}

/// A client of the replaced system sends no token, and its environment may have an empty one.
#[tokio::test]
async fn loopback_open_needs_no_token_and_reads_none() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("observerd.toml");
    std::fs::write(&file, "[observerd]\nauth = \"loopback-open\"\n").unwrap();
    let environment = [("OBSERVERD_TOKEN", "")];
    let args = ["--config", file.to_str().unwrap()];
    let program = Program::start_with(&directory.path().join("data"), &args, &environment).await;
    assert_eq!(
        program.client.without_token().post("/observer/event", r#"{"endpoint":"/put"}"#).await.status,
        200
    );
    let warnings = program.client.without_token().get("health").await.json()["warnings"].to_string();
    assert!(warnings.contains("without a token"), "{warnings}");
    program.kill().await;
}

/// A log on a full disk, or one that nobody reads, ends nothing.
#[tokio::test]
async fn a_log_that_cannot_be_written_ends_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let corrections = directory.path().join("corrections.jsonl");
    std::fs::write(&corrections, "{}\nnonsense\n").unwrap();
    let file = directory.path().join("observerd.toml");
    let settings = format!("[observerd.corrections]\npath = {corrections:?}\nevery = \"10ms\"\n");
    std::fs::write(&file, format!("[observerd]\n{settings}")).unwrap();
    let args = ["--config", file.to_str().unwrap(), "--log", "debug"];
    let program = Program::start_without_log(&directory.path().join("data"), &args).await;
    let recorded = async {
        while program.client.get("stats").await.json()["by_source"]["overseer_correction"] != 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, recorded).await.expect("the loop reads on");
    assert_eq!(program.client.post("event", r#"{"endpoint":"/put"}"#).await.json()["durability"], "group");
    let health = program.client.get("health").await.json();
    assert_eq!(health["ready"], true, "{health}");
    assert!(
        health["loops"].as_array().unwrap().iter().all(|known| known["last_error"].is_null()),
        "{health}"
    );
    program.signal(Signal::TERM);
    assert_eq!(program.ended().await.code(), Some(0));
}

/// The exit code is 2, and what is wrong is on one line.
fn refused(args: &[&str]) -> String {
    let output = command(args).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), errors.lines().count()), (Some(2), 1), "{errors}");
    assert!(output.stdout.is_empty());
    errors.strip_prefix("observerd: ").unwrap().trim_end().to_owned()
}

#[tokio::test]
async fn what_cannot_be_served_is_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let program = Program::start(&data, &[]).await;
    let address = program.client.address.to_string();
    let data = data.to_str().unwrap();
    let in_use = refused(&["serve", "--log", "off", "--listen", &address]);
    assert!(in_use.contains(&format!("cannot listen on {address}")), "{in_use}");
    let other = directory.path().join("other");
    refused(&["serve", "--log", "off", "--listen", &address, "--data-dir", other.to_str().unwrap()]);
    assert!(!other.exists(), "a start that cannot listen makes no journal");
    let two = refused(&["serve", "--log", "off", "--listen", "127.0.0.1:0", "--data-dir", data]);
    assert!(two.contains("is in use by another journal"), "{two}");
    let file = directory.path().join("file");
    std::fs::write(&file, "{}\n").unwrap();
    let no_directory =
        refused(&["serve", "--log", "off", "--listen", "127.0.0.1:0", "--data-dir", file.to_str().unwrap()]);
    assert!(
        no_directory.contains("observerd import") || no_directory.contains("is a directory"),
        "{no_directory}"
    );
    program.kill().await;
}

#[test]
fn each_command_has_an_example() {
    let output = |args: &[&str]| String::from_utf8(command(args).output().unwrap().stdout).unwrap();
    let help = output(&["-h"]);
    let commands: Vec<_> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(commands.contains(&"serve"), "{help}");
    for name in commands {
        for help in [output(&[name, "-h"]), output(&[name, "--help"])] {
            assert!(help.contains(&format!("  observerd {name}")), "{name}: {help}");
        }
    }
}
