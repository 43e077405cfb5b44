//! Cuts a container off like a broken switch: packets are dropped, nothing is refused.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags, openat};
use watchkeeper::DynError;
use watchkeeper::report::one_line;

/// What is done with packets between a container and all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Traffic {
    Passed,
    Dropped,
}

/// The process of a node. Its pid alone may be that of another process by the time it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Running {
    /// The full id of its container.
    pub(super) container: String,
    /// Its pid on the host.
    pub(super) pid: i64,
    /// When the engine has started it.
    pub(super) started_at: String,
}

impl Traffic {
    /// The whole filter table, which is replaced at once: repeating it changes nothing.
    ///
    /// The container's own loopback stays: the engine's name server answers there. Without it a cut would
    /// be an immediate error, an unknown name, and not silence.
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

/// Sets the `traffic` of the node's network.
pub(super) async fn set(node: Running, traffic: Traffic) -> Result<(), DynError> {
    tokio::task::spawn_blocking(move || set_now(&node, traffic)).await?
}

fn set_now(node: &Running, traffic: Traffic) -> Result<(), DynError> {
    let network = network_of(node, &of_this_machine()?)?;
    let mut restore = Command::new("nsenter");
    restore
        // Through this process's descriptor, which stays that of the node's network even if the node ends.
        .arg(format!("--net=/proc/{}/fd/{}", std::process::id(), network.as_raw_fd()))
        .args(["iptables-restore", "--wait", "10"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0);
    let mut restore = restore.spawn().map_err(|error| {
        format!(
            "nsenter cannot be started ({error}): install it (Debian: apt-get install util-linux iptables)"
        )
    })?;
    if let Some(mut stdin) = restore.stdin.take() {
        // A program that has ended has printed why on standard error.
        let _ = stdin.write_all(traffic.table().as_bytes());
    }
    let ended = restore.wait_with_output()?;
    if ended.status.success() {
        return Ok(());
    }
    let reason = String::from_utf8_lossy(&ended.stderr);
    let reason = one_line(reason.lines().next().unwrap_or("no reason was given").trim(), 500);
    Err(format!("`nsenter iptables-restore` failed ({reason}): run as root on the engine's machine, with iptables installed").into())
}

/// The identity of the network of a `/proc/PID/ns/net`.
type NetworkId = (u64, u64);

fn number(network: &fs::Metadata) -> NetworkId {
    (network.dev(), network.ino())
}

/// The networks that must not be changed: that of this process and that of the machine.
fn of_this_machine() -> Result<Vec<NetworkId>, DynError> {
    let ours = fs::metadata("/proc/self/ns/net")
        .map_err(|error| format!("the network of this process cannot be read ({error}): mount /proc"))?;
    // That of the first process may be hidden, as in a container; then it cannot be changed from here either.
    let machine = fs::metadata("/proc/1/ns/net").ok();
    Ok([Some(ours), machine].into_iter().flatten().map(|network| number(&network)).collect())
}

/// The network of the node, held open. Fails if another process has the pid by now, and for one of the `others`.
fn network_of(node: &Running, others: &[NetworkId]) -> Result<File, DynError> {
    let Running { container, pid, .. } = node;
    let gone = |error: io::Error| {
        format!(
            "process {pid} cannot be inspected ({error}): run as root on the engine's machine, or try again if the node has restarted"
        )
    };
    // The folder is that of one process: nothing can be opened in it once the process has ended.
    let process = File::open(format!("/proc/{pid}")).map_err(gone)?;
    let open = |name: &str| {
        let opened = openat(&process, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        opened.map(File::from).map_err(io::Error::from)
    };
    let read = |name: &str| {
        let mut text = String::new();
        open(name)
            .and_then(|mut file| file.read_to_string(&mut text))
            .map_or_else(|_| String::new(), |_| text)
    };
    let is_named = read("cgroup").contains(container.as_str()) || is_mounted(&read("mountinfo"), container);
    if !is_named {
        return Err(format!(
            "process {pid} does not belong to the container {container}: the node has restarted, try again"
        )
        .into());
    }
    let network = open("ns/net").map_err(gone)?;
    if others.contains(&number(&network.metadata().map_err(gone)?)) {
        return Err("it has the network of this machine (network_mode: host), which would be cut off as well: give it \
                    its own network"
            .into());
    }
    Ok(network)
}

/// Whether the files that the engine mounts into a container, such as `/etc/hosts`, are those of this one.
///
/// The machine itself has mounts with the container's id at other paths.
fn is_mounted(mounts: &str, container: &str) -> bool {
    mounts.lines().any(|line| {
        let mut fields = line.split(' ').skip(3);
        let (root, at) = (fields.next(), fields.next());
        root.is_some_and(|root| root.contains(container)) && at.is_some_and(|at| at.starts_with("/etc/"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pid of a node that had ended was reused, and the network of that process was cut.
    #[test]
    fn a_process_outside_the_container_is_left_alone() {
        let mut other = Command::new("sleep").arg("1000").spawn().unwrap();
        let mut node =
            Running { container: "c0ffee".repeat(10), pid: other.id().into(), started_at: String::new() };
        let error = network_of(&node, &[]).unwrap_err().to_string();
        assert!(error.contains("does not belong to the container c0ffee"), "{error}");

        // The same process, as if its control group were the id of the container.
        let group = fs::read_to_string(format!("/proc/{}/cgroup", other.id())).unwrap();
        node.container = group.lines().next().unwrap().to_owned();
        let network = network_of(&node, &[]).unwrap();
        // It has our network, as with `network_mode: host`: all packets of the machine were dropped.
        let error = network_of(&node, &of_this_machine().unwrap()).unwrap_err().to_string();
        assert!(error.contains("network_mode: host") && error.contains("its own network"), "{error}");
        other.kill().unwrap();
        other.wait().unwrap();
        let error = network_of(&node, &[]).unwrap_err().to_string();
        assert!(error.contains("cannot be inspected") && error.contains("try again"), "{error}");
        // The open network is still the same.
        let ours = fs::metadata("/proc/self/ns/net").unwrap();
        assert_eq!(number(&network.metadata().unwrap()), number(&ours));
    }

    #[test]
    fn a_mount_of_the_machine_is_not_one_of_the_container() {
        let inside =
            "812 801 254:0 /docker/containers/c0ffee/hosts /etc/hosts rw,relatime - ext4 /dev/vda rw";
        let machine =
            "90 28 0:51 / /docker/containers/c0ffee/mounts/shm rw,nosuid - tmpfs shm rw,size=65536k";
        assert!(is_mounted(inside, "c0ffee") && !is_mounted(inside, "decaf"));
        assert!(!is_mounted(machine, "c0ffee") && !is_mounted("", "c0ffee"));
    }
}
