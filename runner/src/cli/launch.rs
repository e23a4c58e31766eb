//! Starts a sandbox as a process of its own, which outlives a killed runner.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use sandbox::world::{Operator, Scenario};
use stdlib::world::{Clock as _, Disk as _, SystemClock};

use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::output::live::Live;

/// How long a sandbox may take until it is steady.
const PATIENCE: Duration = Duration::from_secs(90);

/// A folder for a new sandbox: the time, and this process.
pub(crate) fn folder(sandboxes: &Path) -> PathBuf {
    let now = SystemClock.now();
    sandboxes.join(format!(
        "{:04}{:02}{:02}-{:02}{:02}{:02}-{}",
        now.year(),
        u8::from(now.month()),
        now.day(),
        now.hour(),
        now.minute(),
        now.second(),
        std::process::id()
    ))
}

/// Where a sandbox finds what it begins with; not there for the usual.
pub(crate) const SCENARIO: &str = "scenario.json";

/// What it begins with, for people.
fn what(scenario: &Scenario) -> String {
    match &scenario.etcd {
        Some(etcd) => {
            format!("an etcd cluster of {} members on hosts of their own, and who writes to it", etcd.members)
        }
        None => {
            let by = if scenario.operator == Operator::V2 { " (operator v2)" } else { "" };
            format!("a TiDB cluster of 3 PD, 3 TiKV, 2 TiDB and a client{by}")
        }
    }
}

/// Starts one and waits until it is steady.
pub(crate) async fn start(dir: &Path, seed: u64, scenario: &Scenario) -> Result<(), Failure> {
    let unwritable = |error: std::io::Error| {
        Failure::new(ExitCode::StateUnwritable, format!("cannot make the sandbox's folder: {error}"))
            .on(dir.display().to_string())
            .hint("pass `--state DIR` with a folder that you may write")
    };
    stdlib::files::SystemDisk.make_dir(dir, 0o700).map_err(unwritable)?;
    if *scenario != Scenario::default() {
        let text = serde_json::to_vec(scenario)
            .map_err(|error| Failure::new(ExitCode::Unknown, error.to_string()))?;
        stdlib::files::SystemDisk.write_atomic(&dir.join(SCENARIO), &text, 0o600).map_err(unwritable)?;
    }
    let log = dir.join("sandbox.log");
    let out = std::fs::OpenOptions::new().create(true).append(true).open(&log).map_err(unwritable)?;
    let err = out.try_clone().map_err(unwritable)?;
    let program = std::env::current_exe()
        .map_err(|error| Failure::new(ExitCode::Unknown, format!("cannot find this program: {error}")))?;
    let mut command = tokio::process::Command::new(program);
    command
        .arg("sandbox")
        .arg("serve")
        .arg("--dir")
        .arg(dir)
        .arg("--seed")
        .arg(seed.to_string())
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .process_group(0);
    let mut child = command
        .spawn()
        .map_err(|error| Failure::new(ExitCode::Unknown, format!("cannot start the sandbox: {error}")))?;

    let live = Live::default();
    live.begin(format!("starting a sandbox: {}", what(scenario)));
    let ready = dir.join("ready.json");
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let outcome = loop {
        if ready.exists() {
            break Ok(());
        }
        if let Ok(Some(status)) = child.try_wait() {
            break Err(Failure::new(ExitCode::Unavailable, format!("the sandbox ended at once ({status})")));
        }
        if tokio::time::Instant::now() >= deadline {
            let _ = child.start_kill();
            break Err(Failure::new(
                ExitCode::Unavailable,
                format!("the sandbox was not ready after {}s", PATIENCE.as_secs()),
            ));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    live.end();
    outcome.map_err(|failure| failure.on(dir.display().to_string()).hint(format!("read `{}`", log.display())))
}
