//! Proofs about a cluster: what its pods serve, what they accept, who still presents an old certificate, its health.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join3;
use serde_json::{Map, Value, json};

use crate::bundle;
use crate::cert::Certificate;
use crate::error::{Code, PrimError};
use crate::gate::{Gate, Progress};
use crate::k8s::args;
use crate::k8s::client::Objects;
use crate::k8s::object::{Ref, at, text};
use crate::k8s::pod::pod;
use crate::k8s::secret::Tls;
use crate::secret::Secret;
use crate::tls::TlsFailure;
use crate::tls::config::Identity;
use crate::trust::{Ask, Certs, Usage, Verifier, verify};
use crate::world::World;

use super::cluster::{self, Cluster, Runs};
use super::keeper::{Keeper, Named};
use super::probe::{self, Answer, Endpoint};
use super::sql_servers::Servers;
use super::{components, fact, restart, v1, view};

/// How long a proof waits for pods that do not answer.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long it waits for an answer to become the wanted one: a leaf that is read again may come a little late.
const RECONSIDER: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(500);
/// What is said of a pod that presents another certificate than the one in its Secret.
const LATE: &str = "it serves another certificate than the one that was issued";

/// `tidb::serves(component, expected)`.
pub(super) async fn serves(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let part = args::map(args, 0, "component")?;
    let expected = args::map(args, 1, "expected")?;
    let list = |key: &str| -> Result<Option<Vec<Certificate>>, PrimError> {
        expected.get(key).map(|value| bundle::certificates(value, &format!("expected.{key}"))).transpose()
    };
    let (issued_by, trusted_by) = (list("issued_by")?, list("trusted_by")?);
    let mut exact: Vec<Certificate> = list("certificate")?.into_iter().flatten().take(1).collect();
    if issued_by.is_none() && trusted_by.is_none() && exact.is_empty() {
        return Err(PrimError::argument(
            "`expected` names none of `issued_by`, `trusted_by` and `certificate`",
        ));
    }
    exact.extend(renewed_in(world, part, expected).await?);
    let now = || world.clock.now();
    let check = |endpoint: &Endpoint, answer: &Answer| -> Result<(), PrimError> {
        accepted(world, endpoint, answer)?;
        let chain = answer.chain.clone().unwrap_or_default();
        if let Some(issuers) = &issued_by {
            let leaf = leaf(endpoint, &chain)?;
            if !issuers.iter().any(|ca| leaf.check_signed_by(ca).is_ok()) {
                return Err(PrimError::new(Code::Unproved, "it serves a certificate of another CA")
                    .on(endpoint.pod.clone())
                    .expected(one_of(issuers), format!("{leaf}, issued by `{}`", leaf.issuer_text())));
            }
        }
        if let Some(wanted) = exact.last() {
            let leaf = leaf(endpoint, &chain)?;
            if !exact.contains(&leaf) {
                return Err(PrimError::new(Code::Unproved, LATE)
                    .on(endpoint.pod.clone())
                    .expected(wanted.to_string(), leaf.to_string()));
            }
        }
        if let Some(anchors) = &trusted_by {
            let anchors = probe::certs(anchors);
            for verifier in [Verifier::Go, Verifier::Openssl] {
                for name in &endpoint.names {
                    let ask = Ask { usage: Usage::Server, name: Some(name), allowed_cn: &[], at: now() };
                    if let Err(rejection) = verify(verifier, &chain.0, &anchors.0, &ask) {
                        return Err(PrimError::new(
                            Code::Unproved,
                            format!(
                                "clients with this trust would refuse it as `{name}`: {}",
                                rejection.text
                            ),
                        )
                        .on(endpoint.pod.clone()));
                    }
                }
            }
        }
        Ok(())
    };
    let mut waited = Duration::ZERO;
    loop {
        match each_endpoint(world, gate, part, None, &check).await {
            // Nothing was restarted: the kubelet brings the new pair into each pod in its own time.
            Err(error) if error.message == LATE && waited < PATIENCE => waited += RECONSIDER,
            done => return done,
        }
    }
}

/// The certificate that lies by now in the Secret that `expected.renewed_in` names.
async fn renewed_in(
    world: &World,
    part: &Map<String, Value>,
    expected: &Map<String, Value>,
) -> Result<Option<Certificate>, PrimError> {
    let Some(name) = expected.get("renewed_in").and_then(Value::as_str) else { return Ok(None) };
    let secret = Ref::secret(args::field(part, "namespace", "component")?, name);
    let held = Objects::of(world)?.get(&secret).await?;
    Ok(Tls::of(&secret, held)?.chain.into_iter().next())
}

/// `tidb::accepts(component, identity)`.
pub(super) async fn accepts(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let part = args::map(args, 0, "component")?;
    let accepted = |endpoint: &Endpoint, answer: &Answer| accepted(world, endpoint, answer);
    each_endpoint(world, gate, part, Some(given(world, args)?), &accepted).await
}

/// `tidb::refuses(component, identity)`.
pub(super) async fn refuses(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let part = args::map(args, 0, "component")?;
    let refused = |endpoint: &Endpoint, answer: &Answer| match &answer.failure {
        Some(TlsFailure::RefusedBy(_)) => Ok(()),
        Some(_) => accepted(world, endpoint, answer),
        None => Err(PrimError::new(Code::Unproved, "it accepts a client that it must refuse")
            .on(endpoint.pod.clone())
            .hint("it still trusts the CA of that certificate: a changed CA needs a restart")),
    };
    each_endpoint(world, gate, part, Some(given(world, args)?), &refused).await
}

/// The identity that a script hands over.
fn given(world: &World, args: &[Value]) -> Result<Identity, PrimError> {
    let identity = args::map(args, 1, "identity")?;
    let chain = bundle::certificates(identity.get("cert").unwrap_or(&Value::Null), "identity.cert")?;
    let key: Secret = world.secrets.get(identity.get("key").unwrap_or(&Value::Null))?;
    Identity::new(&probe::certs(&chain), &key)
}

/// `tidb::none_presents(cluster, ca)`.
pub(super) async fn none_presents(
    world: &World,
    args: &[Value],
    gate: &dyn Gate,
) -> Result<Value, PrimError> {
    let named = Named::id(args)?;
    let old = bundle::certificates(args.get(1).unwrap_or(&Value::Null), "ca")?;
    let cluster = cluster::load(world, &named).await?;
    let of_old = |c: &Certificate| old.iter().any(|ca| c.check_signed_by(ca).is_ok());
    let mut holders: Vec<String> = cluster
        .secrets
        .iter()
        .filter(|(_, tls)| tls.chain.iter().any(of_old))
        .map(|(name, _)| format!("Secret {name}"))
        .collect();
    let measured = view::measure(world, &cluster, gate).await?;
    for party in &measured.parties {
        let presents = |chain: &Certs| {
            chain.0.iter().any(|der| Certificate::from_der(der.to_vec()).is_ok_and(|c| of_old(&c)))
        };
        if party.chains.iter().any(presents) {
            holders.push(party.id.clone());
        }
    }
    holders.extend(view::stale_operators(&cluster, &measured));
    if holders.is_empty() {
        return Ok(json!({ "parties": measured.parties.len() }));
    }
    Err(PrimError::new(
        Code::Unproved,
        format!("certificates of the old CA are still in use: {}", holders.join(", ")),
    )
    .on(named.object.to_string())
    .expected("none", holders.len().to_string())
    .hint("replace them first: `rollover run tidb/cfssl-components`"))
}

/// `tidb::healthy(cluster)`.
pub(super) async fn healthy(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let named = Named::id(args)?;
    let mut waited = Duration::ZERO;
    loop {
        let cluster = cluster::load(world, &named).await?;
        let state = well(&cluster, world);
        match state {
            Ok(()) => {
                return Ok(json!({ "pods": cluster.parts.iter().map(|p| p.pods.len()).sum::<usize>() }));
            }
            Err(error) if error.code == Code::Unproved && waited < PATIENCE => {
                gate.progress(Progress { text: error.message, done: None });
            }
            Err(error) => return Err(error),
        }
        world.clock.sleep(PAUSE).await;
        waited += PAUSE;
    }
}

fn well(cluster: &Cluster, world: &World) -> Result<(), PrimError> {
    fact::sound(cluster, world.clock.now())?;
    let unproved = |why: String| PrimError::new(Code::Unproved, why).on(cluster.object.to_string());
    if cluster.keeper == Keeper::V1
        && let Some(why) = v1::rollout::ailing(&cluster.value)
    {
        return Err(unproved(why));
    }
    for part in &cluster.parts {
        if part.runs == Runs::Operator {
            let phase = text(&cluster.value, &["status", &part.component, "phase"]);
            if phase != "Normal" {
                return Err(unproved(format!("{}: phase is {phase}", part.component)));
            }
        }
        let ready = part.pods.iter().map(pod).filter(|p| p.ready && !p.terminating).count();
        if i64::try_from(ready).unwrap_or(0) < part.replicas {
            return Err(unproved(format!("{}: {ready} of {} pods are ready", part.name, part.replicas)));
        }
    }
    Ok(())
}

/// Asks every endpoint that a component has now, until all answers satisfy `check` or patience ends.
async fn each_endpoint(
    world: &World,
    gate: &dyn Gate,
    part: &Map<String, Value>,
    identity: Option<Identity>,
    check: &(dyn Fn(&Endpoint, &Answer) -> Result<(), PrimError> + Send + Sync),
) -> Result<Value, PrimError> {
    let (mut waited, mut wrong_for) = (Duration::ZERO, Duration::ZERO);
    loop {
        let now = Now::read(world, part).await?;
        if now.endpoints.is_empty() && now.wanted == 0 {
            return Ok(json!({ "endpoints": 0 }));
        }
        let present = probe::identity(&now.client)?;
        let anchors = Arc::new(probe::certs(&now.client.anchors));
        let answers =
            probe::all(world, &now.endpoints, identity.as_ref().unwrap_or(&present), &anchors).await?;
        let failed = now.endpoints.iter().zip(&answers).find_map(|(endpoint, answer)| {
            check(endpoint, answer)
                .err()
                .map(|error| (error, answer.failure.as_ref().is_some_and(|f| !f.is_refusal())))
        });
        let there = now.endpoints.len();
        match failed {
            None if there >= now.wanted => {
                let leaves: Vec<Option<String>> = answers
                    .iter()
                    .map(|a| {
                        Certificate::from_der(a.chain.as_ref()?.0.first()?.to_vec())
                            .ok()
                            .map(|c| c.fingerprint())
                    })
                    .collect();
                let pods: Vec<&str> = now.endpoints.iter().map(|e| e.pod.as_str()).collect();
                return Ok(json!({ "endpoints": there, "pods": pods, "fingerprints": leaves }));
            }
            None => {
                if waited >= PATIENCE {
                    return Err(PrimError::new(Code::Unproved, "not every pod is there to be asked")
                        .on(text_of(part, "name"))
                        .expected(format!("{} pods", now.wanted), there.to_string()));
                }
                gate.progress(Progress {
                    text: format!("{there} of {} pods are there", now.wanted),
                    done: None,
                });
            }
            Some((error, unreachable)) => {
                let (spent, limit) = if unreachable { (waited, PATIENCE) } else { (wrong_for, RECONSIDER) };
                if spent >= limit {
                    return Err(error);
                }
                if !unreachable {
                    wrong_for += PAUSE;
                }
                gate.progress(Progress { text: error.to_string(), done: None });
            }
        }
        world.clock.sleep(PAUSE).await;
        waited += PAUSE;
    }
}

/// A component as it is at this moment: pods move, and so does our own identity.
struct Now {
    endpoints: Vec<Endpoint>,
    wanted: usize,
    client: Tls,
}

impl Now {
    async fn read(world: &World, part: &Map<String, Value>) -> Result<Self, PrimError> {
        if part.get("mysql") == Some(&Value::Bool(true)) {
            let Servers { wanted, endpoints, client, .. } = Servers::read(world, part).await?;
            return Ok(Self { endpoints, wanted: usize::try_from(wanted).unwrap_or(usize::MAX), client });
        }
        let objects = Objects::of(world)?;
        let field = |name: &str| args::field(part, name, "component");
        let (namespace, name, component) = (field("namespace")?, field("cluster")?, field("component")?);
        let port = part.get("port").and_then(Value::as_u64).and_then(|p| u16::try_from(p).ok());
        let secret = match part.get("client_secret").and_then(Value::as_str) {
            Some(named) => named.to_owned(),
            None => components::secret_name(name, components::CLIENT),
        };
        let secret = Ref::secret(namespace, &secret);
        if port.is_none() {
            let client = Tls::of(&secret, objects.get(&secret).await?)?;
            return Ok(Self { endpoints: Vec::new(), wanted: 0, client });
        }
        let of_group = field("kind").is_ok_and(|kind| kind == "group");
        let (role, owner) =
            if of_group { restart::group(part)? } else { (component, cluster::reference(namespace, name)) };
        let selector = field("selector")?;
        let pods = objects.list("v1", "Pod", namespace, selector);
        let (client, owner, pods) = join3(objects.get(&secret), objects.get(&owner), pods).await;
        let (client, owner, pods) = (Tls::of(&secret, client?)?, owner?, pods?);
        let wanted = if of_group {
            at(&owner, &["spec", "replicas"]).and_then(Value::as_u64).unwrap_or(1)
        } else {
            at(&owner, &["spec", component, "replicas"]).and_then(Value::as_u64).unwrap_or(0)
        };
        let endpoints = fact::endpoints(namespace, field("name")?, role, port, &pods);
        Ok(Self {
            endpoints: endpoints.iter().filter_map(Endpoint::of).collect(),
            wanted: usize::try_from(wanted).unwrap_or(usize::MAX),
            client,
        })
    }
}

fn accepted(world: &World, endpoint: &Endpoint, answer: &Answer) -> Result<(), PrimError> {
    match &answer.failure {
        None => Ok(()),
        Some(TlsFailure::Rejected(rejection)) => Err(PrimError::new(
            Code::Unproved,
            format!("the cluster's clients refuse its certificate: {}", rejection.text),
        )
        .on(endpoint.pod.clone())),
        Some(TlsFailure::RefusedBy(alert)) => Err(PrimError::new(
            Code::Unproved,
            format!("it refuses the certificate presented to it (`{alert}`)"),
        )
        .on(endpoint.pod.clone())
        .hint("it has not loaded the CA of that certificate: a changed CA needs a restart")),
        Some(failure) => Err(PrimError::new(Code::Unproved, failure.to_string())
            .on(endpoint.pod.clone())
            .hint(world.net.unreached())),
    }
}

fn leaf(endpoint: &Endpoint, chain: &Certs) -> Result<Certificate, PrimError> {
    let der = chain
        .0
        .first()
        .ok_or_else(|| PrimError::new(Code::Unproved, "it serves no certificate").on(endpoint.pod.clone()))?;
    Certificate::from_der(der.to_vec()).map_err(|error| error.on(endpoint.pod.clone()))
}

fn one_of(issuers: &[Certificate]) -> String {
    let names: Vec<String> =
        issuers.iter().map(|ca| format!("`{}` ({})", ca.subject_text(), short(&ca.fingerprint()))).collect();
    format!("a certificate of {}", names.join(" or "))
}

fn short(fingerprint: &str) -> &str {
    fingerprint.get(..19).unwrap_or(fingerprint)
}

fn text_of(part: &Map<String, Value>, field: &str) -> String {
    part.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}
