//! `tidb::rolling_restart`: of what an operator runs, by its own means; of any other workload, as `k8s` does it.

use serde_json::{Map, Value};

use crate::error::PrimError;
use crate::gate::Gate;
use crate::k8s::args;
use crate::k8s::object::{Ref, touch};
use crate::k8s::restart::{Manner, choice, restart, touches as workload};
use crate::registry::Touch;
use crate::world::World;

use super::keeper::Keeper;
use super::{cluster, v1, v2};

/// `tidb::rolling_restart(component)`.
pub(super) async fn run(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let part = args::map(args, 0, "component")?;
    let namespace = args::field(part, "namespace", "component")?;
    let name = args::field(part, "name", "component")?;
    match args::field(part, "kind", "component")? {
        "tidb" => {
            let cluster = cluster::reference(namespace, args::field(part, "cluster", "component")?);
            v1::restart::component(world, gate, &cluster, args::field(part, "component", "component")?, name)
                .await
        }
        "group" => {
            let (role, group) = group(part)?;
            let keeper = Keeper::V2 { namespace: String::new() };
            let cluster = keeper.reference(namespace, args::field(part, "cluster", "component")?);
            v2::restart::group(world, gate, &cluster, &group, role).await
        }
        kind @ ("deployment" | "statefulset" | "daemonset") => {
            let kind = match kind {
                "deployment" => "Deployment",
                "statefulset" => "StatefulSet",
                _ => "DaemonSet",
            };
            let lower_partition =
                choice(args.first().unwrap_or(&Value::Null), "partitions", "refuse", "lower")?;
            let manner = Manner { lower_partition, ..Manner::default() };
            restart(world, gate, &Ref::new("apps/v1", kind, namespace, name), manner).await
        }
        other => Err(PrimError::argument(format!("`component.kind` is `{other}`"))
            .expected("`tidb`, `group`, `deployment`, `statefulset` or `daemonset`", format!("`{other}`"))),
    }
}

/// What runs in a component that is a group, and the group.
pub(super) fn group(part: &Map<String, Value>) -> Result<(&str, Ref), PrimError> {
    let role = args::field(part, "role", "component")?;
    let kind = v2::group_kind(role).ok_or_else(|| {
        PrimError::argument(format!("no group of operator v2 is of the component `{role}`"))
    })?;
    let namespace = args::field(part, "namespace", "component")?;
    Ok((role, Ref::new(v2::API_VERSION, kind, namespace, args::field(part, "group", "component")?)))
}

/// What it needs.
pub(super) fn touches(args: &[Value]) -> Vec<Touch> {
    let hint = |field: &str| args::hint(args, 0, field);
    let (namespace, name) = (hint("namespace"), hint("name"));
    let pods = touch("v1", "Pod", namespace, "", &["list"]);
    match hint("kind") {
        "statefulset" => workload("StatefulSet", namespace, name),
        "daemonset" => workload("DaemonSet", namespace, name),
        "deployment" => workload("Deployment", namespace, name),
        "group" => {
            let kind = v2::group_kind(hint("role")).unwrap_or_default();
            vec![
                touch(v2::API_VERSION, v2::CLUSTER, namespace, hint("cluster"), &["get"]),
                touch(v2::API_VERSION, kind, namespace, hint("group"), &["get", "patch"]),
                pods,
            ]
        }
        _ => vec![
            touch(cluster::API_VERSION, cluster::KIND, namespace, hint("cluster"), &["get", "patch"]),
            touch("apps/v1", "StatefulSet", namespace, name, &["get"]),
            pods,
        ],
    }
}
