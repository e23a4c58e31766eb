//! The side of TiDB that MySQL clients see: a CA of its own, the servers' certificate and the clients'.
//!
//! A server loads certificate, key and CA together, when it starts or is told to (`ALTER INSTANCE RELOAD TLS`).

use serde_json::{Value, json};

use crate::error::PrimError;
use crate::gate::Gate;
use crate::k8s::client::Objects;
use crate::k8s::object::{Ref, at, text, touch};
use crate::k8s::secret::{Tls, describe};
use crate::k8s::{args, owner};
use crate::registry::Touch;
use crate::trust::Verifier;
use crate::world::World;

use super::cluster::{Cluster, Identities, Identity, Part, Runs};
use super::consumers::{name_apart, strays, users};
use super::keeper::{Keeper, Named};
use super::{fact, v1, v2};

/// Where TiDB answers MySQL clients.
pub const PORT: u16 = 4000;
/// The component whose servers they are.
pub const SERVER: &str = "tidb";
/// Clients that may have a Secret of their own, as the operator names them.
const OTHERS: [&str; 5] = ["tidb-initializer", "pd-dashboard", "backup", "restore", "lightning"];

/// Where the specification of a TiDB group says how MySQL clients reach it.
const MYSQL: [&str; 6] = ["spec", "template", "spec", "security", "tls", "mysql"];

/// The MySQL side that is meant: a cluster's, and under operator v2 that of one of its TiDB groups.
pub(super) struct Side {
    named: Named,
    /// Empty for the only one.
    group: String,
}

impl Side {
    /// Of `namespace, name, [options]`.
    fn of(args: &[Value]) -> Result<Self, PrimError> {
        Ok(Self { named: Named::of(args)?, group: args::hint(args, 2, "group").to_owned() })
    }

    /// Of a first argument as `tidb::sql` gave it in `id`.
    pub(super) fn id(args: &[Value]) -> Result<Self, PrimError> {
        Ok(Self { named: Named::id(args)?, group: args::hint(args, 0, "group").to_owned() })
    }
}

/// All Secrets that there may be under operator v1; the first two there must be: the servers' and the clients'.
fn secrets(cluster: &str) -> Vec<String> {
    let others = OTHERS.iter().map(|client| format!("{cluster}-{client}-client-secret"));
    let own = ["server", "client"].map(|role| format!("{cluster}-{SERVER}-{role}-secret"));
    own.into_iter().chain(others).collect()
}

/// What `tidb::sql` and the trust view touch: the Secrets that are known to be there, or all that may be. `said` tells
/// which operator keeps the cluster.
pub(super) fn touches(
    namespace: &str,
    name: &str,
    said: Option<&Value>,
    known: Option<&Value>,
) -> Vec<Touch> {
    let keeper = Keeper::of(said.and_then(Value::as_object)).unwrap_or(Keeper::V1);
    let list = |group: &str, kind: &str| touch(group, kind, namespace, "", &["list"]);
    let mut touches = vec![
        keeper.reference(namespace, name).touch(&["get"]),
        list("v1", "Pod"),
        list("apps/v1", "Deployment"),
        list("apps/v1", "StatefulSet"),
        list("apps/v1", "DaemonSet"),
    ];
    if keeper != Keeper::V1 {
        touches.push(list(v2::API_VERSION, v2::group_kind(SERVER).unwrap_or_default()));
    }
    let secret = |secret: &str| touch("v1", "Secret", namespace, secret, &["get"]);
    match known.and_then(|cluster| cluster.get("secrets")).and_then(Value::as_array) {
        Some(used) => touches.extend(used.iter().filter_map(Value::as_str).map(secret)),
        // Operator v2 names Secrets after groups, which are not known before they are read.
        None if keeper != Keeper::V1 => {
            touches.extend(["server", "client"].map(|role| secret(&format!("*-{SERVER}-{role}-secret"))));
        }
        None if name.is_empty() => touches.push(secret("")),
        None => touches.extend(secrets(name).iter().map(|name| secret(name))),
    }
    touches
}

/// The TiDB group of operator v2 that is meant.
async fn group(objects: &Objects<'_>, side: &Side) -> Result<Value, PrimError> {
    let object = &side.named.object;
    let kind = v2::group_kind(SERVER).unwrap_or_default();
    let mut groups = objects.list(v2::API_VERSION, kind, &object.namespace, "").await?;
    let enabled = |group: &Value| at(group, &MYSQL).and_then(|tls| tls.get("enabled")) == Some(&json!(true));
    groups.retain(|group| text(group, &["spec", "cluster", "name"]) == object.name && enabled(group));
    let names: Vec<&str> = groups.iter().map(|group| text(group, &["metadata", "name"])).collect();
    if names.is_empty() {
        return Err(not_enabled(
            object,
            "spec.template.spec.security.tls.mysql.enabled: true of a TiDBGroup",
        ));
    }
    let which = match side.group.as_str() {
        "" if names.len() == 1 => 0,
        "" => {
            return Err(PrimError::invalid("several of its TiDB groups have certificates for MySQL clients")
                .on(object.to_string())
                .expected("one of them to be named", names.join(", "))
                .hint("`--set group=…`, and a run for each"));
        }
        named => names.iter().position(|name| *name == named).ok_or_else(|| {
            PrimError::not_found("it has no such TiDB group with certificates for MySQL clients")
                .on(format!("{kind} {}/{named}", object.namespace))
                .expected(names.join(", "), "another name")
        })?,
    };
    Ok(groups.swap_remove(which))
}

fn not_enabled(object: &Ref, expected: &str) -> PrimError {
    PrimError::invalid("TLS for its MySQL clients is not enabled, so there is nothing to renew")
        .on(object.to_string())
        .expected(expected, "false")
}

/// The Secrets of the servers and clients of a group.
fn secrets_of(object: &Ref, group: &Value) -> Result<[String; 2], PrimError> {
    let name = text(group, &["metadata", "name"]);
    let own = Ref::new(v2::API_VERSION, v2::group_kind(SERVER).unwrap_or_default(), &object.namespace, name);
    let pair = text(group, &MYSQL.iter().copied().chain(["certKeyPair", "name"]).collect::<Vec<_>>());
    // Who judges no client needs no CA, and mounts none.
    let server = if asks_clients_of_group(group) {
        v2::read::one_secret(group, &MYSQL, &own)?
    } else {
        Some(pair).filter(|pair| !pair.is_empty()).map(str::to_owned)
    };
    let named = |role: &str| format!("{name}-{SERVER}-{role}-secret");
    Ok([server.unwrap_or_else(|| named("server")), named("client")])
}

/// Whether its servers judge the certificates of their clients.
pub(super) fn asks_clients(cluster: &Cluster) -> bool {
    match cluster.parts.first().and_then(|part| part.group.as_ref()) {
        Some(group) => asks_clients_of_group(group),
        None => {
            at(&cluster.value, &["spec", SERVER, "tlsClient", "disableClientAuthn"]) != Some(&json!(true))
        }
    }
}

fn asks_clients_of_group(group: &Value) -> bool {
    at(group, &MYSQL).and_then(|tls| tls.get("clientAuth")) != Some(&json!("NoClientCert"))
}

/// Reads what belongs to a MySQL side, as far as its object wants any. With `only`, these Secrets.
pub(super) async fn load(world: &World, side: &Side, only: Option<&[String]>) -> Result<Cluster, PrimError> {
    let objects = Objects::of(world)?;
    let object = &side.named.object;
    let keeper = side.named.keeper.clone();
    let (value, group) = match keeper {
        Keeper::V1 => (v1::read::find(&objects, object).await?, None),
        Keeper::V2 { .. } => (v2::read::find(&objects, object).await?, Some(group(&objects, side).await?)),
    };
    if keeper == Keeper::V1 && at(&value, &["spec", SERVER, "tlsClient", "enabled"]) != Some(&json!(true)) {
        return Err(not_enabled(object, "spec.tidb.tlsClient.enabled: true"));
    }
    let pods = objects.list("v1", "Pod", &object.namespace, "").await?;
    let names = match &group {
        None => secrets(&object.name),
        Some(group) => secrets_of(object, group)?.to_vec(),
    };
    let ours = |name: &str| names.iter().any(|known| known == name);
    let [server, client] = [0, 1].map(|n| names.get(n).cloned().unwrap_or_default());
    let identities = match &group {
        None => Identities::Scheme(object.name.clone()),
        Some(_) => {
            let identity = |role: &str| Identity { name: role.into(), role: role.into() };
            Identities::Known(
                [(server.clone(), identity("server")), (client.clone(), identity("client"))].into(),
            )
        }
    };
    let mut parts = vec![match &group {
        None => servers(object, &value, &server, &pods),
        Some(group) => Part {
            secret: server.clone(),
            port: Some(PORT),
            ..v2::read::part(object, SERVER, group, true, &pods)?
        },
    }];
    for kind in ["Deployment", "StatefulSet", "DaemonSet"] {
        for workload in objects.list("apps/v1", kind, &object.namespace, "").await? {
            parts.extend(users(&identities, object, kind, &workload, &pods, &ours));
        }
    }
    // The servers' own StatefulSet is known already.
    parts.retain({
        let mut first = true;
        move |part| std::mem::take(&mut first) || part.component != SERVER || part.secret != server
    });
    name_apart(&mut parts);
    let warnings = strays(&parts, &pods, &ours);
    let mut found = std::collections::BTreeMap::new();
    for (n, name) in names.iter().enumerate() {
        if only.is_some_and(|only| !only.contains(name)) {
            continue;
        }
        let reference = Ref::secret(&object.namespace, name);
        match objects.find(&reference).await? {
            Some(secret) => {
                found.insert(name.clone(), Tls::of(&reference, secret)?);
            }
            None if n < 2 => {
                return Err(PrimError::not_found("this Secret of the MySQL side does not exist")
                    .on(reference.to_string())
                    .hint("create it with `tls.crt`, `tls.key` and `ca.crt`, as the TiDB documentation on TLS for the MySQL client says"));
            }
            None => {}
        }
    }
    Ok(Cluster {
        keeper,
        object: object.clone(),
        value,
        parts,
        secrets: found,
        identities,
        client_secret: client,
        warnings,
    })
}

fn servers(object: &Ref, value: &Value, secret: &str, pods: &[Value]) -> Part {
    let wanted = at(value, &["spec", SERVER, "replicas"]).and_then(Value::as_i64).unwrap_or(0);
    let label = |pod: &Value, key: &str| text(pod, &["metadata", "labels", key]).to_owned();
    let is_one = |pod: &&Value| {
        label(pod, "app.kubernetes.io/instance") == object.name
            && label(pod, "app.kubernetes.io/component") == SERVER
    };
    Part {
        component: SERVER.into(),
        role: SERVER.into(),
        runs: Runs::Operator,
        namespace: object.namespace.clone(),
        name: format!("{}-{SERVER}", object.name),
        group: None,
        replicas: wanted,
        partition: 0,
        secret: secret.to_owned(),
        verifier: Verifier::Go,
        port: Some(PORT),
        allowed_cn: Vec::new(),
        selector: v1::read::labels(&object.name, SERVER),
        pods: pods.iter().filter(is_one).cloned().collect(),
    }
}

/// `tidb::sql(namespace, name, options)`.
pub(super) async fn run(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let side = Side::of(args)?;
    let sound = |cluster: &Cluster| -> Result<(), PrimError> {
        for (name, tls) in &cluster.secrets {
            fact::valid(&cluster.secret_ref(name), tls, world.clock.now())?;
        }
        fact::ready(cluster)
    };
    let (cluster, ()) = fact::once_ready(world, gate, || load(world, &side, None), sound).await?;
    let object = cluster.object.clone();
    let mut warnings = cluster.warnings.clone();
    let mut managed: Vec<String> = owner::warning(&object, &cluster.value)
        .filter(|_| owner::reconciled(&cluster.value))
        .into_iter()
        .collect();
    let mut secrets = Vec::new();
    let server = cluster.parts.first().map(|part| part.secret.clone()).unwrap_or_default();
    for (name, tls) in &cluster.secrets {
        managed.extend(owner::warning(&cluster.secret_ref(name), &tls.value));
        warnings.extend(tls.notes.iter().cloned());
        let mut secret = describe(world, &cluster.secret_ref(name), tls)?;
        if let Some(fields) = secret.as_object_mut() {
            let role = if *name == server { "server" } else { "client" };
            let group = cluster.parts.first().and_then(Part::group_name).unwrap_or(&object.name);
            let component = name.strip_prefix(&format!("{group}-")).unwrap_or(name);
            fields.insert("component".into(), component.trim_end_matches("-secret").into());
            fields.insert("request".into(), role.into());
            fields.insert("profile".into(), role.into());
        }
        if *name == server { secrets.insert(0, secret) } else { secrets.push(secret) }
    }
    let parts: Vec<Value> = cluster.parts.iter().map(|part| described(&cluster, part)).collect();
    let names: Vec<&str> = secrets.iter().map(|secret| text(secret, &["name"])).collect();
    let mut id = cluster.keeper.words();
    let own = json!({ "namespace": object.namespace, "name": object.name, "secrets": names });
    id.extend(own.as_object().cloned().unwrap_or_default());
    if let Some(group) = cluster.parts.first().and_then(Part::group_name) {
        id.insert("group".into(), group.into());
    }
    Ok(json!({
        "id": id,
        "namespace": object.namespace,
        "name": object.name,
        "target": fact::target(&cluster.keeper, &object, &cluster.value),
        "server": parts.first(),
        "clients": parts.iter().skip(1).collect::<Vec<_>>(),
        "secrets": secrets,
        "asks_clients": asks_clients(&cluster),
        "managed": managed,
        "labelled": fact::labelled(&cluster),
        "warnings": warnings,
    }))
}

fn described(cluster: &Cluster, part: &Part) -> Value {
    json!({
        "component": part.component,
        "role": part.role,
        "kind": part.runs.word(),
        "group": part.group_name(),
        "namespace": part.namespace,
        "cluster": cluster.object.name,
        "name": part.name,
        "replicas": part.replicas,
        "partition": part.partition,
        "secret": part.secret,
        "client_secret": cluster.client_secret,
        "port": part.port,
        "selector": part.selector,
        "mysql": part.port.is_some(),
    })
}
