//! The settings of the service: the block `[observerd]` of a TOML file.
//!
//! [`read`] reads a file, [`load`] lets flags win, and [`parse`] takes a text. All findings of a file come at once, each with
//! its line and column.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use watchkeeper_journal::{Durability, JournalConfig};

mod finding;
mod flags;
mod found;
mod hosts;
mod keys;
mod paths;
mod position;
mod ranges;
mod read;
pub(crate) mod seconds;
mod shape;
mod values;
mod variables;

#[cfg(test)]
mod tests;

pub use finding::{ConfigError, Finding, Place};
pub use flags::Flags;
pub use read::{MAX_FILE, load, parse, read};
pub use values::ConfigProblem;

/// The settings. An empty file is valid.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Config {
    /// The one block.
    pub observerd: ObserverdConfig,
}

/// The block `[observerd]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct ObserverdConfig {
    /// Where the service listens. Default: `127.0.0.1:3219`.
    pub bind: SocketAddr,
    /// The directory of the journal, the token and the positions. Empty, the default: everything is in memory, and is gone with the
    /// process.
    pub persist_path: PathBuf,
    /// What an answer promises: `group` (the default), `buffered` or `always`.
    pub durability: DurabilityName,
    /// The size of a segment of the journal. Default: 64 MiB.
    pub segment_bytes: u64,
    /// How many segments are kept. Default: 8.
    pub segments: u64,
    /// Who may call. Default: `token`.
    pub auth: Auth,
    /// A file with the token. Empty, the default: `OBSERVERD_TOKEN`, or the file `token` in the data directory.
    pub token_file: PathBuf,
    /// Names that `Host` and `Origin` may have, besides loopback and the bound address.
    pub hosts: Vec<String>,
    /// For how many of the newest records an idempotency key is known, at most 1,000,000: a start reads as many. Default: 20,000.
    pub idempotency_window: u64,
    /// Whether the runs of the loops are recorded in `run/` of the data directory. Default: true.
    pub record_loops: bool,
    /// What bounds the service's work and memory.
    pub limits: LimitsConfig,
    /// The tail of the overseer's file of corrections.
    pub corrections: CorrectionsConfig,
    /// The analysis of errors.
    pub errors: ErrorsConfig,
    /// The consolidation of playbooks.
    pub playbooks: PlaybooksConfig,
    /// The escalation of clusters of errors.
    pub escalation: EscalationConfig,
    /// Where the service may connect to.
    pub outgoing: OutgoingConfig,
}

impl Default for ObserverdConfig {
    fn default() -> Self {
        let journal = JournalConfig::default();
        Self {
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 3219)),
            persist_path: PathBuf::new(),
            durability: DurabilityName::Group,
            segment_bytes: journal.segment_bytes,
            segments: journal.segments,
            auth: Auth::Token,
            token_file: PathBuf::new(),
            hosts: Vec::new(),
            idempotency_window: 20_000,
            record_loops: true,
            limits: LimitsConfig::default(),
            corrections: CorrectionsConfig::default(),
            errors: ErrorsConfig::default(),
            playbooks: PlaybooksConfig::default(),
            escalation: EscalationConfig::default(),
            outgoing: OutgoingConfig::default(),
        }
    }
}

/// The name of a level of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DurabilityName {
    /// [`Durability::Buffered`].
    Buffered,
    /// [`Durability::Group`].
    Group,
    /// [`Durability::Always`].
    Always,
}

impl From<DurabilityName> for Durability {
    fn from(name: DurabilityName) -> Self {
        match name {
            DurabilityName::Buffered => Self::Buffered,
            DurabilityName::Group => Self::Group,
            DurabilityName::Always => Self::Always,
        }
    }
}

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Auth {
    /// A caller with the token.
    Token,
    /// Each process of this machine, without a token: for clients of the system that this one replaces. The service must listen
    /// on a loopback address.
    LoopbackOpen,
}

/// The block `[observerd.limits]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct LimitsConfig {
    /// The most open connections. Default: 4,096.
    pub connections: usize,
    /// The most open connections of one address; of IPv6, of a network of 64 bits. Default: 2,048.
    pub connections_per_address: usize,
    /// The most requests of one address in a second. Default: 50,000.
    pub requests_per_second: u32,
    /// How many more it may send at once. Default: 50,000.
    pub burst: u32,
    /// The most bytes of bodies that are read or stored at a time. Default: 64 MiB.
    pub bodies: usize,
    /// The most readers of streams. Default: 2,048.
    pub streams: usize,
    /// In which time a request's head must be there; also how long an idle connection is kept. Default: 10 s.
    #[serde(with = "seconds")]
    pub head: Duration,
    /// In which time a request's body must be there. Default: 30 s.
    #[serde(with = "seconds")]
    pub body: Duration,
    /// For how long a client may read nothing of an answer, while there is more than the system's buffer takes. Default: 30 s.
    #[serde(with = "seconds")]
    pub write: Duration,
    /// In which time an append must be answered. Default: 30 s.
    #[serde(with = "seconds")]
    pub append: Duration,
    /// In which time open requests must end at a stop. Default: 10 s.
    #[serde(with = "seconds")]
    pub drain: Duration,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            connections: 4_096,
            connections_per_address: 2_048,
            requests_per_second: 50_000,
            burst: 50_000,
            bodies: 64 * 1024 * 1024,
            streams: 2_048,
            head: Duration::from_secs(10),
            body: Duration::from_secs(30),
            write: Duration::from_secs(30),
            append: Duration::from_secs(30),
            drain: Duration::from_secs(10),
        }
    }
}

/// The block `[observerd.corrections]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct CorrectionsConfig {
    /// The file of JSON lines. Empty, the default: none is read.
    pub path: PathBuf,
    /// How often it is read. Default: 500 ms.
    #[serde(with = "seconds")]
    pub every: Duration,
}

impl Default for CorrectionsConfig {
    fn default() -> Self {
        Self { path: PathBuf::new(), every: Duration::from_millis(500) }
    }
}

/// The block `[observerd.errors]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct ErrorsConfig {
    /// How often new operations are analysed. Default: 1 s.
    #[serde(with = "seconds")]
    pub every: Duration,
    /// Over how many of the newest operations, at most [`MAX_WINDOW`](crate::loops::recent::MAX_WINDOW). Default: 10,000.
    pub window: usize,
    /// The most clusters that are kept. Default: 500.
    pub clusters: usize,
}

impl Default for ErrorsConfig {
    fn default() -> Self {
        Self { every: Duration::from_secs(1), window: 10_000, clusters: 500 }
    }
}

/// The block `[observerd.playbooks]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct PlaybooksConfig {
    /// How often new operations are read. Default: 5 s.
    #[serde(with = "seconds")]
    pub every: Duration,
    /// Over how many of the newest operations, at most [`MAX_WINDOW`](crate::loops::recent::MAX_WINDOW). Default: 10,000.
    pub window: usize,
    /// How often a sequence must have succeeded: less often than the window has operations. Default: 3.
    pub occurrences: usize,
    /// The most playbooks that are kept. Default: 200.
    pub playbooks: usize,
    /// The longest time between two operations of a sequence. Default: 10 min.
    #[serde(with = "seconds")]
    pub gap: Duration,
}

impl Default for PlaybooksConfig {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(5),
            window: 10_000,
            occurrences: 3,
            playbooks: 200,
            gap: Duration::from_mins(10),
        }
    }
}

/// The block `[observerd.escalation]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct EscalationConfig {
    /// The URL that a cluster over the threshold is posted to. Empty, the default: nothing is posted.
    pub webhook: String,
    /// How many errors of a cluster within the window of the analysis are over the threshold. Default: 10.
    pub threshold: usize,
    /// How long a cluster is not posted again. Default: 1 h.
    #[serde(with = "seconds")]
    pub cooldown: Duration,
    /// In which time the webhook must answer. Default: 10 s.
    #[serde(with = "seconds")]
    pub timeout: Duration,
    /// How often a post is tried. Default: 8.
    pub attempts: u32,
    /// How many clusters are posted at once, and then in an hour; further ones wait. Default: 60.
    pub posts_per_hour: u32,
    /// The pause after the first failure; each further one is twice as long, up to `longest_pause`. Default: 1 s.
    #[serde(with = "seconds")]
    pub pause: Duration,
    /// The longest pause. Default: 5 min.
    #[serde(with = "seconds")]
    pub longest_pause: Duration,
}

impl Default for EscalationConfig {
    fn default() -> Self {
        Self {
            webhook: String::new(),
            threshold: 10,
            cooldown: Duration::from_hours(1),
            timeout: Duration::from_secs(10),
            attempts: 8,
            posts_per_hour: 60,
            pause: Duration::from_secs(1),
            longest_pause: Duration::from_mins(5),
        }
    }
}

/// The block `[observerd.outgoing]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct OutgoingConfig {
    /// Addresses and networks that are allowed though they are not public, such as `10.2.0.0/16` or `127.0.0.1`.
    pub allow: Vec<String>,
}
