//! Hundreds of messages against a model.

use std::collections::VecDeque;
use std::convert::Infallible;

use fastrand::Rng;
use tokio::sync::mpsc;
use watchkeeper::supervise::{
    AskError, Backoff, Condition, Delays, FailureWindow, Machine, NotSent, Out, Reaction, Restart, SendError,
    WhileBusy, supervise, supervise_with,
};

use crate::common::{Do, HOUR, Hands, Job, SECOND, Script, drained, reached, with_hands};

const MESSAGES: usize = 800;
const CAPACITY: usize = 16;

/// What a script does that holds events while it is busy.
#[derive(Default)]
struct Model {
    state: u32,
    deferred: VecDeque<u32>,
    judged: Vec<Do>,
}

impl Model {
    fn take(&mut self, event: &Do) {
        self.judged.push(event.clone());
        match event {
            Do::Move(to) => self.moved(*to),
            Do::Change(to) => self.state = *to,
            Do::Only(state) if *state == self.state => self.moved(state + 1),
            Do::Only(state) if self.deferred.len() < CAPACITY => self.deferred.push_back(*state),
            Do::Run(to, jobs) => {
                self.state = *to;
                match &jobs[..] {
                    [Job::Return(number)] => self.inside(Do::Done(*number), *number),
                    [Job::Fail(why)] => self.inside(Do::Failed(format!("Fail: {why}")), 500),
                    // Its only work has no outcome, and deferred events are judged after it.
                    _ => self.moved(*to),
                }
            }
            _ => {}
        }
    }

    fn inside(&mut self, event: Do, to: u32) {
        self.judged.push(event);
        self.moved(to);
    }

    fn moved(&mut self, to: u32) {
        self.state = to;
        let mut at = 0;
        while let Some(&state) = self.deferred.get(at) {
            self.judged.push(Do::Only(state));
            if state == self.state {
                self.deferred.remove(at);
                self.state += 1;
                at = 0;
            } else {
                at += 1;
            }
        }
    }
}

fn random_event(random: &mut Rng) -> Do {
    let state = random.u32(0..6);
    match random.u32(0..10) {
        0 | 1 => Do::Move(state),
        2 => Do::Change(state),
        3..6 => Do::Only(state),
        6 => Do::Run(state, vec![Job::Return(random.u32(0..6))]),
        7 => Do::Run(state, vec![Job::Fail("no")]),
        8 => Do::Run(state, vec![Job::Sleep(SECOND)]),
        _ => random.choice([Do::Nothing, Do::Unhandled]).unwrap(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_circle_of_random_messages_is_judged_as_by_the_model() {
    for seed in 0..12 {
        let mut random = Rng::with_seed(seed);
        let script =
            Script { while_busy: WhileBusy::Hold, on_failure: Some(Do::Failed), ..Script::default() };
        let (script, mut heard) = script.heard();
        let (builder, _jobs) = with_hands(script);
        let machine = builder.capacity(CAPACITY).spawn().unwrap();
        let mut model = Model::default();
        for _ in 0..MESSAGES {
            let event = random_event(&mut random);
            model.take(&event);
            let is_asked = random.u32(0..4) == 0;
            match event {
                Do::Unhandled if is_asked => {
                    let answer = machine.ask(event).await;
                    assert!(matches!(answer, Err(AskError::Unhandled(_))), "seed {seed}");
                }
                // The answer is the state before deferred events are judged.
                Do::Move(to) if is_asked => assert_eq!(machine.ask(event).await.unwrap(), to, "seed {seed}"),
                Do::Nothing if is_asked => {
                    assert_eq!(machine.ask(event).await.unwrap(), model.state, "seed {seed}");
                }
                event => machine.send(event).await.unwrap(),
            }
        }
        model.take(&Do::Nothing);
        assert_eq!(machine.ask(Do::Nothing).await.unwrap(), model.state, "seed {seed}");
        assert_eq!(drained(&mut heard), model.judged, "seed {seed}");
    }
}

/// Applies numbered deliveries in their order; the result depends on that order.
struct Ledger {
    next: u64,
    value: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Delivery {
    number: u64,
    amount: u64,
}

impl Ledger {
    fn apply(&mut self, amount: u64) {
        self.next += 1;
        self.value = self.value.wrapping_mul(31).wrapping_add(amount);
    }
}

impl Machine for Ledger {
    type State = (u64, u64);
    type Event = Delivery;
    type Command = Infallible;

    fn state(&self) -> (u64, u64) {
        (self.next, self.value)
    }

    fn handle(&mut self, event: Delivery, _: &mut Out<Infallible>) -> Reaction<Delivery> {
        if event.number > self.next {
            return Reaction::Deferred(event);
        }
        if event.number < self.next {
            return Reaction::Stayed;
        }
        self.apply(event.amount);
        Reaction::Moved
    }
}

#[tokio::test(start_paused = true)]
async fn a_circle_of_duplicates_out_of_order_gives_the_result_of_the_order() {
    for seed in 0..6 {
        let mut random = Rng::with_seed(seed);
        let amounts: Vec<u64> = (0..MESSAGES).map(|_| random.u64(..)).collect();
        let mut model = Ledger { next: 0, value: 0 };
        for amount in &amounts {
            model.apply(*amount);
        }
        let mut deliveries: Vec<Delivery> =
            (0..).zip(&amounts).map(|(number, amount)| Delivery { number, amount: *amount }).collect();
        for _ in 0..MESSAGES / 2 {
            deliveries.push(*random.choice(&deliveries[..MESSAGES]).unwrap());
        }
        random.shuffle(&mut deliveries);
        let machine = supervise(Ledger { next: 0, value: 0 }).capacity(2 * MESSAGES).spawn().unwrap();
        let senders: Vec<_> = deliveries
            .chunks(deliveries.len() / 3)
            .map(|part| {
                let (machine, part) = (machine.clone(), part.to_vec());
                tokio::spawn(async move {
                    for delivery in part {
                        machine.send(delivery).await.unwrap();
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        let asked = machine.ask(Delivery { number: MESSAGES as u64 / 2, amount: amounts[MESSAGES / 2] });
        assert!(asked.await.unwrap().0 > MESSAGES as u64 / 2, "seed {seed}");
        for sender in senders {
            sender.await.unwrap();
        }
        let duplicate = deliveries[0];
        assert_eq!(machine.ask(duplicate).await.unwrap(), (model.next, model.value), "seed {seed}");
    }
}

/// Sends an event, again after each poison.
async fn sent(machine: &watchkeeper::supervise::Supervised<Script>, mut event: Do) {
    let mut watch = machine.watch();
    loop {
        match machine.send(event).await {
            Ok(()) => return,
            Err(SendError { event: back, reason: NotSent::Poisoned(_) }) => event = back,
            Err(error) => panic!("{error}"),
        }
        while matches!(machine.condition(), Condition::Poisoned(_)) {
            watch.changed().await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_circle_of_timeouts_that_poison_loses_no_message_and_judges_none_twice() {
    let (heard, mut judged) = mpsc::unbounded_channel();
    let factory = move || {
        let script = Script { while_busy: WhileBusy::Hold, heard: Some(heard.clone()), ..Script::default() };
        (script, Hands::new().0)
    };
    let backoff = Backoff { first: SECOND, max: 8 * SECOND, jitter: 0.0, seed: 1 };
    let restart = Restart::on_failure(Delays::new(backoff), FailureWindow::new(3, HOUR));
    let machine =
        supervise_with(factory).restart(restart).work_timeout(SECOND).capacity(CAPACITY).spawn().unwrap();
    let poisons = tokio::spawn({
        let (machine, mut watch) = (machine.clone(), machine.watch());
        async move {
            let mut poisons = 0;
            while watch.changed().await.is_ok() {
                if matches!(machine.condition(), Condition::Poisoned(_)) && machine.unpoison().is_ok() {
                    poisons += 1;
                    while matches!(machine.condition(), Condition::Poisoned(_)) {
                        watch.changed().await.unwrap();
                    }
                }
            }
            poisons
        }
    });
    // Each tenth hangs, and ends its life.
    let message = |number: u32| {
        let job = if number % 10 == 5 { Job::Hang } else { Job::Quiet };
        Do::Run(number, vec![job])
    };
    let all: Vec<Do> = (1..).map(message).take(MESSAGES).collect();
    for event in &all {
        sent(&machine, event.clone()).await;
    }
    reached(&machine, u32::try_from(MESSAGES).unwrap()).await;
    machine.stop().await;
    assert_eq!(drained(&mut judged), all);
    assert_eq!(poisons.await.unwrap(), MESSAGES / 10 / 4, "each fourth failure is one too many");
}
