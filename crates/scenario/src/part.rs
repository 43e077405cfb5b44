//! The parts of a scenario.

use watchkeeper::DynError;

use crate::guarded::{Guarded, Panics};
use crate::panics::catch;
use crate::subject::Subject;
use crate::{Application, Expectation, ObservationExtensionFactory, RunContext, Workload};

/// A part of a scenario. Its name is read once, when it is added.
pub(crate) struct Part<A: Application> {
    pub(crate) subject: Subject,
    /// Its place among the parts of its kind.
    pub(crate) place: usize,
    pub(crate) endless: bool,
    /// Whether it may have checks.
    pub(crate) checks: bool,
    role: Guarded<Role<A>>,
}

enum Role<A: Application> {
    Factory(Box<dyn ObservationExtensionFactory<A>>),
    Workload(Box<dyn Workload<A>>),
    Expectation(Box<dyn Expectation<A>>),
}

/// A step of a part.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// Build what needs nodes, or get ready.
    Init,
    /// Begin to observe, or to work.
    Start,
    Check,
    Evaluate,
}

impl<A: Application> Part<A> {
    /// Fails with the message of the panic if its `name` panics.
    pub(crate) fn factory(
        panics: &Panics,
        place: usize,
        factory: impl ObservationExtensionFactory<A>,
    ) -> Result<Self, String> {
        let factory = panics.guard(Subject::Factory("unnamed".to_owned()), factory);
        let name = catch(|| factory.name().to_owned())?;
        let role = Role::Factory(Box::new(factory.into_inner()));
        Ok(Self::new(panics, Subject::Factory(name), place, role))
    }

    /// As [`factory`](Self::factory).
    pub(crate) fn workload(
        panics: &Panics,
        place: usize,
        workload: impl Workload<A>,
    ) -> Result<Self, String> {
        let workload = panics.guard(Subject::Workload("unnamed".to_owned()), workload);
        let (name, endless) = catch(|| (workload.name().to_owned(), workload.is_endless()))?;
        let role = Role::Workload(Box::new(workload.into_inner()));
        Ok(Self { endless, ..Self::new(panics, Subject::Workload(name), place, role) })
    }

    /// As [`factory`](Self::factory).
    pub(crate) fn expectation(
        panics: &Panics,
        place: usize,
        expectation: impl Expectation<A>,
    ) -> Result<Self, String> {
        let expectation = panics.guard(Subject::Expectation("unnamed".to_owned()), expectation);
        let name = catch(|| expectation.name().to_owned())?;
        let role = Role::Expectation(Box::new(expectation.into_inner()));
        Ok(Self { checks: true, ..Self::new(panics, Subject::Expectation(name), place, role) })
    }

    fn new(panics: &Panics, subject: Subject, place: usize, role: Role<A>) -> Self {
        let role = panics.guard(subject.clone(), role);
        Self { subject, place, endless: false, checks: false, role }
    }

    pub(crate) fn name(&self) -> &str {
        match &self.subject {
            Subject::Factory(name) | Subject::Workload(name) | Subject::Expectation(name) => name,
            _ => "",
        }
    }

    /// Takes a step, if this kind of part has it.
    pub(crate) async fn step(&mut self, step: Step, context: &RunContext<A>) -> Result<(), DynError> {
        match (&mut *self.role, step) {
            (Role::Factory(factory), Step::Init) => factory.build(context).await,
            (Role::Workload(workload), Step::Init) => workload.init(context).await,
            (Role::Workload(workload), Step::Start) => workload.start(context).await,
            (Role::Expectation(expectation), Step::Init) => expectation.init(context).await,
            (Role::Expectation(expectation), Step::Start) => expectation.start_capture(context).await,
            (Role::Expectation(expectation), Step::Check) => expectation.check_during_capture(context).await,
            (Role::Expectation(expectation), Step::Evaluate) => expectation.evaluate(context).await,
            (Role::Factory(_), Step::Start | Step::Check | Step::Evaluate)
            | (Role::Workload(_), Step::Check | Step::Evaluate) => Ok(()),
        }
    }
}
