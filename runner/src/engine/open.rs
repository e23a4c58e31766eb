//! Beginning a run's record, and opening one again.

use std::collections::BTreeMap;
use std::sync::Arc;

use journal::{Header, Journal, JournalError, Session, Store, Tools, Vault, Why};
use serde_json::Value;
use stdlib::secret::{SecretStore, handle_id};
use stdlib::world::World;

use super::ledger::{Ledger, digest};
use super::run::{Actor, Begin};
use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::plan::Plan;
use crate::record::{self, unreadable};

/// A run whose record is open.
pub(crate) struct Opened {
    pub ledger: Ledger,
    pub plan: Arc<Plan>,
    pub sources: BTreeMap<String, Vec<u8>>,
}

/// Makes the folder, pins what the run goes by, writes header and first session.
pub(crate) fn begin(begin: Begin, world: &World, store: &Store, tools: Tools) -> Result<Opened, Failure> {
    let fail = |error: JournalError| record::failure(&error, true);
    let unfit = |error: serde_json::Error| unreadable("step list", &error);
    let random = rand::random();
    let lock = store.create(world.clock.now(), random).map_err(fail)?;
    let vault = Arc::new(lock.vault().map_err(fail)?);
    let value = serde_json::to_value(&begin.plan).map_err(unfit)?;
    let value = moved(value, &*world.secrets, &vault)?;
    let plan: Plan = serde_json::from_value(value.clone()).map_err(unfit)?;
    let target = plan.target.as_ref().map(serde_json::to_value).transpose().map_err(unfit)?;
    let run = lock.id().to_string();
    let folder = lock.dir().display().to_string();
    let header = Header {
        format: journal::FORMAT,
        run_id: run.clone(),
        workflow: plan.workflow.clone(),
        program: begin.actor.program.clone(),
        host: begin.actor.host.clone(),
        user: begin.actor.user.clone(),
        plan: value,
        sources: lock.bodies().pin(&begin.sources).map_err(fail)?,
        params: digest(&plan.params),
        target,
        world: begin.reach,
        signer: String::new(),
    };
    let mut journal = Journal::create(lock, header, tools).map_err(fail)?;
    journal.append(session(&begin.actor, Why::Start)).map_err(fail)?;
    let plan = Arc::new(plan);
    let ledger = Ledger::new(journal, vault, run, folder);
    Ok(Opened { ledger, plan, sources: begin.sources })
}

/// Locks, reads and checks a run; its step list is the pinned one.
pub(crate) fn open(
    run: &str,
    actor: &Actor,
    why: Why,
    store: &Store,
    tools: Tools,
) -> Result<Opened, Failure> {
    let fail = |error: JournalError| record::failure(&error, false);
    let id = store.find(run).map_err(fail)?;
    let lock = store.lock(&id).map_err(fail)?;
    let folder = lock.dir().display().to_string();
    let vault = Arc::new(lock.vault().map_err(fail)?);
    let mut journal = Journal::open(lock, tools).map_err(fail)?;
    let header = journal.state().header().cloned();
    let header = header.ok_or_else(|| Failure::new(ExitCode::PinnedAltered, "the record has no header"))?;
    let sources = journal.bodies().pinned(&header).map_err(fail)?;
    let plan = record::plan(&header, journal.bodies())?;
    if may_continue(journal.state(), why) {
        journal.append(session(actor, why)).map_err(fail)?;
    }
    let ledger = Ledger::new(journal, vault, id.to_string(), folder);
    Ok(Opened { ledger, plan: Arc::new(plan), sources })
}

/// Whether there is anything to begin a session for: a run that is over is opened to be told so.
fn may_continue(state: &journal::State, why: Why) -> bool {
    let session = Session {
        program: String::new(),
        host: String::new(),
        user: String::new(),
        pid: 0,
        why,
        signer: None,
    };
    state.admits(state.seq() + 1, &journal::Event::Session(session)).is_ok()
}

pub(crate) fn session(actor: &Actor, why: Why) -> journal::Event {
    journal::Event::Session(Session {
        program: actor.program.clone(),
        host: actor.host.clone(),
        user: actor.user.clone(),
        pid: actor.pid,
        why,
        signer: None,
    })
}

/// The value with every secret handle moved from one store to another.
fn moved(value: Value, from: &dyn SecretStore, to: &Vault) -> Result<Value, Failure> {
    if handle_id(&value).is_some() {
        let secret = from.get(&value).and_then(|secret| to.put(&secret));
        return secret.map_err(|error| Failure::of(ExitCode::before_start(&error), error));
    }
    Ok(match value {
        Value::Array(items) => {
            Value::Array(items.into_iter().map(|item| moved(item, from, to)).collect::<Result<_, _>>()?)
        }
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, field)| Ok((name, moved(field, from, to)?)));
            Value::Object(fields.collect::<Result<_, Failure>>()?)
        }
        other => other,
    })
}
