//! A pending wait.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;
use watchkeeper_fsm::State;

use super::evidence::{Evidence, Violation};
use super::judge::{Finding, Judge, SourceWish, has_source, is_of_an_older_set};
use super::queue::{Publication, WaitQueue};
use super::report::{self, Frame, Inconclusive, InvalidWait, Unmet, UnmetOutcome};
use super::show::Show;
use crate::clock::{Timer, later};
use crate::config::LONGEST;
use crate::handle::{Mark, is_over};
use crate::history::ObservationBatch;
use crate::observer::Observer;
use crate::panics::catch;
use crate::shared::Shared;
use crate::source_health::seconds;
use crate::status::{ObservationStatus, Published};
use crate::text::{LABEL, NAME, NAMES, names, one_line, quoted};

/// What is published for `O`, in a wait's queue.
type Publication_<O> = Publication<<O as Observer>::Snapshot, <O as Observer>::Event>;

/// A pending wait: a future of what was waited for, or of [`Unmet`], which explains itself.
///
/// For its report it holds the newest nine snapshots that differ: see [`Unmet`].
///
/// # Cancel safety
///
/// Cancel safe when polled by reference: publications queue up while it is not polled (up to 1,024 that hold
/// 100,000 events and names of changed source sets; a wait that falls further behind says so). Dropping it
/// unregisters it.
#[must_use = "a wait does nothing unless it is awaited"]
pub struct Wait<'a, O: Observer, T> {
    shared: Arc<Shared<O::Snapshot, O::Event>>,
    queue: Arc<WaitQueue<O::Snapshot, O::Event>>,
    /// Taken from the queue and not yet judged.
    taken: VecDeque<Publication_<O>>,
    label: String,
    judge: Judge<'a, O>,
    read: fn(&Moment<O>) -> Option<T>,
    show: Show<'a, O>,
    invalid: Option<InvalidWait>,
    began: Instant,
    /// None when only its owner ends it.
    window: Option<Duration>,
    /// When its owner ended it.
    closed: Option<Instant>,
    /// Cycles from this one on count.
    counts_from: u64,
    /// Answers of single sources from this moment on count; `None` for all.
    counts_since: Option<Instant>,
    /// Snapshots of cycles below this one have been judged.
    unjudged_from: u64,
    evidence: Evidence<O::Snapshot, O::Event>,
    timer: Option<(Instant, Timer)>,
}

/// What met a wait, and when.
pub(crate) struct Moment<O: Observer> {
    pub(super) at: Instant,
    pub(super) status: Arc<Published<O::Snapshot>>,
    pub(super) event: Option<(Arc<ObservationBatch<O::Event>>, usize)>,
}

impl<O: Observer> Moment<O> {
    pub(super) fn status(&self) -> ObservationStatus<O> {
        ObservationStatus::read(&self.status, self.at)
    }
}

enum Verdict<O: Observer> {
    Met(Moment<O>),
    /// What it is, and since when.
    Unmet(UnmetOutcome, Instant),
}

/// How far judging came.
enum Judged<O: Observer> {
    Verdict(Verdict<O>),
    /// Everything that has come was judged.
    All,
    /// There may be more; others are to have their turn.
    Some,
}

/// How many publications are judged before others have their turn: a predicate is app code, and may be
/// slower than the publisher.
const AT_ONCE: usize = 32;

impl<'a, O: Observer, T> Wait<'a, O, T> {
    pub(super) fn register(
        shared: Arc<Shared<O::Snapshot, O::Event>>,
        label: String,
        judge: Judge<'a, O>,
        read: fn(&Moment<O>) -> Option<T>,
    ) -> Self {
        let is_for_events = matches!(judge, Judge::Event(_));
        let queue = if is_for_events { WaitQueue::new() } else { WaitQueue::without_events() };
        let began = shared.clock.now();
        let status = shared.register(&queue);
        let mut wait = Self {
            counts_from: status.next_cycle,
            unjudged_from: 0,
            evidence: Evidence::new(Arc::clone(&status), began),
            taken: VecDeque::from([Publication { at: began, status, batch: None, missed: 0 }]),
            show: Show::nothing(),
            invalid: None,
            window: None,
            closed: None,
            counts_since: Some(began),
            timer: None,
            shared,
            queue,
            label,
            judge,
            read,
            began,
        };
        if let Judge::Source { name, known, .. } = &mut wait.judge {
            *known = has_source(&wait.evidence.first, name) || wait.shared.has_left(name);
        }
        wait
    }

    /// Cycles count whenever they began.
    pub(super) fn count_all(&mut self) {
        self.counts_from = 0;
        self.counts_since = None;
    }

    /// Cycles count that began after `mark`, those included that have ended by now.
    pub(super) fn count_from(&mut self, mark: Mark) {
        if mark.instance != self.shared.history.instance() {
            self.invalid = Some(InvalidWait::ForeignMark);
            return;
        }
        self.counts_from = mark.next_cycle;
        self.counts_since = Some(mark.at);
        if let (Judge::Event(_), Some(first)) = (&self.judge, self.taken.front()) {
            let published = first.status.snapshot.as_ref().map_or(0, |snapshot| snapshot.cursor.seq);
            let (batches, missed) = self.shared.history.between(mark.next_seq, published);
            let status = Arc::clone(&first.status);
            let counts = |batch: &Arc<ObservationBatch<_>>| batch.fresh && batch.cycle >= mark.next_cycle;
            let earlier = batches.into_iter().filter(counts).map(|batch| Publication {
                at: batch.observed_at,
                status: Arc::clone(&status),
                batch: Some(batch),
                missed: 0,
            });
            self.taken = earlier.chain(std::mem::take(&mut self.taken)).collect();
            self.evidence.lost_before = missed;
        }
    }

    pub(crate) fn refuse(&mut self, invalid: InvalidWait) {
        self.invalid = Some(invalid);
    }

    pub(super) fn shows(&mut self, show: Show<'a, O>) {
        self.show = show;
    }

    pub(super) fn open(mut self, window: Duration) -> Self {
        if window.is_zero() || window > LONGEST {
            self.invalid = Some(InvalidWait::Window);
        } else if let Judge::Stable { hold, .. } = &self.judge
            && (hold.is_zero() || *hold > window)
        {
            self.invalid = Some(InvalidWait::Hold);
        }
        self.window = Some(window);
        self
    }

    fn deadline(&self) -> Option<Instant> {
        self.window.map(|window| later(self.began, window)).or(self.closed)
    }

    /// Judges what has come, a bounded part of it at a time.
    fn judge_some(&mut self, waker: &Waker) -> Judged<O> {
        for _ in 0..AT_ONCE {
            if self.taken.is_empty() {
                let missed = self.queue.take(&mut self.taken, waker);
                if self.taken.is_empty() {
                    self.evidence.lost(missed);
                    return Judged::All;
                }
            }
            let Some(publication) = self.taken.pop_front() else { return Judged::All };
            if let Some(verdict) = self.judge_one(&publication) {
                return Judged::Verdict(verdict);
            }
        }
        Judged::Some
    }

    fn judge_one(&mut self, publication: &Publication_<O>) -> Option<Verdict<O>> {
        if let Some(deadline) = self.deadline()
            && publication.at > deadline
        {
            // What was missed behind the window is no matter.
            self.evidence.lost(publication.missed);
            return Some(self.conclude(deadline));
        }
        if publication.missed == self.evidence.missed
            && let Some(verdict) = self.aged(publication.at)
        {
            return Some(verdict);
        }
        if self.evidence.advance(self.began, publication)
            && let Judge::Stable { run, .. } = &mut self.judge
        {
            run.interrupt();
        }
        let status = &publication.status;
        let finding = self.find(publication);
        let met = |event| Moment { at: publication.at, status: Arc::clone(status), event };
        match finding {
            Finding::Met => return Some(Verdict::Met(met(None))),
            Finding::MetBy(index) => {
                let event = publication.batch.clone().map(|batch| (batch, index));
                return Some(Verdict::Met(met(event)));
            }
            Finding::Violated => {
                let snapshot = status.snapshot.clone();
                self.evidence.violation = Some(Violation { at: publication.at, snapshot });
                return Some(Verdict::Unmet(UnmetOutcome::Violated, publication.at));
            }
            Finding::NoSourceHealth => {
                let invalid = UnmetOutcome::Invalid(InvalidWait::NoSourceHealth);
                return Some(Verdict::Unmet(invalid, publication.at));
            }
            Finding::Open => {}
        }
        match status.state {
            // Events of before the wait come with what was known when it was made, which is behind them.
            _ if !self.taken.is_empty() => None,
            // What only its owner ends has held until the runtime ended.
            State::Stopped { .. } if self.window.is_none() => Some(self.conclude(publication.at)),
            State::Stopped { reason } => {
                let stopped = UnmetOutcome::Inconclusive(Inconclusive::Stopped { reason });
                Some(Verdict::Unmet(stopped, publication.at))
            }
            _ => None,
        }
    }

    fn find(&mut self, publication: &Publication_<O>) -> Finding {
        let Publication { at, status, batch, .. } = publication;
        if let Judge::State(state) = self.judge {
            let counts = status.cycle >= self.counts_from || is_over(status.state);
            self.evidence.judged += u64::from(counts);
            return if counts && status.state.kind() == state { Finding::Met } else { Finding::Open };
        }
        let fresh = status.freshness(*at).is_fresh();
        if let Some(batch) = batch
            && batch.cycle >= self.counts_from
            && fresh
        {
            self.evidence.saw_events(batch);
            let finding = self.judge.batch(batch);
            if finding != Finding::Open {
                return finding;
            }
        }
        match &status.snapshot {
            Some(snapshot) if snapshot.cycle >= self.counts_from.max(self.unjudged_from) => {
                self.unjudged_from = snapshot.cycle + 1;
                self.evidence.saw(snapshot, fresh);
                if fresh {
                    self.judge.snapshot(*at, self.counts_since, status, snapshot)
                } else {
                    Finding::Open
                }
            }
            _ => Finding::Open,
        }
    }

    /// What the mere passing of time until `until` says.
    fn aged(&mut self, until: Instant) -> Option<Verdict<O>> {
        let stale_at = self.evidence.turned_stale(until)?.max(self.began);
        match &mut self.judge {
            Judge::StaysFresh => {
                self.evidence.note_staleness(self.began, until);
                self.evidence.violation = Some(Violation { at: stale_at, snapshot: None });
                Some(Verdict::Unmet(UnmetOutcome::Violated, stale_at))
            }
            Judge::BecomesStale => {
                let status = Arc::clone(&self.evidence.status);
                Some(Verdict::Met(Moment { at: stale_at, status, event: None }))
            }
            Judge::Stable { run, .. } => {
                run.interrupt();
                None
            }
            _ => None,
        }
    }

    /// The verdict at the end of the window, everything before it having been judged.
    fn conclude(&mut self, end: Instant) -> Verdict<O> {
        if let Some(verdict) = self.aged(end) {
            return verdict;
        }
        self.evidence.note_staleness(self.began, end);
        let doubt = match (&self.judge, self.window) {
            (Judge::StaysFresh, _) => self.evidence.doubt_of_freshness(&self.evidence.first),
            (Judge::BecomesStale, _) => self.evidence.doubt_of_freshness(&self.evidence.status),
            (judge, _) if !judge.holds_at_the_end() => self.evidence.doubt(),
            (_, Some(_)) => self.evidence.doubt_at(end),
            // What runs beside a test may outlive what it watches.
            (_, None) => self.evidence.doubt(),
        };
        match doubt {
            Some(doubt) => Verdict::Unmet(UnmetOutcome::Inconclusive(doubt), end),
            None if !self.judge.holds_at_the_end() => Verdict::Unmet(UnmetOutcome::NotMet, end),
            None => Verdict::Met(Moment { at: end, status: Arc::clone(&self.evidence.status), event: None }),
        }
    }

    /// Ends a wait that has no window: what was published so far is judged, and no more.
    pub(super) fn close(&mut self) {
        self.closed.get_or_insert(self.shared.clock.now());
    }

    /// What to say when app code has panicked: the predicate, or whatever was to show a snapshot.
    pub(super) fn panicked(&mut self, panic: &str) -> Unmet {
        self.queue.close();
        let outcome = UnmetOutcome::Inconclusive(Inconclusive::Panicked);
        let now = self.shared.clock.now();
        let note = format!("app code panicked: {panic}");
        self.report(outcome, now, Some(note))
    }

    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// Of the runtime that is waited on.
    pub(super) fn executor(&self) -> Handle {
        self.shared.clock.executor().clone()
    }

    pub(super) fn judged(&self) -> u64 {
        self.evidence.judged
    }

    fn finish(&mut self, verdict: &Verdict<O>) -> Result<T, Unmet> {
        self.queue.close();
        let (outcome, ended) = match verdict {
            Verdict::Met(moment) => match (self.read)(moment) {
                Some(met) => return Ok(met),
                // A met wait without what it is to return was met by nothing.
                None => (UnmetOutcome::Inconclusive(Inconclusive::NothingObserved), moment.at),
            },
            Verdict::Unmet(outcome, at) => (*outcome, *at),
        };
        // What is known of a source is app code to say.
        let note = catch(|| self.note(ended));
        let note = note.unwrap_or_else(|panic| Some(format!("saying more panicked: {panic}")));
        Err(self.report(outcome, ended, note))
    }

    fn report(&self, outcome: UnmetOutcome, ended: Instant, note: Option<String>) -> Unmet {
        let evidence = &self.evidence;
        let failures = (evidence.missed == 0).then_some(evidence.status.failures);
        let logged = self.shared.logged(&evidence.first, ended, failures);
        let frame = Frame {
            label: self.label.clone(),
            began: self.began,
            window: self.window,
            ended,
            outcome,
            note,
            holds: self.judge.holds_at_the_end(),
        };
        report::write(frame, &self.evidence, logged, &self.show)
    }

    /// What a person should know of this operator beside what every report says.
    fn note(&self, ended: Instant) -> Option<String> {
        let status = &self.evidence.status;
        match &self.judge {
            Judge::Source { name, known: false, .. } if !has_source(status, name) => {
                Some(unknown_source(name, &status.source_names))
            }
            Judge::Source { name, wish, .. } if *wish != SourceWish::Vanished => {
                Some(why::<O>(status, name, ended))
            }
            Judge::Stable { run, hold } => {
                Some(format!("to be the same for {hold:?}; {} runs of equal values began", run.changes))
            }
            _ => None,
        }
    }

    /// One sentence on why it is still pending, from what is known now; a test may print it while it
    /// waits. One line, escaped, of at most 4 KiB.
    #[must_use]
    pub fn explain(&self) -> String {
        let now = self.shared.clock.now();
        let waited = seconds(now.saturating_duration_since(self.began));
        let of = self.window.map_or_else(String::new, |window| format!(" of {}", seconds(window)));
        let said = format!("{} is pending for {waited}{of}: ", quoted(&self.label, LABEL));
        let judged = match self.evidence.judged {
            0 => "nothing that counts was judged yet".to_owned(),
            judged => format!("judged {judged}"),
        };
        let status = self.shared.read(Published::clone);
        let why = match &self.judge {
            Judge::Source { name, .. } => why::<O>(&status, name, now),
            _ => of_the_runtime(&status, now),
        };
        format!("{said}{judged}; {why}")
    }
}

/// One sentence on a source.
pub(crate) fn why<O: Observer>(status: &Published<O::Snapshot>, name: &str, now: Instant) -> String {
    let health = status.snapshot.as_ref().and_then(|snapshot| O::source_health(&snapshot.value, name));
    let shown = one_line(name, NAME);
    let said = match health {
        Some(health) => health.explain(name, now),
        None if !has_source(status, name) => unknown_source(name, &status.source_names),
        None => match &status.snapshot {
            None => format!("nothing is known of {shown}: no cycle has succeeded"),
            Some(snapshot) if is_of_an_older_set(status, snapshot) => {
                format!("nothing is known of {shown} yet")
            }
            Some(_) => format!("nothing is known of {shown}: its observer keeps nothing by source"),
        },
    };
    if status.freshness(now).is_fresh() { said } else { format!("{said}; {}", of_the_runtime(status, now)) }
}

/// One sentence on the runtime.
fn of_the_runtime<S>(status: &Published<S>, now: Instant) -> String {
    let freshness = status.freshness(now);
    let data = match freshness.age() {
        None => "there is no data".to_owned(),
        Some(age) if freshness.is_fresh() => format!("the data is {} old", seconds(age)),
        Some(age) => format!("the data is stale, {} old", seconds(age)),
    };
    let since = seconds(now.saturating_duration_since(status.since));
    let paused = if status.paused { " and paused" } else { "" };
    let error = status.last_error.as_ref().map(|error| format!("; last error: {error}")).unwrap_or_default();
    format!("{data}; the runtime is {}{paused} for {since}{error}", status.state)
}

fn unknown_source(name: &str, known: &[Arc<str>]) -> String {
    let name = quoted(name, NAME);
    if known.is_empty() {
        return format!("no source is called {name}: there are none");
    }
    format!(
        "no source is called {name}; the sources are {}",
        names(known.iter().map(|known| &**known), NAMES)
    )
}

impl<O: Observer, T> Future for Wait<'_, O, T> {
    type Output = Result<T, Unmet>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(invalid) = this.invalid {
            let verdict = Verdict::Unmet(UnmetOutcome::Invalid(invalid), this.began);
            return Poll::Ready(this.finish(&verdict));
        }
        loop {
            match this.judge_some(context.waker()) {
                Judged::Verdict(verdict) => return Poll::Ready(this.finish(&verdict)),
                Judged::Some => {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Judged::All => {}
            }
            let now = this.shared.clock.now();
            let end = this.deadline();
            // What was published in time counts, also when it is found at the deadline.
            if let Some(end) = end.filter(|end| *end <= now) {
                let verdict = this.conclude(end);
                return Poll::Ready(this.finish(&verdict));
            }
            if let Some(verdict) = this.aged(now) {
                return Poll::Ready(this.finish(&verdict));
            }
            match this.wakes_by_time(end, context) {
                None => return Poll::Pending,
                // The executor has shut down, and its clock with it.
                Some(due) if due > now && this.shared.clock.now() < due => {
                    let verdict = loop {
                        match this.judge_some(context.waker()) {
                            Judged::Verdict(verdict) => break verdict,
                            Judged::All => break this.conclude(now),
                            Judged::Some => {}
                        }
                    };
                    return Poll::Ready(this.finish(&verdict));
                }
                Some(_) => {}
            }
        }
    }
}

impl<O: Observer, T> Wait<'_, O, T> {
    /// Arranges to be woken at the end of the window, or when the data turns stale if that is of
    /// interest; says for when, if that has come.
    fn wakes_by_time(&mut self, end: Option<Instant>, context: &mut Context<'_>) -> Option<Instant> {
        let ages = self.judge.is_about_freshness() && !self.evidence.gap;
        let stale_at = self.evidence.status.stale_at().filter(|_| ages);
        let next = match (end, stale_at) {
            (Some(end), Some(stale_at)) => end.min(stale_at),
            (next, None) | (None, next) => next?,
        };
        if self.timer.as_ref().is_none_or(|(at, _)| *at != next) {
            self.timer = Some((next, self.shared.clock.timer(next)));
        }
        let (at, timer) = self.timer.as_mut()?;
        Pin::new(timer).poll(context).is_ready().then_some(*at)
    }
}

impl<O: Observer, T> Unpin for Wait<'_, O, T> {}

impl<O: Observer, T> Drop for Wait<'_, O, T> {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl<O: Observer, T> fmt::Debug for Wait<'_, O, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait")
            .field("label", &format_args!("{}", quoted(&self.label, LABEL)))
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}
