//! The side of TiDB that MySQL clients see: a CA of its own, the servers' certificate and the clients'.
//!
//! A server loads certificate, key and CA together, when it starts or is told to (`ALTER INSTANCE RELOAD TLS`).

use serde_json::{Map, Value, json};

use crate::cert::Certificate;
use crate::error::PrimError;
use crate::gate::Gate;
use crate::k8s::client::Objects;
use crate::k8s::object::{Ref, at, text, touch};
use crate::k8s::secret::{Tls, describe};
use crate::k8s::{args, owner};
use crate::lease;
use crate::registry::Touch;
use crate::trust::{Ask, Usage, Verifier, verify};
use crate::world::World;

use super::cluster::{self, API_VERSION, Cluster, Identities, KIND, Part, Runs};
use super::keeper::Keeper;
use super::links::{self, Form};
use super::{fact, probe, v1};

/// Where TiDB answers MySQL clients.
pub const PORT: u16 = 4000;
/// The component whose servers they are.
pub const SERVER: &str = "tidb";
/// How clients name a server.
const FORMS: &[Form] = &[Form::Service, Form::ServiceIn, Form::ServiceSvc, Form::Pod];
/// Clients that may have a Secret of their own, as the operator names them.
const OTHERS: [&str; 5] = ["tidb-initializer", "pd-dashboard", "backup", "restore", "lightning"];

/// The Secret of the servers.
pub fn server_secret(cluster: &str) -> String {
    format!("{cluster}-tidb-server-secret")
}

/// The Secret of the clients.
pub fn client_secret(cluster: &str) -> String {
    format!("{cluster}-tidb-client-secret")
}

/// All Secrets that there may be; the first two there must be.
fn secrets(cluster: &str) -> Vec<String> {
    let others = OTHERS.iter().map(|client| format!("{cluster}-{client}-client-secret"));
    [server_secret(cluster), client_secret(cluster)].into_iter().chain(others).collect()
}

/// What `tidb::sql` and the trust view touch: the Secrets that are known to be there, or all that may be.
pub(super) fn touches(namespace: &str, name: &str, known: Option<&Value>) -> Vec<Touch> {
    let list = |group: &str, kind: &str| touch(group, kind, namespace, "", &["list"]);
    let mut touches = vec![
        touch(API_VERSION, KIND, namespace, name, &["get"]),
        list("v1", "Pod"),
        list("apps/v1", "Deployment"),
        list("apps/v1", "StatefulSet"),
        list("apps/v1", "DaemonSet"),
    ];
    let secret = |secret: &str| touch("v1", "Secret", namespace, secret, &["get"]);
    match known.and_then(|cluster| cluster.get("secrets")).and_then(Value::as_array) {
        Some(used) => touches.extend(used.iter().filter_map(Value::as_str).map(secret)),
        None if name.is_empty() => touches.push(secret("")),
        None => touches.extend(secrets(name).iter().map(|name| secret(name))),
    }
    touches
}

/// Reads what belongs to the MySQL side of a cluster, as far as its object wants any. With `only`, these Secrets.
pub(super) async fn load(world: &World, object: &Ref, only: Option<&[String]>) -> Result<Cluster, PrimError> {
    let objects = Objects::of(world)?;
    let value = v1::read::find(&objects, object).await?;
    if at(&value, &["spec", SERVER, "tlsClient", "enabled"]) != Some(&Value::Bool(true)) {
        return Err(PrimError::invalid(
            "TLS for its MySQL clients is not enabled, so there is nothing to renew",
        )
        .on(object.to_string())
        .expected("spec.tidb.tlsClient.enabled: true", "false"));
    }
    let pods = objects.list("v1", "Pod", &object.namespace, "").await?;
    let names = secrets(&object.name);
    let ours = |name: &str| names.iter().any(|known| known == name);
    let identities = Identities::Scheme(object.name.clone());
    let mut parts = vec![servers(object, &value, &pods)];
    for kind in ["Deployment", "StatefulSet", "DaemonSet"] {
        for workload in objects.list("apps/v1", kind, &object.namespace, "").await? {
            parts.extend(cluster::users(&identities, object, kind, &workload, &pods, &ours));
        }
    }
    // The servers' own StatefulSet is known already.
    let server = server_secret(&object.name);
    parts.retain({
        let mut first = true;
        move |part| std::mem::take(&mut first) || part.component != SERVER || part.secret != server
    });
    cluster::name_apart(&mut parts);
    let warnings = cluster::strays(&parts, &pods, &ours);
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
        keeper: Keeper::V1,
        object: object.clone(),
        value,
        parts,
        secrets: found,
        identities,
        client_secret: client_secret(&object.name),
        warnings,
    })
}

fn servers(object: &Ref, value: &Value, pods: &[Value]) -> Part {
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
        secret: server_secret(&object.name),
        verifier: Verifier::Go,
        port: Some(PORT),
        allowed_cn: Vec::new(),
        selector: v1::read::labels(&object.name, SERVER),
        pods: pods.iter().filter(is_one).cloned().collect(),
    }
}

/// `tidb::sql(namespace, name)`.
pub(super) async fn run(world: &World, args: &[Value], _gate: &dyn Gate) -> Result<Value, PrimError> {
    let object = cluster::reference(args::text(args, 0, "namespace")?, args::text(args, 1, "name")?);
    let cluster = load(world, &object, None).await?;
    let sound = || -> Result<(), PrimError> {
        for (name, tls) in &cluster.secrets {
            fact::valid(&cluster.secret_ref(name), tls, world.clock.now())?;
        }
        fact::ready(&cluster)
    };
    sound().map_err(|error| lease::unfinished_run(&object, &cluster.value).unwrap_or(error))?;
    let mut warnings = cluster.warnings.clone();
    let mut managed: Vec<String> = owner::warning(&object, &cluster.value)
        .filter(|_| owner::reconciled(&cluster.value))
        .into_iter()
        .collect();
    let mut secrets = Vec::new();
    let server = server_secret(&object.name);
    for (name, tls) in &cluster.secrets {
        managed.extend(owner::warning(&cluster.secret_ref(name), &tls.value));
        warnings.extend(tls.notes.iter().cloned());
        let mut secret = describe(world, &cluster.secret_ref(name), tls)?;
        if let Some(fields) = secret.as_object_mut() {
            let role = if *name == server { "server" } else { "client" };
            let component = name.strip_prefix(&format!("{}-", object.name)).unwrap_or(name);
            fields.insert("component".into(), component.trim_end_matches("-secret").into());
            fields.insert("request".into(), role.into());
            fields.insert("profile".into(), role.into());
        }
        if *name == server { secrets.insert(0, secret) } else { secrets.push(secret) }
    }
    let parts: Vec<Value> = cluster.parts.iter().map(|part| described(&object, part)).collect();
    let names: Vec<&str> = secrets.iter().map(|secret| text(secret, &["name"])).collect();
    let asks_clients =
        at(&cluster.value, &["spec", SERVER, "tlsClient", "disableClientAuthn"]) != Some(&Value::Bool(true));
    Ok(json!({
        "id": { "namespace": object.namespace, "name": object.name, "secrets": names },
        "namespace": object.namespace,
        "name": object.name,
        "target": fact::target(&cluster.keeper, &object, &cluster.value),
        "server": parts.first(),
        "clients": parts.iter().skip(1).collect::<Vec<_>>(),
        "secrets": secrets,
        "asks_clients": asks_clients,
        "managed": managed,
        "warnings": warnings,
    }))
}

fn described(object: &Ref, part: &Part) -> Value {
    json!({
        "component": part.component,
        "kind": part.runs.word(),
        "namespace": object.namespace,
        "cluster": object.name,
        "name": part.name,
        "replicas": part.replicas,
        "partition": part.partition,
        "secret": part.secret,
        "client_secret": client_secret(&object.name),
        "port": part.port,
        "selector": part.selector,
        "mysql": part.port.is_some(),
    })
}

/// The servers as they are at this moment.
pub(crate) struct Servers {
    /// Their pods, as the API gave them.
    pub(crate) pods: Vec<Value>,
    /// How many there should be.
    pub(crate) wanted: u64,
    /// Where the pods answer, in the order of the pods that have an address.
    pub(crate) endpoints: Vec<probe::Endpoint>,
    /// The servers' Secret.
    pub(crate) server: Tls,
    /// The clients' Secret.
    pub(crate) client: Tls,
}

impl Servers {
    /// Reads them: pods, Secrets and wishes may have changed since the plan was made.
    pub(crate) async fn read(world: &World, part: &Map<String, Value>) -> Result<Self, PrimError> {
        let objects = Objects::of(world)?;
        let field = |name: &str| args::field(part, name, "component");
        let namespace = field("namespace")?;
        let object = cluster::reference(namespace, field("cluster")?);
        let secret = async |name: &str| {
            let reference = Ref::secret(namespace, name);
            Tls::of(&reference, objects.get(&reference).await?)
        };
        let client = secret(field("client_secret")?).await?;
        let server = secret(field("secret")?).await?;
        let value = objects.get(&object).await?;
        let wanted = at(&value, &["spec", SERVER, "replicas"]).and_then(Value::as_u64).unwrap_or(0);
        let pods = objects.list("v1", "Pod", namespace, field("selector")?).await?;
        let endpoints = endpoints(&object, &pods, &server, world.clock.now());
        Ok(Self { pods, wanted, endpoints, server, client })
    }

    /// What reading them touches.
    pub(crate) fn touches(args: &[Value], index: usize) -> Vec<Touch> {
        let hint = |field| args::hint(args, index, field);
        let namespace = hint("namespace");
        vec![
            touch(API_VERSION, KIND, namespace, hint("cluster"), &["get"]),
            touch("v1", "Secret", namespace, hint("secret"), &["get"]),
            touch("v1", "Secret", namespace, hint("client_secret"), &["get"]),
            touch("v1", "Pod", namespace, "", &["list"]),
            Touch::Net { host: "*".into(), port: PORT },
        ]
    }
}

/// Where servers answer, under those of their names that the certificate in their Secret has: nobody who verifies it can
/// dial them by another.
pub(super) fn endpoints(
    object: &Ref,
    pods: &[Value],
    server: &Tls,
    at_time: time::OffsetDateTime,
) -> Vec<probe::Endpoint> {
    let (chain, anchors) = (probe::certs(&server.chain), probe::certs(&server.anchors));
    let covered = |name: &String| {
        let ask = Ask { usage: Usage::Server, name: Some(name), allowed_cn: &[], at: at_time };
        verify(Verifier::Go, &chain.0, &anchors.0, &ask).is_ok()
    };
    fact::addresses(pods)
        .map(|(pod, host)| {
            let service = format!("{}-{SERVER}", object.name);
            let all = links::names(FORMS, &service, &links::peer(&service, SERVER), &object.namespace, pod);
            let named: Vec<String> = all.iter().filter(|name| covered(name)).cloned().collect();
            let names = if named.is_empty() { all } else { named };
            probe::Endpoint {
                pod: pod.into(),
                host: host.into(),
                port: PORT,
                names,
                opening: probe::Opening::Mysql,
            }
        })
        .collect()
}

/// The leaf of a Secret.
pub(crate) fn leaf(tls: &Tls) -> Option<&Certificate> {
    tls.chain.first()
}
