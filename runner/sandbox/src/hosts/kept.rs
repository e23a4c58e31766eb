//! Containers of a host: who keeps them running, and what asks for them does here.

use std::sync::Arc;
use std::time::Duration;

use stdlib::host::{Asked, Runtime, Service};
use tokio::sync::watch;

use super::commands::Done;
use super::folder::{Node, Root};
use super::machine::Machine;
use super::unit::Unit;

/// Who starts a service, and starts it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeper {
    /// `systemctl`, when it is told to.
    Systemd,
    /// The kubelet, as long as its manifest lies in the folder of manifests.
    Kubelet,
    /// `docker`, when it is told to.
    Docker,
}

/// Where the kubelet looks for manifests.
pub(super) const MANIFESTS: &str = "/etc/kubernetes/manifests";
/// How often it looks at least.
const SYNC: Duration = Duration::from_secs(1);
/// How often whoever waits for it looks.
const POLL: Duration = Duration::from_millis(200);
/// With this a container says that whoever keeps it would start it again.
const STARTED_AGAIN: i32 = 78;
/// How long whoever waits for it does.
const PATIENCE: Duration = Duration::from_secs(90);

/// The manifest of a container.
pub(super) fn manifest(name: &str) -> String {
    format!("{MANIFESTS}/{name}.yaml")
}

fn lies(machine: &Machine, path: &str) -> bool {
    matches!(machine.root().node(path), Ok(Node::File(_)))
}

/// Starts what a manifest asks for, stops what none asks for, over and over.
pub(super) async fn kubelet(machine: Arc<Machine>, units: Vec<Arc<Unit>>, mut heard: watch::Receiver<u64>) {
    loop {
        heard.mark_unchanged();
        for unit in &units {
            let wanted = lies(&machine, &manifest(unit.name()));
            if wanted && !unit.is_active() {
                // What fails is tried again, as with CrashLoopBackOff.
                let _ = unit.revive().await;
                machine.rings();
            } else if !wanted && unit.is_active() {
                unit.stop().await;
                machine.rings();
            }
        }
        let changed = async {
            if heard.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = changed => machine.clock().sleep(POLL).await,
            () = machine.clock().sleep(SYNC) => {}
        }
    }
}

/// Does what a command for a container asks. It goes on to its end whoever waits for it.
pub(super) async fn ask(machine: &Machine, asked: Asked, service: Service) -> Done {
    let name = service.name();
    let runtime = if let Service::Container { runtime, .. } = &service { *runtime } else { None };
    let found = machine.kept(name).filter(|(keeper, _)| match runtime {
        None => *keeper != Keeper::Systemd,
        Some(Runtime::Docker) => *keeper == Keeper::Docker,
        Some(Runtime::Crictl) => *keeper == Keeper::Kubelet,
    });
    let (Some((keeper, unit)), Some(machine)) = (found, machine.me().upgrade()) else {
        let why = match asked {
            Asked::Status => "does not run".to_owned(),
            Asked::Restart | Asked::Stop => format!("no such container: {name}"),
        };
        return Done::failed(3, why);
    };
    if asked == Asked::Status {
        return if unit.is_active() {
            Done::said(format!("{:064x}\n", unit.starts()))
        } else {
            Done::failed(3, "does not run")
        };
    }
    let restarted = tokio::spawn(async move {
        let stops = asked == Asked::Stop;
        let done = match (&service, keeper) {
            (Service::StaticPod { manifest, .. }, _) if stops => parked(&machine, &unit, manifest).await,
            (_, Keeper::Docker) if stops => {
                unit.stop().await;
                Ok(())
            }
            _ if stops => return Done::failed(STARTED_AGAIN, "the kubelet would start it again"),
            (Service::StaticPod { manifest, .. }, _) => by_manifest(&machine, &unit, manifest).await,
            (_, Keeper::Docker) => Arc::clone(&unit).restart().await,
            _ => {
                let before = unit.starts();
                unit.stop().await;
                machine.rings();
                until(&machine, || unit.is_active() && unit.starts() != before)
                    .await
                    .map_err(|()| format!("the kubelet has not started {} again", unit.name()))
            }
        };
        machine.rings();
        match done {
            Ok(()) => Done::default(),
            Err(why) => Done::failed(1, why),
        }
    });
    restarted.await.unwrap_or_else(|error| Done::failed(1, error.to_string()))
}

fn moved(machine: &Machine, from: &str, to: &str) -> Result<(), String> {
    let here = |path: &str| machine.root().spot(path).map_err(|error| format!("{path}: {error}"));
    let (from, to) = (here(from)?, here(to)?);
    let done = Root::settle(&from.here, &to).map_err(|error| format!("mv: {}: {error}", from.path));
    machine.rings();
    done
}

/// The manifest is moved out of its folder; returns where it lies, and whether nothing runs any more.
async fn out(machine: &Machine, unit: &Arc<Unit>, manifest: &str) -> Result<(String, bool), String> {
    let (folder, file) = manifest.rsplit_once('/').unwrap_or_default();
    let above = folder.rsplit_once('/').unwrap_or_default().0;
    let parked = format!("{above}/.{file}.parked");
    match (lies(machine, manifest), lies(machine, &parked)) {
        (true, true) => {
            return Err(format!("{parked} is there beside {manifest}: remove the one that is not wanted"));
        }
        (true, false) => moved(machine, manifest, &parked)?,
        (false, true) => {}
        (false, false) => return Err(format!("there is no manifest {manifest}")),
    }
    let stopped = until(machine, || !unit.is_active()).await.is_ok();
    Ok((parked, stopped))
}

/// The manifest is moved out of its folder until nothing runs.
async fn parked(machine: &Machine, unit: &Arc<Unit>, manifest: &str) -> Result<(), String> {
    let (_, stopped) = out(machine, unit, manifest).await?;
    if stopped { Ok(()) } else { Err(format!("the kubelet has not stopped {}", unit.name())) }
}

/// The same, and back.
async fn by_manifest(machine: &Machine, unit: &Arc<Unit>, manifest: &str) -> Result<(), String> {
    let name = unit.name();
    let (parked, stopped) = out(machine, unit, manifest).await?;
    moved(machine, &parked, manifest)?;
    if !stopped {
        return Err(format!("the kubelet has not stopped {name}"));
    }
    until(machine, || unit.is_active())
        .await
        .map_err(|()| format!("the kubelet has not started {name} again"))
}

async fn until(machine: &Machine, holds: impl Fn() -> bool) -> Result<(), ()> {
    let end = machine.clock().now() + PATIENCE;
    while !holds() {
        if machine.clock().now() >= end {
            return Err(());
        }
        machine.clock().sleep(POLL).await;
    }
    Ok(())
}
