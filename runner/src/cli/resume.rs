//! `rollover resume`, `rollover rollback`.

use std::sync::Arc;

use journal::Why;

use super::session::{Agreed, Operator};
use super::{Context, connect, records, session, signing};
use crate::engine::Options;
use crate::engine::Run;
use crate::error::Failure;
use crate::exit_code::ExitCode;

/// Opens a run again where it can be reached.
pub(crate) async fn open(context: &Context, run: &str, why: Why, agreed: Agreed) -> Result<Run, Failure> {
    let store = records::store(context);
    let id = records::find(&store, run)?;
    let read = records::read(&store.dir(&id))?;
    let way: connect::Way = read
        .loaded
        .state
        .header()
        .and_then(|header| header.world.clone())
        .and_then(|way| serde_json::from_value(way).ok())
        .unwrap_or_default();
    if let Some(dir) = way.sandbox.as_ref().filter(|dir| !dir.join("ready.json").exists()) {
        return Err(Failure::new(
            ExitCode::Unavailable,
            "the sandbox of this run has ended, and the world that it changed with it",
        )
        .on(dir.display().to_string())
        .hint(format!("`rollover audit show {id}` still tells the run; begin a new one with `--sandbox`")));
    }
    let world = connect::world(&way).await?;
    let current =
        read.loaded.state.header().and_then(|header| super::run::current_sources(context, &header.workflow));
    let options = Options {
        reporter: session::reporter(context.json()),
        approver: Arc::new(Operator { agreed }),
        lock: session::lock(&world),
        cancel: session::cancel_on_signal(),
        current_sources: current,
        ..Options::default()
    };
    let tools = signing::tools(context, &world)?;
    Run::open(id.as_str(), &session::actor(), why, world, &store, tools, options)
}

pub(crate) async fn resume(
    context: &Context,
    run: &str,
    yes: bool,
    yes_final: bool,
) -> Result<ExitCode, Failure> {
    let agreed = Agreed { begin: yes, no_return: yes_final, outage: false };
    let run = open(context, run, Why::Resume, agreed).await?;
    Ok(run.resume().await.exit)
}

pub(crate) async fn rollback(
    context: &Context,
    run: &str,
    yes: bool,
    why: &str,
) -> Result<ExitCode, Failure> {
    let agreed = Agreed { begin: yes, no_return: false, outage: false };
    if !yes {
        session::confirm(&format!("Take back run {run}, phase by phase?")).await?;
    }
    let run = open(context, run, Why::Rollback, agreed).await?;
    Ok(run.back(why).await.exit)
}
