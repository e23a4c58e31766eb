//! What `new` writes: a workflow of a site's own that runs in the sandbox as it is.

use std::path::{Path, PathBuf};

use stdlib::world::Disk;

use crate::script::{MAIN, MANIFEST};

/// A workflow that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scaffold {
    /// Its folder.
    pub folder: PathBuf,
    /// The files, in the order in which a reader opens them.
    pub files: Vec<PathBuf>,
}

const MANIFEST_TEXT: &str = r#"title: NAME, a workflow of our own
summary: >
  Looks at a TiDB cluster, proves that every component serves what its clients trust, and leaves a note beside it.
params:
  namespace:
    default: tidb
    help: Namespace of the TidbCluster.
  cluster:
    default: basic
    help: Name of the TidbCluster.
  owner:
    default: platform team
    help: Whom to ask about this cluster.
# Everything that the workflow may touch. What is not named here is refused before anything runs.
touches:
  - kube: { group: pingcap.com, resource: tidbclusters, namespace: "{{namespace}}", names: ["{{cluster}}"] }
  - kube: { resource: secrets, namespace: "{{namespace}}", names: ["{{cluster}}-*"] }
  - kube: { resource: pods, namespace: "{{namespace}}" }
  - kube: { group: apps, resource: statefulsets, namespace: "{{namespace}}" }
  - kube: { group: apps, resource: deployments, namespace: "{{namespace}}" }
  - kube: { group: apps, resource: daemonsets, namespace: "{{namespace}}" }
  - kube: { resource: configmaps, namespace: "{{namespace}}", names: ["{{cluster}}-owner"], write: true }
  - net: { host: "*" }
"#;

const SCRIPT: &str = r#"// NAME: evaluated once, to declare phases and steps. Nothing is changed until the plan is accepted.
let cluster = tidb::cluster(param("namespace"), param("cluster"));   // a fact: read now, recorded
let id = #{ namespace: cluster.namespace, name: cluster.name };
target(cluster.target);                                              // what the run locks and marks
trust(tidb::trust(id));                                              // who trusts whom, measured around each phase

let anchors = #{};
for s in cluster.secrets { anchors[s.name] = s["ca.crt"]; }

let before = phase("inventory", "Nothing is changed: every component serves what its clients trust.");
before.prove("healthy", tidb::healthy(id));
for c in cluster.components {
    before.prove(`${c.component} serves`, tidb::serves(c, #{ trusted_by: anchors[c.secret] }));
}

// The one change: a ConfigMap beside the cluster. `rollback` takes it away again.
let mark = phase("note-the-owner", "Whoever finds the cluster finds whom to ask.");
mark.change("owner", k8s::config_map(cluster.namespace, `${cluster.name}-owner`, #{ owner: param("owner") }));
mark.prove("healthy", tidb::healthy(id));
"#;

const README: &str = r#"# NAME

Looks at a TiDB cluster, proves that every component serves what its clients trust, and leaves a note beside it.

    rollover check PATH              # syntax, names, arguments, parameters: nothing runs
    rollover run PATH --sandbox      # in a world of its own, in seconds
    rollover run PATH --plan-only    # against your cluster: what would be done
    rollover run PATH

## Make it yours

1. `workflow.yaml` says which parameters it takes (`--set owner=me`) and what it may touch. Add a line there for each kind of object that a new step touches; `check` and the plan say which is missing.
2. `main.rhai` declares phases and steps. A step is `phase.change("name", primitive(…))`; its role is one of
   `stage` (make a key or certificate), `change` (write), `settle` (restart or reload), `prove` (observe).
3. What a step returns can be handed to later steps. It is known only once the step has run, so it cannot be printed or compared.
4. `import "lib/tidb" as rotation;` gives the phases of the shipped rotations: `rotation::inventory(…)`, `rotation::trust_both(…)` and others.

To find it by name instead of by path, put the folder into `~/.config/rollover/workflows/`.
"#;

/// Why no workflow was written.
#[derive(Debug, thiserror::Error)]
pub enum ScaffoldError {
    /// Not a folder's name.
    #[error("`{0}` is no name for a workflow: lower-case letters, digits and `-`, a letter first")]
    Name(String),
    /// The folder is there.
    #[error("{} exists already; nothing was written", .0.display())]
    Exists(PathBuf),
    /// It cannot be written.
    #[error("{}: {error}", path.display())]
    Unwritable {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

/// Whether a workflow, or a group of them, may be named so.
pub fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(plain)
}

/// Writes a workflow of this name into a new folder below `parent`.
///
/// # Errors
/// The name is no folder name, the folder exists, or it cannot be written.
pub fn scaffold(disk: &dyn Disk, name: &str, parent: &Path) -> Result<Scaffold, ScaffoldError> {
    if !is_name(name) {
        return Err(ScaffoldError::Name(name.to_owned()));
    }
    let folder = parent.join(name);
    if disk.exists(&folder) {
        return Err(ScaffoldError::Exists(folder));
    }
    let unwritable = |path: &Path, error| ScaffoldError::Unwritable { path: path.to_path_buf(), error };
    disk.make_dir(&folder, 0o755).map_err(|error| unwritable(&folder, error))?;
    let here = parent.as_os_str().is_empty() || parent == Path::new(".");
    let shown = if here { format!("./{name}") } else { folder.display().to_string() };
    let mut files = Vec::new();
    for (file, text) in [(MANIFEST, MANIFEST_TEXT), (MAIN, SCRIPT), ("README.md", README)] {
        let path = folder.join(file);
        let text = text.replace("NAME", name).replace("PATH", &shown);
        disk.write_atomic(&path, text.as_bytes(), 0o644).map_err(|error| unwritable(&path, error))?;
        files.push(path);
    }
    Ok(Scaffold { folder, files })
}
