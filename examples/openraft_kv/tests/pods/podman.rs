//! Podman with separate storage, network and configuration.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const IMAGE: &str = "localhost/openraft_kv:pods";
const NETWORK: &str = "pods";

/// Runs pods in a separate network, in which nothing else is.
///
/// The network is that of a child process and is gone with it, and with it the bridge and the
/// packet filter that Podman makes. Dropping the value removes every pod. What stays is Podman's own: an
/// empty control group and a cache of what it knows of images.
pub(crate) struct Podman {
    network: Child,
    directory: TempDir,
    is_up: bool,
}

impl Podman {
    /// Makes an image of `program` alone.
    pub(crate) fn start(program: &Path) -> Self {
        assert!(rustix::process::geteuid().is_root(), "the pods need root: run this as root");
        for tool in ["podman", "runc", "catatonit", "nsenter", "unshare", "ip", "tar"] {
            let found = Command::new(tool).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status();
            assert!(
                found.is_ok(),
                "{tool} is missing: apt-get install podman runc catatonit util-linux iproute2 tar"
            );
        }
        let podman = Self { network: network(), directory: TempDir::new().unwrap(), is_up: true };
        fs::write(podman.path("containers.conf"), podman.configuration()).unwrap();
        let rootfs = podman.path("rootfs");
        fs::create_dir(&rootfs).unwrap();
        fs::copy(program, rootfs.join("openraft_kv")).unwrap();
        let archive = podman.path("image.tar");
        succeed(Command::new("tar").arg("-C").arg(&rootfs).arg("-cf").arg(&archive).arg("openraft_kv"));
        podman.run(&["network", "create", "--subnet", "10.89.7.0/24", "--disable-dns", NETWORK]);
        podman.run(&["import", "--quiet", archive.to_str().unwrap(), IMAGE]);
        podman
    }

    /// Starts the pod, one of `pods`, which find each other by name.
    pub(crate) fn play(&self, name: &str, mut pod: Value, pods: &[String]) {
        let spec = &mut pod["spec"];
        // In a cluster the headless Service gives these names.
        let named = |pod: &String| json!({ "ip": ip_of(pod), "hostnames": [format!("{pod}.openraft-kv")] });
        spec["hostAliases"] = pods.iter().map(named).collect();
        for container in spec["containers"].as_array_mut().unwrap() {
            // Podman would publish each port on the machine, where three pods cannot share one. And it probes by running
            // curl inside, where there is none.
            let container = container.as_object_mut().unwrap();
            container.retain(|key, _| key != "ports" && !key.ends_with("Probe"));
        }
        let manifest = self.path(name).with_extension("yaml");
        // JSON is YAML.
        fs::write(&manifest, serde_json::to_vec(&pod).unwrap()).unwrap();
        let network = format!("{NETWORK}:ip={}", ip_of(name));
        self.run(&["play", "kube", "--network", &network, manifest.to_str().unwrap()]);
    }

    /// Kills what runs in the pod.
    pub(crate) fn kill(&self, pod: &str) {
        self.run(&["pod", "kill", pod]);
    }

    /// A property of the pod's node, by a Go template.
    pub(crate) fn inspect(&self, pod: &str, template: &str) -> String {
        self.run(&["inspect", &format!("{pod}-node"), "--format", template])
    }

    /// Runs `future` where the pods' network is.
    pub(crate) fn inside<F: Future<Output: Send> + Send>(&self, future: F) -> F::Output {
        let network = File::open(format!("/proc/{}/ns/net", self.network.id())).unwrap();
        let run = || {
            // This thread alone moves, and the runtime has no other.
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(future)
        };
        std::thread::scope(|scope| scope.spawn(run).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Removes everything, and checks that nothing is left.
    pub(crate) fn stop(mut self) {
        self.end();
        let directory = self.directory.path().to_owned();
        drop(self);
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        assert!(!mounts.contains(directory.to_str().unwrap()), "{mounts}");
        assert!(!directory.exists());
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.is_up) {
            self.run(&["pod", "rm", "--all", "--force", "--time", "0"]);
            assert_eq!(self.run(&["ps", "--all", "--quiet"]), "", "no container is left");
            self.network.kill().unwrap();
            self.network.wait().unwrap();
        }
    }

    fn run(&self, arguments: &[&str]) -> String {
        let at = |name: &str| self.path(name).into_os_string();
        // Not `ip netns exec`, which hides the control groups that Podman needs.
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/proc/{}/ns/net", self.network.id()))
            .arg("podman")
            .args(["--storage-driver".into(), "vfs".into(), "--root".into(), at("storage")])
            .args(["--runroot".into(), at("run"), "--log-level".into(), "error".into()])
            .args(arguments)
            .env("CONTAINERS_CONF", at("containers.conf"));
        succeed(&mut command)
    }

    fn configuration(&self) -> String {
        let path = |name: &str| self.path(name).display().to_string();
        format!(
            r#"
[containers]
default_ulimits = ["nofile=16384:16384", "nproc=16384:16384"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
tmp_dir = {:?}
[network]
network_config_dir = {:?}
"#,
            path("tmp"),
            path("networks")
        )
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The failure is printed already; a second panic would end the process.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.end()));
        } else {
            self.end();
        }
    }
}

/// Where the pod is in the network.
pub(crate) fn ip_of(pod: &str) -> String {
    let ordinal: u32 = pod.rsplit_once('-').unwrap().1.parse().unwrap();
    format!("10.89.7.{}", 10 + ordinal)
}

/// A process with its own network, which ends with the process: when it is killed, or when this one is.
fn network() -> Child {
    let mut network = Command::new("unshare")
        .args(["--net", "--", "sh", "-c", "ip link set lo up && echo up && exec cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(network.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "up\n", "a separate network takes root, unshare and ip");
    network
}

/// What the command prints; it has to succeed.
fn succeed(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let _ = std::io::stderr().write_all(&output.stderr);
    assert!(output.status.success(), "{command:?} ended with {}", output.status);
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
