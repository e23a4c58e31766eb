//! One pod from its mounting to its end.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{broadcast, watch};

use super::inside::Inside;
use super::mount::{self, Mount};
use super::status::{Report, Run, status};
use crate::world::bell::Bell;
use crate::world::cache::Cache;
use crate::world::ctx::Ctx;
use crate::world::faults::Fault;
use crate::world::genesis::sql_password;
use crate::world::json as js;
use crate::world::kube::{EVENTS, Kube, PODS};
use crate::world::pod::party::Party;
use crate::world::pod::process::{Process, Who};
use crate::world::pod::program::{PROGRAMS, Program, SQL_FOLDER, SQL_FOLDER_V2};
use crate::world::pod::sql::SqlSide;
use crate::world::timing::Dice;
use crate::world::volume::Volume;

/// What a pod's worker needs.
pub(crate) struct Worker {
    /// The world.
    pub ctx: Arc<Ctx>,
    /// The API.
    pub kube: Kube,
    /// Secrets as the kubelet sees them.
    pub secrets: Cache,
    /// Rings when they change.
    pub bell: Bell,
    /// The pod as it was made.
    pub pod: Arc<Value>,
    /// Which pod of this name it is, counted from 1.
    pub(crate) incarnation: u32,
    /// True when it is to end.
    pub stop: watch::Receiver<bool>,
}

/// Why a run of the container ended.
enum Ended {
    /// The pod is being deleted.
    Stopped,
    /// It restarts.
    Restarts,
    /// It could not start.
    Failed(String),
}

struct State {
    ctx: Arc<Ctx>,
    kube: Kube,
    pod: Value,
    report: Report,
    dice: Dice,
}

/// An address that is given back however the worker ends.
struct Address(IpAddr, Arc<Ctx>);

impl Drop for Address {
    fn drop(&mut self) {
        self.1.net.release(self.0);
    }
}

/// The program that a pod runs: known by its image's name.
pub(crate) fn program(pod: &Value) -> Option<&'static Program> {
    let image = js::text(pod, "/spec/containers/0/image");
    let name = image.rsplit('/').next().unwrap_or(image).split(':').next().unwrap_or_default();
    PROGRAMS.iter().find(|p| p.image == name)
}

/// Common names that a server allows, as `cert-allowed-cn` in its environment says.
fn allowed_cn(pod: &Value) -> Vec<String> {
    let env =
        js::items(pod, "/spec/containers/0/env").iter().find(|e| js::text(e, "/name") == "CERT_ALLOWED_CN");
    let list = env.map(|e| js::text(e, "/value")).unwrap_or_default();
    list.split(',').map(str::trim).filter(|cn| !cn.is_empty()).map(str::to_owned).collect()
}

impl Worker {
    /// Runs the pod until it is deleted.
    pub(crate) async fn run(self) {
        let Self { ctx, kube, secrets, bell, pod, incarnation, mut stop } = self;
        let (namespace, name) = (js::namespace(&pod).to_owned(), js::name(&pod).to_owned());
        let dice = ctx.dice(&format!("kubelet/{name}/{incarnation}"));
        let report = Report { run: Run::Creating, ip: None, restarts: 0, last: None, started: ctx.now() };
        let mut state = State { ctx: Arc::clone(&ctx), kube, pod: (*pod).clone(), report, dice };
        let mounts = mount::mounts(&pod);
        let here = (namespace.as_str(), name.as_str());
        let mut address = None;
        let stopping = stop.clone();
        {
            let life = async {
                state.mount(&mounts).await;
                let ip = address.insert(state.address().await).0;
                state.report.ip = Some(ip.to_string());
                let kept = ctx.pods.keep(&pod, ip, &mounts);
                let follow = futures::future::join_all(
                    mounts.iter().map(|m| mount::follow(&ctx, &secrets, &bell, here, m)),
                );
                let containers = state.containers(&kept.inside, ip, stopping);
                // A pod that mounts nothing has nothing to follow, and goes on all the same.
                let follow = async {
                    follow.await;
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    biased;
                    () = follow => {}
                    () = containers => {}
                }
            };
            let stopped = async {
                // A pod that has no process yet ends at once; one that has ends by itself, in `containers`.
                let _ = stop.wait_for(|stop| *stop).await;
                tokio::time::sleep(Duration::from_millis(ctx.timing.stop.most.saturating_mul(4))).await;
            };
            tokio::select! {
            biased;
                           () = life => {}
                           () = stopped => {}
                       }
        }
        drop(address);
        state.remove().await;
    }
}

impl State {
    fn at(&self) -> (String, String) {
        (js::namespace(&self.pod).to_owned(), js::name(&self.pod).to_owned())
    }

    async fn report(&mut self) {
        let now = self.ctx.now();
        let status = status(&self.pod, &self.report, &now);
        let (namespace, name) = self.at();
        if let Some(map) = self.pod.as_object_mut() {
            map.insert("status".into(), status.clone());
        }
        for _ in 0..20 {
            let patch = json!({ "metadata": { "uid": js::uid(&self.pod) }, "status": status });
            match self.kube.merge(PODS, (&namespace, &name), "/status", &patch).await {
                Ok(_) => return,
                // It has gone, or another of its name is there.
                Err(e) if crate::world::kube::is(&e, 404) || crate::world::kube::is(&e, 409) => return,
                Err(e) => tracing::warn!("status of {namespace}/{name}: {e}"),
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn event(&self, kind: &str, reason: &str, message: &str) {
        let (namespace, name) = self.at();
        let now = self.ctx.now();
        let event = json!({
            "metadata": { "name": format!("{name}.{}", self.dice.hex(8)), "namespace": namespace },
            "involvedObject": { "apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": name,
                "uid": js::uid(&self.pod) },
            "type": kind, "reason": reason, "message": message, "count": 1,
            "firstTimestamp": now, "lastTimestamp": now,
            "source": { "component": "kubelet" },
        });
        if let Err(e) = self.kube.create(EVENTS, &namespace, event).await {
            tracing::debug!("event: {e}");
        }
    }

    /// Mounts all Secrets as they are now; waits for one that is not there.
    async fn mount(&mut self, mounts: &[Mount]) {
        let namespace = js::namespace(&self.pod).to_owned();
        let mut told = false;
        for mount in mounts {
            while let Err(why) = mount::fetch(&self.kube, &namespace, mount).await {
                if !told {
                    told = true;
                    self.report().await;
                    self.event("Warning", "FailedMount", &format!("MountVolume.SetUp failed: {why}")).await;
                }
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
        }
        self.ctx.pause(&self.dice, self.ctx.timing.start).await;
    }

    async fn address(&self) -> Address {
        loop {
            match self.ctx.net.allocate() {
                Ok(ip) => return Address(ip, Arc::clone(&self.ctx)),
                Err(e) => tracing::warn!("no pod address: {e}"),
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn containers(&mut self, inside: &Inside, ip: IpAddr, mut stop: watch::Receiver<bool>) {
        let mut failures = 0u32;
        loop {
            let since = self.ctx.now();
            inside.logs().begin();
            let ended = self.container(inside, ip, &mut stop).await;
            if let Ended::Failed(why) = &ended {
                inside.logs().write(&format!("fatal: {why}"));
            }
            inside.logs().end();
            match ended {
                Ended::Stopped => return,
                Ended::Restarts => {
                    failures = 0;
                    self.report.restarts += 1;
                    self.report.last = Some((since, self.ctx.now()));
                    let (reason, message) = ("Error".to_owned(), String::new());
                    self.report.run = Run::Waiting { reason, message };
                    self.report().await;
                    self.ctx.pause(&self.dice, self.ctx.timing.start).await;
                }
                Ended::Failed(message) => {
                    failures += 1;
                    self.report.restarts += 1;
                    self.report.last = Some((since, self.ctx.now()));
                    self.event(
                        "Warning",
                        "BackOff",
                        &format!("Back-off restarting failed container: {message}"),
                    )
                    .await;
                    self.report.run = Run::Waiting { reason: "CrashLoopBackOff".to_owned(), message };
                    self.report().await;
                    let pause = self.ctx.timing.start.most.max(100) << failures.min(6);
                    tokio::select! {
                    biased;
                                           () = tokio::time::sleep(Duration::from_millis(pause)) => {}
                                           _ = stop.wait_for(|stop| *stop) => return,
                                       }
                }
            }
        }
    }

    /// One run of the container.
    async fn container(&mut self, inside: &Inside, ip: IpAddr, stop: &mut watch::Receiver<bool>) -> Ended {
        inside.logs().write("starting");
        let process = match self.start(&inside.mounts, ip) {
            Ok(process) => process,
            Err(why) => return Ended::Failed(why),
        };
        let (_, name) = self.at();
        self.report.run = Run::Running { since: self.ctx.now(), ready: false };
        self.report().await;
        let mut kicks = self.ctx.kicks.subscribe();
        let mean = if process.is_none() { 0 } else { self.ctx.timing.restart_mean };
        let spontaneous = self.dice.next_of(mean);
        let ctx = Arc::clone(&self.ctx);
        let restart = async {
            // Counted from the moment when the start state is reached: nothing restarts before.
            let mut heard = ctx.bell.listen();
            while !ctx.pace.settled() {
                heard.rings().await;
            }
            match spontaneous {
                Some(after) => tokio::time::sleep(after).await,
                None => std::future::pending().await,
            }
            if ctx.faults.has(&Fault::NoRestarts) {
                std::future::pending::<()>().await;
            }
        };
        let ended = tokio::select! {
        biased;
                   _ = stop.wait_for(|stop| *stop) => Ended::Stopped,
                   () = kicked(&mut kicks, &name) => Ended::Restarts,
                   () = restart => Ended::Restarts,
                   ended = self.serve(inside, process.as_ref()) => ended,
               };
        if let Some(process) = &process {
            process.set_ready(false);
        }
        if matches!(ended, Ended::Stopped) {
            self.event("Normal", "Killing", "Stopping container").await;
            self.ctx.pause(&self.dice, self.ctx.timing.stop).await;
        } else {
            self.event("Warning", "Unhealthy", "Container restarts").await;
        }
        drop(process);
        ended
    }

    /// Becomes ready when it reaches its peers, and stays until it ends.
    async fn serve(&mut self, inside: &Inside, process: Option<&Process>) -> Ended {
        self.ctx.pause(&self.dice, self.ctx.timing.ready).await;
        let (_, name) = self.at();
        let never = Fault::NeverReady { pod: name };
        let (mut told, mut last) = (false, String::new());
        while let Some(process) = process {
            let mut heard = self.ctx.bell.listen();
            let reached = if self.ctx.faults.has(&never) {
                Err("the readiness probe fails".to_owned())
            } else {
                process.reaches_peers().await
            };
            let Err(why) = reached else { break };
            if why != last {
                inside.logs().write(&format!("not ready: {why}"));
                last.clone_from(&why);
            }
            if !told && self.ctx.pace.settled() {
                told = true;
                self.event("Warning", "Unhealthy", &format!("Readiness probe failed: {why}")).await;
            }
            let _ = tokio::time::timeout(Duration::from_secs(1), heard.rings()).await;
        }
        inside.logs().write("ready");
        if let Some(process) = process {
            process.set_ready(true);
        }
        if let Run::Running { ready, .. } = &mut self.report.run {
            *ready = true;
        }
        self.report().await;
        std::future::pending().await
    }

    fn start(&self, mounts: &[Mount], ip: IpAddr) -> Result<Option<Process>, String> {
        let Some(program) = program(&self.pod) else { return Ok(None) };
        let (namespace, pod) = self.at();
        let mounted = |folder: &str| mounts.iter().find(|m| m.path == folder).map(|m| m.volume.clone());
        let volume = mounted(&program.folder()).unwrap_or_default();
        let label = (format!("pod/{pod}"), program.component);
        let party =
            Party::start(label, Some(ip), program.verifier, program.leaf, volume, allowed_cn(&self.pod))?;
        let cluster = js::label(&self.pod, "app.kubernetes.io/instance").to_owned();
        let side = |volume: Volume| {
            SqlSide::start(format!("pod/{pod} (MySQL)"), volume, sql_password(&namespace, &cluster))
        };
        let sql = [SQL_FOLDER, SQL_FOLDER_V2].into_iter().find_map(mounted).map(side).transpose()?;
        let group = js::label(&self.pod, "pingcap.com/group");
        let stem = if group.is_empty() { cluster.clone() } else { group.to_owned() };
        let who = Who { namespace, cluster, stem, pod };
        Process::start(&self.ctx, program, who, (party, sql), ip)
            .map(Some)
            .map_err(|e| format!("bind {ip}: {e}"))
    }

    async fn remove(&self) {
        let (namespace, name) = self.at();
        for _ in 0..20 {
            match self.kube.delete(PODS, (&namespace, &name), js::uid(&self.pod), Some(0)).await {
                Ok(()) => return,
                Err(e) => tracing::warn!("delete {namespace}/{name}: {e}"),
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

async fn kicked(kicks: &mut broadcast::Receiver<String>, pod: &str) {
    loop {
        match kicks.recv().await {
            Ok(name) if name == pod => return,
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}
