//! What a command that works on a run gives the engine: who watches, who answers, what Ctrl-C does.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::sync::Arc;

use futures::future::BoxFuture;
use stdlib::World;

use super::paths;
use crate::engine::approve::{Answer, Approver};
use crate::engine::cancel::Cancel;
use crate::engine::lock::TargetLock;
use crate::engine::{Actor, LeaseLock};
use crate::error::Failure;
use crate::events::{Question, Reporter};
use crate::exit_code::ExitCode;
use crate::output::{self, human::Human, json::JsonLines, style};

/// Prints events for people or for programs.
pub(crate) fn reporter(json: bool) -> Arc<dyn Reporter> {
    if json { Arc::new(JsonLines) } else { Arc::new(Human::default()) }
}

/// What was agreed to on the command line.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Agreed {
    /// To begin.
    pub begin: bool,
    /// To points of no return.
    pub no_return: bool,
    /// To the declared outage.
    pub outage: bool,
}

/// Asks on the terminal what was not agreed to beforehand; without a terminal the answer is no.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operator {
    /// What was agreed to beforehand.
    pub agreed: Agreed,
}

/// The name under which the record keeps answers.
pub(crate) fn user() -> String {
    paths::variable("SUDO_USER")
        .or_else(|| paths::variable("USER"))
        .or_else(|| paths::variable("LOGNAME"))
        .unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
}

fn words(question: &Question) -> String {
    match question {
        Question::Begin { workflow, target } => match target {
            Some(target) => format!("Run {workflow} on {target}?"),
            None => format!("Run {workflow}?"),
        },
        Question::NoReturn { phase, why } => format!(
            "{} Phase `{phase}` cannot be taken back once it has begun.\n{}\nGo past the point of no return?",
            style::warn().for_stderr().apply_to("!"),
            style::wrap(why, 2, style::width())
        ),
        Question::Outage { phase, .. } => format!(
            "{} Links will fail while phase `{phase}` runs, as the forecast above lists.\nAccept the outage?",
            style::warn().for_stderr().apply_to("!")
        ),
        Question::Again { step, failure } => format!("Step `{step}` failed: {failure}\nTry it again?"),
    }
}

impl Approver for Operator {
    fn ask<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Answer> {
        Box::pin(async move {
            let beforehand = match question {
                Question::Begin { .. } => self.agreed.begin.then_some("--yes"),
                Question::NoReturn { .. } => self.agreed.no_return.then_some("--yes-final"),
                Question::Outage { .. } => self.agreed.outage.then_some("--accept-outage"),
                Question::Again { .. } => None,
            };
            if let Some(flag) = beforehand {
                return Answer { yes: true, who: user(), how: flag.into() };
            }
            if !std::io::stdin().is_terminal() {
                output::say(&format!("{}\nno: nobody can be asked, stdin is no terminal", words(question)));
                return Answer { yes: false, who: "nobody".into(), how: "stdin is no terminal".into() };
            }
            let text = words(question);
            let yes = tokio::task::spawn_blocking(move || ask(&text)).await.unwrap_or(false);
            Answer { yes, who: user(), how: "at the prompt".into() }
        })
    }
}

/// Asks until the answer is yes or no. The end of the input is no.
fn ask(text: &str) -> bool {
    loop {
        {
            let mut err = std::io::stderr().lock();
            let _ = write!(err, "\n{text} [y/N] ");
            let _ = err.flush();
        }
        let mut line = String::new();
        match std::io::stdin().lock().read_line(&mut line) {
            Ok(0) | Err(_) => return false,
            Ok(_) => match line.trim().to_lowercase().as_str() {
                "y" | "yes" => return true,
                "" | "n" | "no" => return false,
                _ => output::say("please answer y or n"),
            },
        }
    }
}

/// Ctrl-C and SIGTERM finish the record and stop.
pub(crate) fn cancel_on_signal() -> Cancel {
    let cancel = Cancel::default();
    let asked = cancel.clone();
    tokio::spawn(async move {
        let Ok(mut term) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) else {
            return;
        };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = term.recv() => {}
        }
        output::say("\nstopping at the next safe point; the record stays whole");
        asked.cancel();
    });
    cancel
}

/// Who works on a run, for its record.
pub(crate) fn actor() -> Actor {
    Actor {
        program: concat!("rollover ", env!("CARGO_PKG_VERSION")).into(),
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        user: user(),
        pid: std::process::id(),
    }
}

/// Asks before a command goes on.
///
/// # Errors
/// [`ExitCode::Declined`] when the answer is no, or nobody can be asked.
pub(crate) async fn confirm(text: &str) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(ExitCode::Declined, "nobody can be asked: stdin is no terminal")
            .hint("pass `--yes` to agree beforehand"));
    }
    let text = text.to_owned();
    match tokio::task::spawn_blocking(move || ask(&text)).await {
        Ok(true) => Ok(()),
        _ => Err(Failure::new(ExitCode::Declined, "declined; nothing was changed")),
    }
}

/// The lock on targets in the world's cluster; a workflow without a target needs none.
pub(crate) fn lock(world: &World) -> Arc<dyn TargetLock> {
    Arc::new(LeaseLock { world: world.clone(), host: actor().host, user: user() })
}
