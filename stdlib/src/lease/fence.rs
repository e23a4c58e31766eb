//! Keeping a process out that was stopped, lost its Lease, and goes on.
//!
//! It has read objects and may write them for the versions that it read, at any time. So each of them is written once: an
//! annotation is set and removed, which leaves nothing behind but another version.

use std::collections::BTreeSet;

use futures::StreamExt as _;
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use serde_json::{Value, json};

use super::mark::version;
use super::{Held, ROUNDS, lock_objects};
use crate::error::{Code, PrimError};
use crate::k8s::client::Objects;
use crate::k8s::discovery;
use crate::k8s::object::Ref;
use crate::registry::Touch;

/// The annotation that is set and removed at once.
pub const FENCE: &str = "rollover.dev/fence";
/// Objects fenced at once.
const WIDTH: usize = 8;
/// Verbs that change an object which is there.
const CHANGES: [&str; 3] = ["patch", "update", "delete"];

/// Whether a process of this machine has ended. This very one counts as such: the folder of a run lets one in at a time.
pub(super) fn is_dead(process: &str) -> bool {
    if process == std::process::id().to_string() {
        return true;
    }
    match process.parse().ok().and_then(Pid::from_raw) {
        Some(pid) => test_kill_process(pid) == Err(Errno::SRCH),
        // Written by a version that did not say.
        None => process.is_empty(),
    }
}

impl Held {
    /// Makes every write come late that another process has prepared: each object that these calls may change gets
    /// another version. Returns what this cannot be done for, in words.
    pub async fn fence(&self, touched: &[Touch]) -> Vec<String> {
        let objects = match lock_objects(&self.world) {
            Ok(objects) => objects,
            Err(error) => return vec![error.to_string()],
        };
        let (named, mut open) = changed(touched);
        let fenced = futures::stream::iter(named).map(|object| {
            let objects = &objects;
            async move { self.fence_one(objects, &object).await.err().map(|why| format!("{object}: {why}")) }
        });
        let failed: Vec<_> = fenced.buffer_unordered(WIDTH).collect().await;
        open.extend(failed.into_iter().flatten());
        open
    }

    async fn fence_one(&self, objects: &Objects<'_>, object: &Named) -> Result<(), PrimError> {
        let Some((api_version, kind)) = discovery::kind_of(objects, &object.group, &object.resource).await?
        else {
            return Ok(());
        };
        let object = Ref::new(&api_version, &kind, &object.namespace, &object.name);
        for value in [json!(self.token), Value::Null] {
            annotate(objects, &object, &value).await?;
        }
        Ok(())
    }
}

async fn annotate(objects: &Objects<'_>, object: &Ref, value: &Value) -> Result<(), PrimError> {
    let mut last = None;
    for _ in 0..ROUNDS {
        let Some(now) = objects.find(object).await? else { return Ok(()) };
        let patch = json!({ "metadata": { "annotations": { FENCE: value } } });
        match objects.merge(object, version(&now), patch).await {
            Err(error) if error.code == Code::Conflict => last = Some(error),
            other => return other.map(|_| ()),
        }
    }
    last.map_or(Ok(()), Err)
}

/// An object by its plural name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Named {
    group: String,
    resource: String,
    namespace: String,
    name: String,
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.resource, self.namespace, self.name)
    }
}

/// The objects that these calls change, and in words what they change beside them.
fn changed(touched: &[Touch]) -> (BTreeSet<Named>, Vec<String>) {
    let (mut named, mut open) = (BTreeSet::new(), BTreeSet::new());
    for touch in touched {
        let Touch::Kube { group, resource, namespace, name, verbs } = touch else {
            if let Touch::File { path, write: true } = touch {
                open.insert(format!("the file {path}"));
            }
            if let Touch::Host { host, what, write: true } = touch {
                open.insert(format!("{what} on host {host}"));
            }
            continue;
        };
        if verbs.iter().any(|verb| verb == "create") {
            open.insert(format!("new {resource} in {namespace}"));
        }
        if !verbs.iter().any(|verb| CHANGES.contains(&verb.as_str())) {
            continue;
        }
        if name.is_empty() {
            open.insert(format!("{resource} in {namespace} whose names are not known yet"));
        } else {
            named.insert(Named {
                group: group.clone(),
                resource: resource.clone(),
                namespace: namespace.clone(),
                name: name.clone(),
            });
        }
    }
    (named, open.into_iter().collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_object_that_is_changed_is_fenced_once_and_the_rest_is_named() {
        let secret = Ref::secret("tidb", "a");
        let touched = [
            secret.touch(&["get", "patch"]),
            secret.touch(&["patch"]),
            Ref::secret("tidb", "only-read").touch(&["get"]),
            Ref::new("v1", "ConfigMap", "tidb", "").touch(&["create"]),
            Ref::new("v1", "Pod", "tidb", "").touch(&["delete"]),
            Touch::File { path: "/srv/pki/ca.pem".into(), write: true },
        ];
        let (named, open) = changed(&touched);
        assert_eq!(named.iter().map(ToString::to_string).collect::<Vec<_>>(), ["secrets tidb/a"]);
        assert_eq!(
            open,
            [
                "new configmaps in tidb",
                "pods in tidb whose names are not known yet",
                "the file /srv/pki/ca.pem"
            ]
        );
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a process to look at")]
    fn a_process_that_lives_is_not_dead_and_one_that_ended_is() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let id = child.id().to_string();
        assert!(!is_dead(&id));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(is_dead(&id));
        assert!(is_dead(&std::process::id().to_string()), "the folder of the run keeps a second one out");
    }
}
