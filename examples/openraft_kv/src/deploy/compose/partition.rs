//! Cuts a container off, as a broken switch would: packets vanish, nothing is refused.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use watchkeeper_scenario::DynError;

/// What becomes of packets between a container and all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Traffic {
    Passed,
    Dropped,
}

impl Traffic {
    /// The whole filter table, which is replaced at once: doing it twice is doing it once.
    ///
    /// The container's own loopback stays: the engine's name server answers there, and a cut that
    /// shows as an unknown name would be an error at once, not silence.
    fn table(self) -> &'static str {
        match self {
            Self::Passed => "*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\nCOMMIT\n",
            Self::Dropped => {
                "*filter\n:INPUT DROP\n:FORWARD DROP\n:OUTPUT DROP\n\
                 -A INPUT -i lo -j ACCEPT\n-A OUTPUT -o lo -j ACCEPT\nCOMMIT\n"
            }
        }
    }
}

/// Sets the `traffic` of the network that the process `pid` lives in.
pub(super) async fn set(pid: i64, traffic: Traffic) -> Result<(), DynError> {
    tokio::task::spawn_blocking(move || set_now(pid, traffic)).await?
}

fn set_now(pid: i64, traffic: Traffic) -> Result<(), DynError> {
    let mut restore = Command::new("nsenter");
    restore
        .args(["--target", &pid.to_string(), "--net", "iptables-restore", "--wait"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0);
    let mut restore = restore.spawn().map_err(|error| format!("nsenter cannot be started: {error}"))?;
    if let Some(mut stdin) = restore.stdin.take() {
        // A reader that is gone has said why on standard error.
        let _ = stdin.write_all(traffic.table().as_bytes());
    }
    let ended = restore.wait_with_output()?;
    if ended.status.success() {
        return Ok(());
    }
    let reason = String::from_utf8_lossy(&ended.stderr);
    let reason = reason.lines().next().unwrap_or("no reason was given").trim();
    Err(format!("`nsenter iptables-restore` failed ({reason}): run as root on the engine's machine, with iptables installed").into())
}
