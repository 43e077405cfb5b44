//! The review of an operation: accept it, reject it, or say that the work goes round in a cycle.
//!
//! The rules are this service's own; no model is called. The same request, clusters and playbooks give the same answer.
//!
//! `history` is what was done before the operation, oldest first. Of an operation with a `staffer_id`, entries of other staffers do not
//! count. The last entry that counts does not if it is the operation itself: the same `timestamp` and all else that the rules read.
//! What the service has recorded may have the operation anywhere: its newest equal record does not count, and of an operation without
//! a `timestamp` all else is compared. Rules read the last 20 entries, with the operation. An `input_summary` is compared as a whole,
//! with single spaces.
//!
//! | rule | for | weight | when | example |
//! |---|---|---|---|---|
//! | `R1` | reject | 0.5 | the operation failed | `success: false` |
//! | `R2` | reject | 0.6 | it contradicts itself: it succeeded with an error | `success: true, error: "timeout"` |
//! | `R3` | reject | 0.5 | it failed as a known cluster of at least 3 errors did: same endpoint and normalised message | `timeout of node 7`, and `timeout of node <num>` is known |
//! | `R4` | reject | 0.3 | it failed, and its endpoint failed before without a success since | `/put` failed, then `/get`, now `/put` |
//! | `C1` | cycle | 0.6 each from the third | its endpoint failed with the same normalised message at least 3 times, without a success since | `timeout of node 1`, `.. 2`, `.. 3` |
//! | `C2` | cycle | 0.6 each from the third | its endpoint was tried with the same `input_summary` at least 3 times, and never succeeded | three times `id=7`, with three errors |
//! | `C3` | cycle | 0.5 each from the fifth | the same endpoint and `input_summary` at least 5 consecutive times, even with success | five times `GET /status` of `job 7` |
//! | `C4` | cycle | 0.6 each from the second | two or three different endpoints alternate at least twice, and all fail | `/a`, `/b`, `/a`, `/b` |
//! | `A1` | accept | 0.5 | it succeeded | `success: true` |
//! | `A2` | accept | 0.6 times its rate | it continues a known playbook: the steps before it were the last successes | `/plan`, then `/put`, and `/plan > /put` is known |
//! | `A3` | accept | 0.2 | its endpoint succeeded before | `/put` succeeded, now again |
//! | `D1` | doubt | times 0.7 | accepted, but at least half of its endpoint's operations failed, of those that are analysed | 5 of 9 of `/put` failed, in 5 ways |
//! | `D2` | doubt | times 0.9 | its timestamp is more than 5 minutes in the future | |
//! | `D3` | doubt | times 0.8 | rejected, but it has no error's message | `success: false` alone |
//!
//! **Verdict**: reject if `R2` applies; else cycle if a rule `C` applies; else reject if a rule `R` applies; else accept.
//!
//! **Confidence**: `1 - (1 - w1)(1 - w2)..` of the weights for the verdict, times the doubts, at most 0.99, rounded to three digits. An
//! operation without history, clusters and playbooks has 0.5: thin evidence.
//!
//! **Reasons**: each rule that applies, with its id: those for the verdict, then the others.

mod error;
mod facts;
mod history;
mod request;
mod rules;

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::loops::errors::Clusters;
use crate::loops::playbooks::Playbook;

pub use error::{MAX_HISTORY, ReviewError};
pub use history::add_history;
pub use request::{PastOperation, ReviewRequest, ReviewedOperation};

use rules::Rule;

/// What the service knows besides.
#[derive(Clone, Debug, Default)]
pub struct ReviewContext {
    /// The clusters of the analysis of errors.
    pub clusters: Arc<Clusters>,
    /// The playbooks of the consolidation.
    pub playbooks: Arc<Vec<Playbook>>,
}

/// The answer of a review.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Review {
    /// What to do with the operation.
    pub verdict: Verdict,
    /// How sure that is: 0 to 0.99.
    #[schema(minimum = 0, maximum = 1)]
    pub confidence: f64,
    /// The rules that apply, with their ids: those for the verdict, then the others. At least one.
    pub reasons: Vec<String>,
}

/// What to do with an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is good.
    Accept,
    /// It is not.
    Reject,
    /// The work repeats itself without a success: do something else.
    Cycle,
}

/// Reviews an operation by the rules of this [module](self). `now` is the time of receipt.
///
/// # Errors
///
/// [`ReviewError`]: the operation or its history is none, or there is too much of it.
pub fn review(
    request: &ReviewRequest,
    context: &ReviewContext,
    now: Timestamp,
) -> Result<Review, ReviewError> {
    let (op, history) = request.facts(now)?;
    let rules = rules::apply(&op, &history, context, now);
    Ok(conclude(&rules))
}

/// From rules to an answer.
fn conclude(rules: &[Rule]) -> Review {
    let applies = |begin: &str| rules.iter().any(|rule| rule.id.starts_with(begin));
    let (verdict, letter) = if applies("R2") {
        (Verdict::Reject, "R")
    } else if applies("C") {
        (Verdict::Cycle, "C")
    } else if applies("R") {
        (Verdict::Reject, "R")
    } else {
        (Verdict::Accept, "A")
    };
    let is_doubt = |rule: &&Rule| match rule.id {
        "D1" => verdict == Verdict::Accept,
        "D3" => verdict == Verdict::Reject,
        id => id.starts_with('D'),
    };
    let (own, others): (Vec<&Rule>, Vec<&Rule>) = rules.iter().partition(|rule| rule.id.starts_with(letter));
    let against: f64 = own.iter().map(|rule| 1.0 - rule.weight).product();
    let doubt: f64 = rules.iter().filter(is_doubt).map(|rule| rule.weight).product();
    let confidence = ((1.0 - against) * doubt).clamp(0.0, 0.99);
    let is_said = |rule: &&&Rule| !rule.id.starts_with('D') || is_doubt(rule);
    let reasons = own.iter().chain(others.iter().filter(is_said));
    Review {
        verdict,
        confidence: (confidence * 1_000.0).round() / 1_000.0,
        reasons: reasons.map(|rule| format!("{}: {}", rule.id, rule.reason)).collect(),
    }
}

#[cfg(test)]
mod tests;
