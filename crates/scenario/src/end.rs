//! The end of a run: observers stop, then extensions are dropped, then the nodes go down.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

use crate::Application;
use crate::apart::{ABORT_GRACE, Apart, Went};
use crate::failure::{NodeLog, Problem, ScenarioFailure};
use crate::guarded::{Guarded, Panics};
use crate::panics::catch;
use crate::report::{Phase, RunReport};
use crate::run::{Cluster, Run};
use crate::subject::Subject;
use crate::sync::lock;

/// How long the logs of all nodes may take.
const LOGS_WITHIN: Duration = Duration::from_secs(10);

impl<A: Application> Run<A> {
    pub(crate) async fn end_in_order(&mut self) {
        let span = self.enter(Phase::Cleanup);
        async {
            let limit = self.plan.limits.cleanup;
            // Steps and checks are still running only if the run was cancelled.
            self.abort_steps().await;
            self.abort_checks(|_| true).await;
            self.drop_parts();
            self.waits_end().await;
            self.stop_observers(limit).await;
            self.no_drop_panicked();
            self.take_down(limit).await;
            // The last values of the app that the run itself holds.
            self.context = None;
            self.plan.deployment = None;
            self.no_drop_panicked();
        }
        .instrument(span)
        .await;
    }

    fn drop_parts(&mut self) {
        self.plan.expectations.clear();
        self.plan.workloads.clear();
        self.plan.factories.clear();
        self.plan.extensions.clear();
    }

    async fn stop_observers(&mut self, limit: Duration) {
        let Some(context) = self.context.clone() else { return };
        self.timelines = context.timelines();
        let deadline = Instant::now() + limit;
        for (name, outcome) in context.observers().stop_all(Some(deadline)).await {
            let subject = Subject::Observer(name);
            match outcome {
                Some(_) => self.fail(subject, Problem::Blocked),
                None => self.timed_out(Phase::Cleanup, subject, limit, deadline),
            }
        }
        self.cut_off = context.observers().cut_off();
        context.release();
    }

    /// Takes the nodes down, in its own task because that may block its thread. Dropping this future drops the
    /// cluster.
    async fn take_down(&mut self, limit: Duration) {
        let Some(cluster) = self.cluster.take() else { return };
        if !self.failures.is_empty() {
            self.read_logs(&cluster).await;
        }
        let deadline = Instant::now() + limit;
        let ending = async move {
            let ended = cluster.shut_down().await;
            drop(cluster);
            ended
        };
        let went = Apart::spawn(&self.panics, self.deployer(), ending).within(deadline).await;
        match went {
            Went::Done(Ok(()), at) if at <= deadline => {}
            Went::Done(Err(error), at) => {
                let error = self.panics.guard(self.deployer(), Problem::Error(error.into()));
                if at > deadline {
                    self.timed_out(Phase::Cleanup, self.deployer(), limit, deadline);
                }
                self.fail(self.deployer(), error.into_inner());
            }
            Went::Panicked(panic) => self.fail(self.deployer(), Problem::Panicked(panic)),
            Went::Done(Ok(()), _) | Went::TimedOut => {
                self.timed_out(Phase::Cleanup, self.deployer(), limit, deadline);
            }
            Went::Blocked => {
                self.timed_out(Phase::Cleanup, self.deployer(), limit, deadline);
                self.fail(self.deployer(), Problem::Blocked);
            }
        }
    }

    async fn read_logs(&mut self, cluster: &Cluster<A>) {
        let logs = Arc::new(Mutex::new(Vec::new()));
        let reading = logs_of(Arc::clone(cluster), Arc::clone(&logs), self.panics.clone());
        let deadline = Instant::now() + LOGS_WITHIN + ABORT_GRACE;
        let went = Apart::spawn(&self.panics, self.deployer(), reading).within(deadline).await;
        if let Went::Blocked = went {
            self.fail(self.deployer(), Problem::Blocked);
        }
        self.logs = std::mem::take(&mut lock(&logs));
    }

    /// Returns the report of the run, or its failures.
    pub(crate) fn finish(mut self) -> Result<RunReport, ScenarioFailure> {
        self.no_drop_panicked();
        self.leave();
        let report = RunReport {
            scenario: std::mem::take(&mut self.plan.name),
            deployer: std::mem::take(&mut self.deployer),
            elapsed: self.began.elapsed(),
            phases: std::mem::take(&mut self.phases),
            nodes: self.nodes.take(),
            workloads: std::mem::take(&mut self.ended),
            expectations: std::mem::take(&mut self.expectations),
            observers: std::mem::take(&mut self.timelines),
            cut_off: std::mem::take(&mut self.cut_off),
        };
        let mut failures = std::mem::take(&mut self.failures);
        if failures.is_empty() {
            return Ok(report);
        }
        failures.sort_by_key(|failure| failure.at);
        let failures = failures.into_iter().map(Guarded::into_inner).collect();
        Err(ScenarioFailure::new(report, failures, std::mem::take(&mut self.logs)))
    }
}

/// Reads the logs of the nodes until the time is over. A log that cannot be read is left out.
async fn logs_of<A: Application>(cluster: Cluster<A>, logs: Arc<Mutex<Vec<NodeLog>>>, panics: Panics) {
    let deadline = Instant::now() + LOGS_WITHIN;
    for node in catch(|| cluster.node_control().nodes()).unwrap_or_default() {
        let reading = panics.caught(cluster.subject().clone(), async { cluster.log(&node).await });
        match timeout_at(deadline, reading).await {
            Ok(Ok(Some(text))) => lock(&logs).push(NodeLog::new(node, text)),
            Ok(Ok(None) | Err(_)) => {}
            Err(_) => break,
        }
    }
}

impl<A: Application> Drop for Run<A> {
    /// Drops in order. All values of the app are guarded, so that a panic in one destructor does not keep the others
    /// from running.
    fn drop(&mut self) {
        if let Some(context) = &self.context {
            context.cancel();
        }
        drop(std::mem::take(&mut self.load));
        drop(std::mem::take(&mut self.checks.jobs));
        drop(std::mem::take(&mut self.steps));
        self.drop_parts();
        if let Some(context) = self.context.take() {
            context.release();
        }
        drop(self.cluster.take());
    }
}
