//! The rules: see the table of the parent module.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use watchkeeper::report::one_line;

use super::ReviewContext;
use super::facts::Facts;

/// How many operations the rules read, with the one that is reviewed.
pub(super) const READ: usize = 20;

/// From how many errors on a cluster is known.
const KNOWN: u64 = 3;

/// From how many repetitions on work goes round in a cycle.
const REPEATED: usize = 3;

/// The same for work that may have succeeded.
const REPEATED_WITH_SUCCESS: usize = 5;

/// How far in the future a timestamp may be.
const AHEAD: Duration = Duration::from_mins(5);

/// A rule that applies.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rule {
    pub(super) id: &'static str,
    /// For its verdict; of a doubt, the factor.
    pub(super) weight: f64,
    pub(super) reason: String,
}

impl Rule {
    fn new(id: &'static str, weight: f64, reason: String) -> Self {
        Self { id, weight, reason }
    }

    /// One whose weight counts again for each of `count` from `first` on.
    fn repeated(id: &'static str, weight: f64, count: usize, first: usize, reason: String) -> Self {
        let more = i32::try_from(count.saturating_sub(first)).unwrap_or(i32::MAX);
        Self::new(id, 1.0 - (1.0 - weight).powi(more.saturating_add(1)), reason)
    }
}

/// All rules that apply, in the order of their ids within each kind.
pub(super) fn apply(op: &Facts, history: &[Facts], context: &ReviewContext, now: Timestamp) -> Vec<Rule> {
    let recent = &history[history.len().saturating_sub(READ - 1)..];
    let mut rules = Vec::new();
    reject(op, recent, context, &mut rules);
    cycle(op, recent, &mut rules);
    if op.is_success {
        accept(op, recent, context, &mut rules);
    }
    if op.timestamp.duration_since(now) > SignedDuration::try_from(AHEAD).unwrap_or(SignedDuration::MAX) {
        rules.push(Rule::new("D2", 0.9, "its timestamp is more than 5 minutes in the future".to_owned()));
    }
    rules
}

fn name(endpoint: &str) -> String {
    format!("`{}`", one_line(endpoint, 120))
}

fn reject(op: &Facts, recent: &[Facts], context: &ReviewContext, rules: &mut Vec<Rule>) {
    let endpoint = name(&op.endpoint);
    if op.is_success {
        if op.has_error {
            let reason = format!("it contradicts itself: it succeeded, and has the error `{}`", op.message);
            rules.push(Rule::new("R2", 0.6, reason));
        }
        return;
    }
    rules.push(Rule::new("R1", 0.5, format!("the operation of {endpoint} failed")));
    let cluster = context.clusters.iter().find(|cluster| {
        cluster.count >= KNOWN && cluster.endpoint == op.endpoint && cluster.message == op.message
    });
    if let Some(cluster) = cluster {
        let reason =
            format!("it failed as {} others did: cluster {}, `{}`", cluster.count, cluster.id, op.message);
        rules.push(Rule::new("R3", 0.5, reason));
    }
    let failures = since_success(op, recent).count();
    if failures > 0 {
        let reason = format!("{endpoint} failed {failures} times before, without a success since");
        rules.push(Rule::new("R4", 0.3, reason));
    }
    if !op.has_error {
        rules.push(Rule::new("D3", 0.8, "it failed without an error's message".to_owned()));
    }
}

/// The earlier failures of the same endpoint after its last success.
fn since_success<'a>(op: &'a Facts, recent: &'a [Facts]) -> impl Iterator<Item = &'a Facts> {
    let same = recent.iter().rev().filter(|past| past.endpoint == op.endpoint);
    same.take_while(|past| !past.is_success)
}

fn cycle(op: &Facts, recent: &[Facts], rules: &mut Vec<Rule>) {
    let endpoint = name(&op.endpoint);
    let same_error = 1 + since_success(op, recent).filter(|past| past.failed_as(op)).count();
    if !op.is_success && same_error >= REPEATED {
        let reason = format!("{endpoint} failed {same_error} times with the same error `{}`", op.message);
        rules.push(Rule::repeated("C1", 0.6, same_error, REPEATED, reason));
    }
    let asked = || recent.iter().filter(|past| past.asked_as(op));
    let same_input = 1 + asked().count();
    if same_input >= REPEATED && !op.is_success && asked().all(|past| !past.is_success) {
        let reason =
            format!("{endpoint} was tried {same_input} times with the same input, and never succeeded");
        rules.push(Rule::repeated("C2", 0.6, same_input, REPEATED, reason));
    }
    let consecutive = 1 + recent.iter().rev().take_while(|past| past.asked_as(op)).count();
    if consecutive >= REPEATED_WITH_SUCCESS {
        let reason = format!("{endpoint} was called {consecutive} consecutive times with the same input");
        rules.push(Rule::repeated("C3", 0.5, consecutive, REPEATED_WITH_SUCCESS, reason));
    }
    if let Some((period, times)) = alternating(op, recent) {
        let reason =
            format!("{period} endpoints alternate, {endpoint} among them: {times} times, and all failed");
        rules.push(Rule::repeated("C4", 0.6, times, 2, reason));
    }
}

/// The period of failures at the end, and how often it is there as a whole.
fn alternating(op: &Facts, recent: &[Facts]) -> Option<(usize, usize)> {
    let failures = || recent.iter().chain([op]).rev().take_while(|past| !past.is_success);
    let endpoints: Vec<&str> = failures().map(|past| past.endpoint.as_str()).collect();
    [2, 3].into_iter().find_map(|period| {
        let (begin, rest) = endpoints.split_at_checked(period)?;
        let same = rest.iter().zip(endpoints.iter()).take_while(|(one, other)| one == other).count();
        let times = 1 + same / period;
        let differ = (1..period).all(|place| !begin[..place].contains(&begin[place]));
        (differ && times >= 2).then_some((period, times))
    })
}

fn accept(op: &Facts, recent: &[Facts], context: &ReviewContext, rules: &mut Vec<Rule>) {
    let endpoint = name(&op.endpoint);
    rules.push(Rule::new("A1", 0.5, format!("the operation of {endpoint} succeeded")));
    // The last successes, newest first, repeats once, as playbooks are found.
    let mut before: Vec<&str> =
        recent.iter().rev().take_while(|past| past.is_success).map(|past| past.endpoint.as_str()).collect();
    before.dedup();
    let continued = context.playbooks.iter().filter(|playbook| {
        (1..playbook.steps.len()).any(|step| {
            let first = playbook.steps[..step].iter().rev();
            playbook.steps[step] == op.endpoint
                && before.len() >= step
                && first.zip(&before).all(|(one, other)| one == other)
        })
    });
    if let Some(playbook) = continued.max_by(|one, other| one.rate.total_cmp(&other.rate)) {
        let steps: Vec<String> = playbook.steps.iter().map(|step| one_line(step, 60)).collect();
        let reason = format!(
            "it continues the playbook {} ({}), which succeeded {} of {} times",
            playbook.id,
            steps.join(" > "),
            playbook.successes,
            playbook.attempts
        );
        rules.push(Rule::new("A2", 0.6 * playbook.rate.clamp(0.0, 1.0), reason));
    }
    if recent.iter().any(|past| past.is_success && past.endpoint == op.endpoint) {
        rules.push(Rule::new("A3", 0.2, format!("{endpoint} succeeded before")));
    }
    if let Some(failing) = context.clusters.failing(&op.endpoint).filter(|failing| *failing >= 0.5) {
        let reason = format!("{:.0} % of the operations of {endpoint} failed", failing * 100.0);
        rules.push(Rule::new("D1", 0.7, reason));
    }
}
