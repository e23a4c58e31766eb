//! Services of a host, of four kinds: units of systemd, static pods of the kubelet, containers, and commands that are given.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::containers;
use super::port::{Command, Fence, Host, Output};
use crate::error::{Code, PrimError};

/// How much earlier than its end a command says what it has waited for.
const SAY: Duration = Duration::from_secs(2);

/// How a service is looked at and restarted. In scripts: `"etcd"` or `#{ unit: "etcd" }` for a unit of systemd;
/// `#{ manifest: "/etc/kubernetes/manifests/etcd.yaml" }` for a static pod; `#{ container: "etcd" }` for a container;
/// `#{ name, restart: [..], status: [..] }` for commands, and perhaps `stop: [..]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Service {
    /// A unit of systemd.
    Unit {
        /// Its name, `.service` left out or not.
        unit: String,
    },
    /// A static pod: its manifest is moved out of the kubelet's folder until nothing runs, and back.
    StaticPod {
        /// The manifest's file.
        manifest: String,
        /// Its container; as the file is called where it is left out.
        #[serde(default)]
        container: String,
    },
    /// A container: docker's own, or one that the kubelet starts again when it was stopped.
    Container {
        /// Its name.
        container: String,
        /// Who is asked for it; whoever is there, where it is left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        runtime: Option<Runtime>,
    },
    /// Commands, as argument vectors.
    Given {
        /// What it is called.
        name: String,
        /// Restarts it and returns when that is done.
        restart: Vec<String>,
        /// Ends with 0 while it runs, and prints what is another after each start (a process id, say).
        status: Vec<String>,
        /// Stops it until it is restarted, and returns when that is done; empty where nobody has said how.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        stop: Vec<String>,
    },
}

/// Who runs containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// Docker, asked by `docker`.
    Docker,
    /// containerd, asked by `crictl`.
    Crictl,
}

/// What a service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Whether it runs.
    pub active: bool,
    /// What is another after each start; empty where that is not known.
    pub started: String,
    /// For people.
    pub words: String,
}

impl Service {
    /// Reads the form that scripts have.
    ///
    /// # Errors
    /// It is neither a unit nor commands.
    pub fn of(value: &Value) -> Result<Self, PrimError> {
        let wrong = || {
            PrimError::argument(
                "`service` is neither a unit of systemd, nor a static pod, nor a container, nor commands",
            )
            .expected(
                "`\"etcd\"`, or a map: `manifest`; `container` and `runtime`; or `name`, `restart`, `status`",
                value.to_string(),
            )
        };
        let mut service = match value {
            Value::String(unit) => Self::Unit { unit: unit.clone() },
            Value::Object(_) => serde_json::from_value(value.clone()).map_err(|_| wrong())?,
            _ => return Err(wrong()),
        };
        if let Self::StaticPod { manifest, container } = &mut service
            && container.is_empty()
        {
            stem(manifest).clone_into(container);
        }
        let usable = match &service {
            Self::Unit { unit } => !unit.is_empty() && !unit.starts_with('-'),
            Self::StaticPod { manifest, container } => {
                let deep = manifest.trim_start_matches('/').contains('/');
                manifest.starts_with('/') && deep && !stem(manifest).is_empty() && plain(container)
            }
            Self::Container { container, .. } => plain(container),
            Self::Given { restart, status, .. } => !restart.is_empty() && !status.is_empty(),
        };
        if usable { Ok(service) } else { Err(wrong()) }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        match self {
            Self::Unit { unit } => unit,
            Self::StaticPod { container, .. } | Self::Container { container, .. } => container,
            Self::Given { name, .. } => name,
        }
    }

    /// What it is now.
    ///
    /// # Errors
    /// The host cannot say.
    pub async fn status(&self, host: &dyn Host) -> Result<Status, PrimError> {
        match self {
            Self::Unit { unit } => {
                let argv = [
                    "systemctl",
                    "show",
                    "--property=LoadState,ActiveState,SubState,MainPID,InvocationID",
                    "--",
                    unit,
                ];
                let output = host.run(Command::new(argv)).await?;
                if output.code != 0 {
                    return Err(self.failed(host, "cannot be looked at", &argv.map(str::to_owned), &output));
                }
                let text = output.text();
                let field = |name: &str| {
                    let mut lines = text.lines().filter_map(|line| line.split_once('='));
                    lines
                        .find(|(key, _)| *key == name)
                        .map(|(_, value)| value.trim().to_owned())
                        .unwrap_or_default()
                };
                if field("LoadState") == "not-found" {
                    return Err(PrimError::not_found(format!("systemd knows no unit `{unit}`"))
                        .on(host.name())
                        .hint("`systemctl list-units --type=service` there lists them"));
                }
                let invocation = Some(field("InvocationID")).filter(|id| !id.is_empty());
                Ok(Status {
                    active: field("ActiveState") == "active",
                    started: invocation.unwrap_or_else(|| format!("pid {}", field("MainPID"))),
                    words: format!("{} ({})", field("ActiveState"), field("SubState")),
                })
            }
            Self::StaticPod { container, .. } => asked(host, containers::status(container, None)).await,
            Self::Container { container, runtime } => {
                asked(host, containers::status(container, *runtime)).await
            }
            Self::Given { status, .. } => asked(host, status.clone()).await,
        }
    }

    /// The command that restarts it. Where it waits for somebody else to start it again, it does so for this long: a kubelet
    /// that has started something in vain pauses for up to five minutes.
    pub(crate) fn restart_command(&self, patience: Duration) -> Vec<String> {
        match self {
            Self::Unit { unit } => ["systemctl", "restart", "--", unit].map(str::to_owned).into(),
            Self::StaticPod { manifest, container } => containers::restart_pod(container, manifest, patience),
            Self::Container { container, runtime } => containers::restart(container, *runtime, patience),
            Self::Given { restart, .. } => restart.clone(),
        }
    }

    /// Restarts it. Returns when its command does, which says little of whether it serves.
    ///
    /// # Errors
    /// The command fails.
    pub async fn restart(
        &self,
        host: &dyn Host,
        within: Duration,
        fence: Option<Fence>,
    ) -> Result<(), PrimError> {
        // It says itself what it has waited for, before it is ended.
        let command = self.restart_command(within.saturating_sub(SAY).max(SAY));
        let output = host.run(Command::new(command.clone()).within(within).fenced(fence)).await?;
        if output.code == 0 {
            return Ok(());
        }
        Err(self.failed(host, "could not be restarted", &command, &output))
    }

    /// Stops it, so that it stays down until it is restarted. Returns `false` where it runs on, for nobody can say how it
    /// would stay down.
    ///
    /// # Errors
    /// The command fails.
    pub async fn stop(
        &self,
        host: &dyn Host,
        within: Duration,
        fence: Option<Fence>,
    ) -> Result<bool, PrimError> {
        let patience = within.saturating_sub(SAY).max(SAY);
        let command = match self {
            Self::Unit { unit } => ["systemctl", "stop", "--", unit].map(str::to_owned).into(),
            Self::StaticPod { manifest, container } => containers::stop_pod(container, manifest, patience),
            Self::Container { container, runtime } => containers::stop(container, *runtime),
            Self::Given { stop, .. } if stop.is_empty() => return Ok(false),
            Self::Given { stop, .. } => stop.clone(),
        };
        let output = host.run(Command::new(command.clone()).within(within).fenced(fence)).await?;
        match output.code {
            0 => Ok(true),
            containers::KEPT if matches!(self, Self::Container { .. }) => Ok(false),
            _ => Err(self.failed(host, "could not be stopped", &command, &output)),
        }
    }

    fn failed(&self, host: &dyn Host, what: &str, command: &[String], output: &Output) -> PrimError {
        let name = self.name();
        let error =
            PrimError::new(Code::Unavailable, format!("service `{name}` {what}: {}", output.complaint()))
                .on(host.name());
        match self {
            Self::Unit { .. } => error.hint(format!("`journalctl -u {name} -n 50` there tells why")),
            Self::StaticPod { .. } => error.hint("`journalctl -u kubelet -n 50` there tells why"),
            Self::Container { runtime: Some(Runtime::Docker), .. } => {
                error.hint(format!("`docker logs --tail 50 {name}` there tells why"))
            }
            Self::Container { .. } => error.hint(format!(
                "`crictl ps -a --name {name}` and `journalctl -u kubelet -n 50` there tell why"
            )),
            Self::Given { .. } => error.hint(format!("type `{}` there to see why", command.join(" "))),
        }
    }
}

/// By a command that ends with 0 while it runs, and prints what is another after each start.
async fn asked(host: &dyn Host, status: Vec<String>) -> Result<Status, PrimError> {
    let output = host.run(Command::new(status)).await?;
    Ok(Status {
        active: output.code == 0,
        started: output.text().trim().to_owned(),
        words: if output.code == 0 { "runs".into() } else { output.complaint() },
    })
}

/// A file's name without its ending.
fn stem(path: &str) -> &str {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

/// A name that means itself in a pattern of docker's or crictl's.
fn plain(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_kind_is_told_by_its_fields_and_nothing_else_is_one() {
        let of = |value: Value| Service::of(&value);
        assert_eq!(of(json!("etcd")).unwrap(), of(json!({ "unit": "etcd" })).unwrap());
        let pod = of(json!({ "manifest": "/etc/kubernetes/manifests/etcd.yaml" })).unwrap();
        assert_eq!(pod.name(), "etcd");
        assert!(matches!(pod, Service::StaticPod { .. }));
        let docker = of(json!({ "container": "etcd", "runtime": "docker" })).unwrap();
        assert_eq!(docker, Service::Container { container: "etcd".into(), runtime: Some(Runtime::Docker) });
        assert_eq!(of(serde_json::to_value(&docker).unwrap()).unwrap(), docker);
        assert_eq!(of(serde_json::to_value(&pod).unwrap()).unwrap(), pod);
        for wrong in [
            json!(""),
            json!("--now"),
            json!({ "container": "e*" }),
            json!({ "container": "" }),
            json!({ "container": "etcd", "runtime": "podman" }),
            json!({ "container": "etcd", "restart": ["x"] }),
            json!({ "manifest": "etcd.yaml" }),
            json!({ "manifest": "/etcd.yaml" }),
            json!({ "manifest": "/m/.yaml" }),
            json!({ "name": "etcd", "restart": [], "status": ["true"] }),
            json!({ "unit": "etcd", "container": "etcd" }),
        ] {
            assert!(of(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
