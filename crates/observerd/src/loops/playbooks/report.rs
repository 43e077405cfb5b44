//! What the consolidation of playbooks publishes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::playbook::Playbook;
use crate::loops::{first, recent::Progress};

/// The playbooks of the window.
///
/// As JSON it has the first ten playbooks alone, because run journals have it in each cycle, and says in `not_recorded` how many more
/// there were.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlaybookReport {
    /// Those with the most successes first; of equal ones, the longer one, then the one with the newest success.
    #[serde(with = "first")]
    pub playbooks: Arc<Vec<Playbook>>,
    /// How many of them are not in the JSON: those after the first ten.
    #[serde(default)]
    pub not_recorded: u64,
    /// How many operations the window has.
    pub operations: u64,
    /// How many threads of work they are of.
    pub threads: u64,
    /// How many playbooks are not listed, because there are too many.
    pub other: u64,
    /// How far the journal is read.
    #[serde(flatten)]
    pub progress: Progress,
}

impl PlaybookReport {
    /// The answer of `GET playbooks`, with at most `limit` playbooks.
    #[must_use]
    pub fn page(&self, limit: usize) -> PlaybookPage {
        let Progress { next, gaps, missing, skipped, is_behind } = self.progress;
        let playbooks: Vec<Playbook> = self.playbooks.iter().take(limit).cloned().collect();
        PlaybookPage {
            operations: self.operations,
            threads: self.threads,
            other: self.other + (self.playbooks.len() - playbooks.len()) as u64,
            analysed_up_to: next,
            gaps,
            missing,
            skipped,
            is_behind,
            playbooks,
        }
    }
}

/// The playbooks of the window.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct PlaybookPage {
    /// Those with the most successes first; of equal ones, the longer one, then the one with the newest success.
    pub playbooks: Vec<Playbook>,
    /// How many operations the window has.
    pub operations: u64,
    /// How many threads of work they are of: `staffer_id`s, and sources of operations that have none.
    pub threads: u64,
    /// How many playbooks are not listed.
    pub other: u64,
    /// The sequence of the next operation to be analysed: all before it are.
    pub analysed_up_to: u64,
    /// How many gaps the journal had.
    pub gaps: u64,
    /// How many records they are.
    pub missing: u64,
    /// How many records were no operations.
    pub skipped: u64,
    /// Whether there are operations that are not analysed yet.
    pub is_behind: bool,
}

/// A change of the list of playbooks. The events of one generation, applied in order, are the ids of the list; after more than 100
/// appearances in one cycle the rest follows in the next ones. A restart and a rebuild begin a generation with an empty list: what is
/// there appears again, and what has gone meanwhile does not vanish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PlaybookEvent {
    /// A playbook is new in the list.
    Appeared {
        /// Its id.
        id: String,
        /// Its endpoints.
        steps: Vec<String>,
        /// How often it succeeded.
        successes: u64,
    },
    /// Its successes have doubled since its last event, or since they were at most half of that.
    Grew {
        /// Its id.
        id: String,
        /// How often it succeeded.
        successes: u64,
    },
    /// It is not in the list any more.
    Vanished {
        /// Its id.
        id: String,
    },
}
