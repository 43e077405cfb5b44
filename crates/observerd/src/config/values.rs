//! What the settings mean together.

use std::path::Path;

use super::hosts::{host_problem, network_problem, webhook_problem};
use super::{Auth, ObserverdConfig, ranges};

/// One setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The key, such as `observerd.limits.head`.
    pub key: String,
    /// For a list: which entry, from 0.
    pub entry: Option<usize>,
    /// What is wrong, and how to fix it, without the key.
    pub problem: String,
}

impl ConfigProblem {
    pub(super) fn new(key: &str, problem: impl Into<String>) -> Self {
        Self { key: format!("observerd.{key}"), entry: None, problem: problem.into() }
    }

    /// The problem with its key. It shows no value.
    #[must_use]
    pub fn text(&self) -> String {
        match self.entry {
            Some(entry) => format!("entry {} of `{}` {}", entry + 1, self.key, self.problem),
            None => format!("`{}` {}", self.key, self.problem),
        }
    }
}

impl ObserverdConfig {
    /// All that is wrong with these settings. It reads no file: [`load`](super::load) also checks what paths name.
    #[must_use]
    pub fn validate(&self) -> Vec<ConfigProblem> {
        let mut problems: Vec<_> = ranges::outside(self)
            .into_iter()
            .map(|(key, problem)| ConfigProblem::new(key, problem))
            .collect();
        self.check_access(&mut problems);
        self.check_loops(&mut problems);
        for (key, path) in [
            ("persist_path", &self.persist_path),
            ("token_file", &self.token_file),
            ("corrections.path", &self.corrections.path),
        ] {
            problems.extend(path_problem(path).map(|problem| ConfigProblem::new(key, problem)));
        }
        problems
    }

    fn check_access(&self, problems: &mut Vec<ConfigProblem>) {
        if self.auth == Auth::LoopbackOpen && !self.bind.ip().to_canonical().is_loopback() {
            problems.push(ConfigProblem::new(
                "auth",
                "is \"loopback-open\", which needs no token, and `observerd.bind` is no loopback address: bind 127.0.0.1 \
                 or [::1], or set auth = \"token\"",
            ));
        }
        let entries = self.hosts.iter().enumerate().map(|(entry, host)| ("hosts", entry, host_problem(host)));
        let networks = self.outgoing.allow.iter().enumerate();
        let networks = networks.map(|(entry, network)| ("outgoing.allow", entry, network_problem(network)));
        for (key, entry, problem) in entries.chain(networks) {
            if let Some(problem) = problem {
                problems.push(ConfigProblem { entry: Some(entry), ..ConfigProblem::new(key, problem) });
            }
        }
    }

    fn check_loops(&self, problems: &mut Vec<ConfigProblem>) {
        let escalation = &self.escalation;
        if !escalation.webhook.is_empty()
            && let Some(problem) = webhook_problem(&escalation.webhook)
        {
            problems.push(ConfigProblem::new("escalation.webhook", problem));
        }
        if escalation.longest_pause < escalation.pause {
            problems.push(ConfigProblem::new(
                "escalation.longest_pause",
                "must not be shorter than `observerd.escalation.pause`",
            ));
        }
        if escalation.threshold > self.errors.window {
            problems.push(ConfigProblem::new(
                "escalation.threshold",
                "must be at most `observerd.errors.window`, or nothing is ever posted",
            ));
        }
        // A sequence has two operations at least.
        if self.playbooks.occurrences >= self.playbooks.window {
            problems.push(ConfigProblem::new(
                "playbooks.occurrences",
                "must be less than `observerd.playbooks.window`, or no playbook is ever found",
            ));
        }
    }
}

/// What no path is meant to have.
fn path_problem(path: &Path) -> Option<&'static str> {
    let bytes = path.as_os_str().as_encoded_bytes();
    if bytes.contains(&0) {
        return Some("has a NUL character, which no path has");
    }
    if bytes == b"~" || bytes.starts_with(b"~/") {
        return Some("begins with `~`, which only a shell replaces: write ${HOME}");
    }
    None
}
