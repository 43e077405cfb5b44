//! The worker of the escalation: it posts and writes.

use std::sync::Arc;

use bytes::Bytes;
use tracing::warn;
use watchkeeper::DynError;
use watchkeeper::report::one_line;
use watchkeeper::supervise::Worker;

use super::file::EscalationFile;
use super::ledger::Record;
use super::machine::{EscalationCommand, EscalationEvent, EscalationMachine};
use super::poster::{MOST_ERROR, Poster};

pub(super) struct EscalationWorker {
    pub(super) poster: Box<dyn Poster>,
    /// `None`: nothing is kept over restarts.
    pub(super) file: Option<Arc<EscalationFile>>,
}

impl EscalationWorker {
    async fn save(&self, record: Arc<Record>) -> Result<(), String> {
        let Some(file) = self.file.clone() else { return Ok(()) };
        let path = file.path();
        let written = tokio::task::spawn_blocking(move || file.write(&record)).await;
        let message = match written {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        Err(one_line(
            &format!(
                "{} was not written, and clusters may be posted again after a restart: {message}",
                path.display()
            ),
            MOST_ERROR,
        ))
    }
}

impl Worker<EscalationMachine> for EscalationWorker {
    async fn run(&mut self, command: EscalationCommand) -> Result<Option<EscalationEvent>, DynError> {
        let (letter, record) = match command {
            EscalationCommand::Save(record) => {
                let event = match self.save(record).await {
                    Ok(()) => EscalationEvent::Saved,
                    Err(message) => EscalationEvent::Broke(message),
                };
                return Ok(Some(event));
            }
            EscalationCommand::Post { letter, record } => (letter, record),
        };
        if let Some(record) = record
            && let Err(message) = self.save(record).await
        {
            // It is posted all the same: errors go to people also when a disk is full.
            warn!("{message}");
        }
        let body = Bytes::from(serde_json::to_vec(&letter.document)?);
        Ok(Some(match self.poster.post(&letter.key, body).await {
            Ok(()) => EscalationEvent::Posted,
            Err(failure) => {
                warn!("cluster {} was not posted: {}", letter.key, failure.message);
                EscalationEvent::Failed(failure)
            }
        }))
    }
}
