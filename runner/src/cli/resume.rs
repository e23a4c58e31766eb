//! `rollover resume`, `rollover rollback`, and what they share with `abort`: opening a run again.

use std::sync::Arc;
use std::time::Duration;

use journal::{EndState, JournalError, Lifecycle, RunId, Store, Why};
use stdlib::World;
use stdlib::k8s::forward;
use stdlib::world::Clock;

use super::args::{Dialling, Reach};
use super::connect::{self, Way};
use super::records::{self, Read};
use super::session::{Agreed, Operator};
use super::watch::Watched;
use super::{Context, session, signing};
use crate::engine::lock::{NoLock, TargetLock};
use crate::engine::{Options, Run};
use crate::error::Failure;
use crate::events::Ending;
use crate::exit_code::ExitCode;
use crate::plan::Plan;
use crate::rbac;

/// A recorded run that somebody wants to go on with.
pub(crate) struct Found {
    id: RunId,
    read: Read,
}

impl Found {
    /// The run that a prefix of its id names.
    pub(crate) fn of(context: &Context, run: &str) -> Result<Self, Failure> {
        let store = records::store(context);
        let id = records::find(&store, run)?;
        let read = records::read(&store.dir(&id))?;
        Ok(Self { id, read })
    }

    /// That there is nothing left to give up.
    pub(crate) fn over(&self) -> Option<Failure> {
        let Lifecycle::Ended(end) = self.read.loaded.state.lifecycle() else { return None };
        let hint = match end.state {
            EndState::Aborted => return None,
            EndState::Done => format!("`rollover rollback {}` takes it back", self.id),
            EndState::RolledBack => format!("`rollover audit show {}` tells it", self.id),
        };
        let text = format!("the run has ended ({}): there is nothing to give up", end.state);
        Some(Failure::new(ExitCode::Usage, text).on(format!("run {}", self.id)).hint(hint))
    }

    /// For questions: the run, its workflow, its target.
    pub(crate) fn title(&self) -> String {
        let workflow = self.read.loaded.state.header().map_or("", |header| header.workflow.as_str());
        let target = self.read.plan.as_ref().ok().and_then(|plan| plan.target.as_ref());
        let on = target.map(|target| format!(" on {}", target.title)).unwrap_or_default();
        format!("run {} of {workflow}{on}", self.id)
    }
}

/// A run that was opened again, and who watches it.
pub(crate) struct Opened {
    pub run: Run,
    watched: Arc<Watched>,
}

impl Opened {
    /// Tells what was seen beside the run, and how the program ends.
    pub(crate) async fn end(&self, context: &Context, ending: Ending) -> ExitCode {
        self.watched.tell(context.json()).await;
        ending.exit
    }
}

/// Where a recorded run's pods are.
fn namespaces(plan: &Plan) -> Vec<String> {
    forward::listed(&rbac::touches(plan, stdlib::registry()))
}

/// The world of a run, and the lock on its target.
async fn world(found: &Found, way: &Way, why: Why) -> Result<(World, Arc<dyn TargetLock>), Failure> {
    let Some(dir) = way.ended_sandbox() else {
        let world = connect::world(way).await?;
        let lock = session::lock(&world);
        return Ok((world, lock));
    };
    if why == Why::Abort {
        // What was locked is gone with its world; the record can still be closed.
        return Ok((World::system(None, way.folder()), Arc::new(NoLock)));
    }
    Err(Failure::new(
        ExitCode::Unavailable,
        "the sandbox of this run has ended, and the world that it changed with it",
    )
    .on(dir.display().to_string())
    .hint(format!(
        "`rollover audit show {0}` still tells the run, `rollover abort {0}` closes its record; begin a new one with `--sandbox`",
        found.id
    )))
}

/// For how long a lock may be held by nobody any more: a child of a process that was killed keeps that one's files until it
/// has become the program that it was begun for.
const LINGERS: Duration = Duration::from_secs(1);
/// How often it is looked at meanwhile.
const LOOKS: u32 = 20;

/// Waits a moment for the lock of a run that is to be gone on with, perhaps right after its process was killed.
async fn let_go(store: &Store, run: &RunId, clock: &dyn Clock) {
    for _ in 0..LOOKS {
        match store.lock(run) {
            Err(JournalError::Held { .. }) => clock.sleep(LINGERS / LOOKS).await,
            Ok(_) | Err(_) => return,
        }
    }
}

/// Opens a run again where it can be reached.
pub(crate) async fn open(
    context: &Context,
    found: &Found,
    reach: (&Reach, Dialling),
    why: Why,
    agreed: Agreed,
) -> Result<Opened, Failure> {
    let header = found.read.header()?;
    let (reach, dialling) = reach;
    let mut way = Way::again(header, reach)?;
    way.dial(dialling, || found.read.plan.as_ref().map(namespaces).unwrap_or_default());
    let (world, lock) = world(found, &way, why).await?;
    let watched = Watched::new(session::reporter(context.json()), way.sandbox.clone());
    let options = Options {
        reporter: watched.clone(),
        approver: Arc::new(Operator { agreed }),
        lock,
        cancel: session::cancel_on_signal(),
        current_sources: super::run::current_sources(context, way.workflow.as_deref(), &header.workflow),
        ..Options::default()
    };
    let tools = signing::tools(context, &world)?;
    let store = records::store(context);
    let_go(&store, &found.id, &*world.clock).await;
    let run = Run::open(found.id.as_str(), &session::actor(), why, world, &store, tools, options)?;
    Ok(Opened { run, watched })
}

pub(crate) async fn resume(
    context: &Context,
    run: &str,
    reach: (&Reach, Dialling),
    agreed: Agreed,
) -> Result<ExitCode, Failure> {
    let opened = open(context, &Found::of(context, run)?, reach, Why::Resume, agreed).await?;
    let ending = opened.run.resume().await;
    Ok(opened.end(context, ending).await)
}

pub(crate) async fn rollback(
    context: &Context,
    run: &str,
    reach: (&Reach, Dialling),
    yes: bool,
    accept_outage: bool,
    why: &str,
) -> Result<ExitCode, Failure> {
    let found = Found::of(context, run)?;
    if !yes {
        session::confirm(&format!("Take back {}, phase by phase?", found.title())).await?;
    }
    let agreed = Agreed { begin: yes, no_return: false, outage: accept_outage };
    let opened = open(context, &found, reach, Why::Rollback, agreed).await?;
    let ending = opened.run.back(why).await;
    Ok(opened.end(context, ending).await)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use stdlib::files::SystemDisk;
    use stdlib::world::SystemClock;

    use super::*;

    /// Who only asks whether somebody works on a run is told at once.
    #[tokio::test]
    async fn a_lock_that_its_holder_lets_go_in_a_moment_is_waited_for_by_who_goes_on() {
        let here = tempfile::tempdir().unwrap();
        let store = Store::new(Arc::new(SystemDisk), here.path());
        let held = store.create(SystemClock.now(), 1).unwrap();
        let id = store.list().unwrap().pop().unwrap();
        assert!(matches!(store.lock(&id), Err(JournalError::Held { .. })));
        let holder = tokio::spawn(async move {
            SystemClock.sleep(LINGERS / 5).await;
            drop(held);
        });
        let_go(&store, &id, &SystemClock).await;
        drop(store.lock(&id).unwrap());
        holder.await.unwrap();

        // One that is really held is not waited for any longer.
        let held = store.lock(&id).unwrap();
        let_go(&store, &id, &SystemClock).await;
        assert!(matches!(store.lock(&id), Err(JournalError::Held { .. })));
        drop(held);
    }
}
