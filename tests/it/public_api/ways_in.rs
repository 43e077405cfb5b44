//! The ways in, what stops them, polling now, the check of an observer, and what a feed is made of.

use watchkeeper::check::{Check, CheckError, Checked, Folding, Set, Step};
use watchkeeper::feed::FeedLoss;
use watchkeeper::per_source::PerSourceSnapshotError;
use watchkeeper::runtime::PollNowError;
use watchkeeper::wait::Until;
use watchkeeper::{observe, until};

use super::*;

#[test]
fn what_the_ways_in_give_is_shared_shown_and_compared() {
    shared::<(Until<fn()>, PollNowError, PerSourceSnapshotError, FeedLoss, CancellationToken)>();
    shown::<(Until<fn()>, Check<Plain>, Folding<Plain, u8>)>();
    cloned::<(PollNowError, PerSourceSnapshotError, CheckError)>();
    copied::<(FeedLoss, Checked, Step)>();
    compared::<(FeedLoss, PerSourceSnapshotError, CheckError, Checked, Step)>();
    error::<PollNowError>();
    error::<PerSourceSnapshotError>();
    error::<CheckError>();
}

#[expect(dead_code, reason = "compiling it is the test")]
async fn started(parent: CancellationToken) -> Result<(), DynError> {
    async fn probe(_: ObservedSource<u8>) -> std::io::Result<u8> {
        Ok(7)
    }
    let interval = Duration::from_secs(1);
    // By the interval alone, or by a whole config; with anything that is a set, and an error of any type.
    let runtime: ObservationRuntime<PerSource<u8, u8>> = observe(interval, [("n1", 7_u8)], probe).await?;
    let config: ObservationConfig = interval.into();
    let config = ObservationConfig { parent: Some(parent.clone()), ..config };
    let whole: Result<ObservationRuntime<PerSource<u8, u8>>, ObservationRuntimeError> =
        observe(config.clone(), SharedSources::new(vec![ObservedSource::new("n1", 7_u8)]), probe).await;
    task(observe(config, vec![("n1".to_owned(), 7_u8)], |_| async { Ok::<u8, DynError>(7) }));
    drop(whole);

    let handle: ObservationHandle<PerSource<u8, u8>> = runtime.handle();
    let seen = handle.latest_snapshot().ok_or("it has started")?;
    let _: Option<&u8> = seen.value.answer("n1");
    future::<StopReason>(handle.stopped());
    future::<StopReason>(AnyHandle::new("n1", &handle).stopped());
    let _: ObservationGroup = ObservationGroup::with_parent(parent);
    Ok(())
}

#[expect(dead_code, reason = "compiling it is the test")]
async fn polled(runtime: ObservationRuntime<Least>) -> Result<(), PollNowError> {
    let control: ObservationControl = runtime.control();
    future::<Result<Arc<Snapshot>, PollNowError>>(runtime.poll_now_and_wait());
    future::<Result<u64, PollNowError>>(control.poll_now_and_wait());
    let snapshot: Arc<Snapshot> = runtime.poll_now_and_wait().await?;
    let cycle: u64 = control.poll_now_and_wait().await?;
    is((snapshot, cycle));
    Ok(())
}

#[test]
fn why_a_poll_gave_nothing() {
    let (reason, no_turn_for) = (StopReason::Requested, Duration::ZERO);
    is::<[PollNowError; 4]>([
        PollNowError::NotTaken(ControlError::Full { capacity: 16_usize }),
        PollNowError::Ended { reason },
        PollNowError::NotDriven { no_turn_for },
        PollNowError::FellBehind { missed: 1_u64 },
    ]);
    let _: fn(Arc<ObservationFailure>) -> PollNowError = PollNowError::Failed;
    let _: PollNowError = ControlError::Stopped { reason }.into();
}

#[expect(dead_code, reason = "compiling it is the test")]
async fn one_condition(parent: CancellationToken) -> Result<(), Unmet> {
    let window = Duration::from_secs(1);
    // What it asks may borrow, and be of one thread.
    let asked = std::cell::Cell::new(0_u8);
    let counting = || async {
        asked.set(asked.get() + 1);
        asked.get() > 2
    };
    let () = until("it is asked", counting).every(window).with_parent(parent).within(window).await?;
    until(String::from("a reason"), || async { Err::<(), _>("not yet") }).within(window).await?;
    until("an end", || async { Ok::<_, std::io::Error>(Verdict::Met) }).within(window).await?;
    future::<Result<(), Unmet>>(until("on any thread", || async { true }).within(window));
    Ok(())
}

#[expect(dead_code, reason = "compiling it is the test")]
fn checked(config: ObservationConfig) {
    let check: Check<Plain> = Check::new(|| Plain).poll(|| [("n1", 7_u8)]).configured(config);
    let check = check.poll(|| vec![ObservedSource::new("n1", 7_u8)]);
    let folding: Folding<Plain, u8> = check.folding(|shown| *shown, |sum: &mut u8, event| *sum += *event);
    future::<Result<Checked, CheckError>>(folding.run());
    is::<CheckError>(CheckError::EmptyScript);
    let _: [fn() -> Set<u8>; 2] = [|| [("n1", 7_u8)].into(), || vec![("n1".to_owned(), 7_u8)].into()];
}

#[expect(dead_code, reason = "compiling it is the test")]
fn found(checked: Checked, step: Step, error: CheckError) {
    let Checked { succeeded, failed, events, interruptions, .. } = checked;
    is::<[u64; 4]>([succeeded, failed, events, interruptions]);
    let Step { poll, interrupted, .. } = step;
    is::<(u64, Option<(u64, u32)>)>((poll, interrupted));
    match error {
        CheckError::InitFailed { error } => is::<String>(error),
        CheckError::EventsDiffer { step, shown, folded } => {
            is::<(Step, [String; 2])>((step, [shown, folded]));
        }
        CheckError::LostByError { step, error, expected, shown } => {
            is::<(Step, [String; 3])>((step, [error, expected, shown]));
        }
        _ => {}
    }
}

#[expect(dead_code, reason = "compiling it is the test")]
fn over_a_gap(feed: &mut Feed<Least>, record: &Record<Least>, at: Instant) -> Result<(), FeedError> {
    let loss = FeedLoss { publications: 3_u64, batches: 1_u64, events: 7_u64 };
    let lost: Result<(), FeedError> = feed.lost(at, loss);
    lost?;
    feed.lost_before(record)?;
    is::<[FeedError; 9]>([
        FeedError::Ended(StopReason::Requested),
        FeedError::TimeWentBack { by: Duration::ZERO },
        FeedError::BeforeItsCycle { by: Duration::ZERO },
        FeedError::CycleWentBack { cycle: 1_u64, newest: 2_u64 },
        FeedError::GenerationWentBack { generation: 1_u64, newest: 2_u64 },
        FeedError::RecordsMissing { expected: 1_u64, found: 2_u64 },
        FeedError::Altered { field: "number" },
        FeedError::InvalidLoss(loss),
        FeedError::TooLate,
    ]);
    is::<[FeedError; 2]>([FeedError::Foreign, FeedError::TooLarge { field: "cycle", value: 1_u64 }]);
    is::<ObservationRuntimeError>(ObservationRuntimeError::FeedStartTooLate);
    Ok(())
}

#[expect(dead_code, reason = "compiling it is the test")]
fn made_of_data(at: Instant, facts: &SourceFacts, polled: &Snapshot) {
    let second = Duration::from_secs(1);
    type Made = Result<PerSourceSnapshot<Opaque>, PerSourceSnapshotError>;
    let made: Made =
        PerSourceSnapshot::new(at, second, second, [("n1", Some(Arc::new(Opaque)), facts.clone())]);
    let named: Made =
        PerSourceSnapshot::new(at, second, second, vec![(Arc::<str>::from("n1"), None, facts.clone())]);
    let Ok(snapshot) = made.and(named) else { return };
    let _: (Instant, [Duration; 2]) = (snapshot.taken_at(), [snapshot.stale_after(), snapshot.collect_for()]);
    let _: Option<&Opaque> = snapshot.answer("n1");
    let health: SourceHealth = SourceHealth::new(facts.clone(), second).collecting_for(second);
    let SourceHealth { facts, stale_after, collect_for, .. } = health;
    let _: (SourceFacts, [Duration; 2]) = (facts, [stale_after, collect_for]);
    let _: ProbeFailure = ProbeFailure::new(at, at, Cause::Error, "refused");
    let _: bool = polled.is_polled;
    let (value, most) = (second, second);
    is::<[PerSourceSnapshotError; 4]>([
        PerSourceSnapshotError::InvalidDuration { field: "stale_after", value, most },
        PerSourceSnapshotError::EmptyName { position: 1_usize },
        PerSourceSnapshotError::DuplicateName { name: "n1".into() },
        PerSourceSnapshotError::Contradiction { name: "n1".into(), what: "a value without `answers`" },
    ]);
}
