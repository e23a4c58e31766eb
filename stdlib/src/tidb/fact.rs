//! `tidb::cluster`: the fact about a cluster that workflows work from, and what must hold before one begins.

use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::cert::Certificate;
use crate::error::{Code, PrimError};
use crate::gate::{Gate, Progress};
use crate::k8s::object::{Ref, at, text};
use crate::k8s::owner;
use crate::k8s::rollout::condition;
use crate::k8s::secret::{Tls, describe};
use crate::lease;
use crate::world::World;

use super::cluster::{self, Cluster, Part, Runs};
use super::components::{self, CLIENT};
use super::keeper::{Keeper, Named};
use super::{links, v1, v2};

/// How long a cluster that is not ready may take to be: a pod that has just restarted by itself is back within that.
const MOMENT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(500);

/// `tidb::cluster(namespace, name)`.
pub(super) async fn run(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let named = Named::of(args)?;
    let sound = |cluster: &Cluster| sound(cluster, world.clock.now());
    let (cluster, warnings) = once_ready(world, gate, || cluster::load(world, &named), sound).await?;
    describe_cluster(world, &cluster, warnings)
}

/// Reads a cluster of which something must hold, and again for a moment while it only is not ready.
pub(super) async fn once_ready<T, F>(
    world: &World,
    gate: &dyn Gate,
    load: impl Fn() -> F,
    holds: impl Fn(&Cluster) -> Result<T, PrimError>,
) -> Result<(Cluster, T), PrimError>
where
    F: Future<Output = Result<Cluster, PrimError>>,
{
    let mut waited = Duration::ZERO;
    loop {
        let cluster = load().await?;
        let error = match holds(&cluster) {
            Ok(held) => return Ok((cluster, held)),
            Err(error) => error,
        };
        // What an unfinished run has left half done is that run's to finish, and says nothing about the cluster.
        if let Some(unfinished) = lease::unfinished_run(&cluster.object, &cluster.value) {
            return Err(unfinished);
        }
        let passes = ready(&cluster).is_err_and(|unready| unready.message == error.message);
        if !passes || waited >= MOMENT {
            return Err(error);
        }
        gate.progress(Progress { text: error.message, done: None });
        world.clock.sleep(PAUSE).await;
        waited += PAUSE;
    }
}

/// `tidb::expired_cluster(namespace, name)`: a cluster that has fallen silent.
pub(super) async fn expired(world: &World, args: &[Value], _gate: &dyn Gate) -> Result<Value, PrimError> {
    let Named { object, keeper } = Named::of(args)?;
    let cluster = cluster::load(world, &Named { object: object.clone(), keeper }).await?;
    able(&cluster)?;
    let now = world.clock.now();
    let invalid = |(name, tls): (&String, &Tls)| valid(&cluster.secret_ref(name), tls, now).err();
    let mut expired: Vec<PrimError> = cluster.secrets.iter().filter_map(invalid).collect();
    let Some(first) = expired.first() else {
        let unfinished = lease::unfinished_run(&object, &cluster.value);
        return Err(unfinished.unwrap_or_else(|| {
            PrimError::invalid("none of its certificates has expired, so there is a way without an outage")
                .on(object.to_string())
                .expected("an expired certificate or CA", "none")
                .hint("`rollover run tidb/cfssl-rotate`")
        }));
    };
    if let Some(other) = expired.iter().find(|error| error.code != Code::Expired) {
        return Err(other.clone());
    }
    let mut warnings = vec![format!("{}: {}", first.object, first.message)];
    warnings.extend(expired.drain(1..).map(|error| format!("{}: {}", error.object, error.message)));
    describe_cluster(world, &cluster, warnings)
}

fn describe_cluster(world: &World, cluster: &Cluster, mut warnings: Vec<String>) -> Result<Value, PrimError> {
    let object = &cluster.object;
    warnings.extend(cluster.warnings.iter().cloned());
    let mut secrets = Vec::new();
    // A marker on the cluster outlives a tool that somebody has to run; what a Secret holds may be its next content.
    let mut managed: Vec<String> = owner::warning(object, &cluster.value)
        .filter(|_| owner::reconciled(&cluster.value))
        .into_iter()
        .collect();
    for (name, tls) in &cluster.secrets {
        managed.extend(owner::warning(&cluster.secret_ref(name), &tls.value));
        secrets.push(secret(world, cluster, name, tls)?);
        warnings.extend(tls.notes.iter().cloned());
    }
    // In the order of the components, so that a reader finds both lists alike.
    let rank = |secret: &Value| {
        let role = cluster.identities.of(text(secret, &["name"])).map(|identity| identity.role);
        components::COMPONENTS.iter().position(|c| role.as_deref() == Some(c.name)).unwrap_or(usize::MAX)
    };
    secrets.sort_by_key(rank);
    let parts = cluster.parts.iter().map(|p| part(world, cluster, p)).collect::<Result<Vec<_>, _>>()?;
    let names: Vec<&str> = secrets.iter().map(|secret| text(secret, &["name"])).collect();
    let mut id = cluster.keeper.words();
    let own = json!({ "namespace": object.namespace, "name": object.name, "secrets": names });
    id.extend(own.as_object().cloned().unwrap_or_default());
    Ok(json!({
        "id": id,
        "namespace": object.namespace,
        "name": object.name,
        "uid": text(&cluster.value, &["metadata", "uid"]),
        "version": version(cluster),
        "target": target(&cluster.keeper, object, &cluster.value),
        "components": parts,
        "secrets": secrets,
        "managed": managed,
        "labelled": labelled(cluster),
        "warnings": warnings,
    }))
}

/// Those of the objects that a run changes that have a label by which Argo CD may know them.
pub(super) fn labelled(cluster: &Cluster) -> Vec<Value> {
    let secrets = cluster.secrets.iter().map(|(name, tls)| (cluster.secret_ref(name), &tls.value));
    owner::labelled([(cluster.object.clone(), &cluster.value)].into_iter().chain(secrets))
}

/// What a run upon a cluster holds.
pub(super) fn target(keeper: &Keeper, object: &Ref, value: &Value) -> Value {
    json!({
        "title": object.to_string(),
        "namespace": object.namespace,
        "lease": keeper.lease(&object.name),
        "api_version": object.api_version,
        "kind": object.kind,
        "name": object.name,
        "uid": text(value, &["metadata", "uid"]),
    })
}

/// The version that the cluster is to run; under operator v2 that of its first group, PD's.
fn version(cluster: &Cluster) -> &str {
    match cluster.keeper {
        Keeper::V1 => text(&cluster.value, &["spec", "version"]),
        Keeper::V2 { .. } => {
            let group = cluster.parts.iter().find_map(|part| part.group.as_ref());
            group.map_or("", |group| text(group, &["spec", "template", "spec", "version"]))
        }
    }
}

/// Whose identity lies in a Secret of the cluster: that of clients where it follows no scheme.
fn identity_in(cluster: &Cluster, secret: &str) -> String {
    cluster.identities.of(secret).map_or_else(|| CLIENT.to_owned(), |identity| identity.name)
}

fn secret(world: &World, cluster: &Cluster, name: &str, tls: &Tls) -> Result<Value, PrimError> {
    let component = identity_in(cluster, name);
    let mut fact = describe(world, &cluster.secret_ref(name), tls)?;
    if let Some(fields) = fact.as_object_mut() {
        fields.insert("request".into(), components::request(&component).into());
        fields.insert("profile".into(), components::profile(&component).into());
        fields.insert("component".into(), component.into());
    }
    Ok(fact)
}

fn part(world: &World, cluster: &Cluster, part: &Part) -> Result<Value, PrimError> {
    let component = identity_in(cluster, &part.secret);
    let leaders_within =
        if part.runs == Runs::Operator { v1::eviction::of_part(&cluster.value, &part.role) } else { None };
    Ok(json!({
        "component": part.component,
        "role": part.role,
        "kind": part.runs.word(),
        "group": part.group_name(),
        "namespace": part.namespace,
        "cluster": cluster.object.name,
        "name": part.name,
        "replicas": part.replicas,
        "partition": part.partition,
        "leaders_within": leaders_within,
        "secret": part.secret,
        "client_secret": cluster.client_secret,
        "request": components::request(&component),
        "profile": components::profile(&component),
        "verifier": part.verifier,
        "port": part.port,
        "selector": part.selector,
        "endpoints": endpoints(&part.namespace, &part.name, &part.role, part.port, &part.pods),
        "identity": identity(world, cluster)?,
    }))
}

/// The headless Service that a pod stands under.
pub(super) fn peer(service: &str, role: &str, pod: &Value) -> String {
    // Operator v2 may put all components under one.
    let told = v2::pods::subdomain(pod).filter(|_| !v2::pods::label(pod, "group").is_empty());
    told.map_or_else(|| links::peer(service, role), str::to_owned)
}

/// Where the pods of a component answer, with the names under which they are dialled.
pub(super) fn endpoints(
    namespace: &str,
    service: &str,
    role: &str,
    port: Option<u16>,
    pods: &[Value],
) -> Vec<Value> {
    let Some(port) = port else { return Vec::new() };
    pods.iter()
        .filter_map(|pod| {
            let (name, host) = addresses(std::slice::from_ref(pod)).next()?;
            let forms = links::forms(links::RUNNER, role);
            let names = links::names(&forms, service, &peer(service, role, pod), namespace, name);
            Some(json!({ "pod": name, "host": host, "port": port, "names": names }))
        })
        .collect()
}

/// Names and addresses of the pods that can be dialled.
pub(super) fn addresses(pods: &[Value]) -> impl Iterator<Item = (&str, &str)> {
    pods.iter()
        .filter(|pod| at(pod, &["metadata", "deletionTimestamp"]).is_none_or(Value::is_null))
        .map(|pod| (text(pod, &["metadata", "name"]), text(pod, &["status", "podIP"])))
        .filter(|(_, host)| !host.is_empty())
}

/// The identity that we dial with: that of the cluster's clients.
pub(super) fn identity(world: &World, cluster: &Cluster) -> Result<Value, PrimError> {
    let Some(tls) = cluster.secrets.get(&cluster.client_secret) else { return Ok(Value::Null) };
    Ok(json!({ "cert": tls.pem("tls.crt"), "key": tls.key_handle(world)? }))
}

/// That its operator acts on it and its components speak TLS.
fn able(cluster: &Cluster) -> Result<(), PrimError> {
    let object = cluster.object.to_string();
    let value = &cluster.value;
    if at(value, &["spec", "tlsCluster", "enabled"]) != Some(&Value::Bool(true)) {
        return Err(PrimError::invalid(
            "TLS between its components is not enabled, so there is nothing to rotate",
        )
        .on(object)
        .expected("spec.tlsCluster.enabled: true", "false"));
    }
    if at(value, &["spec", "paused"]) == Some(&Value::Bool(true)) {
        return Err(PrimError::new(Code::Unproved, "it is paused, so the operator would restart nothing")
            .on(object)
            .hint("set `spec.paused` to false"));
    }
    if at(value, &["spec", "suspendAction", "suspendCompute"]) == Some(&Value::Bool(true)) {
        return Err(PrimError::new(Code::Unproved, "it is suspended, so none of its pods run")
            .on(object)
            .hint("set `spec.suspendAction.suspendCompute` to false"));
    }
    Ok(())
}

/// What must hold before a rotation; gives warnings.
pub(super) fn sound(cluster: &Cluster, now: OffsetDateTime) -> Result<Vec<String>, PrimError> {
    able(cluster)?;
    for (name, tls) in &cluster.secrets {
        valid(&cluster.secret_ref(name), tls, now)?;
    }
    ready(cluster)?;
    let mut warnings = Vec::new();
    for part in cluster.parts.iter().filter(|p| p.is_operators() && matches!(p.role.as_str(), "pd" | "tikv"))
    {
        if part.replicas < 3 {
            warnings.push(format!(
                "{} has {} replica{}: with fewer than 3 its restart interrupts the service",
                part.component,
                part.replicas,
                if part.replicas == 1 { "" } else { "s" }
            ));
        }
    }
    Ok(warnings)
}

/// That its operator says that it is ready.
pub(super) fn ready(cluster: &Cluster) -> Result<(), PrimError> {
    match unready(cluster) {
        None => Ok(()),
        Some(why) => Err(PrimError::new(Code::Unproved, format!("the cluster is not ready ({why})"))
            .on(cluster.object.to_string())
            .hint("wait until it is, or repair it first: a rotation restarts everything once more")),
    }
}

/// Why it says that it is not; nothing where it says that it is.
fn unready(cluster: &Cluster) -> Option<String> {
    match cluster.keeper {
        Keeper::V1 => match condition(&cluster.value, "Ready") {
            Some(ready) if text(ready, &["status"]) == "True" => None,
            ready => Some(ready.map_or("it has no condition `Ready`".to_owned(), |c| {
                format!("{}: {}", text(c, &["reason"]), text(c, &["message"]))
            })),
        },
        Keeper::V2 { .. } => cluster.parts.iter().find_map(|part| {
            let why = v2::state::lacks(part.group.as_ref()?)?;
            Some(format!("{}: {why}", part.component))
        }),
    }
}

/// That the certificates in use are valid now. A CA that signed nothing here may have expired: it is on its way out.
pub(super) fn valid(object: &Ref, tls: &Tls, now: OffsetDateTime) -> Result<(), PrimError> {
    let expired = |error: PrimError, key: &str| {
        PrimError {
        object: format!("{object}, key `{key}`, {}", error.object),
        hint: error.hint.clone().or(Some(
            "what has expired cannot be replaced step by step, since handshakes fail already: re-issue everything and switch all at once".into(),
        )),
        ..error
    }
    };
    for certificate in &tls.chain {
        certificate.check_valid_at(now).map_err(|e| expired(e, "tls.crt"))?;
    }
    let signed = |ca: &&Certificate| tls.chain.iter().any(|c| c.check_signed_by(ca).is_ok());
    let issuers: Vec<&Certificate> = tls.anchors.iter().filter(signed).collect();
    let all_expired = issuers.iter().all(|ca| ca.check_valid_at(now).is_err());
    match issuers.first().map(|ca| ca.check_valid_at(now)) {
        Some(Err(error)) if all_expired => Err(expired(error, "ca.crt")),
        _ => Ok(()),
    }
}
