//! Every public name and its shape. A change that breaks users fails to compile here.

mod ways_in;

use std::error::Error;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_core::Stream;
use tokio::sync::Notify;
use tokio::time::Instant;
use watchkeeper::feed::{Feed, FeedError, FeedFailure, FeedStart, FeedSuccess};
use watchkeeper::group::{
    AnyHandle, AnySnapshot, AnyWait, AnyWaitBuilder, GroupError, GroupStatus, ObservationGroup,
};
use watchkeeper::per_source::{PerSourceError, PerSourceSnapshot, PerSourceState, SourceEvent, SourceView};
use watchkeeper::runtime::{
    Backoff, CancellationToken, Cause, ControlError, Freshness, ObservationStatus, Retry, State, StateKind,
    StopOutcome, StopReason, Transactional,
};
use watchkeeper::source::{
    Duplicates, ProbeFailure, SharedSources, SourceFacts, SourceFn, SourceHealth, SourceSetError, source_fn,
};
use watchkeeper::subscription::{
    Cursor, CursorError, PositionError, PositionProblem, Record, RecordKind, RecvError, Resume,
    SourcesChanged, Subscription, Tap, TapError, TapLimits,
};
use watchkeeper::wait::{
    ByDebug, ByShow, Eventually, Inconclusive, InvalidWait, Invariant, InvariantReport, Mark, ObservedEvent,
    Throughout, Unmet, UnmetOutcome, Verdict, Wait, WaitBuilder, Watch, WatchError,
};
use watchkeeper::{
    BoxedSourceProvider, DynError, ObservationBatch, ObservationConfig, ObservationControl,
    ObservationFailure, ObservationFailureStage, ObservationHandle, ObservationRuntime,
    ObservationRuntimeError, ObservationSnapshot, ObservedSource, Observer, PerSource, SourceProvider,
    StaticSourceProvider, async_trait, report,
};

/// Neither cloned nor shown nor compared: nothing may ask for more than an observer must give.
struct Opaque;

struct Least;

#[async_trait]
impl Observer for Least {
    type Source = Opaque;
    type State = Opaque;
    type Snapshot = Opaque;
    type Event = Opaque;

    async fn init(&self, _: &[ObservedSource<Opaque>]) -> Result<Opaque, DynError> {
        Ok(Opaque)
    }

    async fn poll(&self, _: &[ObservedSource<Opaque>], _: &mut Opaque) -> Result<Vec<Opaque>, DynError> {
        Ok(Vec::new())
    }

    fn snapshot(&self, _: &Opaque) -> Opaque {
        Opaque
    }
}

#[async_trait]
impl SourceProvider<Opaque> for Least {
    async fn sources(&self) -> Result<Vec<ObservedSource<Opaque>>, DynError> {
        Ok(vec![ObservedSource { name: "a".to_owned(), source: Opaque }])
    }
}

/// The whole of both traits as their users know them, bounds included: what is generic over the source, its state and
/// its events, and answers every method.
struct WordForWord<S, T, V, E>(std::marker::PhantomData<fn() -> (S, T, V, E)>);

#[async_trait]
impl<S, T, V, E> Observer for WordForWord<S, T, V, E>
where
    S: Send + Sync + 'static,
    T: Default + Send + Sync + 'static,
    V: Default + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    type Source = S;
    type State = T;
    type Snapshot = V;
    type Event = E;

    fn configured(&mut self, _: &ObservationConfig) {}

    async fn init(&self, _: &[ObservedSource<Self::Source>]) -> Result<Self::State, DynError> {
        Ok(T::default())
    }

    async fn poll(
        &self,
        _: &[ObservedSource<Self::Source>],
        _: &mut Self::State,
    ) -> Result<Vec<Self::Event>, DynError> {
        Ok(Vec::new())
    }

    fn snapshot(&self, _: &Self::State) -> Self::Snapshot {
        V::default()
    }

    fn poll_is_cancel_safe(&self) -> bool {
        false
    }

    fn source_health(_: &Self::Snapshot, _: &str) -> Option<SourceHealth> {
        None
    }

    fn asked_since(_: &Self::Snapshot, _: Instant) -> Option<Self::Snapshot> {
        None
    }

    fn asked_at(_: &Self::Event) -> Option<Instant> {
        None
    }

    fn weight(_: &Self::Snapshot, _: &[Self::Event]) -> usize {
        0
    }
}

#[async_trait]
impl<S, T, V, E> SourceProvider<S> for WordForWord<S, T, V, E>
where
    S: 'static,
    T: 'static,
    V: 'static,
    E: 'static,
{
    async fn sources(&self) -> Result<Vec<ObservedSource<S>>, DynError> {
        Ok(Vec::new())
    }

    fn revision(&self) -> Option<u64> {
        None
    }
}

#[test]
fn both_traits_are_implemented_word_for_word() {
    fn is<O: Observer<Source = Opaque> + SourceProvider<Opaque>>() {}
    is::<WordForWord<Opaque, u8, u8, Opaque>>();
}

/// The same, with values that can be shown and compared.
struct Plain;

#[async_trait]
impl Observer for Plain {
    type Source = u8;
    type State = u8;
    type Snapshot = u8;
    type Event = u8;

    async fn init(&self, _: &[ObservedSource<u8>]) -> Result<u8, DynError> {
        Ok(0)
    }

    async fn poll(&self, _: &[ObservedSource<u8>], _: &mut u8) -> Result<Vec<u8>, DynError> {
        Ok(Vec::new())
    }

    fn snapshot(&self, state: &u8) -> u8 {
        *state
    }
}

type Handle = ObservationHandle<Least>;
type Snapshot = ObservationSnapshot<Opaque>;
type Batch = ObservationBatch<Opaque>;

/// May be shared by threads and outlive its maker.
fn shared<T: Send + Sync + Unpin + 'static>() {}
fn cloned<T: Clone>() {}
fn copied<T: Copy>() {}
fn shown<T: Debug>() {}
fn compared<T: PartialEq + Debug>() {}
fn hashed<T: Eq + Hash>() {}
fn error<T: Error + Send + Sync + 'static>() {}
fn is<T>(_: T) {}
fn future<T>(future: impl Future<Output = T> + Send) {
    is(future);
}
fn task<T>(future: impl Future<Output = T> + Send + 'static) {
    is(future);
}
fn stream<T>(stream: impl Stream<Item = T> + Send + Unpin + 'static) {
    is(stream);
}
fn wait<T>(wait: impl Future<Output = Result<T, Unmet>> + Send + Unpin + 'static) {
    is(wait);
}

#[test]
fn handles_are_cloned_and_shared_for_any_observer() {
    shared::<(ObservationRuntime<Least>, Handle, ObservationControl)>();
    shared::<(ObservationStatus<Least>, Snapshot, Batch, Arc<ObservationFailure>)>();
    shared::<(Watch<Least>, Subscription<Opaque>, Cursor, Mark, Freshness)>();
    shared::<(ObservationConfig, ObservationGroup, GroupStatus, Transactional<Plain>)>();
    shared::<(PerSource<u8, u8>, PerSourceState<u8>, PerSourceSnapshot<Opaque>, SourceEvent<Opaque>)>();
    shared::<(SourceFacts, ProbeFailure, SourceView<'static, Opaque>)>();
    shared::<(SharedSources<u8>, StaticSourceProvider<u8>, BoxedSourceProvider<u8>, ObservedSource<u8>)>();

    cloned::<(Handle, ObservationControl, ObservationStatus<Least>, ObservationConfig)>();
    cloned::<(SharedSources<Opaque>, StaticSourceProvider<u8>, ObservedSource<u8>, SourceFn<u8>)>();
    cloned::<(PerSourceSnapshot<Opaque>, SourceEvent<Opaque>, SourceFacts, ProbeFailure)>();
    cloned::<(ObservationSnapshot<u8>, ObservationBatch<u8>, ObservationFailure, GroupStatus, Unmet)>();
    copied::<(Cursor, Mark, Freshness, SourceView<'static, Opaque>, Retry, Backoff, Duplicates)>();
    copied::<(State, StateKind, StopReason, StopOutcome, ObservationFailureStage, Cause)>();
    copied::<(RecvError, CursorError, ControlError, WatchError, UnmetOutcome, Inconclusive, InvalidWait)>();

    shown::<(ObservationRuntime<Least>, Handle, ObservationControl, ObservationGroup, ObservationConfig)>();
    shown::<(Watch<Least>, Subscription<Opaque>, ObservationStatus<Plain>, PerSource<Opaque, Opaque>)>();
    shown::<(PerSourceState<Opaque>, PerSourceSnapshot<u8>, SourceView<'static, u8>, SourceEvent<u8>)>();
    shown::<(Wait<'static, Least, u8>, WaitBuilder<'static, Least, u8>, SharedSources<u8>)>();
    compared::<(ObservationSnapshot<u8>, ObservationBatch<u8>, ObservationFailure, ObservedSource<u8>)>();
    compared::<(Freshness, Mark, SourceFacts, ProbeFailure, StopOutcome)>();
    compared::<(RecvError, CursorError, ControlError, WatchError, GroupError, SourceSetError, PerSourceError)>(
    );
    hashed::<(State, StateKind, StopReason, ObservationFailureStage, Cause, Cursor, Resume)>();
    copied::<(Resume, PositionProblem, TapLimits, TapError, RecordKind, FeedError, FeedStart)>();
    shared::<(Tap<Least>, Record<Least>, Feed<Least>)>();
    #[cfg(feature = "json")]
    shared::<(watchkeeper::group::JsonSubscription, watchkeeper::group::JsonBatch)>();
    cloned::<(Record<Least>, SourcesChanged)>();
    shown::<(Tap<Least>, Record<Least>, Feed<Least>)>();
    shown::<(FeedSuccess<u8, u8>, FeedFailure)>();
    compared::<(Cursor, Resume, PositionError, PositionProblem)>();
}

#[test]
fn errors_are_errors() {
    error::<ObservationRuntimeError>();
    error::<ControlError>();
    error::<CursorError>();
    error::<PositionError>();
    error::<TapError>();
    error::<FeedError>();
    #[cfg(feature = "json")]
    error::<watchkeeper::group::JsonSubscriptionError>();
    error::<RecvError>();
    error::<WatchError>();
    error::<GroupError>();
    error::<SourceSetError>();
    error::<PerSourceError>();
    error::<ObservationFailure>();
    error::<Unmet>();
}

/// The whole life of a runtime, by the shape of each call; nothing here runs.
#[expect(dead_code, reason = "compiling it is the test")]
fn runtime(config: ObservationConfig) -> Result<(), ObservationRuntimeError> {
    task(ObservationRuntime::start(Least, Least, config.clone()));
    let (control, starting) = ObservationRuntime::start_with_control(Least, Least, config.clone())?;
    let _: ObservationControl = control;
    task(starting);
    let runtime: ObservationRuntime<Least> = ObservationRuntime::start_in_background(Least, Least, config)?;
    let _: Handle = runtime.handle();
    let control: ObservationControl = runtime.control();
    future::<StopOutcome>(runtime.stop());
    future::<Result<(), ControlError>>(control.pause());
    future::<Result<(), ControlError>>(control.resume());
    future::<Result<u64, ControlError>>(control.poll_now());
    future::<StopOutcome>(control.stop());
    Ok(())
}

#[test]
fn a_handle_reads() {
    let _: fn(&Handle) -> State = Handle::state;
    let _: fn(&Handle) -> ObservationStatus<Least> = Handle::status;
    let _: fn(&Handle) -> Option<Arc<Snapshot>> = Handle::latest_snapshot;
    let _: fn(&Handle) -> Vec<Arc<Batch>> = Handle::history;
    let _: fn(&Handle) -> Option<Arc<ObservationFailure>> = Handle::last_error;
    let _: fn(&Handle) -> Vec<Arc<ObservationFailure>> = Handle::failures;
    let _: fn(&Handle) -> Freshness = Handle::freshness;
    let _: fn(&Handle) -> Subscription<Opaque> = Handle::subscribe;
    let _: fn(&Handle, Cursor) -> Result<Subscription<Opaque>, CursorError> = Handle::subscribe_from;
    let _: fn(&Handle) -> Watch<Least> = Handle::watch;
    let _: fn(&Handle, TapLimits) -> Tap<Least> = Handle::tap;
    let _: fn(&Handle) -> Mark = Handle::mark;
    let _: fn(&Handle, Instant) -> SystemTime = Handle::system_time;
    let _: fn(&Handle) -> Option<StopReason> = Handle::stop_reason;

    let _: fn(&Freshness) -> Option<Instant> = Freshness::last_success;
    let _: fn(&Freshness) -> Option<Duration> = Freshness::age;
    let _: fn(&Freshness) -> Duration = Freshness::stale_after;
    let _: [fn(&Freshness) -> bool; 3] =
        [Freshness::is_fresh, Freshness::is_stale, Freshness::never_succeeded];
    let _: fn(&Cursor) -> u64 = Cursor::seq;
    let _: fn(&Cursor) -> u64 = Cursor::generation;
    let _: fn(&Cursor) -> u128 = Cursor::instance;
    let _: fn(&str) -> Result<Cursor, PositionError> = str::parse;
    let _: fn(&str) -> Result<Resume, PositionError> = str::parse;
    let _: fn(&Snapshot) -> Resume = |snapshot| Resume::from(snapshot);
    let _: [fn(&Resume) -> String; 1] = [Resume::to_string];
    let _: fn(&Cursor) -> String = Cursor::to_string;
    let _: fn(&PositionError) -> (usize, &'static str, PositionProblem) =
        |error| (error.at(), error.field(), error.problem());
}

#[expect(dead_code, reason = "compiling it is the test")]
fn follow(handle: &Handle) {
    let mut watch = handle.watch();
    let _: ObservationStatus<Least> = watch.status();
    future::<Result<ObservationStatus<Least>, WatchError>>(watch.changed());
    future::<Result<ObservationStatus<Least>, WatchError>>(watch.wait_for(|status| status.paused));
    let _: fn(StopReason) -> WatchError = WatchError::Closed;

    let mut subscription = handle.subscribe();
    future::<Result<Arc<Batch>, RecvError>>(subscription.recv());
    let _: Option<Result<Arc<Batch>, RecvError>> = subscription.try_recv();
    let _: Cursor = subscription.cursor();
    stream::<Result<Arc<Batch>, RecvError>>(subscription);

    let mut tap = handle.tap(TapLimits { records: 7_usize, bytes: 7_usize });
    future::<Result<Record<Least>, TapError>>(tap.recv());
    let record: Option<Result<Record<Least>, TapError>> = tap.try_recv();
    let _: u64 = tap.next_number();
    stream::<Result<Record<Least>, TapError>>(tap);
    let Some(Ok(record)) = record else { return };
    let _: (FeedStart, Resume) = (FeedStart::from(&record), Resume::from(&record));
    let _: RecordKind = record.kind();
    let Record { number, at, system_time, snapshot, batch, failure, sources, transition, status, .. } =
        record;
    let _: (u64, Instant, SystemTime, Option<(State, State)>) = (number, at, system_time, transition);
    let _: (Option<Arc<Snapshot>>, Option<Arc<Batch>>) = (snapshot, batch);
    let _: (Option<Arc<ObservationFailure>>, ObservationStatus<Least>) = (failure, status);
    if let Some(SourcesChanged { names, joined, left, .. }) = sources {
        let _: (Arc<[Arc<str>]>, Vec<Arc<str>>, Vec<Arc<str>>) = (names, joined, left);
    }
}

#[expect(dead_code, reason = "compiling it is the test")]
fn waits(plain: &ObservationHandle<Plain>, opaque: &Handle) {
    let window = Duration::from_secs(1);
    let eventually: WaitBuilder<'static, Plain, Arc<ObservationSnapshot<u8>>, Eventually, ByDebug> =
        plain.eventually("more than one", |value| *value > 1);
    let waiting: Wait<'static, Plain, Arc<ObservationSnapshot<u8>>> = eventually.within(window);
    wait(waiting);
    wait::<Arc<Snapshot>>(
        opaque.eventually(String::from("x"), |_| true).show(|_| String::new()).within(window),
    );
    let shown: WaitBuilder<'static, Least, Arc<Snapshot>, Eventually, ByShow<'static, Least>> =
        opaque.eventually("x", |_| true).show(|_| String::new());
    wait::<Arc<Snapshot>>(shown.or_now().after(opaque.mark()).within(window));
    wait::<ObservationStatus<Plain>>(plain.reaches(StateKind::Idle).or_now().within(window));
    wait::<ObservationStatus<Plain>>(plain.reaches(State::Idle).after(plain.mark()).within(window));

    let always: WaitBuilder<'static, Plain, Arc<ObservationSnapshot<u8>>, Throughout, ByDebug> =
        plain.always("more than one", |value| *value > 1);
    wait(always.during(window));
    wait::<Arc<Snapshot>>(opaque.never("x", |_| true).show(|_| String::new()).during(window));
    wait::<Arc<ObservationSnapshot<u8>>>(plain.stable_for("x", window, |x| Some(*x)).within(window));
    wait::<ObservedEvent<u8>>(plain.event("x", |event| *event == 1).within(window));
    wait::<ObservationStatus<Plain>>(plain.stays_fresh().during(window));
    wait::<ObservationStatus<Plain>>(plain.becomes_stale().within(window));
    wait::<Arc<ObservationSnapshot<u8>>>(plain.source_fresh("a").within(window));
    wait::<Arc<ObservationSnapshot<u8>>>(plain.source_stale("a").within(window));
    wait::<Arc<ObservationSnapshot<u8>>>(plain.source_failing("a").within(window));
    wait::<ObservationStatus<Plain>>(plain.source_vanished("a").within(window));
    wait::<ObservationStatus<Plain>>(
        plain.source_set("x", |names: &[Arc<str>]| names.len() == 3).within(window),
    );
    wait::<u8>(plain.eventually_some("x", |value| value.checked_sub(1)).within(window));
    wait(plain.eventually("x", |value| if *value > 1 { Ok(()) } else { Err("too few") }).within(window));
    wait(plain.event("x", |_| Verdict::GiveUp("no".to_owned())).within(window));
    let invariant: Invariant = plain.invariant("x", |_| true);
    let _: Option<Unmet> = invariant.violation();
    let _: Invariant = opaque.invariant_shown("x", |_| true, |_| String::new());
    future(async move { invariant.finish().await });
    let _: String = plain.why_stale("a");

    // A predicate may borrow, change what it borrows, and the wait may still go to another thread.
    let mut judged = Vec::new();
    let borrowing = plain.eventually("borrowed", |value| {
        judged.push(*value);
        false
    });
    future(borrowing.within(window));
}

#[expect(dead_code, reason = "compiling it is the test")]
fn erased(plain: &ObservationHandle<Plain>, opaque: &Handle, group: &ObservationGroup) {
    let window = Duration::from_secs(1);
    let any: AnyHandle = AnyHandle::new("plain", plain);
    let of_the_group: Option<AnyHandle> = group.handle("plain");
    drop((AnyHandle::new("opaque", opaque), of_the_group));
    let eventually: AnyWaitBuilder<'static, Eventually> =
        any.eventually("x", |snapshot: AnySnapshot<'_>| snapshot.value::<u8>() == Some(&1));
    let waiting: AnyWait<'static> = eventually.or_now().within(window);
    let _: String = waiting.explain();
    let always: AnyWaitBuilder<'static, Throughout> = any.always("x", |snapshot| snapshot.cycle() > 0);
    for met in [
        waiting,
        always.during(window),
        any.event("x", |event| event.downcast_ref() == Some(&7_u8)).within(window),
    ] {
        future(async move {
            let _: Result<GroupStatus, Unmet> = met.await;
        });
    }
    let _: Option<SourceHealth> = any.look(|snapshot| snapshot.source_health("a")).flatten();
    let found: AnyWaitBuilder<'static, Eventually, u8> =
        any.eventually_some("x", |seen| seen.value::<u8>().copied());
    wait::<u8>(found.within(window));
    drop::<AnyWait<'static>>(any.source_set("x", <[Arc<str>]>::is_empty).within(window));
}

#[expect(dead_code, reason = "compiling it is the test")]
fn unmet(unmet: &Unmet, held: InvariantReport) {
    let _: u64 = held.judged;
    let _: &str = unmet.label();
    let _: Option<Duration> = unmet.window();
    let _: Option<u64> = unmet.first_violation();
    let _: u64 = unmet.judged();
    let _: &[Arc<ObservationFailure>] = unmet.failures();
    let _: u64 = unmet.failures_cut();
    let _: UnmetOutcome = unmet.outcome();
    let _: Option<&str> = unmet.reason();
}

#[expect(dead_code, reason = "compiling it is the test")]
fn texts(event: &SourceEvent<u8>) {
    let _: [String; 2] = [event.to_string(), format!("{event:?}")];
    let _: [String; 2] = [report::one_line("text", 80), report::names(["n1"], 80)];
    let _: [String; 2] = [report::debug(&event, 80), report::debug_line("of any size", 80)];
}

#[test]
fn the_config_is_a_plain_struct_with_defaults() {
    // Named one by one: a field that is added or renamed is seen here.
    let ObservationConfig {
        name,
        interval,
        history_limit,
        refresh_timeout,
        init_timeout,
        poll_timeout,
        stop_timeout,
        stale_after,
        retry,
        offset,
        wake,
        min_gap,
        parent,
        resume,
        duplicates,
    } = ObservationConfig::default();
    let name: Option<String> = name;
    assert_eq!((name, duplicates), (None, Duplicates::KeepFirst));
    match duplicates {
        Duplicates::KeepFirst | Duplicates::Refuse => {}
    }
    let seconds = [interval, refresh_timeout, init_timeout, poll_timeout, stop_timeout, offset];
    assert_eq!(seconds.map(|duration| duration.as_secs()), [1, 10, 30, 10, 5, 0]);
    assert_eq!((stale_after, min_gap), (None, Duration::from_millis(10)));
    assert_eq!((history_limit, retry, resume), (64_usize, Retry::NextTick, None::<Resume>));
    let wake: Option<Arc<Notify>> = wake;
    let parent: Option<CancellationToken> = parent;
    assert!(wake.is_none() && parent.is_none());
    let backoff = Backoff { first: interval, max: interval, jitter: 0.5_f64, seed: 7_u64 };
    match Retry::Backoff(backoff) {
        Retry::NextTick | Retry::Backoff(Backoff { first: _, max: _, jitter: _, seed: _ }) => {}
    }
}

#[expect(dead_code, reason = "compiling it is the test")]
fn fields(
    status: ObservationStatus<Least>,
    snapshot: Snapshot,
    batch: &Batch,
    failure: ObservationFailure,
    member: GroupStatus,
) {
    let ObservationStatus {
        state,
        since,
        paused,
        generation,
        cycle,
        snapshot: latest,
        last_error,
        freshness,
        source_names,
        missed_ticks,
        ..
    } = status;
    let _: (State, Instant, bool, u64, u64) = (state, since, paused, generation, cycle);
    let _: (Option<Arc<Snapshot>>, Option<Arc<ObservationFailure>>) = (latest, last_error);
    let _: (Freshness, Arc<[Arc<str>]>, u64) = (freshness, source_names, missed_ticks);

    let ObservationSnapshot {
        generation,
        cycle,
        cursor,
        observed_at,
        system_time,
        elapsed,
        source_count,
        event_count,
        value,
        ..
    } = snapshot;
    let _: (u64, u64, Cursor, Instant, SystemTime) = (generation, cycle, cursor, observed_at, system_time);
    let _: (Duration, usize, u64, Opaque) = (elapsed, source_count, event_count, value);

    let ObservationBatch { generation, seq, cycle, observed_at, system_time, source_count, events, .. } =
        batch;
    let _: (&u64, &u64, &u64, &Instant, &SystemTime) = (generation, seq, cycle, observed_at, system_time);
    let _: (&usize, &Vec<Opaque>) = (source_count, events);

    let ObservationFailure {
        generation,
        cycle,
        observed_at,
        system_time,
        elapsed,
        source_count,
        stage,
        cause,
        message,
        consecutive,
        ..
    } = failure;
    let _: (u64, u64, Instant, SystemTime, Duration) = (generation, cycle, observed_at, system_time, elapsed);
    let _: (usize, ObservationFailureStage, Cause, String, u64) =
        (source_count, stage, cause, message, consecutive);

    let GroupStatus {
        name,
        state,
        paused,
        generation,
        cycle,
        freshness,
        last_error,
        source_names,
        missed_ticks,
        ..
    } = member;
    let _: (Arc<str>, State, bool, u64, u64) = (name, state, paused, generation, cycle);
    let _: (Freshness, Arc<[Arc<str>]>, u64) = (freshness, source_names, missed_ticks);
    let _: Option<Arc<ObservationFailure>> = last_error;
}

/// Without a wildcard where there is none: these enums are closed.
#[expect(dead_code, reason = "compiling it is the test")]
fn closed_enums(
    state: State,
    stage: ObservationFailureStage,
    cause: Cause,
    stop: StopOutcome,
    recv: RecvError,
) {
    match state {
        State::Starting | State::Refreshing | State::Polling | State::Idle => {}
        State::Failed { stage, consecutive, rebuild } => {
            let _: (ObservationFailureStage, u64, bool) = (stage, consecutive, rebuild);
        }
        State::Stopped { reason } => is::<StopReason>(reason),
    }
    match state.kind() {
        StateKind::Starting
        | StateKind::Refreshing
        | StateKind::Polling
        | StateKind::Idle
        | StateKind::Failed
        | StateKind::Stopped => {}
    }
    match stage {
        ObservationFailureStage::SourceRefresh
        | ObservationFailureStage::Init
        | ObservationFailureStage::Poll => {}
    }
    match cause {
        Cause::Error | Cause::TimedOut | Cause::Panicked => {}
    }
    match stop {
        StopOutcome::Stopped | StopOutcome::Detached => {}
    }
    match recv {
        RecvError::Lagged { missed, resume } => is::<(u64, Cursor)>((missed, resume)),
        RecvError::Rebuilt { generation } => is::<u64>(generation),
        RecvError::Closed(reason) => is::<StopReason>(reason),
    }
}

/// These may get further variants; what there is keeps its fields.
#[test]
fn open_enums() {
    let (value, reason) = (Duration::ZERO, StopReason::Requested);
    is::<[StopReason; 5]>([
        StopReason::Requested,
        StopReason::Dropped,
        StopReason::StartFailed,
        StopReason::Shutdown,
        StopReason::Died,
    ]);
    is::<[ObservationRuntimeError; 12]>([
        ObservationRuntimeError::InvalidInterval { value },
        ObservationRuntimeError::InvalidTimeout { field: "poll_timeout", value },
        ObservationRuntimeError::InvalidStaleAfter { value },
        ObservationRuntimeError::InvalidOffset { value },
        ObservationRuntimeError::InvalidMinGap { value },
        ObservationRuntimeError::InvalidRetry { field: "max", value: String::new() },
        ObservationRuntimeError::InvalidName { length: 0_usize },
        ObservationRuntimeError::InvalidResume { field: "cycle", value: 1_u64 },
        ObservationRuntimeError::NoTokioRuntime,
        ObservationRuntimeError::SourceRefresh { source: DynError::from("no") },
        ObservationRuntimeError::ObserverInit { source: DynError::from("no") },
        ObservationRuntimeError::Ended { reason },
    ]);
    is::<[ControlError; 3]>([
        ControlError::Full { capacity: 16_usize },
        ControlError::Stopped { reason },
        ControlError::Dead { reason },
    ]);
    is::<[CursorError; 2]>([CursorError::Foreign, CursorError::Future { seq: 1_u64, published: 0_u64 }]);
    is::<[SourceSetError; 2]>([
        SourceSetError::DuplicateName { name: String::new() },
        SourceSetError::EmptyName { position: 1_usize },
    ]);
    is::<[GroupError; 4]>([
        GroupError::DuplicateName { name: String::new() },
        GroupError::EmptyName,
        GroupError::LongName { length: 257_usize },
        GroupError::Unnamed,
    ]);
    is::<[PerSourceError; 2]>([
        PerSourceError::InvalidDuration { setting: "interval", value },
        PerSourceError::NoConcurrency,
    ]);
    is::<[UnmetOutcome; 11]>([
        UnmetOutcome::NotMet,
        UnmetOutcome::GaveUp,
        UnmetOutcome::Inconclusive(Inconclusive::SourcesNotAsked),
        UnmetOutcome::Invalid(InvalidWait::PolledAgain),
        UnmetOutcome::Inconclusive(Inconclusive::NothingObserved),
        UnmetOutcome::Inconclusive(Inconclusive::Paused),
        UnmetOutcome::Inconclusive(Inconclusive::Stale),
        UnmetOutcome::Inconclusive(Inconclusive::Stopped { reason }),
        UnmetOutcome::Inconclusive(Inconclusive::FellBehind { missed: 1_u64 }),
        UnmetOutcome::Invalid(InvalidWait::Window),
        UnmetOutcome::Invalid(InvalidWait::ForeignMark),
    ]);
}

#[expect(dead_code, reason = "compiling it is the test")]
fn providers() {
    fn provider(_: impl SourceProvider<u8>) {}
    let set = || vec![ObservedSource::new("a", 1_u8)];
    provider(StaticSourceProvider::new(set()));
    provider(source_fn(async || Ok::<_, DynError>(vec![ObservedSource::new("a", 1_u8)])));
    let boxed: BoxedSourceProvider<u8> = Box::new(SharedSources::new(set()));
    provider(boxed);
    provider(Arc::new(SharedSources::new(set())));
    let shared = SharedSources::new(vec![ObservedSource::new("a", 7_u8)]);
    let _: Option<u8> = shared.insert("a", 7);
    let _: Option<u8> = shared.remove("a");
    let _: Vec<ObservedSource<u8>> = shared.replace(Vec::new());
    let _: Vec<ObservedSource<u8>> = SharedSources::default().get();
}

/// Its answers must be comparable, and nothing else.
#[derive(PartialEq)]
struct Answer;

#[expect(dead_code, reason = "compiling it is the test")]
fn per_source() -> impl Observer<
    Source = u8,
    State = PerSourceState<Answer>,
    Snapshot = PerSourceSnapshot<Answer>,
    Event = SourceEvent<Answer>,
> {
    let second = Duration::from_secs(1);
    PerSource::new(|_: ObservedSource<u8>| async { Ok::<_, DynError>(Answer) })
        .probe_timeout(second)
        .collect_for(second)
        .stale_after(second)
        .concurrency(7)
        .identity(|source: &u8| *source)
}

#[expect(dead_code, reason = "compiling it is the test")]
fn sources_seen(snapshot: &PerSourceSnapshot<Answer>, event: SourceEvent<Answer>) {
    match event {
        SourceEvent::Appeared { source, value, asked_at } => {
            is::<(Arc<str>, Arc<Answer>, Instant)>((source, value, asked_at));
        }
        SourceEvent::Changed { source, old, new, asked_at } => {
            is::<(Arc<str>, [Arc<Answer>; 2], Instant)>((source, [old, new], asked_at));
        }
        SourceEvent::Failed { source, failure } => is::<(Arc<str>, Arc<ProbeFailure>)>((source, failure)),
        SourceEvent::Recovered { source, failures, asked_at } => {
            is::<(Arc<str>, u64, Instant)>((source, failures, asked_at));
        }
        SourceEvent::Replaced { source, last, asked_at }
        | SourceEvent::Vanished { source, last, asked_at } => {
            is::<(Arc<str>, Option<Arc<Answer>>, Instant)>((source, last, asked_at));
        }
        event => is::<Arc<str>>(event.source().clone()),
    }
    let now = Instant::now();
    let _: (usize, bool) = (snapshot.len(), snapshot.is_empty());
    let _: Option<(&Arc<str>, &Arc<Answer>)> = snapshot.fresh(now).next();
    let _: Option<(&Arc<str>, &Arc<Answer>)> = snapshot.answering().next();
    let _: usize = snapshot.iter().len();
    if let Some(view) = snapshot.get("a") {
        let SourceView { name, value, facts, .. } = view;
        let _: (&Arc<str>, Option<&Arc<Answer>>, &SourceFacts) = (name, value, facts);
        let _: Freshness = view.freshness(now);
        let _: Option<&Arc<Answer>> = view.fresh_value(now);
        let _: (bool, Option<&Arc<Answer>>) = (view.is_answering(), view.answering_value());
        let _: bool = view.is_failing();
        let SourceFacts {
            last_success,
            last_elapsed,
            changed_at,
            consecutive_failures,
            last_failure,
            in_flight_since,
            answers,
            ..
        } = facts.clone();
        let _: [Option<Instant>; 3] = [last_success, changed_at, in_flight_since];
        let _: (Option<Duration>, u64, u64) = (last_elapsed, consecutive_failures, answers);
        if let Some(ProbeFailure { at, elapsed, cause, message, .. }) = last_failure.as_deref() {
            let _: (&Instant, &Duration, &Cause, &String) = (at, elapsed, cause, message);
        }
    }
}

#[expect(dead_code, reason = "compiling it is the test")]
fn group(runtime: ObservationRuntime<Least>, named: ObservationRuntime<Least>, config: ObservationConfig) {
    let name = named.handle().name().cloned();
    is::<Option<Arc<str>>>(name);
    let group = ObservationGroup::new();
    let _: ObservationConfig = group.spread(config);
    let _: Result<(), GroupError> = group.add(named);
    let _: Result<(), GroupError> = group.add_as("a", runtime);
    let _: (usize, bool) = (group.len(), group.is_empty());
    let _: Vec<GroupStatus> = group.statuses();
    let _: Option<GroupStatus> = group.status("a");
    let _: Option<ObservationControl> = group.control("a");
    future::<Vec<(Arc<str>, StopOutcome)>>(group.stop_all());
}

/// The wrapper is an observer of the same types.
#[expect(dead_code, reason = "compiling it is the test")]
fn transactional() -> impl Observer<Source = u8, State = u8, Snapshot = u8, Event = u8> {
    Transactional::new(Plain)
}

#[expect(dead_code, reason = "compiling it is the test")]
fn fed(record: &Record<Least>, began: Instant) -> Result<(), Box<dyn Error>> {
    let FeedStart { at, system_time, cursor, cycle, event_count } = FeedStart::now();
    let start = FeedStart { at, system_time, cursor: cursor.or(None::<Cursor>), cycle, event_count };
    let feed: Result<Feed<Least>, ObservationRuntimeError> = Feed::new(&ObservationConfig::default(), start);
    let mut feed = feed?;
    let _: Handle = feed.handle();
    let _: Instant = feed.now();
    let value = FeedSuccess {
        cycle: 0_u64,
        generation: 1_u64,
        began,
        is_polled: false,
        value: Opaque,
        events: vec![Opaque],
    };
    feed.success(at, value)?;
    let (stage, cause) = (ObservationFailureStage::Poll, Cause::Error);
    let failure = FeedFailure { cycle: 1_u64, began, stage, cause, message: String::new(), rebuild: false };
    feed.failure(at, failure)?;
    feed.sources(at, 2_u64, ["a"])?;
    feed.transition(at, State::Polling, 2_u64, false)?;
    feed.record(record)?;
    feed.advance(at)?;
    let refused: Result<(), FeedError> = feed.stop(at, StopReason::Requested);
    Ok(refused?)
}

#[cfg(feature = "json")]
#[expect(dead_code, reason = "compiling it is the test")]
fn erased_as_json(
    plain: &ObservationHandle<Plain>,
    cursor: Cursor,
) -> Result<(), watchkeeper::group::JsonSubscriptionError> {
    use serde_json::Value;
    use watchkeeper::group::{JsonBatch, JsonEvent, JsonSubscription};

    let any = AnyHandle::with_json_events(
        "plain",
        plain,
        |value| Value::from(*value),
        |event| Ok(Value::from(*event)),
    );
    let _: Option<Cursor> = any.look(|snapshot| Some(snapshot.cursor())).flatten();
    let _: JsonSubscription = any.subscribe_json_from(cursor)?;
    let mut batches: JsonSubscription = any.subscribe_json()?;
    future::<Result<JsonBatch, RecvError>>(batches.recv());
    let _: Cursor = batches.cursor();
    if let Some(Ok(batch)) = batches.try_recv() {
        let _: Value = batch.to_json();
        let JsonBatch {
            generation, seq, cycle, cursor, observed_at, system_time, source_count, events, ..
        } = batch;
        let _: (u64, u64, u64, Cursor, Instant, SystemTime) =
            (generation, seq, cycle, cursor, observed_at, system_time);
        let _: (usize, Vec<JsonEvent>) = (source_count, events);
    }
    stream::<Result<JsonBatch, RecvError>>(batches);
    Ok(())
}
