//! Services of a host: systemd units, or commands that are given.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::port::{Command, Fence, Host, Output};
use crate::error::{Code, PrimError};

/// How a service is looked at and restarted. In scripts: `"etcd"` or `#{ unit: "etcd" }` for a unit of systemd;
/// `#{ name, restart: [..], status: [..] }` for commands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Service {
    /// A unit of systemd.
    Unit {
        /// Its name, `.service` left out or not.
        unit: String,
    },
    /// Commands, as argument vectors.
    Given {
        /// What it is called.
        name: String,
        /// Restarts it and returns when that is done.
        restart: Vec<String>,
        /// Ends with 0 while it runs, and prints what is another after each start (a process id, say).
        status: Vec<String>,
    },
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
            PrimError::argument("`service` is neither a unit of systemd nor commands")
                .expected("`\"etcd\"`, or a map `name`, `restart`, `status`", value.to_string())
        };
        let service = match value {
            Value::String(unit) => Self::Unit { unit: unit.clone() },
            Value::Object(_) => serde_json::from_value(value.clone()).map_err(|_| wrong())?,
            _ => return Err(wrong()),
        };
        let usable = match &service {
            Self::Unit { unit } => !unit.is_empty() && !unit.starts_with('-'),
            Self::Given { restart, status, .. } => !restart.is_empty() && !status.is_empty(),
        };
        if usable { Ok(service) } else { Err(wrong()) }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        match self {
            Self::Unit { unit } => unit,
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
                    return Err(self.failed(host, "cannot be looked at", &output));
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
            Self::Given { status, .. } => {
                let output = host.run(Command::new(status.clone())).await?;
                Ok(Status {
                    active: output.code == 0,
                    started: output.text().trim().to_owned(),
                    words: if output.code == 0 { "runs".into() } else { output.complaint() },
                })
            }
        }
    }

    /// The command that restarts it.
    pub(crate) fn restart_command(&self) -> Vec<String> {
        match self {
            Self::Unit { unit } => ["systemctl", "restart", "--", unit].map(str::to_owned).into(),
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
        within: std::time::Duration,
        fence: Option<Fence>,
    ) -> Result<(), PrimError> {
        let output = host.run(Command::new(self.restart_command()).within(within).fenced(fence)).await?;
        if output.code == 0 { Ok(()) } else { Err(self.failed(host, "could not be restarted", &output)) }
    }

    fn failed(&self, host: &dyn Host, what: &str, output: &Output) -> PrimError {
        let name = self.name();
        let error =
            PrimError::new(Code::Unavailable, format!("service `{name}` {what}: {}", output.complaint()))
                .on(host.name());
        match self {
            Self::Unit { .. } => error.hint(format!("`journalctl -u {name} -n 50` there tells why")),
            Self::Given { .. } => error,
        }
    }
}
