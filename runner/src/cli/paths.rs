//! Where things lie: the XDG folders. The one place that reads the environment.

use std::path::{Path, PathBuf};

use super::args::Global;
use crate::error::Failure;
use crate::exit_code::ExitCode;

/// The folders of this user.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    /// Runs, keys, sandboxes.
    pub state: PathBuf,
    /// Workflows of the user's own.
    pub user_workflows: Option<PathBuf>,
}

/// An environment variable, where it is set and is text.
#[expect(clippy::disallowed_methods, reason = "the environment enters here")]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn folder(name: &str, below_home: &str) -> Option<PathBuf> {
    variable(name)
        .filter(|value| value.starts_with('/'))
        .map(PathBuf::from)
        .or_else(|| Some(home()?.join(below_home)))
}

/// The parameters given as `ROLLOVER_PARAM_NAME`.
pub(crate) fn parameters() -> std::collections::BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name.starts_with("ROLLOVER_PARAM_"))
        .collect()
}

/// The user's own folder.
fn home() -> Option<PathBuf> {
    variable("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
}

/// A path from the root. A shell leaves the `~` of `--set pki=~/pki` as it is.
pub(crate) fn in_full(path: &str, folder: &Path) -> String {
    let path = match (path.strip_prefix("~/"), home()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => folder.join(path),
    };
    path.components().collect::<PathBuf>().display().to_string()
}

/// The kubeconfig that kubectl would take, where that is one file.
pub(crate) fn kubeconfig() -> Option<PathBuf> {
    match variable("KUBECONFIG").filter(|list| !list.is_empty()) {
        None => home().map(|home| home.join(".kube/config")).filter(|path| path.exists()),
        Some(list) if !list.contains(':') => std::path::absolute(list).ok(),
        Some(_) => None,
    }
}

impl Paths {
    /// `--state`, else `$XDG_STATE_HOME/rollover`, else `~/.local/state/rollover`.
    pub(crate) fn find(global: &Global) -> Result<Self, Failure> {
        let state = global
            .state
            .clone()
            .or_else(|| Some(folder("XDG_STATE_HOME", ".local/state")?.join("rollover")))
            .ok_or_else(|| {
                Failure::new(ExitCode::Usage, "no folder for runs: neither XDG_STATE_HOME nor HOME is set")
                    .hint("pass `--state DIR`")
            })?;
        let state = std::path::absolute(&state).unwrap_or(state);
        Ok(Self {
            state,
            user_workflows: folder("XDG_CONFIG_HOME", ".config").map(|dir| dir.join("rollover/workflows")),
        })
    }

    /// The folder of sandboxes.
    pub(crate) fn sandboxes(&self) -> PathBuf {
        self.state.join("sandboxes")
    }
}
