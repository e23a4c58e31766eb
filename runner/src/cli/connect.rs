//! How a command reaches the world: a kubeconfig as kubectl resolves it, or a sandbox.

use std::path::{Path, PathBuf};

use kube::config::{KubeConfigOptions, Kubeconfig};
use serde::{Deserialize, Serialize};
use stdlib::World;

use super::args::Connection;
use super::{Context, launch};
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
    /// The folder of the sandbox, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<PathBuf>,
}

/// Finds the way; starts a sandbox where one is asked for, after `before` had a look at what can be known without one.
pub(crate) async fn find(
    context: &Context,
    connection: &Connection,
    before: impl FnOnce() -> Result<(), Failure>,
) -> Result<Way, Failure> {
    if connection.sandbox {
        before()?;
        let dir = launch::folder(&context.paths.sandboxes());
        launch::start(&dir, connection.seed).await?;
        return Ok(in_sandbox(&dir));
    }
    if let Some(dir) = &connection.sandbox_dir {
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
        if !dir.join("ready.json").exists() {
            return Err(Failure::new(ExitCode::Unavailable, "no sandbox runs there")
                .on(dir.display().to_string())
                .hint("`rollover sandbox list` shows those that run"));
        }
        return Ok(in_sandbox(&dir));
    }
    let kubeconfig =
        connection.kubeconfig.as_ref().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone()));
    Ok(Way { kubeconfig, context: connection.context.clone(), sandbox: None })
}

fn in_sandbox(dir: &Path) -> Way {
    Way { kubeconfig: Some(dir.join("kubeconfig")), context: None, sandbox: Some(dir.to_owned()) }
}

/// The world at the end of the way. A workflow that needs no cluster runs without one.
pub(crate) async fn world(way: &Way) -> Result<World, Failure> {
    let folder = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    match client(way).await {
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

async fn client(way: &Way) -> Result<kube::Client, String> {
    let options = KubeConfigOptions { context: way.context.clone(), ..KubeConfigOptions::default() };
    let config = match &way.kubeconfig {
        Some(path) => {
            let text = Kubeconfig::read_from(path).map_err(|error| chain(&error))?;
            kube::Config::from_custom_kubeconfig(text, &options).await.map_err(|error| chain(&error))?
        }
        None if way.context.is_some() => {
            kube::Config::from_kubeconfig(&options).await.map_err(|error| chain(&error))?
        }
        None => kube::Config::infer().await.map_err(|error| chain(&error))?,
    };
    kube::Client::try_from(config).map_err(|error| chain(&error))
}

/// An error with its causes, each said once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
