//! Questions to one node, alone and in batches.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::batch_size::BatchSize;
use super::classify::Class;
use super::failure::Fault;
use super::http::HttpTransport;
use super::message::{self, Call, Packet, Reply};
use super::pace::Pace;

/// How many requests of one question are under way at once.
const AT_ONCE: usize = 16;

/// The code of JSON-RPC for a message that is no question.
const INVALID_REQUEST: i64 = -32600;

/// The result of a question as JSON.
pub(super) type Outcome = Result<Box<RawValue>, Fault>;

/// One node. Clones share its connections, its pace, and what it was found to be unable to do.
#[derive(Clone, Debug)]
pub(super) struct Rpc {
    http: HttpTransport,
    pace: Pace,
    timeout: Duration,
    next_id: Arc<AtomicU64>,
    batch_size: BatchSize,
}

/// Why a batch brought no answers.
enum Unanswered {
    /// The server does not take batches, or none of this size; if it is not certain, perhaps only now.
    Refused { is_certain: bool },
    /// The server does not take batches, or fails: the size is not remembered.
    Doubtful,
    /// The server does not answer.
    Failed(Fault),
}

impl Rpc {
    pub(super) fn new(http: HttpTransport, timeout: Duration) -> Self {
        Self { http, pace: Pace::default(), timeout, next_id: Arc::default(), batch_size: BatchSize::new() }
    }

    pub(super) fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// How many questions are under way at once, as far as is known.
    pub(super) fn at_once(&self) -> usize {
        self.batch_size.largest().max(1).saturating_mul(AT_ONCE)
    }

    /// Asks one question.
    pub(super) async fn one(&self, call: &Call) -> Outcome {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let message = message::single(call, id).map_err(|error| Fault::Malformed(error.to_string()))?;
        let answer = match self.send(message).await? {
            Packet::One(answer) => answer,
            Packet::Many(answers) => {
                let count = answers.len();
                let [answer] = <[Reply; 1]>::try_from(answers)
                    .map_err(|_| Fault::Malformed(format!("{count} answers to one question")))?;
                answer
            }
        };
        // Some servers give every answer the same id.
        match answer.id {
            Some(other) if other != id && other > 1 && matches!(answer.outcome, Some(Ok(_))) => {
                Err(Fault::Malformed(format!("it has the id {other}, and the question {id}")))
            }
            _ => {
                let outcome = self.outcome(answer);
                if outcome.is_ok() {
                    self.batch_size.accept(1);
                }
                outcome
            }
        }
    }

    /// Asks several questions, in as few requests as the node allows. The outcomes are in the order of the questions.
    ///
    /// Once a request finds that the node does not answer right now, no more are sent: the rest has its fault.
    pub(super) async fn several(&self, calls: &[Call]) -> Vec<Outcome> {
        let size = self.batch_size.largest();
        let parts: Vec<_> = calls.chunks(size).map(|part| self.part(part)).collect();
        let mut parts = stream::iter(parts).buffered(AT_ONCE);
        let mut outcomes = Vec::with_capacity(calls.len());
        while let Some(part) = parts.next().await {
            outcomes.extend(part);
            if is_silent(&outcomes) {
                break;
            }
        }
        filled(outcomes, calls.len())
    }

    /// Boxed, because smaller parts follow from a larger one.
    fn part<'a>(&'a self, calls: &'a [Call]) -> BoxFuture<'a, Vec<Outcome>> {
        Box::pin(async move {
            if let [call] = calls {
                return vec![self.one(call).await];
            }
            match self.batch(calls).await {
                Ok(outcomes) if are_refused_alike(&outcomes) => self.in_halves(calls, Some(false)).await,
                Ok(outcomes) => self.completed(calls, outcomes).await,
                Err(Unanswered::Failed(fault)) => vec![Err(fault); calls.len()],
                Err(Unanswered::Refused { is_certain }) => self.in_halves(calls, Some(is_certain)).await,
                Err(Unanswered::Doubtful) => self.in_halves(calls, None).await,
            }
        })
    }

    /// Asks in two parts what was not answered at once. If it was refused for its size, that is remembered; the second
    /// argument is whether that is certain.
    async fn in_halves(&self, calls: &[Call], refused: Option<bool>) -> Vec<Outcome> {
        let size = calls.len().div_ceil(2);
        let mut outcomes = Vec::with_capacity(calls.len());
        for half in calls.chunks(size) {
            outcomes.extend(self.several(half).await);
            if is_silent(&outcomes) {
                break;
            }
        }
        let outcomes = filled(outcomes, calls.len());
        let lacks_method =
            |outcome: &Outcome| matches!(outcome, Err(fault) if fault.class() == Class::NoMethod);
        if let Some(is_certain) = refused.filter(|_| outcomes.iter().any(Result::is_ok)) {
            // A gateway may have refused the batch for one method.
            let is_certain = is_certain && !outcomes.iter().any(lacks_method);
            self.batch_size.refuse(calls.len(), size, is_certain);
        }
        outcomes
    }

    async fn batch(&self, calls: &[Call]) -> Result<Vec<Option<Outcome>>, Unanswered> {
        let count = u64::try_from(calls.len()).unwrap_or(u64::MAX);
        let first = self.next_id.fetch_add(count, Ordering::Relaxed);
        let message = message::batch(calls, first)
            .map_err(|error| Unanswered::Failed(Fault::Malformed(error.to_string())))?;
        let (answers, is_one) = match self.send(message).await.map_err(Unanswered::of)? {
            Packet::Many(answers) => (answers, false),
            Packet::One(answer) => (vec![answer], true),
        };
        // Some servers refuse a batch with the id of its first question.
        let is_whole = |answer: &Reply| {
            is_one && matches!(answer.outcome, Some(Err(_)))
                || answer.id.is_none_or(|id| !(first..first + count).contains(&id))
        };
        let mut outcomes: Vec<Option<Outcome>> = calls.iter().map(|_| None).collect();
        let mut whole = None;
        for answer in answers {
            let place = if is_whole(&answer) { None } else { answer.id.map(|id| id - first) };
            let outcome = self.outcome(answer);
            match (place.and_then(|place| usize::try_from(place).ok()), outcome) {
                (Some(place), outcome) => {
                    outcomes[place].get_or_insert(outcome);
                }
                (None, Err(fault)) => whole = Some(fault),
                (None, Ok(_)) => {}
            }
        }
        if outcomes.iter().any(Option::is_some) {
            return Ok(outcomes);
        }
        let nothing = || Fault::Malformed("no answer to any question of a batch".to_owned());
        Err(Unanswered::of_answer(whole.unwrap_or_else(nothing)))
    }

    /// Asks alone what has no answer in its batch, or was too much for one.
    async fn completed(&self, calls: &[Call], outcomes: Vec<Option<Outcome>>) -> Vec<Outcome> {
        let mut answered = 0;
        let (mut is_partial, mut is_certain) = (false, false);
        let completed = calls.iter().zip(outcomes).map(|(call, outcome)| {
            let fault = outcome.as_ref().and_then(|outcome| outcome.as_ref().err());
            let class = fault.map(Fault::class);
            let is_invalid = matches!(fault, Some(Fault::Node(error)) if error.code == INVALID_REQUEST)
                && class == Some(Class::Misunderstood);
            let is_left = outcome.is_none() || class == Some(Class::NoBatch) || is_invalid;
            answered += usize::from(!is_left);
            is_partial |= is_left;
            is_certain |= class == Some(Class::NoBatch);
            async move {
                match outcome {
                    Some(outcome) if !is_left && class != Some(Class::RangeTooLarge) => outcome,
                    _ => self.one(call).await,
                }
            }
        });
        let completed: Vec<_> = completed.collect();
        let completed = stream::iter(completed).buffered(AT_ONCE).collect::<Vec<Outcome>>().await;
        if !is_partial {
            self.batch_size.accept(calls.len());
        } else if completed.iter().all(Result::is_ok) {
            self.batch_size.refuse(calls.len(), answered, is_certain);
        }
        completed
    }

    fn outcome(&self, answer: Reply) -> Outcome {
        match answer.outcome {
            Some(Ok(result)) => Ok(result),
            Some(Err(error)) => Err(self.heed(Fault::Node(error))),
            None => Err(Fault::Malformed("it has neither a result nor an error".to_owned())),
        }
    }

    /// Sends a request, unless the node asked for none, and waits for the answer.
    async fn send(&self, message: Vec<u8>) -> Result<Packet, Fault> {
        if let Some(left) = self.pace.left() {
            return Err(Fault::RateLimited(Some(left)));
        }
        let answer = timeout(self.timeout, self.http.ask(message)).await;
        answer.unwrap_or(Err(Fault::TimedOut(self.timeout))).map_err(|fault| self.heed(fault))
    }

    /// Makes a pause if the node asks for one.
    fn heed(&self, fault: Fault) -> Fault {
        if let Some(wait) = fault.wait() {
            self.pace.pause(wait);
        }
        fault
    }
}

/// Whether all questions of a batch were refused in the same words, as by a server that takes no batches.
fn are_refused_alike(outcomes: &[Option<Outcome>]) -> bool {
    let refusal = |outcome: &Option<Outcome>| match outcome {
        Some(Err(fault @ Fault::Node(error))) => {
            let is_final = matches!(fault.class(), Class::Refused | Class::NoMethod | Class::Misunderstood);
            is_final.then(|| (error.code, error.message.clone()))
        }
        _ => None,
    };
    let mut refusals = outcomes.iter().map(refusal);
    let first = refusals.next().flatten();
    first.is_some() && refusals.all(|refusal| refusal == first)
}

impl Unanswered {
    /// A request that failed as a whole.
    fn of(fault: Fault) -> Self {
        match (&fault, fault.class()) {
            (Fault::Node(_), _) => Self::of_answer(fault),
            (_, Class::NoBatch) => Self::Refused { is_certain: true },
            (Fault::Malformed(_) | Fault::TooLong(_), _) => Self::Doubtful,
            (
                Fault::Status { status, says, .. },
                Class::Refused
                | Class::NoMethod
                | Class::RangeTooLarge
                | Class::Misunderstood
                | Class::UnknownBlock,
            ) => match status.as_u16() {
                // A web page in front of the node.
                403 if says.is_empty() => Self::Doubtful,
                405 | 413 | 501 => Self::Refused { is_certain: true },
                400 | 403 | 404 | 415 | 422 => Self::Refused { is_certain: false },
                _ => Self::Failed(fault),
            },
            _ => Self::Failed(fault),
        }
    }

    /// A request that was answered as a whole.
    fn of_answer(fault: Fault) -> Self {
        match fault.class() {
            Class::RateLimited(_) | Class::TimedOut | Class::Pruned => Self::Failed(fault),
            Class::Busy | Class::RangeTooLarge => Self::Doubtful,
            Class::NoBatch => Self::Refused { is_certain: true },
            Class::NoMethod
            | Class::UnknownBlock
            | Class::NoState
            | Class::Misunderstood
            | Class::Refused => Self::Refused { is_certain: false },
        }
    }
}

/// Whether the last outcome is that the node answers no question right now: it fails, or what comes is no JSON-RPC.
fn is_silent(outcomes: &[Outcome]) -> bool {
    match outcomes.last() {
        Some(Err(fault @ Fault::Node(_))) => matches!(fault.class(), Class::RateLimited(_) | Class::Busy),
        Some(Err(_)) => true,
        _ => false,
    }
}

/// The outcomes of this many questions: those that were not asked have the last fault.
fn filled(mut outcomes: Vec<Outcome>, count: usize) -> Vec<Outcome> {
    let fault = outcomes.last().and_then(|outcome| outcome.as_ref().err()).cloned();
    let fault = fault.unwrap_or_else(|| Fault::Malformed("no answer".to_owned()));
    outcomes.resize_with(count, || Err(fault.clone()));
    outcomes
}
