//! The handle of the escalation.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use watchkeeper::report::{debug_as_text, one_line};
use watchkeeper::supervise::{Backoff, Condition, Delays, SuperviseError, Supervised, supervise};

use super::file::EscalationFile;
use super::ledger::Record;
use super::machine::{EscalationEvent, EscalationMachine, Rules};
use super::poster::{MOST_ERROR, Poster, Webhook};
use super::status::{EscalationState, EscalationStatus};
use super::worker::EscalationWorker;
use crate::config::EscalationConfig;
use crate::loops::cluster::Cluster;
use crate::outgoing::{Connector, OutgoingError, OutgoingUrl};

/// How many clusters wait at most.
const ROOM: usize = 1_000;

/// How long a stop waits for a post in flight.
const DRAIN: Duration = Duration::from_secs(5);

/// How much longer than its post a command may take: it writes a file too.
const WRITING: Duration = Duration::from_secs(30);

const DAY: Duration = Duration::from_hours(24);
const YEAR: Duration = Duration::from_hours(24 * 366);

/// The share of a pause that is random.
const JITTER: f64 = 0.2;

/// The running escalation.
pub struct Escalation {
    machine: Supervised<EscalationMachine>,
    threshold: u64,
}

/// Why the escalation was not started.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum EscalationError {
    /// A setting is out of range.
    #[error("escalation.{setting} {rule}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// What it must be.
        rule: &'static str,
    },
    /// The webhook is no URL that may be connected to.
    #[error("escalation.webhook: {0}")]
    Webhook(#[source] OutgoingError),
    /// The file of escalations cannot be read, or moved aside.
    #[error("cannot read {path}: check its owner and mode, and that its directory can be written")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The machine was not spawned.
    #[error("cannot start the escalation")]
    Spawn(#[source] SuperviseError),
}

debug_as_text!(EscalationError);

impl Escalation {
    /// Starts the escalation, or returns `None` if there is no webhook.
    ///
    /// What was posted is kept in `escalations.json` of `directory`; without a directory nothing is written. A post that a former
    /// process did not end is posted first. Cancelling `parent` is a stop. The file is read here: it blocks for a moment.
    ///
    /// # Errors
    ///
    /// [`EscalationError`]: a setting is out of range, the webhook is no URL or has an address in place of a name that is refused, or
    /// the file cannot be read. A damaged file is no error: it is kept as `escalations.json.damaged`, with a warning.
    pub fn start(
        config: &EscalationConfig,
        connector: Connector,
        directory: Option<&Path>,
        parent: CancellationToken,
    ) -> Result<Option<Self>, EscalationError> {
        if config.webhook.is_empty() {
            return Ok(None);
        }
        let url = OutgoingUrl::parse(&config.webhook)
            .map_err(|fault| EscalationError::Webhook(OutgoingError::Url { fault }))?;
        connector.check(&url).map_err(EscalationError::Webhook)?;
        let poster = Webhook { connector, url, timeout: config.timeout };
        Self::with(config, Box::new(poster), directory, parent).map(Some)
    }

    pub(super) fn with(
        config: &EscalationConfig,
        poster: Box<dyn Poster>,
        directory: Option<&Path>,
        parent: CancellationToken,
    ) -> Result<Self, EscalationError> {
        validate(config)?;
        let file = directory.map(EscalationFile::new);
        let record = match &file {
            Some(file) => {
                file.read().map_err(|source| EscalationError::File { path: file.path(), source })?
            }
            None => Record::default(),
        };
        let wall = Timestamp::now();
        let threshold = u64::try_from(config.threshold).unwrap_or(u64::MAX);
        let rules = Rules {
            threshold,
            cooldown: config.cooldown,
            attempts: config.attempts,
            posts_per_hour: config.posts_per_hour,
            longest_pause: config.longest_pause,
            room: ROOM,
            suffix: if file.is_some() { String::new() } else { format!("-{}", wall.as_millisecond()) },
        };
        let backoff = Backoff {
            first: config.pause,
            max: config.longest_pause,
            jitter: JITTER,
            seed: getrandom::u64().unwrap_or_default(),
        };
        let machine = EscalationMachine::new(rules, Delays::new(backoff), record, Instant::now(), wall);
        let machine = supervise(machine)
            .worker(EscalationWorker { poster, file: file.map(Arc::new) })
            .name("escalation")
            // A sighting replaces the ones before it.
            .capacity(4)
            .work_timeout((config.timeout + WRITING).min(DAY))
            .drain(DRAIN)
            .parent(parent)
            .spawn()
            .map_err(EscalationError::Spawn)?;
        Ok(Self { machine, threshold })
    }

    /// Takes the clusters of an analysis; those under the threshold are ignored. It does not wait: when the machine is busy, the
    /// next analysis shows the same clusters again.
    pub fn sighted(&self, clusters: &[Cluster]) {
        let mut over: Vec<&Cluster> =
            clusters.iter().filter(|cluster| cluster.count >= self.threshold).collect();
        if over.is_empty() {
            return;
        }
        over.sort_by_key(|cluster| std::cmp::Reverse(cluster.count));
        let clusters = over.into_iter().take(ROOM).cloned().collect();
        let _ = self.machine.try_send(EscalationEvent::Sighted { clusters, at: Timestamp::now() });
    }

    /// What the escalation does, and what it has done.
    #[must_use]
    pub fn status(&self) -> EscalationStatus {
        let mut status = self.machine.state();
        if let Condition::Ended(outcome) = self.machine.condition()
            && status.state != EscalationState::Stopped
        {
            let why = outcome.to_string();
            status.state = EscalationState::Stopped;
            // A post that was cut off by a stop is posted by the next process.
            if !outcome.is_cancelled() {
                status.failing = true;
                status.last_error = Some(one_line(&why, MOST_ERROR));
            }
        }
        status
    }

    /// Whether the last attempts have failed: two consecutive ones, or one that is not repeated soon; or it has ended by itself.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.status().failing
    }

    /// Stops the escalation. A post in flight has 5 s to end; one that does not is posted again by the next process.
    ///
    /// # Cancel safety
    ///
    /// Dropped after its first poll, it stops the escalation all the same.
    pub async fn stop(&self) {
        self.machine.stop().await;
    }

    #[cfg(test)]
    pub(super) fn machine(&self) -> &Supervised<EscalationMachine> {
        &self.machine
    }
}

fn validate(config: &EscalationConfig) -> Result<(), EscalationError> {
    let range = |duration: Duration| !duration.is_zero() && duration <= DAY;
    let rules = [
        (config.threshold > 0, "threshold", "must be at least 1"),
        (config.attempts > 0, "attempts", "must be at least 1"),
        (config.posts_per_hour > 0, "posts_per_hour", "must be at least 1"),
        (config.cooldown <= YEAR, "cooldown", "must be at most 366 days"),
        (range(config.timeout), "timeout", "must be more than 0 and at most 24 h"),
        (range(config.pause), "pause", "must be more than 0 and at most 24 h"),
        (range(config.longest_pause), "longest_pause", "must be more than 0 and at most 24 h"),
        (config.longest_pause >= config.pause, "longest_pause", "must be at least `pause`"),
    ];
    match rules.iter().find(|(holds, ..)| !holds) {
        Some((_, setting, rule)) => Err(EscalationError::Setting { setting, rule }),
        None => Ok(()),
    }
}
