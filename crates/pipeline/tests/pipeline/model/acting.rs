//! Handlers, stores and a stream that do what the plan says, and report it to the world.

use std::panic::resume_unwind;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::Stream;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use watchkeeper::DynError;
use watchkeeper_pipeline::store::{DeadLetterChange, NewOutputs, StageName, Stored};
use watchkeeper_pipeline::{CommitStore, Emitter, Handler, Item, MemoryStore, StagePosition};

use super::plan::CommitFail;
use super::world::{Call, Outcome, World};

#[derive(Clone)]
pub(super) struct Shared {
    pub(super) world: Arc<Mutex<World>>,
    /// Something was handled or committed.
    pub(super) changed: Arc<Notify>,
}

impl Shared {
    pub(super) fn with<R>(&self, change: impl FnOnce(&mut World) -> R) -> R {
        let changed = change(&mut self.world.lock().unwrap());
        self.changed.notify_one();
        changed
    }

    pub(super) fn read<R>(&self, read: impl FnOnce(&World) -> R) -> R {
        read(&self.world.lock().unwrap())
    }
}

async fn pause(time_ms: u64) {
    if time_ms > 0 {
        sleep(Duration::from_millis(time_ms)).await;
    }
}

fn scripted_panic() -> ! {
    // Without the hook: it prints nothing.
    resume_unwind(Box::new("scripted"))
}

pub(super) struct Acting {
    stage: usize,
    life: u64,
    shared: Shared,
}

pub(super) fn acting(shared: &Shared, stage: usize, life: u64) -> impl FnMut() -> Acting + Send + 'static {
    let shared = shared.clone();
    move || {
        if shared.with(|world| world.next_make_panics(stage)) {
            scripted_panic();
        }
        Acting { stage, life, shared: shared.clone() }
    }
}

/// A call that has not succeeded when it is dropped has failed.
struct Running<'a> {
    acting: &'a Acting,
    call: Option<Call>,
}

impl Running<'_> {
    fn succeeded(mut self) {
        let Some(call) = self.call.take() else { return };
        self.acting.shared.with(|world| world.succeeded(self.acting.stage, &call));
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let Some(call) = self.call.take() else { return };
        self.acting.shared.with(|world| world.failed(self.acting.stage, call));
    }
}

impl Handler<u64> for Acting {
    type Output = u64;

    async fn handle(&mut self, item: Item<&u64>, out: &mut Emitter<u64>) -> Result<(), DynError> {
        let call = Call {
            life: self.life,
            upstream: out.upstream().to_owned(),
            position: out.position(),
            item: item.cloned(),
            attempt: out.attempt(),
            replays: None,
        };
        let (call, act) = self.shared.with(|world| world.called(self.stage, call));
        let outputs = call.outputs();
        let running = Running { acting: self, call: Some(call) };
        pause(act.delay_ms).await;
        match act.outcome {
            Outcome::Succeeds => {
                for output in outputs {
                    out.emit(output);
                }
                running.succeeded();
                Ok(())
            }
            Outcome::Error => {
                out.emit(u64::MAX);
                Err("scripted".into())
            }
            Outcome::Panic => {
                out.emit(u64::MAX);
                scripted_panic()
            }
        }
    }
}

pub(super) struct ScriptedStore {
    pub(super) stage: usize,
    pub(super) life: u64,
    pub(super) shared: Shared,
    pub(super) inner: MemoryStore<u64, u64>,
}

impl Drop for ScriptedStore {
    fn drop(&mut self) {
        self.shared.with(|world| {
            if world.life == self.life {
                world.stages[self.stage].has_ended = true;
            }
        });
    }
}

impl CommitStore<u64, u64> for ScriptedStore {
    async fn load(&mut self, stage: &StageName) -> Result<Stored<u64, u64>, DynError> {
        if self.shared.with(|world| world.next_load_fails(self.stage)) {
            return Err("scripted".into());
        }
        self.inner.load(stage).await
    }

    async fn commit(
        &mut self,
        position: &StagePosition,
        outputs: NewOutputs<'_, u64>,
        dead_letters: &[DeadLetterChange<u64>],
    ) -> Result<(), DynError> {
        let (stage, life) = (self.stage, self.life);
        let act = self.shared.with(|world| world.commit_begins(stage, life, position, outputs, dead_letters));
        pause(act.before_ms).await;
        match act.fail {
            Some(CommitFail::Before) => {
                self.shared.with(|world| world.commit_ends(stage, false));
                return Err("scripted".into());
            }
            Some(CommitFail::PanicBefore) => {
                self.shared.with(|world| world.commit_ends(stage, false));
                scripted_panic();
            }
            _ => {}
        }
        self.inner.commit(position, outputs, dead_letters).await?;
        self.shared.with(|world| world.committed(stage, life, position, outputs, dead_letters));
        pause(act.after_ms).await;
        self.shared.with(|world| world.commit_ends(stage, act.fail.is_none()));
        match act.fail {
            None => Ok(()),
            Some(CommitFail::PanicAfter) => scripted_panic(),
            Some(_) => Err("scripted".into()),
        }
    }
}

/// The numbers of the other upstream, as many as there are.
pub(super) const OTHERS: u64 = 1 << 50;

pub(super) fn others(
    count: watch::Receiver<u64>,
    committed: u64,
) -> impl Stream<Item = u64> + Send + 'static {
    futures_util::stream::unfold((committed, count), |(next, mut count)| async move {
        count.wait_for(|count| *count > next).await.ok()?;
        Some((OTHERS + next, (next + 1, count)))
    })
}
