//! A pending wait.

mod driven;
mod judging;

use std::collections::VecDeque;
use std::fmt;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use judging::WaitEnd;

use super::evidence::Evidence;
use super::judge::{Judge, SourceWish};
use super::outcome::{Inconclusive, InvalidWait, UnmetOutcome};
use super::report::{self, Unmet, WaitInfo};
use super::show::Show;
use super::start::Start;
use super::{Read, Snapshot};
use crate::clock::{Clock, Timer};
use crate::config::MAX_DURATION;
use crate::explain::{has_source, of_the_runtime, unknown_source, why};
use crate::mark::Mark;
use crate::observer::Observer;
use crate::panics::{catch, discard_logged};
use crate::publish::history::ObservationBatch;
use crate::publish::queue::Publication;
use crate::publish::shared::{Registered, Shared};
use crate::pulse::{BothClocks, Vigil};
use crate::source::health::seconds;
use crate::status::{ObservationSnapshot, ObservationStatus, Published};
use crate::text::{LABEL, names, quoted};
use crate::time::later;

/// A publication for `O` in a wait's queue.
type Publication_<O> = Publication<<O as Observer>::Snapshot, <O as Observer>::Event>;

/// A pending wait: a future of its result or of the report ([`Unmet`]).
///
/// For the report it holds the newest nine snapshots that differ, and some older ones: see [`Unmet`].
///
/// # Cancel safety
///
/// Cancel safe when polled by reference. Publications queue up while the wait is not polled: up to 1,024, with at
/// most 100,000 events and names of changed source sets. A wait that falls further behind reports it. Dropping the
/// wait unregisters it. The outcome is returned once; a later poll returns [`InvalidWait::PolledAgain`].
#[must_use = "a wait does nothing unless it is awaited"]
pub struct Wait<'a, O: Observer, T> {
    shared: Arc<Shared<O::Snapshot, O::Event>>,
    registered: Registered,
    /// Taken from the queue and not yet judged.
    taken: VecDeque<Publication_<O>>,
    label: String,
    judge: Judge<'a, O>,
    read: Read<'a, O, T>,
    show: Show<'a, O>,
    invalid: Option<InvalidWait>,
    /// The mark is of another runtime.
    foreign: bool,
    /// The outcome was returned.
    over: bool,
    began: Instant,
    /// `None` if only the owner ends the wait.
    window: Option<Duration>,
    /// When the owner ended the wait.
    closed: Option<Instant>,
    /// Which data counts.
    start: Start,
    /// Snapshots of cycles below this one have been judged.
    unjudged_from: u64,
    /// Source sets of cycles below this one have been judged.
    unjudged_sets_from: u64,
    evidence: Evidence<O::Snapshot, O::Event>,
    timer: Option<(Instant, Timer)>,
    /// Both clocks when the wait was made.
    made: BothClocks,
    /// Set at the first poll.
    vigil: Option<Vigil>,
}

/// The data that met a wait, and when.
pub(crate) struct MetAt<O: Observer> {
    pub(super) at: Instant,
    pub(super) status: Arc<Published<O::Snapshot>>,
    /// The part of the snapshot that counts.
    pub(super) snapshot: Option<Snapshot<O>>,
    pub(super) event: Option<(Arc<ObservationBatch<O::Event>>, usize)>,
}

impl<O: Observer> MetAt<O> {
    pub(super) fn status(&self) -> ObservationStatus<O> {
        ObservationStatus::read(&self.status, self.at)
    }
}

impl<'a, O: Observer, T> Wait<'a, O, T> {
    pub(super) fn register(
        shared: Arc<Shared<O::Snapshot, O::Event>>,
        label: String,
        judge: Judge<'a, O>,
        read: Read<'a, O, T>,
    ) -> Self {
        let is_for_events = matches!(judge, Judge::Event(_));
        let made = BothClocks::at(shared.clock.executor());
        let began = shared.clock.at(made);
        let (registered, status) = shared.register(is_for_events);
        let mut wait = Self {
            start: Start::at(began, status.next_cycle),
            unjudged_from: 0,
            unjudged_sets_from: 0,
            evidence: Evidence::new(Arc::clone(&status), began),
            taken: VecDeque::from([Publication::new(began, status, None)]),
            show: Show::nothing(),
            invalid: None,
            foreign: false,
            over: false,
            window: None,
            closed: None,
            timer: None,
            made,
            vigil: None,
            shared,
            registered,
            label,
            judge,
            read,
            began,
        };
        if let Judge::Source { name, known, .. } = &mut wait.judge {
            *known = has_source(&wait.evidence.first, name) || wait.shared.left_in(name).is_some();
        }
        wait
    }

    /// All data counts, regardless of when it was asked for.
    pub(super) fn count_all(&mut self) {
        self.begin_at(Start::anytime(), None);
    }

    /// Data asked for after `mark` counts, including that of cycles that have ended.
    pub(super) fn count_from(&mut self, mark: Mark) {
        self.begin_at(Start::at(mark.at, mark.next_cycle), Some(mark));
    }

    /// Sets the start, before anything is judged.
    fn begin_at(&mut self, start: Start, mark: Option<Mark>) {
        let first = &self.evidence.first;
        let none = self.shared.history.first().seq;
        let published = first.snapshot.as_ref().map_or(none, |snapshot| snapshot.cursor.seq);
        let ours = mark.filter(|mark| mark.instance == self.shared.history.instance());
        self.start = start;
        self.foreign = mark.is_some() && ours.is_none();
        // The source may have returned before the wait was made.
        if let Judge::Source { name, left, .. } = &mut self.judge {
            *left = ours.is_some() && self.shared.left_in(name) >= Some(start.cycle);
        }
        // Publications up to the mark do not count as missed.
        self.evidence.missed_before =
            ours.map_or(0, |mark| self.shared.missed_until(&self.registered, mark.number));
        let (batches, lost) = match ours {
            Some(mark) if matches!(self.judge, Judge::Event(_)) => {
                self.shared.history.between(mark.next_seq, published)
            }
            _ => (Vec::new(), 0),
        };
        self.evidence.lost_before = lost;
        let publication = |at, batch| Publication::new(at, Arc::clone(first), batch);
        let counts = |batch: &Arc<ObservationBatch<_>>| batch.fresh && batch.cycle >= start.cycle;
        let earlier = batches.into_iter().filter(counts);
        let earlier = earlier.map(|batch| publication(batch.observed_at, Some(batch)));
        self.taken = earlier.chain([publication(self.began, None)]).collect();
    }

    pub(crate) fn refuse(&mut self, invalid: InvalidWait) {
        self.invalid = Some(invalid);
    }

    pub(super) fn shows(&mut self, show: Show<'a, O>) {
        self.show = show;
    }

    pub(super) fn open(mut self, window: Duration) -> Self {
        self.window = Some(window);
        if window.is_zero() || window > MAX_DURATION {
            self.invalid = Some(InvalidWait::Window);
        } else if !self.can_hold(window) {
            self.invalid = Some(InvalidWait::Hold);
        } else if self.foreign {
            self.invalid = Some(InvalidWait::ForeignMark);
        }
        self
    }

    /// Whether `hold` fits into the window. The first snapshot that counts comes after the begin of the window,
    /// unless there is one already.
    fn can_hold(&self, window: Duration) -> bool {
        let Judge::Stable { hold, .. } = self.judge else { return true };
        let counts = |cycle| cycle >= self.start.cycle;
        let first = &self.evidence.first;
        let is_fresh = first.freshness(self.began).is_fresh();
        // The same rule as for judging: a cycle that counts may have begun exactly at the start.
        let mut start = self.start;
        let mut all_heard = |snapshot: &ObservationSnapshot<_>| {
            start.since(snapshot.began());
            start.unheard::<O>(first, self.began).is_empty()
        };
        let is_there =
            is_fresh && first.snapshot.as_ref().is_some_and(|first| counts(first.cycle) && all_heard(first));
        !hold.is_zero() && (hold < window || (hold == window && is_there))
    }

    /// Suggests a window for `hold`: the first cycle that counts may begin a tick after the wait.
    fn what_would_do(&self, hold: Duration) -> String {
        if hold.is_zero() {
            return "ask for more than zero".to_owned();
        }
        let first = &self.evidence.first;
        let elapsed = first.snapshot.as_ref().map_or(Duration::ZERO, |snapshot| snapshot.elapsed);
        let window = hold.saturating_add(first.interval.saturating_mul(2)).saturating_add(elapsed);
        if window > MAX_DURATION {
            return format!("no window would do: the longest is {MAX_DURATION:?}");
        }
        format!("a window of {window:?} would do: the first snapshot that counts is yet to come")
    }

    fn deadline(&self) -> Option<Instant> {
        self.window.map(|window| later(self.began, window)).or(self.closed)
    }

    /// Ends a wait without a window after everything published so far was judged.
    pub(super) fn close(&mut self) {
        self.closed.get_or_insert(self.shared.clock.now());
    }

    /// The report after app code has panicked: the predicate, or the function that shows a snapshot.
    pub(super) fn panicked(&mut self, panic: &str) -> Unmet {
        self.shared.unregister(&mut self.registered);
        let outcome = UnmetOutcome::Inconclusive(Inconclusive::Panicked);
        let now = self.shared.clock.now();
        let note = format!("app code panicked: {panic}");
        self.report(outcome, now, Some(note))
    }

    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// The clock of the observed runtime.
    pub(super) fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    pub(super) fn judged(&self) -> u64 {
        self.evidence.judged
    }

    fn finish(&mut self, outcome: &WaitEnd<O>) -> Result<T, Unmet> {
        self.shared.unregister(&mut self.registered);
        self.over = true;
        let (outcome, ended) = match outcome {
            WaitEnd::Met(moment) => match self.read.read(moment) {
                Some(met) => return Ok(met),
                // A met wait without a result was met by nothing.
                None => (UnmetOutcome::Inconclusive(Inconclusive::NothingObserved), moment.at),
            },
            WaitEnd::Unmet(outcome, at) => (*outcome, *at),
        };
        // The notes ask for the health of sources, which is app code.
        let notes = catch(|| {
            [self.note(outcome, ended), self.note_of_the_clock(outcome, ended), self.note_of_stalls(outcome)]
        });
        let notes =
            notes.unwrap_or_else(|panic| [Some(format!("saying more panicked: {panic}")), None, None]);
        let notes: Vec<_> = notes.into_iter().flatten().collect();
        self.vigil = None;
        Err(self.report(outcome, ended, (!notes.is_empty()).then(|| notes.join("; "))))
    }

    /// The report of a poll after the end.
    fn again(&self) -> Unmet {
        let outcome = UnmetOutcome::Invalid(InvalidWait::PolledAgain);
        Unmet::bare(&self.label, outcome, Some("this wait has ended: make another one".to_owned()))
    }

    /// Drops the app's values one by one: two destructors that panic at once would abort the process.
    pub(super) fn let_go(&mut self) {
        self.shared.unregister(&mut self.registered);
        discard_logged(std::mem::replace(&mut self.judge, Judge::StaysFresh), "the predicate of a wait");
        discard_logged(
            std::mem::replace(&mut self.show, Show::nothing()),
            "what shows the snapshots of a wait",
        );
        for publication in self.taken.drain(..) {
            discard_logged(publication, "a publication");
        }
        self.evidence.let_go();
    }

    fn report(&mut self, outcome: UnmetOutcome, ended: Instant, note: Option<String>) -> Unmet {
        // If nothing was judged, the report shows the present snapshot, without data from before the start.
        if !self.judge.is_about_freshness()
            && self.evidence.last.is_none()
            && let Some(snapshot) = &self.evidence.status.snapshot
        {
            self.evidence.last = Some(self.start.view::<O>(snapshot));
        }
        let evidence = &self.evidence;
        let failures = (evidence.missed == 0).then_some(evidence.status.failures);
        let logged = self.shared.logged(&evidence.first, ended, failures);
        let frame = WaitInfo {
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

    /// The operator's own note for the report.
    fn note(&self, outcome: UnmetOutcome, ended: Instant) -> Option<String> {
        /// Bytes of listed names.
        const NAMES: usize = 400;
        let status = &self.evidence.status;
        match &self.judge {
            Judge::Stable { hold, .. } if outcome == UnmetOutcome::Invalid(InvalidWait::Hold) => {
                Some(format!("for a value to be the same for {hold:?}, {}", self.what_would_do(*hold)))
            }
            _ if outcome == UnmetOutcome::Inconclusive(Inconclusive::SourcesNotAsked) => {
                let unheard = self.start.unheard::<O>(status, ended);
                let unheard = names(unheard.iter().map(|name| &**name), NAMES);
                Some(format!("neither an answer nor a failure that was asked since the start: {unheard}"))
            }
            Judge::Source { name, wish: SourceWish::Vanished, known, .. } => {
                (!known).then(|| unknown_source(name, &status.source_names))
            }
            Judge::Source { name, .. } => Some(why::<O>(status, name, ended)),
            Judge::Stable { run, hold } => {
                Some(format!("to be the same for {hold:?}; {} runs of equal values began", run.changes))
            }
            _ => None,
        }
    }

    /// One sentence on why the wait is still pending, for a test to print while it waits.
    ///
    /// One line, escaped, of at most 4 KiB.
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
        let stall = self.shared.clock.pulse().stall().map_or_else(String::new, |stall| format!("; {stall}"));
        format!("{said}{judged}; {why}{stall}")
    }
}

impl<O: Observer, T> Future for Wait<'_, O, T> {
    type Output = Result<T, Unmet>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.over {
            return Poll::Ready(Err(this.again()));
        }
        if let Some(invalid) = this.invalid {
            let outcome = WaitEnd::Unmet(UnmetOutcome::Invalid(invalid), this.began);
            return Poll::Ready(this.finish(&outcome));
        }
        loop {
            // The clock is read first: publications up to `now` are then in the queue.
            let now = this.shared.clock.now();
            match this.judge_on_watch(context.waker()) {
                ControlFlow::Break(outcome) => return Poll::Ready(this.finish(&outcome)),
                ControlFlow::Continue(true) => {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                ControlFlow::Continue(false) => {}
            }
            let end = this.deadline();
            // A publication that came in time counts, even if it is judged at the deadline.
            if let Some(end) = end.filter(|end| *end <= now) {
                let outcome = ready!(this.conclude_if_driven(end, context));
                return Poll::Ready(this.finish(&outcome));
            }
            if let Some(outcome) = this.aged(now) {
                return Poll::Ready(this.finish(&outcome));
            }
            match this.wakes_by_time(end, context) {
                None => {
                    // The vigil wakes this task when the executor gives no turn.
                    let _ = this.vigil.as_mut().map(|vigil| vigil.poll(context));
                    return Poll::Pending;
                }
                // The executor has shut down, and its timers end early.
                Some(due) if this.shared.clock.now() < due => {
                    let outcome = loop {
                        match this.judge_some(context.waker()) {
                            ControlFlow::Break(outcome) => break outcome,
                            ControlFlow::Continue(false) => break this.conclude(now),
                            ControlFlow::Continue(true) => {}
                        }
                    };
                    return Poll::Ready(this.finish(&outcome));
                }
                Some(_) => {}
            }
        }
    }
}

impl<O: Observer, T> Wait<'_, O, T> {
    /// Arranges a wake at the end of the window, or when the data turns stale if the condition is about that. If that
    /// moment has come, returns it.
    fn wakes_by_time(&mut self, end: Option<Instant>, context: &mut Context<'_>) -> Option<Instant> {
        let ages = self.judge.is_about_freshness() && !self.evidence.gap;
        let stale_at = self.evidence.status.stale_at().filter(|_| ages);
        let next = match (end, stale_at) {
            (Some(end), Some(stale_at)) => end.min(stale_at),
            (next, None) | (None, next) => next?,
        };
        if self.timer.as_ref().is_none_or(|(at, _)| *at != next) {
            self.timer = Some((next, self.shared.clock.timer(next)));
            // The timer belongs to the executor, unless the clock is fed.
            let vigil = self.vigil.iter().filter(|_| !self.shared.clock.is_fed());
            vigil.for_each(|vigil| vigil.is_due(next));
        }
        let (at, timer) = self.timer.as_mut()?;
        Pin::new(timer).poll(context).is_ready().then_some(*at)
    }
}

impl<O: Observer, T> Unpin for Wait<'_, O, T> {}

impl<O: Observer, T> Drop for Wait<'_, O, T> {
    fn drop(&mut self) {
        self.let_go();
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

#[cfg(all(test, not(watchkeeper_loom)))]
mod tests {
    use std::sync::mpsc;
    use std::task::Waker;
    use std::thread;

    use async_trait::async_trait;

    use super::*;
    use crate::config::ObservationConfig;
    use crate::cursor::{First, Instance};
    use crate::publish::history::History;
    use crate::{DynError, ObservedSource};

    struct Nothing;

    #[async_trait]
    impl Observer for Nothing {
        type Source = ();
        type State = ();
        type Snapshot = ();
        type Event = ();

        async fn init(&self, _: &[ObservedSource<()>]) -> Result<(), DynError> {
            Ok(())
        }

        async fn poll(&self, _: &[ObservedSource<()>], (): &mut ()) -> Result<Vec<()>, DynError> {
            Ok(vec![])
        }

        fn snapshot(&self, (): &()) {}
    }

    /// The executor's timers end at once, long before they are due.
    #[test]
    fn a_wait_whose_executor_has_shut_down_ends_though_nobody_published_the_end() {
        let executor = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let clock = Clock::of(executor.handle().clone());
        let first = Published::before_the_start(clock.started(), &ObservationConfig::default());
        let shared = Arc::new(Shared::new(
            (None, "nothing"),
            clock,
            History::new(Instance(1), 4, First::default()),
            first,
        ));
        drop(executor);
        let judge = Judge::<Nothing>::Eventually(Box::new(|_| false.into()));
        let mut wait = Wait::register(shared, "anything".to_owned(), judge, Read::Moment(|_| Some(())));
        wait.window = Some(Duration::from_secs(3600));
        let (sender, outcome) = mpsc::channel();
        thread::spawn(move || {
            let ended = Pin::new(&mut wait).poll(&mut Context::from_waker(Waker::noop()));
            sender.send(ended.map_err(|unmet| unmet.outcome()))
        });
        let nothing = UnmetOutcome::Inconclusive(Inconclusive::NothingObserved);
        assert_eq!(outcome.recv_timeout(Duration::from_secs(20)), Ok(Poll::Ready(Err(nothing))));
    }
}
