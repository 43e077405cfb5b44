//! The configuration of a node: flags, a YAML file with the same names, or both.

use std::path::{Path, PathBuf};
use std::time::Duration;

use openraft::SnapshotPolicy;
use serde::Deserialize;
use watchkeeper::report::one_line;

use crate::api::{NodeId, check_addr};

/// The longest time-out.
const HOUR: Duration = Duration::from_secs(3600);

// Bytes that an error shows of the parser's message and of the file's line.
const REASON_LIMIT: usize = 400;
const LINE_LIMIT: usize = 120;

/// The flags of the `node` subcommand, which are the keys of its YAML file too.
///
/// In YAML a key is written with underscores: `data_dir` for `--data-dir`. A flag overrides the file,
/// and an unknown key is an error.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeFlags {
    /// Number of this node in its cluster, at least 1
    #[arg(long, value_name = "N")]
    pub id: Option<NodeId>,
    /// Take the number from a name that ends in one, counted from 0: `kv-0` is node 1
    #[arg(long, value_name = "NAME", conflicts_with = "id")]
    pub id_from_name: Option<String>,
    /// Name of the cluster; nodes of different names do not talk [default: `openraft_kv`]
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// Directory for the log, the vote and the data; made if missing, its parent must exist
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address to serve on; port 0 lets the system pick [default: 127.0.0.1:0]
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Address where others reach the node, if it is not the one listened on
    #[arg(long, value_name = "HOST:PORT")]
    pub public_addr: Option<String>,
    /// Interval of the leader's heartbeats [default: 50]
    #[arg(long, value_name = "MS")]
    pub heartbeat_ms: Option<u64>,
    /// Shortest election timeout [default: 300]
    #[arg(long, value_name = "MS")]
    pub election_min_ms: Option<u64>,
    /// Longest election timeout [default: 600]
    #[arg(long, value_name = "MS")]
    pub election_max_ms: Option<u64>,
    /// How long a request waits for a quorum [default: 2000]
    #[arg(long, value_name = "MS")]
    pub request_timeout_ms: Option<u64>,
    /// Entries between two snapshots [default: 1000]
    #[arg(long, value_name = "ENTRIES")]
    pub snapshot_after: Option<u64>,
    /// Entries kept in the log although a snapshot has them [default: 100]
    #[arg(long, value_name = "ENTRIES")]
    pub keep_log: Option<u64>,
    /// YAML file with any of these flags
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
}

/// A complete and valid configuration of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// Its number in the cluster.
    pub id: NodeId,
    /// The cluster's name.
    pub cluster: String,
    /// Where its data is.
    pub data_dir: PathBuf,
    /// Where it serves, a `host:port`.
    pub listen: String,
    /// Where others reach it, if not at `listen`.
    pub public_addr: Option<String>,
    /// Interval of the leader's heartbeats.
    pub heartbeat: Duration,
    /// Shortest election timeout.
    pub election_min: Duration,
    /// Longest election timeout.
    pub election_max: Duration,
    /// How long a request waits for a quorum.
    pub request_timeout: Duration,
    /// Entries between two snapshots.
    pub snapshot_after: u64,
    /// Entries kept in the log although a snapshot has them.
    pub keep_log: u64,
}

/// What is wrong with a configuration.
#[derive(thiserror::Error)]
pub enum ConfigError {
    /// The YAML file cannot be read.
    #[error("cannot read the configuration {}: give an existing file with --config", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The YAML file has an unknown key or a wrong value.
    #[error("the configuration {} is not usable: {reason}", path.display())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// Which key or value, and where.
        reason: String,
    },
    /// A setting without a default is missing.
    #[error("--{flag} is missing: give the flag, or `{key}:` in the YAML file")]
    Missing {
        /// The flag.
        flag: &'static str,
        /// Its key in YAML.
        key: &'static str,
    },
    /// A setting has an invalid value.
    #[error("--{flag}: {reason}")]
    Impossible {
        /// The flag.
        flag: &'static str,
        /// Why, and which values are valid.
        reason: String,
    },
}

crate::errors::debug_is_the_text!(ConfigError);

impl NodeFlags {
    /// Completes the flags from the YAML file that they name, if any. Flags override it.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Unreadable`] and [`ConfigError::Yaml`].
    pub fn with_file(self) -> Result<Self, ConfigError> {
        let Some(path) = &self.config else {
            return Ok(self);
        };
        let file = read_yaml(path)?;
        let (id, id_from_name) = match (self.id, self.id_from_name) {
            (None, None) => (file.id, file.id_from_name),
            given => given,
        };
        Ok(Self {
            id,
            id_from_name,
            cluster: self.cluster.or(file.cluster),
            data_dir: self.data_dir.or(file.data_dir),
            listen: self.listen.or(file.listen),
            public_addr: self.public_addr.or(file.public_addr),
            heartbeat_ms: self.heartbeat_ms.or(file.heartbeat_ms),
            election_min_ms: self.election_min_ms.or(file.election_min_ms),
            election_max_ms: self.election_max_ms.or(file.election_max_ms),
            request_timeout_ms: self.request_timeout_ms.or(file.request_timeout_ms),
            snapshot_after: self.snapshot_after.or(file.snapshot_after),
            keep_log: self.keep_log.or(file.keep_log),
            config: self.config,
        })
    }
}

fn read_yaml(path: &Path) -> Result<NodeFlags, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    serde_saphyr::from_str(&text)
        .map_err(|error| ConfigError::Yaml { path: path.to_owned(), reason: reason(&error, &text) })
}

/// The parser's first line, which has the position, and the line of the file: the parser's own text has five lines.
fn reason(error: &serde_saphyr::Error, text: &str) -> String {
    let shown = error.to_string();
    let first = shown.lines().next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let line = error
        .location()
        .and_then(|place| text.lines().nth(usize::try_from(place.line()).ok()?.checked_sub(1)?))
        .map(str::trim)
        .filter(|line| !line.is_empty());
    match line {
        Some(line) => format!("{} in `{}`", one_line(first, REASON_LIMIT), one_line(line, LINE_LIMIT)),
        None => one_line(first, REASON_LIMIT),
    }
}

impl TryFrom<NodeFlags> for NodeConfig {
    type Error = ConfigError;

    fn try_from(flags: NodeFlags) -> Result<Self, ConfigError> {
        let config = Self {
            id: id(&flags)?,
            cluster: flags.cluster.unwrap_or_else(|| "openraft_kv".to_owned()),
            data_dir: flags.data_dir.ok_or(missing("data-dir", "data_dir"))?,
            listen: flags.listen.unwrap_or_else(|| "127.0.0.1:0".to_owned()),
            public_addr: flags.public_addr,
            heartbeat: Duration::from_millis(flags.heartbeat_ms.unwrap_or(50)),
            election_min: Duration::from_millis(flags.election_min_ms.unwrap_or(300)),
            election_max: Duration::from_millis(flags.election_max_ms.unwrap_or(600)),
            request_timeout: Duration::from_millis(flags.request_timeout_ms.unwrap_or(2000)),
            snapshot_after: flags.snapshot_after.unwrap_or(1000),
            keep_log: flags.keep_log.unwrap_or(100),
        };
        config.check()?;
        Ok(config)
    }
}

fn id(flags: &NodeFlags) -> Result<NodeId, ConfigError> {
    match (flags.id, &flags.id_from_name) {
        (Some(id), None) => Ok(id),
        (None, Some(name)) => ordinal(name).and_then(|ordinal| ordinal.checked_add(1)).ok_or_else(|| {
            impossible(
                "id-from-name",
                format!("`{name}` does not end in `-` and a number: expected a name such as kv-0"),
            )
        }),
        (Some(_), Some(_)) => Err(impossible("id-from-name", "give this or --id, not both")),
        (None, None) => Err(missing("id", "id")),
    }
}

fn ordinal(name: &str) -> Option<NodeId> {
    name.rsplit_once('-').and_then(|(_, ordinal)| ordinal.parse().ok())
}

impl NodeConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.id == 0 {
            return Err(impossible("id", "node ids begin at 1"));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if self.cluster.is_empty() || !self.cluster.chars().all(plain) {
            let reason = "a cluster name is made of ASCII letters, digits, `.`, `_` and `-`";
            return Err(impossible("cluster", reason));
        }
        if let Some(addr) = &self.public_addr {
            check_addr(addr).map_err(|reason| impossible("public-addr", reason))?;
        }
        for (flag, duration) in [
            ("heartbeat-ms", self.heartbeat),
            ("election-min-ms", self.election_min),
            ("election-max-ms", self.election_max),
            ("request-timeout-ms", self.request_timeout),
        ] {
            if !(Duration::from_millis(1)..=HOUR).contains(&duration) {
                let reason = format!("{duration:?} is out of range: 1 ms to one hour");
                return Err(impossible(flag, reason));
            }
        }
        if self.election_min <= self.heartbeat {
            let reason = "must be longer than the heartbeat, best three times as long";
            return Err(impossible("election-min-ms", reason));
        }
        if self.election_max <= self.election_min {
            let reason = "must be longer than the shortest election timeout";
            return Err(impossible("election-max-ms", reason));
        }
        if self.snapshot_after == 0 {
            let reason = "at least 1 entry lies between two snapshots";
            return Err(impossible("snapshot-after", reason));
        }
        Ok(())
    }

    pub(super) fn raft(&self) -> openraft::Config {
        openraft::Config {
            cluster_name: self.cluster.clone(),
            heartbeat_interval: as_millis(self.heartbeat),
            election_timeout_min: as_millis(self.election_min),
            election_timeout_max: as_millis(self.election_max),
            install_snapshot_timeout: as_millis(self.request_timeout),
            // A chunk is bytes in JSON, up to four characters a byte.
            snapshot_max_chunk_size: 256 << 10,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_after),
            max_in_snapshot_log_to_keep: self.keep_log,
            // Below this a snapshot may not cure the lag: openraft asks for more than the policy.
            replication_lag_threshold: self.snapshot_after.saturating_mul(2),
            ..openraft::Config::default()
        }
    }
}

fn missing(flag: &'static str, key: &'static str) -> ConfigError {
    ConfigError::Missing { flag, key }
}

fn impossible(flag: &'static str, reason: impl Into<String>) -> ConfigError {
    let reason = reason.into();
    ConfigError::Impossible { flag, reason }
}

fn as_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_in_the_file_is_one_line_that_names_key_and_place() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.yaml");
        std::fs::write(&path, "id: 1\nheartbaet_ms: 5\n").unwrap();
        let text = read_yaml(&path).unwrap_err().to_string();
        let start = format!("the configuration {} is not usable: line 2 column 1: ", path.display());
        assert!(text.starts_with(&start) && text.lines().count() == 1, "{text}");
        assert!(text.contains("unknown field `heartbaet_ms`, expected one of id,"), "{text}");
        assert!(text.ends_with(" in `heartbaet_ms: 5`"), "{text}");
    }

    #[test]
    fn a_wrong_value_is_shown_and_a_long_one_is_truncated() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.yaml");
        let read = |yaml: &str| {
            std::fs::write(&path, yaml).unwrap();
            read_yaml(&path).unwrap_err().to_string()
        };
        assert!(read("id: 1\nheartbeat_ms: fast").ends_with(": invalid u64 in `heartbeat_ms: fast`"));
        let long = read(&format!("id: {}\u{1b}[2J", "x".repeat(1 << 20)));
        assert!(long.len() < 1000 && !long.contains('\u{1b}'), "{long}");
    }
}
