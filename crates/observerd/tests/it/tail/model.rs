//! Random interleavings of what a writer and a service do, against a model of the lines.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::support::faulty::{Faulty, Operation as Fault};

/// What happens.
#[derive(Clone, Debug)]
enum Step {
    /// Whole lines.
    Lines(u8),
    /// The first part of a line; the next write ends it.
    Half,
    /// The file is renamed, and a new one made.
    Rotate,
    /// The file is emptied.
    Truncate,
    /// The file is emptied, and has as many new lines as before at once.
    Regrow,
    Delete,
    Poll,
    /// The poll's append fails.
    FailedPoll(Failing),
    /// The process ends at this point, and its checkpoint may be lost.
    Restart {
        keeps_checkpoint: bool,
    },
    /// The loop alone begins again.
    RestartTail,
}

#[derive(Clone, Copy, Debug)]
enum Failing {
    Append,
    Sync,
    /// The bytes stay in the file, and the process ends.
    SyncAndKill,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1_u8..5).prop_map(Step::Lines),
        2 => Just(Step::Half),
        2 => Just(Step::Rotate),
        1 => Just(Step::Truncate),
        1 => Just(Step::Regrow),
        1 => Just(Step::Delete),
        4 => Just(Step::Poll),
        1 => prop_oneof![Just(Failing::Append), Just(Failing::Sync), Just(Failing::SyncAndKill)]
            .prop_map(Step::FailedPoll),
        2 => any::<bool>().prop_map(|keeps_checkpoint| Step::Restart { keeps_checkpoint }),
        1 => Just(Step::RestartTail),
    ];
    prop::collection::vec(step, 1..40)
}

/// What must be recorded: each complete line that was in the file when the tail had a chance to read it.
#[derive(Default)]
struct Model {
    expected: Vec<u64>,
    /// Complete lines of the file, not read yet.
    unread: VecDeque<u64>,
    /// All complete lines of the file.
    lines: usize,
    half: Option<u64>,
    next: u64,
    /// The tail has it open.
    is_open: bool,
    /// The newest position is in it.
    is_known: bool,
}

impl Model {
    fn read(&mut self) {
        self.is_known |= !self.unread.is_empty();
        self.is_open = true;
        self.expected.extend(self.unread.drain(..));
    }

    /// It was renamed or removed: it is read if it can still be found.
    fn left(&mut self, is_found: bool) {
        if is_found {
            self.expected.extend(self.unread.drain(..));
        }
        self.gone();
        self.is_open = true;
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// The text that ends a half line, if there is one.
    fn ended(&mut self) -> &'static str {
        match self.half.take() {
            Some(n) => {
                self.unread.push_back(n);
                self.lines += 1;
                "\"}\n"
            }
            None => "",
        }
    }

    fn write(&mut self, count: u8) -> String {
        let mut text = self.ended().to_owned();
        for _ in 0..count {
            let n = self.number();
            self.unread.push_back(n);
            self.lines += 1;
            // Of different lengths: heads of less than 1,024 bytes, and of more.
            let x = "x".repeat(usize::try_from(n * 37 % 400).unwrap());
            text.extend(["{\"n\":", &n.to_string(), ",\"x\":\"", &x, "\"}\n"]);
        }
        text
    }

    fn gone(&mut self) {
        self.unread.clear();
        (self.lines, self.half, self.is_known) = (0, None, false);
    }
}

async fn run(steps: Vec<Step>) {
    let faulty = Faulty::default();
    let mut rig = Rig::on(&faulty);
    let mut model = Model::default();
    rig.write("");
    rig.start().await;
    rig.caught_up().await;
    model.is_open = true;
    for step in steps {
        match step {
            Step::Lines(count) => rig.write(model.write(count)),
            Step::Half => {
                let text = model.ended();
                let n = model.number();
                model.half = Some(n);
                rig.write(format!("{text}{{\"n\":{n},\"x\":\""));
            }
            Step::Rotate => {
                rig.rotate();
                rig.write("");
                rig.caught_up().await;
                model.left(model.is_open || model.is_known);
            }
            Step::Truncate | Step::Regrow => {
                let count = u8::try_from(model.lines.min(100)).unwrap();
                model.gone();
                fs::write(&rig.path, "").unwrap();
                if matches!(step, Step::Regrow) {
                    rig.write(model.write(count));
                }
            }
            Step::Delete => {
                fs::remove_file(&rig.path).unwrap();
                rig.until(|report| report.file == tail::FileState::Missing).await;
                model.left(model.is_open);
                rig.write("");
                rig.caught_up().await;
            }
            Step::Poll => {
                rig.caught_up().await;
                model.read();
            }
            Step::FailedPoll(failing) => failed_poll(&mut rig, &faulty, &mut model, failing).await,
            Step::Restart { keeps_checkpoint } => {
                rig.stop().await;
                if !keeps_checkpoint {
                    let _ = fs::remove_file(rig.data().join("tail.json"));
                }
                rig.start().await;
                model.is_open = false;
            }
            Step::RestartTail => {
                rig.restart_tail().await;
                model.is_open = false;
            }
        }
    }
    rig.caught_up().await;
    model.read();
    let recorded = rig.recorded().await;
    assert_eq!(recorded, model.expected);
    rig.restart().await;
    rig.caught_up().await;
    assert_eq!(rig.recorded().await, model.expected, "after a restart");
    rig.stop().await;
}

async fn failed_poll(rig: &mut Rig, faulty: &Faulty, model: &mut Model, failing: Failing) {
    if model.unread.is_empty() {
        return;
    }
    let fault = match failing {
        Failing::Append => Fault::Append,
        Failing::Sync | Failing::SyncAndKill => Fault::Sync,
    };
    faulty.fail(fault, 1);
    if matches!(failing, Failing::SyncAndKill) {
        faulty.fail(Fault::Truncate, usize::MAX);
    }
    // A file that was renamed before it was read comes first.
    let control = rig.runtime().control();
    let mut polls = 0;
    while control.poll_now_and_wait().await.is_ok() {
        if faulty.has_failed(fault) && !matches!(failing, Failing::SyncAndKill) {
            // It was a poll that followed another one at once, and this one has read the lines again.
            rig.caught_up().await;
            model.read();
            break;
        }
        polls += 1;
        assert!(polls < 100, "nothing is appended");
    }
    if matches!(failing, Failing::SyncAndKill) {
        rig.stop().await;
        faulty.heal();
        rig.start().await;
        model.read();
        assert_eq!(rig.recorded().await, model.expected, "the bytes survive");
        model.is_open = false;
    } else {
        model.is_open = true;
    }
    faulty.heal();
}

/// More by hand: `PROPTEST_CASES=1000`.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(48)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_complete_line_is_recorded_once_and_in_order(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps));
    }
}
