//! How a command reaches the world: a kubeconfig as kubectl resolves it, or a sandbox.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use journal::Header;
use kube::config::Kubeconfig;
use sandbox::world::Scenario;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stdlib::World;
use stdlib::host::Pool;
use stdlib::k8s::connect::{Way as Reached, connect};
use stdlib::k8s::forward::Forward;

use super::args::{Connection, Dialling, Pods, Reach};
use super::{Context, launch, paths, sandboxes};
use crate::error::Failure;
use crate::exit_code::ExitCode;

/// The way to the world, as the record keeps it so that a resume finds it again. Public.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Way {
    /// The kubeconfig; kubectl's own rules where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<PathBuf>,
    /// The context in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Namespaces whose pods are dialled through the API server; left out where pods are dialled by their addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward: Option<Vec<String>>,
    /// The folder of the sandbox, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<PathBuf>,
    /// The folder in which the run was begun: relative paths are below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// The folder of the workflow, where it is no shipped one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<PathBuf>,
}

impl Way {
    fn here() -> Self {
        Self { folder: std::env::current_dir().ok(), ..Self::default() }
    }

    /// The way by which a recorded run is reached again. Never another one than the record's or the operator's: what
    /// kubectl's rules come to here and now may be another cluster.
    ///
    /// # Errors
    /// The record does not say it, or not in words of this version.
    pub(crate) fn again(header: &Header, reach: &Reach) -> Result<Self, Failure> {
        let other =
            "use the version of rollover that began the run, or name its cluster with `--kubeconfig FILE`";
        let recorded = match &header.world {
            None => Err("the record does not say how its cluster is reached".to_owned()),
            Some(way) => serde_json::from_value::<Self>(way.clone())
                .map_err(|error| format!("how the run's cluster is reached cannot be read: {error}")),
        };
        if reach.is_given() {
            let Self { forward, folder, workflow, .. } = recorded.unwrap_or_default();
            return Ok(Self { forward, folder, workflow, ..reach.way() });
        }
        recorded.map_err(|why| {
            Failure::new(ExitCode::Format, why).on(format!("run {}", header.run_id)).hint(other)
        })
    }

    /// Has pods dialled as the operator says; as ever where nothing is said.
    pub(crate) fn dial(&mut self, dialling: Dialling, namespaces: impl FnOnce() -> Vec<String>) {
        match dialling.pods {
            None => {}
            Some(Pods::Direct) => self.forward = None,
            Some(Pods::Forward) if self.forward.is_some() => {}
            Some(Pods::Forward) => self.forward = Some(namespaces()),
        }
    }

    /// The folder that relative paths are below.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.clone().or_else(|| std::env::current_dir().ok()).unwrap_or_else(|| "/".into())
    }

    /// The folder of the sandbox to which it led, where that has ended.
    pub(crate) fn ended_sandbox(&self) -> Option<&Path> {
        self.sandbox.as_deref().filter(|dir| sandboxes::ready(dir).is_none())
    }
}

/// The folder of the sandbox that a recorded run worked in, where that has ended.
pub(crate) fn ended_sandbox(header: &Header) -> Option<PathBuf> {
    let way: Way = serde_json::from_value(header.world.clone()?).ok()?;
    way.ended_sandbox().map(Path::to_owned)
}

impl Reach {
    fn is_given(&self) -> bool {
        self.kubeconfig.is_some() || self.context.is_some()
    }

    /// What was named; where nothing was, what kubectl's rules come to now, so that a resume does not follow a context
    /// that was switched in between.
    fn way(&self) -> Way {
        if self.is_given() {
            let kubeconfig = self.kubeconfig.as_ref().map(|path| absolute(path));
            return Way { kubeconfig, context: self.context.clone(), ..Way::here() };
        }
        match Kubeconfig::read() {
            Ok(config) => {
                Way { kubeconfig: paths::kubeconfig(), context: config.current_context, ..Way::here() }
            }
            // Inside a cluster, or without one.
            Err(_) => Way::here(),
        }
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Finds the way; starts a sandbox where one is asked for, after `before` had a look at what can be known without one.
pub(crate) async fn find(
    context: &Context,
    connection: &Connection,
    scenario: &Scenario,
    before: impl FnOnce() -> Result<(), Failure>,
) -> Result<Way, Failure> {
    if connection.sandbox {
        before()?;
        let dir = launch::folder(&context.paths.sandboxes());
        launch::start(&dir, connection.seed, scenario).await?;
        return Ok(in_sandbox(&dir));
    }
    if let Some(dir) = &connection.sandbox_dir {
        let dir = absolute(dir);
        if sandboxes::ready(&dir).is_none() {
            return Err(Failure::new(ExitCode::Unavailable, "no sandbox runs there")
                .on(dir.display().to_string())
                .hint("`rollover sandbox list` shows those that run"));
        }
        return Ok(in_sandbox(&dir));
    }
    Ok(connection.reach.way())
}

fn in_sandbox(dir: &Path) -> Way {
    // One of hosts alone has no cluster.
    let has = |ready: Value| ready.get("kubeconfig").is_some();
    let kubeconfig = sandboxes::ready(dir).is_none_or(has).then(|| dir.join("kubeconfig"));
    Way { kubeconfig, sandbox: Some(dir.to_owned()), ..Way::here() }
}

/// The hosts of a sandbox, where it has some. A real host is never asked in their stead.
fn hosts(dir: &Path) -> Arc<Pool> {
    let known = sandboxes::ready(dir).and_then(|ready| sandbox::hosts::connect(dir.to_owned(), &ready));
    Arc::new(Pool::new(
        known.unwrap_or_else(|| Box::new(|entry| Err(sandbox::hosts::stranger(&entry.title())))),
    ))
}

/// The world at the end of the way. A workflow that needs no cluster runs without one.
pub(crate) async fn world(way: &Way) -> Result<World, Failure> {
    forwarding(reached(way).await?, way)
}

/// The same world, with pods behind its API server where the way says so.
pub(crate) fn forwarding(world: World, way: &Way) -> Result<World, Failure> {
    let Some(namespaces) = &way.forward else { return Ok(world) };
    let client = world.cluster().map_err(|error| {
        Failure::new(ExitCode::Usage, "`--pods forward` needs a cluster that forwards").hint(error.message)
    })?;
    let net = Forward::new(client, namespaces.clone(), Arc::clone(&world.net));
    Ok(World { net: Arc::new(net), ..world })
}

async fn reached(way: &Way) -> Result<World, Failure> {
    let Some(dir) = &way.sandbox else { return system(way).await };
    if way.kubeconfig.is_some() {
        return Ok(World { hosts: hosts(dir), ..system(way).await? });
    }
    let mut world = World { hosts: hosts(dir), ..World::system(None, way.folder()) };
    world.no_cluster = "the sandbox of this workflow has hosts, and no cluster".into();
    Ok(world)
}

async fn system(way: &Way) -> Result<World, Failure> {
    let folder = way.folder();
    let to = Reached { kubeconfig: way.kubeconfig.clone(), context: way.context.clone() };
    match connect(to).await {
        Ok(client) => Ok(World::system(Some(client), folder)),
        Err(why) if way.kubeconfig.is_none() && way.context.is_none() => {
            let mut world = World::system(None, folder);
            world.no_cluster = format!("no cluster is configured ({why}); set KUBECONFIG, pass `--kubeconfig FILE`, or try `--sandbox`");
            Ok(world)
        }
        Err(why) => Err(Failure::new(ExitCode::Unavailable, format!("cannot use the kubeconfig: {why}"))
            .on(way.kubeconfig.as_ref().map(|path| path.display().to_string()).unwrap_or_default())
            .hint("`kubectl config get-contexts` lists the contexts; `--kubeconfig FILE --context NAME` names one")),
    }
}
