//! From operations to playbooks.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::playbook::Playbook;
use crate::loops::digest::id_of;

/// What is kept of an operation.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) sequence: u64,
    pub(super) endpoint: Arc<str>,
    pub(super) thread: Thread,
    pub(super) timestamp: Timestamp,
    pub(super) timestamp_text: Box<str>,
    pub(super) is_success: bool,
    pub(super) duration_ms: Option<f64>,
}

/// Whose operation it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Thread {
    Staffer(Arc<str>),
    Source(Arc<str>),
}

/// What a window has.
pub(super) struct Found {
    /// All playbooks, the one with the most successes first.
    pub(super) playbooks: Vec<Playbook>,
    pub(super) threads: u64,
}

/// The last steps of one thread, each a success.
#[derive(Default)]
struct Chain<'a> {
    steps: Vec<&'a Step>,
    /// It begins with the first operation of its thread: what was before is not known.
    is_cut: bool,
}

/// What there is of two or three endpoints.
#[derive(Default)]
struct Tally<'a> {
    successes: u64,
    attempts: u64,
    durations: Vec<f64>,
    last: Option<&'a Step>,
    threads: HashSet<&'a Thread>,
    /// Whether it is the newest of a thread: it may go on.
    is_open: bool,
    /// Whether a success begins with the oldest operation of a thread: what was before is not known.
    is_cut: bool,
}

type Steps<'a> = Vec<&'a str>;

/// The playbooks of operations in the order of their sequence.
pub(super) fn consolidate<'a>(
    window: impl Iterator<Item = &'a Step>,
    gap: Duration,
    occurrences: u64,
) -> Found {
    let mut chains = HashMap::<&Thread, Chain<'a>>::new();
    let mut tallies = HashMap::<Steps<'a>, Tally<'a>>::new();
    for step in window {
        let chain = chains.entry(&step.thread).or_insert_with(|| Chain { is_cut: true, ..Chain::default() });
        chain.next(step, gap, &mut tallies);
    }
    for chain in chains.values() {
        if let [.., before, last] = &chain.steps[..]
            && let Some(tally) = tallies.get_mut(&vec![&*before.endpoint, &*last.endpoint])
        {
            tally.is_open = true;
        }
    }
    let is_listed = |tally: &Tally<'_>| tally.successes >= occurrences.max(1);
    let (by_begin, by_end) = longer(&tallies, is_listed);
    // One success more may still become one of the triple, or may have been one.
    let is_folded = |steps: &Steps<'_>, tally: &Tally<'_>| {
        let is_in = |longer: &HashMap<Steps<'_>, u64>, spare| {
            longer.get(steps).is_some_and(|most| tally.successes <= most + u64::from(spare))
        };
        is_in(&by_begin, tally.is_open) || is_in(&by_end, tally.is_cut)
    };
    let mut found: Vec<Playbook> = tallies
        .iter()
        .filter(|(steps, tally)| is_listed(tally) && !is_folded(steps, tally))
        .filter_map(|(steps, tally)| tally.playbook(steps))
        .collect();
    found.sort_unstable_by(|one, other| {
        let rank =
            |playbook: &Playbook| Reverse((playbook.successes, playbook.steps.len(), playbook.last_sequence));
        rank(one).cmp(&rank(other)).then_with(|| one.steps.cmp(&other.steps))
    });
    Found { playbooks: found, threads: chains.len() as u64 }
}

impl<'a> Chain<'a> {
    fn next(&mut self, step: &'a Step, gap: Duration, tallies: &mut HashMap<Steps<'a>, Tally<'a>>) {
        if self
            .steps
            .last()
            .is_some_and(|last| last.timestamp.duration_since(step.timestamp).unsigned_abs() > gap)
        {
            self.steps.clear();
            self.is_cut = false;
        }
        let is_repeated = self.steps.last().is_some_and(|last| last.endpoint == step.endpoint);
        if !is_repeated {
            for begin in 0..self.steps.len() {
                let key =
                    self.steps[begin..].iter().copied().chain([step]).map(|step| &*step.endpoint).collect();
                let tally = tallies.entry(key).or_default();
                let is_cut = self.is_cut && self.steps.len() == 1;
                tally.attempt(&self.steps[begin..], step, is_cut);
            }
        }
        if !step.is_success {
            self.steps.clear();
            self.is_cut = false;
            return;
        }
        if is_repeated {
            self.steps.pop();
        }
        self.steps.push(step);
        if self.steps.len() > 2 {
            self.steps.remove(0);
            self.is_cut = false;
        }
    }
}

impl<'a> Tally<'a> {
    fn attempt(&mut self, before: &[&'a Step], last: &'a Step, is_cut: bool) {
        self.attempts += 1;
        if !last.is_success {
            return;
        }
        self.successes += 1;
        self.last = Some(last);
        self.threads.insert(&last.thread);
        self.is_cut |= is_cut;
        let durations = before.iter().copied().chain([last]).map(|step| step.duration_ms);
        let sum: Option<f64> = durations.sum();
        self.durations.extend(sum.filter(|sum| sum.is_finite()));
    }

    #[expect(clippy::cast_precision_loss, reason = "a window has at most 100,000 operations")]
    fn playbook(&self, steps: &[&str]) -> Option<Playbook> {
        let last = self.last?;
        Some(Playbook {
            id: id_of(steps),
            steps: steps.iter().map(|step| (*step).to_owned()).collect(),
            successes: self.successes,
            attempts: self.attempts,
            rate: self.successes as f64 / self.attempts as f64,
            median_ms: median(self.durations.clone()),
            last_sequence: last.sequence,
            last_timestamp: last.timestamp_text.to_string(),
            threads: self.threads.len() as u64,
        })
    }
}

/// Of each pair, the most successes of a triple that begins with it and is listed; and of one that ends with it.
fn longer<'a>(
    tallies: &HashMap<Steps<'a>, Tally<'a>>,
    is_listed: impl Fn(&Tally<'_>) -> bool,
) -> (HashMap<Steps<'a>, u64>, HashMap<Steps<'a>, u64>) {
    let (mut by_begin, mut by_end) = (HashMap::new(), HashMap::new());
    for (steps, tally) in tallies.iter().filter(|(steps, tally)| steps.len() == 3 && is_listed(tally)) {
        for (longer, pair) in [(&mut by_begin, &steps[..2]), (&mut by_end, &steps[1..])] {
            let most: &mut u64 = longer.entry(pair.to_vec()).or_default();
            *most = tally.successes.max(*most);
        }
    }
    (by_begin, by_end)
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}
