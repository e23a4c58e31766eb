//! `rollover sandbox`: start, list and stop sandboxes.

use std::path::{Path, PathBuf};

use sandbox::world::Scenario;
use serde_json::{Value, json};
use stdlib::files::SystemDisk;
use stdlib::world::Disk as _;

use super::args::SandboxCommand;
use super::{Context, launch, workflows};
use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::output::{self, table};

pub(crate) async fn sandboxes(context: &Context, command: SandboxCommand) -> Result<ExitCode, Failure> {
    match command {
        SandboxCommand::Serve { dir, seed, idle } => serve(&dir, seed, idle).await,
        SandboxCommand::Start { workflow, seed } => start(context, workflow.as_deref(), seed).await,
        SandboxCommand::List => Ok(list(context)),
        SandboxCommand::Stop { dir } => stop(context, dir),
    }
}

async fn serve(dir: &Path, seed: u64, idle: u64) -> Result<ExitCode, Failure> {
    let scenario = match SystemDisk.read(&dir.join(launch::SCENARIO)) {
        Ok(text) => Scenario::from_yaml(&String::from_utf8_lossy(&text)).map_err(|error| {
            Failure::new(ExitCode::Unavailable, format!("what the sandbox begins with is malformed: {error}"))
                .on(dir.join(launch::SCENARIO).display().to_string())
        })?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Scenario::default(),
        Err(error) => {
            return Err(Failure::new(
                ExitCode::Unavailable,
                format!("what the sandbox begins with cannot be read: {error}"),
            )
            .on(dir.join(launch::SCENARIO).display().to_string()));
        }
    };
    let options = sandbox::process::Options {
        seed,
        scenario,
        idle: std::time::Duration::from_secs(idle),
        ..sandbox::process::Options::default()
    };
    match sandbox::process::serve(dir, options).await {
        Ok(()) => Ok(ExitCode::Ok),
        Err(error) => Err(Failure::new(ExitCode::Unavailable, format!("the sandbox ended: {error}"))
            .on(dir.display().to_string())),
    }
}

async fn start(context: &Context, workflow: Option<&str>, seed: u64) -> Result<ExitCode, Failure> {
    let scenario = match workflow {
        Some(name) => workflows::load(context, name)?.manifest.sandbox,
        None => Scenario::default(),
    };
    let dir = launch::folder(&context.paths.sandboxes());
    launch::start(&dir, seed, &scenario).await?;
    let shown = dir.display();
    let name = workflow.unwrap_or("tidb/cfssl-rotate");
    let (rest, look) = if scenario.etcd.is_some() {
        let folders = json!({ "hosts": dir.join("hosts"), "inventory": dir.join("hosts.yaml") });
        (folders, format!("  less {shown}/hosts.yaml      files of its hosts: {shown}/hosts"))
    } else {
        let kubectl = format!("  kubectl --kubeconfig {shown}/kubeconfig -n {} get pods", scenario.namespace);
        (json!({ "kubeconfig": dir.join("kubeconfig") }), kubectl)
    };
    if context.json() {
        let mut all = json!({ "dir": dir, "pki": dir.join("pki") });
        if let (Some(all), Value::Object(rest)) = (all.as_object_mut(), rest) {
            all.extend(rest);
        }
        output::data(&all.to_string());
    } else {
        output::data(&format!(
            "A sandbox runs in {shown}\n{look}\n  rollover run {name} --sandbox-dir {shown}\n  rollover sandbox stop {shown}"
        ));
    }
    Ok(ExitCode::Ok)
}

/// The folders of sandboxes whose process still lives.
fn running(context: &Context) -> Vec<(PathBuf, Value)> {
    let root = context.paths.sandboxes();
    SystemDisk
        .list(&root)
        .unwrap_or_default()
        .into_iter()
        .map(|name| root.join(name))
        .filter_map(|dir| Some((dir.clone(), ready(&dir)?)))
        .collect()
}

/// What a sandbox said when it was ready; none where it has ended.
pub(crate) fn ready(dir: &Path) -> Option<Value> {
    let text = SystemDisk.read(&dir.join("ready.json")).ok()?;
    let ready: Value = serde_json::from_slice(&text).ok()?;
    // After a reboot or a kill the number may be that of any other program.
    let pid = ready.get("pid")?.as_u64()?;
    let line = SystemDisk.read(Path::new(&format!("/proc/{pid}/cmdline"))).ok()?;
    line.split(|byte| *byte == 0).any(|argument| argument == b"serve").then_some(ready)
}

fn list(context: &Context) -> ExitCode {
    let running = running(context);
    if context.json() {
        let rows: Vec<Value> = running
            .iter()
            .map(|(dir, ready)| json!({"dir": dir.display().to_string(), "ready": ready}))
            .collect();
        output::data(&Value::from(rows).to_string());
    } else if running.is_empty() {
        output::say("no sandbox runs; `rollover sandbox start` starts one");
    } else {
        let mut rows = table::plain(&["folder", "pid"]);
        for (dir, ready) in &running {
            rows.add_row([
                dir.display().to_string(),
                ready.get("pid").map(ToString::to_string).unwrap_or_default(),
            ]);
        }
        output::data(&table::text(&rows));
    }
    ExitCode::Ok
}

fn stop(context: &Context, dir: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let all = running(context);
    let chosen: Vec<_> = match &dir {
        Some(dir) => {
            let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
            ready(&dir).map(|ready| (dir, ready)).into_iter().collect()
        }
        None => all,
    };
    if chosen.is_empty() && dir.is_some() {
        return Err(Failure::new(ExitCode::Unavailable, "no sandbox runs there")
            .hint("`rollover sandbox list` shows those that run"));
    }
    for (dir, ready) in chosen {
        if let Some(pid) = ready
            .get("pid")
            .and_then(Value::as_i64)
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(rustix::process::Pid::from_raw)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        output::say(&format!("stopped {}", dir.display()));
    }
    Ok(ExitCode::Ok)
}
