//! What the machine does in the most important situations, through its public interface.

use watchkeeper_fsm::Command::{Arm, Cancel, Disarm, Finish, Forget, Init};
use watchkeeper_fsm::Command::{Poll, Publish, Record, Refresh, Rejected};
use watchkeeper_fsm::{Cause, Command, Event, Lifecycle, Options, Stage, State};
use watchkeeper_fsm::{StateKind, StopReason, WorkId};

/// A lifecycle, and the work that it started last.
struct Story {
    lifecycle: Lifecycle,
    work: Option<WorkId>,
}

impl Story {
    fn new() -> Self {
        Self::with(Options::default())
    }

    fn with(options: Options) -> Self {
        Self { lifecycle: Lifecycle::new(options), work: None }
    }

    /// Cycle 0 went well: `Idle`, generation 1.
    fn idle() -> Self {
        Self::new().started()
    }

    /// Cycle 1 is in its poll.
    fn polling() -> Self {
        Self::idle().ticked()
    }

    fn started(mut self) -> Self {
        self.send(Event::Start);
        self.refreshed();
        self.initialized();
        self
    }

    fn ticked(mut self) -> Self {
        self.send(Event::Tick);
        self.refreshed();
        self
    }

    fn send(&mut self, event: Event) -> Vec<Command> {
        let commands = self.lifecycle.handle(event);
        for command in commands {
            if let Refresh { work, .. } | Init { work, .. } | Poll { work, .. } = command {
                self.work = Some(work);
            }
        }
        commands.to_vec()
    }

    #[track_caller]
    fn work(&self) -> WorkId {
        self.work.expect("work was started")
    }

    fn refreshed(&mut self) -> Vec<Command> {
        let work = self.work();
        self.send(Event::Refreshed { work })
    }

    fn initialized(&mut self) -> Vec<Command> {
        let work = self.work();
        self.send(Event::Initialized { work })
    }

    fn polled(&mut self) -> Vec<Command> {
        let work = self.work();
        self.send(Event::Polled { work })
    }

    fn failed(&mut self, stage: Stage, cause: Cause) -> Vec<Command> {
        let work = self.work();
        self.send(Event::WorkFailed { work, stage, cause })
    }

    fn state(&self) -> State {
        self.lifecycle.state()
    }
}

fn record(cycle: u64, stage: Stage, cause: Cause, consecutive: u64) -> Command {
    Record { cycle, stage, cause, consecutive }
}

fn failed(stage: Stage, consecutive: u64, rebuild: bool) -> State {
    State::Failed { stage, consecutive, rebuild }
}

#[test]
fn first_cycle_builds_the_state() {
    let mut story = Story::new();
    assert_eq!(story.state(), State::Starting);

    let commands = story.send(Event::Start);
    let refresh = story.work();
    assert_eq!(commands, [Refresh { work: refresh, cycle: 0 }]);

    let commands = story.refreshed();
    let init = story.work();
    assert_eq!(commands, [Init { work: init, cycle: 0 }]);
    assert!(init > refresh);
    assert_eq!(story.state(), State::Starting);

    let publish = Publish { cycle: 0, generation: 1 };
    assert_eq!(story.initialized(), [publish, Arm]);
    assert_eq!(story.state(), State::Idle);
}

#[test]
fn tick_begins_a_cycle_that_polls() {
    let mut story = Story::idle();
    let commands = story.send(Event::Tick);
    let refresh = story.work();
    assert_eq!(commands, [Refresh { work: refresh, cycle: 1 }]);
    assert_eq!(story.state(), State::Refreshing);

    let commands = story.refreshed();
    let poll = story.work();
    assert_eq!(commands, [Poll { work: poll, cycle: 1 }]);
    assert_eq!(story.state(), State::Polling);

    let publish = Publish { cycle: 1, generation: 1 };
    assert_eq!(story.polled(), [publish, Arm]);
    assert_eq!(story.state(), State::Idle);
}

#[test]
fn failed_start_is_retried_in_starting() {
    let mut story = Story::new();
    story.send(Event::Start);
    let commands = story.failed(Stage::SourceRefresh, Cause::TimedOut);
    let recorded = record(0, Stage::SourceRefresh, Cause::TimedOut, 1);
    assert_eq!(commands, [recorded, Arm]);
    assert_eq!(story.state(), failed(Stage::SourceRefresh, 1, true));

    story.send(Event::Tick);
    assert_eq!(story.state(), State::Starting);
    story.refreshed();
    let commands = story.failed(Stage::Init, Cause::Panicked);
    assert_eq!(commands, [record(1, Stage::Init, Cause::Panicked, 2), Arm]);
    assert_eq!(story.lifecycle.generation(), 1);

    story.send(Event::Tick);
    story.refreshed();
    let publish = Publish { cycle: 2, generation: 1 };
    assert_eq!(story.initialized(), [publish, Arm]);
}

#[test]
fn poll_error_keeps_the_state() {
    let mut story = Story::polling();
    let commands = story.failed(Stage::Poll, Cause::Error);
    assert_eq!(commands, [record(1, Stage::Poll, Cause::Error, 1), Arm]);
    assert_eq!(story.state(), failed(Stage::Poll, 1, false));

    story.send(Event::Tick);
    assert_eq!(story.state(), State::Refreshing);
}

#[test]
fn refresh_keeps_the_state_however_it_fails() {
    for cause in [Cause::Error, Cause::TimedOut, Cause::Panicked] {
        let mut story = Story::idle();
        story.send(Event::Tick);
        let commands = story.failed(Stage::SourceRefresh, cause);
        assert_eq!(commands, [record(1, Stage::SourceRefresh, cause, 1), Arm]);
        assert_eq!(story.state(), failed(Stage::SourceRefresh, 1, false));
    }
}

#[test]
fn interrupted_poll_loses_the_state_and_the_rebuild_is_a_new_generation() {
    for cause in [Cause::TimedOut, Cause::Panicked] {
        let mut story = Story::polling();
        let commands = story.failed(Stage::Poll, cause);
        assert_eq!(commands, [Forget, record(1, Stage::Poll, cause, 1), Arm]);
        assert_eq!(story.state(), failed(Stage::Poll, 1, true));
        assert_eq!(story.lifecycle.generation(), 1);

        story.send(Event::Tick);
        assert_eq!(story.state(), State::Starting);
        story.refreshed();
        let publish = Publish { cycle: 2, generation: 2 };
        assert_eq!(story.initialized(), [publish, Arm]);
        assert_eq!(story.lifecycle.generation(), 2);
    }
}

#[test]
fn observer_that_can_be_interrupted_keeps_its_state_on_a_timeout_but_not_on_a_panic() {
    let options = Options { keeps_state_on_timeout: true, ..Options::default() };
    let mut story = Story::with(options).started().ticked();
    let commands = story.failed(Stage::Poll, Cause::TimedOut);
    assert_eq!(commands, [record(1, Stage::Poll, Cause::TimedOut, 1), Arm]);
    assert_eq!(story.state(), failed(Stage::Poll, 1, false));

    let mut story = story.ticked();
    let commands = story.failed(Stage::Poll, Cause::Panicked);
    assert_eq!(commands, [Forget, record(2, Stage::Poll, Cause::Panicked, 2), Arm]);
}

#[test]
fn generations_count_from_the_first_one_given() {
    let options = Options { first_generation: 5, ..Options::default() };
    let mut story = Story::with(options);
    assert_eq!(story.lifecycle.generation(), 5);
    story = story.started();
    assert_eq!(story.lifecycle.generation(), 5);
    story = story.ticked();
    story.failed(Stage::Poll, Cause::Panicked);
    story.send(Event::Tick);
    story.refreshed();
    story.initialized();
    assert_eq!(story.lifecycle.generation(), 6);
}

#[test]
fn cycles_count_from_the_first_one_given() {
    let mut lifecycle = Lifecycle::new(Options { first_cycle: 41, ..Options::default() });
    assert_eq!(lifecycle.cycle(), 41);
    let commands = lifecycle.handle(Event::Start);
    assert!(matches!(*commands, [Refresh { cycle: 41, .. }]), "{commands:?}");
    let _ = lifecycle.handle(Event::PollNow);
    assert_eq!((lifecycle.cycle(), lifecycle.poll_now_cycle()), (41, 42));
}

#[test]
fn consecutive_failures_count_until_a_success() {
    let mut story = Story::polling();
    for consecutive in 1..=3 {
        story.failed(Stage::Poll, Cause::Error);
        assert_eq!(story.state(), failed(Stage::Poll, consecutive, false));
        story = story.ticked();
    }
    story.polled();
    let mut story = story.ticked();
    story.failed(Stage::Poll, Cause::Error);
    assert_eq!(story.state(), failed(Stage::Poll, 1, false));
}

#[test]
fn poll_now_while_waiting_begins_a_cycle_in_place_of_the_tick() {
    let mut story = Story::idle();
    let commands = story.send(Event::PollNow);
    let work = story.work();
    assert_eq!(commands, [Disarm, Refresh { work, cycle: 1 }]);
    assert_eq!(story.lifecycle.poll_now_cycle(), 1);
    assert_eq!(story.lifecycle.cycle(), 1);
}

#[test]
fn poll_now_while_working_is_remembered_once() {
    let mut story = Story::polling();
    for _ in 0..2 {
        assert_eq!(story.send(Event::PollNow), []);
        assert_eq!(story.lifecycle.cycle(), 1);
        assert_eq!(story.lifecycle.poll_now_cycle(), 2);
    }

    let commands = story.polled();
    let publish = Publish { cycle: 1, generation: 1 };
    let work = story.work();
    assert_eq!(commands, [publish, Refresh { work, cycle: 2 }]);
    assert_eq!(story.state(), State::Refreshing);

    story.refreshed();
    let publish = Publish { cycle: 2, generation: 1 };
    assert_eq!(story.polled(), [publish, Arm]);
}

#[test]
fn remembered_poll_now_rebuilds_at_once_after_a_panic() {
    let mut story = Story::polling();
    story.send(Event::PollNow);
    let commands = story.failed(Stage::Poll, Cause::Panicked);
    let recorded = record(1, Stage::Poll, Cause::Panicked, 1);
    let work = story.work();
    assert_eq!(commands, [Forget, recorded, Refresh { work, cycle: 2 }]);
    assert_eq!(story.state(), State::Starting);
}

#[test]
fn pause_while_waiting_disarms_and_resume_arms() {
    let mut story = Story::idle();
    assert_eq!(story.send(Event::Resume), [], "not paused: nothing to do");
    assert_eq!(story.send(Event::Pause), [Disarm]);
    assert!(story.lifecycle.is_paused());
    assert_eq!(story.send(Event::Pause), [Disarm]);

    let rejected = Rejected { event: Event::Tick, state: State::Idle };
    assert_eq!(story.send(Event::Tick), [rejected]);

    assert_eq!(story.send(Event::Resume), [Arm]);
    assert!(!story.lifecycle.is_paused());
    assert_eq!(story.state(), State::Idle);
}

#[test]
fn pause_while_working_lets_the_cycle_end_and_arms_nothing() {
    let mut story = Story::polling();
    assert_eq!(story.send(Event::Pause), []);
    assert_eq!(story.state(), State::Polling);
    let publish = Publish { cycle: 1, generation: 1 };
    assert_eq!(story.polled(), [publish]);
    assert_eq!(story.state(), State::Idle);
    assert_eq!(story.send(Event::Resume), [Arm]);
}

#[test]
fn pause_and_resume_while_working_change_nothing() {
    let mut story = Story::polling();
    story.send(Event::Pause);
    assert_eq!(story.send(Event::Resume), []);
    let publish = Publish { cycle: 1, generation: 1 };
    assert_eq!(story.polled(), [publish, Arm]);
}

#[test]
fn poll_now_while_paused_runs_one_cycle_and_stays_paused() {
    let mut story = Story::polling();
    story.send(Event::Pause);
    story.send(Event::PollNow);
    let commands = story.polled();
    assert!(matches!(commands[..], [Publish { .. }, Refresh { cycle: 2, .. }]));
    assert!(story.lifecycle.is_paused());

    story.refreshed();
    let publish = Publish { cycle: 2, generation: 1 };
    assert_eq!(story.polled(), [publish]);
    assert!(story.lifecycle.is_paused());
    let commands = story.send(Event::PollNow);
    assert!(matches!(commands[..], [Disarm, Refresh { cycle: 3, .. }]));
    assert!(story.lifecycle.is_paused());
}

#[test]
fn stop_while_polling_cancels_the_poll() {
    let mut story = Story::polling();
    let poll = story.work();
    story.send(Event::Pause);
    story.send(Event::PollNow);
    let reason = StopReason::Requested;
    let commands = story.send(Event::Stop(reason));
    assert_eq!(commands, [Cancel { work: poll }, Finish { reason }]);
    assert_eq!(story.state(), State::Stopped { reason });
    assert!(!story.lifecycle.is_paused());

    let event = Event::Polled { work: poll };
    let state = story.state();
    assert_eq!(story.send(event), [Rejected { event, state }]);
}

#[test]
fn stop_while_nothing_is_in_flight_has_nothing_to_cancel() {
    let reason = StopReason::Dropped;
    for mut story in [Story::new(), Story::idle()] {
        assert_eq!(story.send(Event::Stop(reason)), [Finish { reason }]);
    }
}

#[test]
fn first_stop_counts() {
    let mut story = Story::idle();
    let reason = StopReason::Shutdown;
    story.send(Event::Stop(reason));
    assert_eq!(story.send(Event::Stop(StopReason::Requested)), []);
    assert_eq!(story.state(), State::Stopped { reason });
}

#[test]
fn stopped_lifecycle_accepts_nothing_else() {
    let mut story = Story::idle();
    let reason = StopReason::Requested;
    story.send(Event::Stop(reason));
    let state = State::Stopped { reason };
    for event in [Event::Start, Event::Tick, Event::PollNow, Event::Pause, Event::Resume] {
        assert_eq!(story.send(event), [Rejected { event, state }]);
    }
}

#[test]
fn outcome_with_an_old_id_is_rejected() {
    let mut story = Story::idle();
    story.send(Event::Tick);
    let refresh = story.work();
    story.refreshed();
    let poll = story.work();
    let old = [
        Event::Refreshed { work: refresh },
        Event::Polled { work: refresh },
        Event::WorkFailed { work: refresh, stage: Stage::Poll, cause: Cause::TimedOut },
    ];
    for event in old {
        let rejected = Rejected { event, state: State::Polling };
        assert_eq!(story.send(event), [rejected]);
    }
    let publish = Publish { cycle: 1, generation: 1 };
    assert_eq!(story.send(Event::Polled { work: poll }), [publish, Arm]);
}

#[test]
fn outcome_of_another_stage_is_rejected() {
    let mut story = Story::polling();
    let work = story.work();
    let failure = |stage| Event::WorkFailed { work, stage, cause: Cause::Error };
    let others = [
        Event::Refreshed { work },
        Event::Initialized { work },
        failure(Stage::SourceRefresh),
        failure(Stage::Init),
    ];
    for event in others {
        let rejected = Rejected { event, state: State::Polling };
        assert_eq!(story.send(event), [rejected]);
    }
}

#[test]
fn before_start_only_start_and_stop_are_accepted() {
    let mut story = Story::new();
    let state = State::Starting;
    for event in [Event::Tick, Event::PollNow, Event::Pause, Event::Resume] {
        assert_eq!(story.send(event), [Rejected { event, state }]);
    }
    assert!(!story.lifecycle.is_paused());
    story.send(Event::Start);
    let event = Event::Start;
    assert_eq!(story.send(event), [Rejected { event, state }]);
}

#[test]
fn commands_read_as_a_slice_and_iterate_by_value() {
    let mut lifecycle = Lifecycle::new(Options::default());
    let commands = lifecycle.handle(Event::Start);
    assert_eq!(commands.len(), 1);
    assert_eq!(commands.into_iter().collect::<Vec<_>>(), commands.to_vec());
    assert_eq!(format!("{commands:?}"), format!("{:?}", commands.to_vec()));

    let mut other = Lifecycle::new(Options::default());
    assert_eq!(other.handle(Event::Start), commands);
    assert_ne!(other.handle(Event::Tick), commands);
}

#[test]
fn states_print_as_words() {
    let cases = [
        (State::Starting, "starting"),
        (State::Refreshing, "refreshing"),
        (State::Polling, "polling"),
        (State::Idle, "idle"),
        (failed(Stage::Poll, 3, false), "failed (poll, 3 consecutive)"),
        (failed(Stage::SourceRefresh, 1, true), "failed (source refresh, 1 consecutive, to be rebuilt)"),
        (State::Stopped { reason: StopReason::Requested }, "stopped (stop was requested)"),
    ];
    for (state, words) in cases {
        assert_eq!(state.to_string(), words);
        assert!(words.starts_with(&StateKind::from(state).to_string()));
    }
    let kinds = StateKind::ALL.map(|kind| kind.to_string());
    assert_eq!(kinds, ["starting", "refreshing", "polling", "idle", "failed", "stopped"]);
    assert_eq!(format!("{:>8}|", StateKind::Idle), "    idle|");
}

#[test]
fn causes_stages_and_reasons_print_as_words() {
    let causes = [Cause::Error, Cause::TimedOut, Cause::Panicked];
    assert_eq!(causes.map(|it| it.to_string()), ["error", "timed out", "panicked"]);
    let stages = [Stage::SourceRefresh, Stage::Init, Stage::Poll];
    assert_eq!(stages.map(|it| it.to_string()), ["source refresh", "init", "poll"]);
    let reasons = [
        (StopReason::Requested, "stop was requested"),
        (StopReason::Dropped, "its owner was dropped: keep the runtime for as long as it is to observe"),
        (StopReason::StartFailed, "the start failed"),
        (StopReason::Shutdown, "the executor shut down"),
        (StopReason::Died, "the driver panicked"),
    ];
    for (reason, words) in reasons {
        assert_eq!(reason.to_string(), words);
    }
    let mut story = Story::new();
    story.send(Event::Start);
    assert_eq!(story.work().to_string(), "#1");
}

#[test]
fn lifecycle_is_send_and_its_debug_shows_the_state() {
    fn assert_send<T: Send + 'static>(_: &T) {}
    let story = Story::polling();
    assert_send(&story.lifecycle);
    assert_eq!(
        format!("{:?}", story.lifecycle),
        "Lifecycle { state: Polling, paused: false, cycle: 1, generation: 1, .. }"
    );
}
