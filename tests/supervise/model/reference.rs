//! The model: one event after the other, in milliseconds, without tasks, wakers or locks.

use std::collections::VecDeque;

use watchkeeper::supervise::WhileBusy;

use super::app::{Act, End, Event, Job, Rules, judged};

#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) capacity: usize,
    pub(crate) work_timeout: Option<u64>,
    pub(crate) drain: u64,
    pub(crate) fatal: bool,
    pub(crate) when: When,
    /// Each delay before a new life.
    pub(crate) delay: u64,
    /// Failures that are tolerated `within` so many milliseconds.
    pub(crate) most: u32,
    pub(crate) within: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum When {
    Never,
    OnFailure,
    Always,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Finished,
    Failed,
    Cancelled,
    Panicked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Running,
    Stopping,
    Restarting,
    Poisoned,
    Ended(Ended),
}

/// The answer to an ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    State(u8),
    Unhandled,
    Busy,
    Lost,
    Ended(Ended),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Full,
    Stopping,
    Poisoned,
    Ended(Ended),
}

#[derive(Clone, Debug)]
struct Sent {
    event: Event,
    /// Where it came from first.
    origin: Origin,
    /// The number of the ask.
    ask: Option<usize>,
}

struct Running {
    job: Job,
    group: u64,
    began: u64,
    /// Work that is dropped before its first poll did nothing.
    polled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Origin {
    Handle,
    Failure,
    Stop,
    Abandoned,
    Other,
}

#[allow(clippy::struct_excessive_bools, reason = "each is one fact of its own")]
pub(crate) struct Model {
    rules: Rules,
    limits: Limits,
    has_factory: bool,
    pub(crate) now: u64,
    pub(crate) mode: Mode,
    pub(crate) state: u8,
    pub(crate) log: Vec<String>,
    /// Answers by the number of the ask.
    pub(crate) answers: Vec<Option<Answer>>,
    /// Published states and their times.
    pub(crate) published: Vec<(u64, u8)>,
    /// When it ended.
    pub(crate) ended_at: Option<u64>,
    /// There is news for a watch.
    pub(crate) news: bool,
    channel: VecDeque<Sent>,
    deferred: VecDeque<Sent>,
    /// From where deferred events are to be judged again.
    retry: Option<usize>,
    /// The event that was judged last has made a transition.
    moved: bool,
    /// The group of cancelled work, while what follows from its end has not happened.
    cancelled: Option<u64>,
    commands: VecDeque<(Job, u64)>,
    running: Option<Running>,
    between: bool,
    group: u64,
    /// The newest group that a handle's event has commanded.
    commanding: u64,
    timeout: Option<u64>,
    zero: bool,
    zeros: u32,
    /// The end of draining or of winding down, and what it leads to.
    until: Option<(u64, Ended)>,
    next_life: Option<u64>,
    stopping: bool,
    abandoned: bool,
    abandoned_known: bool,
    /// When the machine learns of that at the latest.
    abandoned_at: u64,
    failures: Vec<u64>,
    /// The life was ended by `restart`.
    restarting: bool,
    /// How the last life failed, between two lives.
    rested: Option<Ended>,
    lost: Option<usize>,
}

impl Model {
    pub(crate) fn new(rules: Rules, limits: Limits) -> Self {
        let has_factory = limits.when != When::Never;
        let mut model = Self {
            rules,
            limits,
            has_factory,
            now: 0,
            mode: Mode::Running,
            state: 0,
            log: Vec::new(),
            answers: Vec::new(),
            published: vec![(0, 0)],
            ended_at: None,
            news: false,
            channel: VecDeque::new(),
            deferred: VecDeque::new(),
            retry: None,
            moved: false,
            cancelled: None,
            commands: VecDeque::new(),
            running: None,
            between: false,
            group: 0,
            commanding: 0,
            timeout: None,
            zero: false,
            zeros: 0,
            until: None,
            next_life: None,
            stopping: false,
            abandoned: false,
            abandoned_known: false,
            abandoned_at: 0,
            failures: Vec::new(),
            restarting: false,
            rested: None,
            lost: None,
        };
        model.start();
        model.settle();
        model
    }

    fn lives(&self) -> bool {
        matches!(self.mode, Mode::Running | Mode::Stopping)
    }

    fn start(&mut self) {
        self.log.push("start".to_owned());
        self.group += 1;
        let group = self.group;
        self.commands.extend(self.rules.start.iter().map(|job| (job.clone(), group)));
        self.arm();
        self.again();
        self.judge_deferred();
    }

    fn again(&mut self) {
        self.retry = (!self.deferred.is_empty()).then_some(0);
    }

    fn arm(&mut self) {
        let after = self.rules.timeouts[usize::from(self.state)];
        self.zero = after == Some(0);
        self.timeout = after.map(|after| self.now + after);
    }

    /// A `try_send`, or an ask with this number.
    pub(crate) fn send(&mut self, event: Event, asks: bool) -> Result<(), Refused> {
        match self.mode {
            Mode::Ended(ended) => return Err(Refused::Ended(ended)),
            Mode::Poisoned => return Err(Refused::Poisoned),
            _ if self.stopping => return Err(Refused::Stopping),
            _ if self.channel.len() >= self.limits.capacity => return Err(Refused::Full),
            _ => {}
        }
        let ask = asks.then_some(self.answers.len());
        if asks {
            self.answers.push(None);
        }
        self.channel.push_back(Sent { event, origin: Origin::Handle, ask });
        Ok(())
    }

    /// Whether an ask would be put into the channel at once.
    pub(crate) fn has_room(&self) -> bool {
        (self.lives() || self.mode == Mode::Restarting)
            && !self.stopping
            && self.channel.len() < self.limits.capacity
    }

    pub(crate) fn stop(&mut self, abort: bool) {
        if self.ended_at.is_some() {
            return;
        }
        if !self.lives() {
            if !self.stopping {
                self.stopping = true;
                // Between two lives the last failure is the end.
                self.over(self.rested.unwrap_or(Ended::Cancelled));
            }
            return;
        }
        let again = std::mem::replace(&mut self.stopping, true);
        if abort {
            self.life_ends(Ended::Cancelled);
        } else if !again {
            match self.rules.on_stop.clone() {
                None => self.life_ends(Ended::Cancelled),
                Some(event) => {
                    self.until = Some((self.now + self.limits.drain, Ended::Cancelled));
                    self.mode = Mode::Stopping;
                    self.news = true;
                    self.judge_inside(event, Origin::Stop);
                }
            }
        }
        self.settle();
    }

    pub(crate) fn drop_handles(&mut self) {
        self.abandoned = true;
        self.abandoned_at = self.now + self.limits.drain;
        if self.mode == Mode::Poisoned {
            self.over(self.rested.unwrap_or(Ended::Cancelled));
        }
        self.settle();
    }

    pub(crate) fn restart(&mut self) {
        if !self.has_factory || self.ended_at.is_some() || self.stopping {
            return;
        }
        if self.lives() {
            self.restarting = true;
            self.life_ends(Ended::Cancelled);
        } else {
            self.next_life = Some(self.now);
        }
        self.settle();
    }

    pub(crate) fn unpoison(&mut self) {
        if self.mode == Mode::Poisoned && !self.stopping {
            self.failures.clear();
            self.next_life = Some(self.now);
            self.settle();
        }
    }

    /// Time passes up to `until`.
    pub(crate) fn pass(&mut self, until: u64) {
        while let Some(next) = self.next_deadline().filter(|next| *next <= until) {
            self.now = self.now.max(next);
            self.settle();
        }
        self.now = until;
    }

    fn next_deadline(&self) -> Option<u64> {
        if !self.lives() {
            return self.next_life;
        }
        let work = self.running.as_ref().and_then(|running| self.end_of(running).map(|(at, _)| at));
        let patience = (self.abandoned && !self.abandoned_known).then_some(self.abandoned_at);
        [work, self.timeout, patience, self.until.map(|(at, _)| at)].into_iter().flatten().min()
    }

    /// When the work ends, and whether it has timed out then.
    fn end_of(&self, running: &Running) -> Option<(u64, bool)> {
        let done = (running.job.end != End::Hangs).then_some(running.began + running.job.millis);
        let limit = self.limits.work_timeout.map(|limit| running.began + limit);
        match (done, limit) {
            (Some(done), Some(limit)) if limit < done => Some((limit, true)),
            (Some(done), _) => Some((done, false)),
            (None, limit) => limit.map(|limit| (limit, true)),
        }
    }

    /// Everything that happens now.
    pub(crate) fn settle(&mut self) {
        loop {
            if self.ended_at.is_some() {
                return;
            }
            if !self.lives() {
                let Some(_) = self.next_life.take_if(|at| *at <= self.now) else { return };
                self.begin_life();
                continue;
            }
            if let Some(group) = self.cancelled.take() {
                self.is_between_after(group);
                self.judge_deferred();
                self.wind_up();
                continue;
            }
            if self.take_events() {
                continue;
            }
            if let Some(running) = self.running.as_mut().filter(|running| !running.polled) {
                running.polled = true;
                self.log.push(format!("begin {:?}", running.job));
            }
            let done = self.running.as_ref().and_then(|running| self.end_of(running));
            if let Some((_, timed_out)) = done.filter(|(at, _)| *at <= self.now) {
                self.work_ends(timed_out);
            } else if self.abandoned && !self.abandoned_known && self.abandoned_at <= self.now {
                self.last_handle_gone();
            } else if let Some((_, ended)) = self.until.filter(|(at, _)| *at <= self.now) {
                self.life_ends(ended);
            } else if self.timeout.take_if(|at| *at <= self.now).is_some() {
                self.zeros = if self.zero { self.zeros + 1 } else { 0 };
                if self.zeros > 1_000 {
                    self.life_ends(Ended::Failed);
                } else {
                    self.judge_inside(self.rules.timed_out.clone(), Origin::Other);
                }
            } else if self.running.is_none() && !self.commands.is_empty() {
                let (job, group) = self.commands.pop_front().unwrap();
                self.between = false;
                self.zeros = 0;
                self.running = Some(Running { job, group, began: self.now, polled: false });
            } else {
                return;
            }
        }
    }

    fn is_busy(&self) -> bool {
        self.running.is_some() || !self.commands.is_empty()
    }

    fn policy(&self) -> WhileBusy {
        self.rules.while_busy[usize::from(self.state)]
    }

    /// Takes one event, or learns that nobody is left to send one.
    fn take_events(&mut self) -> bool {
        if self.channel.is_empty() {
            return self.all_gone();
        }
        let is_held_back = self.is_busy() && !self.between;
        let accepts = match (is_held_back, self.policy()) {
            (true, WhileBusy::Hold) => false,
            (true, WhileBusy::Refuse) => true,
            _ => self.retry.is_none() && self.commands.len() < self.limits.capacity,
        };
        if !accepts {
            return false;
        }
        let sent = self.channel.pop_front().unwrap();
        self.zeros = 0;
        self.abandoned_at = self.now + self.limits.drain;
        if is_held_back && self.policy() == WhileBusy::Refuse {
            self.answer(sent.ask, Answer::Busy);
            return true;
        }
        self.judge_one(sent);
        self.judge_deferred();
        true
    }

    fn all_gone(&mut self) -> bool {
        let is_news = self.abandoned && !self.abandoned_known;
        if is_news {
            self.last_handle_gone();
        } else if self.abandoned {
            self.wind_up();
            return !self.lives();
        }
        is_news
    }

    fn last_handle_gone(&mut self) {
        self.abandoned_known = true;
        match self.rules.on_abandoned.clone() {
            Some(event) => self.judge_inside(event, Origin::Abandoned),
            None => self.wind_down(),
        }
    }

    fn wind_down(&mut self) {
        if self.mode == Mode::Running && self.until.is_none() {
            self.until = Some((self.now + self.limits.drain, Ended::Finished));
        }
        self.wind_up();
    }

    fn wind_up(&mut self) {
        let winds = self.until.is_some_and(|(_, ended)| ended == Ended::Finished);
        if self.lives() && winds && self.channel.is_empty() && !self.is_busy() {
            self.life_ends(Ended::Finished);
        }
    }

    fn answer(&mut self, ask: Option<usize>, answer: Answer) {
        if let Some(ask) = ask {
            self.answers[ask] = Some(answer);
        }
    }

    fn judge_inside(&mut self, event: Event, origin: Origin) {
        self.judge_one(Sent { event, origin, ask: None });
        self.judge_deferred();
    }

    /// Judges an event and defers it if it is to be.
    fn judge_one(&mut self, sent: Sent) {
        let deferred = self.judge(sent);
        if self.moved {
            self.again();
        }
        if let Some(sent) = deferred {
            if self.deferred.len() < self.limits.capacity {
                self.deferred.push_back(sent);
            } else {
                self.reject(sent.ask, sent.origin);
            }
        }
    }

    /// All deferred events, in order, again from the first after each transition.
    fn judge_deferred(&mut self) {
        while let Some(at) = self.retry.filter(|_| self.can_judge_deferred()) {
            let Some(sent) = self.deferred.remove(at) else {
                self.retry = None;
                return;
            };
            let deferred = self.judge(sent);
            self.retry = match deferred {
                _ if !self.lives() => None,
                Some(sent) => {
                    self.deferred.insert(at, sent);
                    Some(at + 1)
                }
                None => Some(if self.moved { 0 } else { at }),
            };
        }
    }

    fn can_judge_deferred(&self) -> bool {
        let is_free = !self.is_busy() || self.between || self.policy() == WhileBusy::Take;
        self.lives() && self.cancelled.is_none() && is_free && self.commands.len() < self.limits.capacity
    }

    /// Returns the event if it is deferred.
    fn judge(&mut self, sent: Sent) -> Option<Sent> {
        let Sent { event, origin, ask } = sent;
        self.log.push(judged(self.state, &event));
        self.moved = false;
        self.group += 1;
        let group = self.group;
        match event.act {
            Act::DeferUnlessThere if self.state != event.to => return Some(Sent { event, origin, ask }),
            Act::Unhandled => {
                self.reject(ask, origin);
                return None;
            }
            Act::Panic => {
                self.lost = ask;
                self.life_ends(Ended::Panicked);
                return None;
            }
            _ => {}
        }
        let to = match event.act {
            Act::Stay => self.state,
            Act::DeferUnlessThere => (event.to + 1) % 4,
            _ => event.to,
        };
        let moved = !matches!(event.act, Act::Stay | Act::Change);
        if moved || to != self.state {
            self.state = to;
            self.published.push((self.now, to));
            self.news = true;
        }
        if moved {
            self.arm();
            self.moved = true;
        }
        self.answer(ask, Answer::State(self.state));
        if event.act == Act::Cancel {
            self.commands.clear();
            self.cancelled = self.running.as_ref().map(|running| running.group);
            self.drop_work();
        }
        if !event.jobs.is_empty() {
            self.between = false;
            if origin == Origin::Handle {
                self.commanding = group;
            }
        }
        self.commands.extend(event.jobs.into_iter().map(|job| (job, group)));
        if event.act == Act::Finish {
            self.life_ends(Ended::Finished);
        } else if self.commands.len() > self.limits.capacity + 1_024 {
            self.life_ends(Ended::Failed);
        }
        None
    }

    fn reject(&mut self, ask: Option<usize>, origin: Origin) {
        self.answer(ask, Answer::Unhandled);
        match origin {
            Origin::Stop => self.life_ends(Ended::Cancelled),
            Origin::Abandoned => self.wind_down(),
            Origin::Failure => self.life_ends(Ended::Failed),
            Origin::Handle | Origin::Other if self.limits.fatal => self.life_ends(Ended::Failed),
            Origin::Handle | Origin::Other => {}
        }
    }

    fn work_ends(&mut self, timed_out: bool) {
        let Running { job, group, .. } = self.running.take().unwrap();
        self.log.push("end".to_owned());
        let end = if timed_out { End::Hangs } else { job.end };
        match end {
            End::Quiet => {}
            End::Moves(to) => {
                self.judge_one(Sent { event: Event::moves(to), origin: Origin::Other, ask: None });
            }
            End::Fails | End::Panics | End::Hangs => {
                while self.commands.front().is_some_and(|(_, of)| *of == group) {
                    self.commands.pop_front();
                }
                match self.rules.on_failure.clone() {
                    None => self.life_ends(Ended::Failed),
                    Some(event) => self.judge_one(Sent { event, origin: Origin::Failure, ask: None }),
                }
            }
        }
        if self.lives() {
            self.is_between_after(group);
            self.judge_deferred();
            self.wind_up();
        }
    }

    fn is_between_after(&mut self, group: u64) {
        let commanding = self.commanding;
        self.between = self.commands.front().is_none_or(|(_, of)| *of != group && *of > commanding);
    }

    fn drop_work(&mut self) {
        if self.running.take().is_some_and(|running| running.polled) {
            self.log.push("end".to_owned());
        }
    }

    fn life_ends(&mut self, ended: Ended) {
        if !self.lives() {
            return;
        }
        self.drop_work();
        self.cancelled = None;
        self.retry = None;
        self.log.push("worker dropped".to_owned());
        self.commands.clear();
        self.deferred.retain(|sent| sent.origin == Origin::Handle);
        self.timeout = None;
        self.between = false;
        let is_failure = matches!(ended, Ended::Failed | Ended::Panicked);
        let restarts = self.restarting
            || match self.limits.when {
                When::Never => false,
                When::OnFailure => is_failure,
                When::Always => ended != Ended::Cancelled,
            };
        let is_last = self.stopping || (self.abandoned && ended == Ended::Finished);
        if self.until.take().is_some() || is_last || !restarts {
            self.over(ended);
            return;
        }
        if is_failure && let Some(ask) = self.lost.take() {
            self.answer(Some(ask), Answer::Lost);
        }
        self.rested = is_failure.then_some(ended);
        if std::mem::take(&mut self.restarting) {
            self.mode = Mode::Restarting;
            self.next_life = Some(self.now);
            return;
        }
        if is_failure {
            let (now, within) = (self.now, self.limits.within);
            self.failures.retain(|at| now - at <= within);
            self.failures.push(now);
            self.news = true;
            if self.failures.len() > self.limits.most as usize {
                self.mode = Mode::Poisoned;
                self.next_life = None;
                if self.abandoned {
                    self.over(ended);
                }
                return;
            }
        }
        self.mode = Mode::Restarting;
        self.next_life = Some(self.now + self.limits.delay);
    }

    fn begin_life(&mut self) {
        self.mode = Mode::Running;
        self.state = 0;
        self.published.push((self.now, 0));
        self.news = true;
        self.abandoned_known = false;
        self.abandoned_at = self.now + self.limits.drain;
        self.zeros = 0;
        self.start();
    }

    fn over(&mut self, ended: Ended) {
        self.mode = Mode::Ended(ended);
        self.ended_at = Some(self.now);
        self.next_life = None;
        for answer in self.answers.iter_mut().filter(|answer| answer.is_none()) {
            *answer = Some(Answer::Ended(ended));
        }
    }
}
