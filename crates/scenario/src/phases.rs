//! The phases of a run, in order.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;
use tracing::instrument::WithSubscriber;

use crate::apart::ABORT_GRACE;
use crate::failure::{Problem, UNBLOCK};
use crate::guarded::{Guarded, Panics};
use crate::panics::catch;
use crate::part::Step;
use crate::report::Phase;
use crate::run::{Cluster, Run};
use crate::subject::Subject;
use crate::{Application, Deployer, RunContext};

impl<A: Application> Run<A> {
    /// All phases up to `Evaluate`. Failures are recorded. The run keeps all that has to be ended, so this may be
    /// dropped at any time.
    pub(crate) async fn work(&mut self, deployer: &(impl Deployer<A> + ?Sized)) {
        let Some(context) = self.deploy(deployer).await else { return };
        if !self.prepare(&context).await || !self.start_capture(&context).await {
            return;
        }
        if self.workloads(&context).await {
            self.cooldown(&context).await;
        }
        if self.drain().await && self.failures.is_empty() {
            self.check_the_end(&context).await;
        }
        self.evaluate(&context).await;
    }

    /// The deployer is borrowed, so that no other task can run it. When it blocks this thread, its limit and a
    /// cancellation are noticed after it has returned.
    async fn deploy(&mut self, deployer: &(impl Deployer<A> + ?Sized)) -> Option<RunContext<A>> {
        let span = self.enter(Phase::Deploy);
        let deployment = self.plan.deployment.clone()?;
        match catch(|| deployer.name().to_owned()) {
            Ok(name) => self.deployer = name,
            Err(panic) => {
                self.fail(self.deployer(), Problem::Panicked(panic));
                return None;
            }
        }
        let limit = self.plan.limits.deploy;
        let deadline = Instant::now() + limit;
        let _watch = watch(self.deployer(), limit, deadline);
        let deploying = async { deployer.deploy(&deployment).await };
        let deploying = self.panics.caught(self.deployer(), deploying).instrument(span);
        let outcome = timeout_at(deadline, deploying).await;
        let is_late = Instant::now() > deadline;
        let deployed = match outcome {
            Ok(Ok(Ok(cluster))) => {
                let cluster = self.cluster.insert(Arc::new(self.panics.guard(self.deployer(), cluster)));
                if is_late {
                    Err(None)
                } else {
                    context(deployment, cluster, &self.panics, self.began).map_err(Some)
                }
            }
            Ok(Ok(Err(error))) => Err(Some(Problem::Error(error.into()))),
            Ok(Err(panic)) => Err(Some(Problem::Panicked(panic))),
            Err(_) => Err(None),
        };
        let context = match deployed {
            Ok((context, nodes)) => {
                self.nodes = Some(nodes);
                Some(self.context.insert(context).clone())
            }
            Err(Some(problem)) => {
                self.fail(self.deployer(), problem);
                None
            }
            Err(None) => {
                self.timed_out(Phase::Deploy, self.deployer(), limit, deadline);
                None
            }
        };
        yield_now().await;
        if self.no_drop_panicked() { context } else { None }
    }

    async fn prepare(&mut self, context: &RunContext<A>) -> bool {
        let span = self.enter(Phase::Prepare);
        let well = async {
            let limit = self.plan.limits.prepare;
            for add in std::mem::take(&mut self.plan.extensions) {
                let problem = match catch(|| (add.into_inner())(context)) {
                    Ok(Ok(())) => continue,
                    Ok(Err(error)) => Problem::Error(error.into()),
                    Err(panic) => Problem::Panicked(panic),
                };
                self.fail(Subject::Run, problem);
                return false;
            }
            let deadline = Instant::now() + limit;
            // One after the other: a factory may need what an earlier one has built.
            for factory in std::mem::take(&mut self.plan.factories) {
                self.begin(factory, Step::Init, context);
                if !self.finish_steps(deadline, limit).await {
                    return false;
                }
            }
            for workload in std::mem::take(&mut self.plan.workloads) {
                self.begin(workload, Step::Init, context);
            }
            self.expectations(Step::Init, limit, context).await
        }
        .instrument(span)
        .await;
        // Parts without a further step have been dropped.
        self.no_drop_panicked() && well
    }

    async fn start_capture(&mut self, context: &RunContext<A>) -> bool {
        let span = self.enter(Phase::StartCapture);
        self.expectations(Step::Start, self.plan.limits.start_capture, context).instrument(span).await
    }

    async fn evaluate(&mut self, context: &RunContext<A>) {
        let span = self.enter(Phase::Evaluate);
        async {
            self.finish_checks().await;
            self.expectations(Step::Evaluate, self.plan.limits.evaluate, context).await;
        }
        .instrument(span)
        .await;
    }
}

/// The context that the parts of a run share, and the names of the nodes.
fn context<A: Application>(
    deployment: Arc<Guarded<A::Deployment>>,
    cluster: &Cluster<A>,
    panics: &Panics,
    began: Instant,
) -> Result<(RunContext<A>, Vec<String>), Problem> {
    let of_the_cluster = || {
        let control = panics.guard(cluster.subject().clone(), cluster.node_control());
        let clients = panics.guard(cluster.subject().clone(), cluster.node_clients());
        let mut nodes = control.nodes();
        let more: Vec<_> = clients.names().into_iter().filter(|name| !nodes.contains(name)).collect();
        nodes.extend(more);
        clients.collect(panics, cluster.subject());
        (RunContext::new(deployment, clients, control, panics, began), nodes)
    };
    catch(of_the_cluster).map_err(Problem::Panicked)
}

/// Warns when a deployer blocks the thread on which its limit would be noticed.
fn watch(deployer: Subject, limit: Duration, deadline: Instant) -> AbortOnDropHandle<()> {
    let watch = async move {
        sleep_until(deadline + ABORT_GRACE).await;
        tracing::warn!("{deployer} blocks its thread, and its limit of {limit:?} is over: {UNBLOCK}");
    };
    AbortOnDropHandle::new(tokio::spawn(watch.with_current_subscriber()))
}
