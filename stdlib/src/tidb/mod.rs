//! TiDB clusters under TiDB operator v1 or v2: what they are made of, restarting them, and who trusts whom in them.

pub mod cluster;
pub mod components;
pub mod config;
mod consumers;
mod fact;
pub mod history;
pub mod keeper;
pub mod links;
pub mod probe;
mod prove;
mod restart;
pub mod sql;
pub(crate) mod sql_servers;
mod sql_view;
pub mod v1;
pub mod v2;
pub mod view;

pub(crate) use sql_view::reload_place;

use serde_json::Value;

use crate::error::PrimError;
use crate::k8s::args::hint;
use crate::k8s::object::{text, touch};
use crate::k8s::param;
use crate::registry::{Kind, Param, Primitive, Touch, Type};

use keeper::{Keeper, Named};

/// The primitives of this namespace.
pub const PRIMITIVES: &[Primitive] = &[
    Primitive {
        name: "tidb::cluster",
        kind: Kind::Read,
        params: &[
            param("namespace", Type::Text, "Namespace of the cluster."),
            param("name", Type::Text, "Name of the TidbCluster (operator v1) or Cluster (operator v2)."),
            OPTIONS,
        ],
        returns: "`{id, namespace, name, uid, version, target, components, secrets, managed, labelled, warnings}`; each component has `component, role, kind, group, namespace, cluster, name, replicas, partition, leaders_within, secret, request, profile, verifier, port, endpoints, identity`; each secret what `k8s::secret` gives, and `component, request, profile`; `managed` says which objects another tool (Argo CD, Flux, Helm, cert-manager, …) would put its own version of back; `labelled` are those about which Argo CD is to be asked, as `k8s::tracked` takes them; `id` is what other primitives need to know the cluster by",
        doc: "Reads a TiDB cluster: its components in the order to restart them in, everybody else who uses its Secrets, and the Secrets.\n\nFails with `no-target` (naming the clusters that exist), `not-found` for a missing Secret or key, `key-mismatch`, `expired`, `unproved` when the cluster is not ready and does not become so in a moment, or `locked` when it is not because another run is unfinished.",
        example: "let tidb = tidb::cluster(\"tidb\", \"basic\", #{ operator: \"v2\" });",
        run: |world, args, gate| Box::pin(fact::run(world, args, gate)),
        restore: None,
        forecast: None,
        // What is said of the operator comes before the answer.
        touches: |args| reads(hint(args, 0, ""), hint(args, 1, ""), args.get(2), args.get(3)),
    },
    Primitive {
        name: "tidb::slow_leaders",
        kind: Kind::Pure,
        params: &[
            param("components", Type::List, "Components as `tidb::cluster` has them."),
            param("deadline", Type::Duration, "How long the restart of one of them may take."),
        ],
        returns: "a list of texts, one for each component whose restart may outlast the deadline",
        doc: "Says where the operator (v1) waits longer for TiKV's leaders to move away from a pod (`spec.tikv.evictLeaderTimeout`, 25 hours unless set) than the whole restart may take.",
        example: "for told in tidb::slow_leaders(cluster.components, param(\"restart_deadline\")) { note(told); }",
        run: |_, args, _| Box::pin(async move { v1::eviction::slow(args) }),
        restore: None,
        forecast: None,
        touches: |_| Vec::new(),
    },
    Primitive {
        name: "tidb::expired_cluster",
        kind: Kind::Read,
        params: &[
            param("namespace", Type::Text, "Namespace of the cluster."),
            param("name", Type::Text, "Name of the TidbCluster (operator v1) or Cluster (operator v2)."),
            OPTIONS,
        ],
        returns: "what `tidb::cluster` gives; the warnings begin with what has expired",
        doc: "Reads a TiDB cluster whose certificates or CA have expired. It need not be ready: its parts refuse each other.\n\nFails with `invalid` where nothing has expired, and else as `tidb::cluster` does.",
        example: "let tidb = tidb::expired_cluster(\"tidb\", \"basic\");",
        run: |world, args, gate| Box::pin(fact::expired(world, args, gate)),
        restore: None,
        forecast: None,
        // What is said of the operator comes before the answer.
        touches: |args| reads(hint(args, 0, ""), hint(args, 1, ""), args.get(2), args.get(3)),
    },
    Primitive {
        name: "tidb::sql",
        kind: Kind::Read,
        params: &[
            param("namespace", Type::Text, "Namespace of the cluster."),
            param("name", Type::Text, "Name of the TidbCluster (operator v1) or Cluster (operator v2)."),
            Param::optional(
                "options",
                Type::Map,
                "`operator`: `v1` (where nothing is said) or `v2`; `group`: under operator v2 which TiDBGroup, where several have certificates for MySQL clients.",
            ),
        ],
        returns: "`{id, namespace, name, target, server, clients, secrets, asks_clients, managed, labelled, warnings}`: `server` is the component that MySQL clients dial, `clients` are the workloads that use a Secret of theirs; each secret what `k8s::secret` gives, and `component, request, profile` (`server` or `client`); `asks_clients`, whether servers judge client certificates; the rest as `tidb::cluster` has it",
        doc: "Reads what MySQL clients of a TiDB cluster see: its servers, the Secrets `CLUSTER-tidb-server-secret` and `CLUSTER-tidb-client-secret` (under operator v2 called after the TiDBGroup, or what it names), those of further clients, and who uses them.\n\nFails with `no-target`, `invalid` where TLS for MySQL clients is not enabled, `not-found`, `key-mismatch`, `expired`, `unproved` when the cluster is not ready and does not become so in a moment, or `locked` when it is not because another run is unfinished.",
        example: "let tidb = tidb::sql(\"tidb\", \"basic\");",
        run: |world, args, gate| Box::pin(sql::run(world, args, gate)),
        restore: None,
        forecast: None,
        touches: |args| {
            // Operator v1's Secrets are looked for by all names that they may have.
            let found = args.get(3).and_then(|answer| answer.get("id"));
            let known = found.filter(|id| id.get("group").is_some());
            sql::touches(hint(args, 0, ""), hint(args, 1, ""), args.get(2), known)
        },
    },
    Primitive {
        name: "tidb::sql_trust",
        kind: Kind::Read,
        params: &[param("cluster", Type::Map, "The cluster, as `tidb::sql` gave it as `id`.")],
        returns: "a trust view: parties with what each may have loaded and how that is known, and the links between them",
        doc: "Measures who trusts whom between a cluster's TiDB servers, the workloads that use a Secret of its MySQL clients, and this program.\n\nA server counts as having loaded what its Secret holds once this run has seen it do so.",
        example: "trust(tidb::sql_trust(tidb.id));",
        run: |world, args, gate| Box::pin(sql_view::run(world, args, gate)),
        restore: None,
        forecast: None,
        touches: |args| {
            let id = args.first();
            let mut touches = sql::touches(hint(args, 0, "namespace"), hint(args, 0, "name"), id, id);
            touches.push(Touch::Net { host: "*".into(), port: sql::PORT });
            touches
        },
    },
    Primitive {
        name: "tidb::rolling_restart",
        kind: Kind::Settle,
        params: &[COMPONENT],
        returns: "`{marker}`",
        doc: "Restarts a component pod by pod, as the operator does it, and waits until it is done: template, pods, revision, phase, a `Ready` that is not from before, members and stores; under operator v2 every pod made anew for the group's revision, and the group `Synced` and `Ready`. Any other workload as `k8s::rollout_restart` does it; `partitions` of the component, `refuse` or `lower`, says what becomes of an update partition.\n\nFails with `unproved` when a pod was started in vain five times, or when for ten minutes the operator cannot reach PD, or a pod does not begin or become ready: the others are then left alone.",
        example: "p.settle(c.component, tidb::rolling_restart(c)).deadline(\"45m\");",
        run: |world, args, gate| Box::pin(restart::run(world, args, gate)),
        restore: None,
        forecast: None,
        touches: restart::touches,
    },
    Primitive {
        name: "tidb::trust",
        kind: Kind::Read,
        params: &[CLUSTER],
        returns: "a trust view: parties with what each may have loaded and how that is known, and the links between them",
        doc: "Measures who trusts whom: every pod, the operator and this program.\n\nWhat a pod presents is measured by a handshake. What it trusts follows from what this run wrote and restarted, or from when pod and Secret were made; what does not follow counts as everything it may hold.",
        example: "trust(tidb::trust(tidb));",
        run: |world, args, gate| {
            Box::pin(async move {
                let cluster = cluster::load(world, &Named::id(args)?).await?;
                let view = view::measure(world, &cluster, gate).await?;
                serde_json::to_value(view).map_err(|e| PrimError::internal(e.to_string()))
            })
        },
        restore: None,
        forecast: None,
        touches: |args| reads(hint(args, 0, "namespace"), hint(args, 0, "name"), args.first(), args.first()),
    },
    Primitive {
        name: "tidb::serves",
        kind: Kind::Prove,
        params: &[
            COMPONENT,
            param(
                "expected",
                Type::Map,
                "`issued_by`: a CA that must have signed what is served; `trusted_by`: a bundle by which clients must accept it; `certificate`: the very certificate, for which pods that were not restarted are given two minutes. At least one. `renewed_in`: the name of a Secret; what lies there by now counts as `certificate` too, since who keeps it may have renewed it.",
            ),
        ],
        returns: "`{endpoints, pods, fingerprints}`",
        doc: "Dials every pod that the component has now, with the cluster's client certificate, and looks at what is served: accepted by both ends, by Go's and OpenSSL's rules, under every name dialled.\n\nA component without server pods holds by itself. Fails with `unproved`, naming the pod.",
        example: "leaves.prove(c.component, tidb::serves(c, #{ issued_by: ca.cert }));",
        run: |world, args, gate| Box::pin(prove::serves(world, args, gate)),
        restore: None,
        forecast: None,
        touches: |args| {
            let mut touches = dials(args);
            let secret = hint(args, 1, "renewed_in");
            if !secret.is_empty() {
                touches.push(touch("v1", "Secret", hint(args, 0, "namespace"), secret, &["get"]));
            }
            touches
        },
    },
    Primitive {
        name: "tidb::accepts",
        kind: Kind::Prove,
        params: &[
            COMPONENT,
            param("identity", Type::Map, "`cert` and `key` to dial with, as `cfssl::leaf` makes them."),
        ],
        returns: "`{endpoints, pods, fingerprints}`",
        doc: "Dials every pod of the component with a given certificate: a pod that has not loaded the CA of it refuses.\n\nFails with `unproved`, naming the pod.",
        example: "p.prove(`${c.component} accepts`, tidb::accepts(c, probe));",
        run: |world, args, gate| Box::pin(prove::accepts(world, args, gate)),
        restore: None,
        forecast: None,
        touches: dials,
    },
    Primitive {
        name: "tidb::refuses",
        kind: Kind::Prove,
        params: &[
            COMPONENT,
            param("identity", Type::Map, "`cert` and `key` to dial with: one that must be worthless now."),
        ],
        returns: "`{endpoints, pods, fingerprints}`",
        doc: "Dials every pod of the component with a certificate of a CA that must no longer be trusted.\n\nFails with `unproved`, naming the pod that accepts it.",
        example: "p.prove(`${c.component} refuses`, tidb::refuses(c, old_client));",
        run: |world, args, gate| Box::pin(prove::refuses(world, args, gate)),
        restore: None,
        forecast: None,
        touches: dials,
    },
    Primitive {
        name: "tidb::none_presents",
        kind: Kind::Prove,
        params: &[CLUSTER, param("ca", Type::Any, "The old CA: PEM, or a map with `cert`.")],
        returns: "`{parties}`",
        doc: "Proves that nobody presents, or could soon present, a certificate of a CA: no Secret holds one, no pod serves one.\n\nFails with `unproved`, naming every party that does.",
        example: "check.prove(\"old leaves are gone\", tidb::none_presents(tidb, old));",
        run: |world, args, gate| Box::pin(prove::none_presents(world, args, gate)),
        restore: None,
        forecast: None,
        touches: |args| reads(hint(args, 0, "namespace"), hint(args, 0, "name"), args.first(), args.first()),
    },
    Primitive {
        name: "tidb::healthy",
        kind: Kind::Prove,
        params: &[CLUSTER],
        returns: "`{pods}`",
        doc: "Proves that the cluster is ready, nothing in use has expired, and all pods, members and stores are well; waits up to two minutes.\n\nFails with `unproved` or `expired`.",
        example: "check.prove(\"healthy\", tidb::healthy(tidb));",
        run: |world, args, gate| Box::pin(prove::healthy(world, args, gate)),
        restore: None,
        forecast: None,
        touches: |args| reads(hint(args, 0, "namespace"), hint(args, 0, "name"), args.first(), args.first()),
    },
];

const OPTIONS: Param = Param::optional(
    "options",
    Type::Map,
    "`operator`: `v1` (where nothing is said) or `v2`; `operator_namespace`: where operator v2's own Deployment lies, `tidb-admin` where nothing is said.",
);
const CLUSTER: Param = param("cluster", Type::Map, "The cluster, as `tidb::cluster` gave it.");
const COMPONENT: Param = param("component", Type::Map, "A component, as `tidb::cluster` gave it.");

/// What dialling the pods of a component needs.
fn dials(args: &[Value]) -> Vec<Touch> {
    if args.first().and_then(|part| part.get("mysql")) == Some(&Value::Bool(true)) {
        return sql_servers::Servers::touches(args, 0);
    }
    let (namespace, name) = (hint(args, 0, "namespace"), hint(args, 0, "cluster"));
    let port =
        args.first().and_then(|c| c.get("port")).and_then(Value::as_u64).and_then(|p| u16::try_from(p).ok());
    let mut touches = vec![
        match v2::group_kind(hint(args, 0, "role")).filter(|_| hint(args, 0, "kind") == "group") {
            Some(kind) => touch(v2::API_VERSION, kind, namespace, hint(args, 0, "group"), &["get"]),
            None => touch(cluster::API_VERSION, cluster::KIND, namespace, name, &["get"]),
        },
        touch("v1", "Secret", namespace, hint(args, 0, "client_secret"), &["get"]),
        touch("v1", "Pod", namespace, "", &["list"]),
    ];
    touches.extend(port.map(|port| Touch::Net { host: "*".into(), port }));
    touches
}

/// What reading a whole cluster needs: the Secrets that the cluster is known to use, or all that it might. `said` tells
/// which operator keeps it.
fn reads(namespace: &str, name: &str, said: Option<&Value>, known: Option<&Value>) -> Vec<Touch> {
    let secret = |secret: &str| touch("v1", "Secret", namespace, secret, &["get"]);
    let keeper = Keeper::of(said.and_then(Value::as_object)).unwrap_or(Keeper::V1);
    let mut touches = vec![
        keeper.reference(namespace, name).touch(&["get"]),
        touch("v1", "Pod", namespace, "", &["list"]),
        touch("apps/v1", "Deployment", namespace, "", &["list"]),
        touch("apps/v1", "StatefulSet", namespace, "", &["list"]),
        touch("apps/v1", "DaemonSet", namespace, "", &["list"]),
    ];
    if let Keeper::V2 { namespace: operator } = &keeper {
        let group = |(_, kind): &(&str, &str)| touch(v2::API_VERSION, kind, namespace, "", &["list"]);
        touches.extend(v2::GROUPS.iter().map(group));
        touches.push(touch("apps/v1", "Deployment", operator, "", &["list"]));
        touches.push(touch("v1", "Pod", operator, "", &["list"]));
    }
    let used = known.and_then(|cluster| cluster.get("secrets")).and_then(Value::as_array);
    match (used, keeper) {
        (Some(used), _) => touches
            .extend(used.iter().map(|used| secret(used.as_str().unwrap_or_else(|| text(used, &["name"]))))),
        // Operator v2 names Secrets after groups, which are not known before they are read.
        (None, Keeper::V2 { .. }) => {
            touches.push(secret("*-cluster-secret"));
            touches.push(secret(&components::secret_name(name, components::CLIENT)));
        }
        (None, Keeper::V1) if name.is_empty() => touches.push(secret("")),
        (None, Keeper::V1) => {
            let components = components::COMPONENTS.iter().map(|c| c.name).chain([components::CLIENT]);
            touches.extend(components.map(|component| secret(&components::secret_name(name, component))));
        }
    }
    touches
}
