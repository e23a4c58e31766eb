//! `tidb::trust`: who trusts whom in a cluster now, by handshakes, by what this run wrote and restarted, and by the API.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::cert::{self, Certificate};
use crate::error::PrimError;
use crate::gate::{Gate, Past, Place};
use crate::k8s::content::last_written;
use crate::k8s::marker::Spot;
use crate::k8s::object::{Ref, text};
use crate::k8s::secret::Tls;
use crate::trust::{Certs, Evidence, Handshake, Link, Party, Verifier, View};
use crate::world::World;

use super::cluster::{Cluster, Part, Runs};
use super::history::{MayHold, may_hold_made_by, may_present};
use super::links::{self, OPERATOR, RUNNER};
use super::probe::{self, Answer, Endpoint};
use super::{config, fact, restart};

/// Measures a cluster.
pub async fn measure(world: &World, cluster: &Cluster, gate: &dyn Gate) -> Result<View, PrimError> {
    let endpoints: Vec<Endpoint> = cluster.parts.iter().flat_map(|part| endpoints(cluster, part)).collect();
    let client = client_secret(cluster)?;
    let identity = probe::identity(client)?;
    let anchors = Arc::new(probe::certs(&client.anchors));
    let answers = probe::all(world, &endpoints, &identity, &anchors).await;
    let answers: BTreeMap<&str, &Answer> = endpoints.iter().map(|e| e.pod.as_str()).zip(&answers).collect();
    Ok(assemble(cluster, &answers, &gate.history()))
}

/// The Secret that clients and the operator use.
pub fn client_secret(cluster: &Cluster) -> Result<&Tls, PrimError> {
    let name = cluster.client_secret();
    cluster
        .secrets
        .get(&name)
        .ok_or_else(|| PrimError::not_found("it does not exist").on(cluster.secret_ref(&name).to_string()))
}

/// The endpoints of a part's pods.
pub fn endpoints(cluster: &Cluster, part: &Part) -> Vec<Endpoint> {
    let object = &cluster.object;
    fact::endpoints(&object.namespace, &object.name, &part.component, part.port, &part.pods)
        .iter()
        .filter_map(Endpoint::of)
        .collect()
}

/// Builds the view from what was read and measured. Pure.
pub fn assemble(cluster: &Cluster, answers: &BTreeMap<&str, &Answer>, history: &[Past]) -> View {
    let issuers = Issuers::of(cluster, answers);
    let mut parties = Vec::new();
    let mut ends: Vec<End<'_>> = Vec::new();
    for part in &cluster.parts {
        let Some(tls) = cluster.secrets.get(&part.secret) else { continue };
        for pod in &part.pods {
            if matches!(text(pod, &["status", "phase"]), "Succeeded" | "Failed") {
                continue;
            }
            let name = text(pod, &["metadata", "name"]);
            // A process with two identities is two parties.
            let known = ends.iter().any(|end| end.pod == name);
            let id = if known { format!("pod/{name} ({})", part.secret) } else { format!("pod/{name}") };
            let answer = answers.get(name).copied();
            let party = party(cluster, part, tls, pod, answer, history, &issuers, &|_| false);
            parties.push(Party { id: id.clone(), ..party });
            ends.push(End { id, component: &part.component, pod: name, serves: part.port.is_some() });
        }
    }
    if let Some(client) = cluster.secrets.get(&cluster.client_secret()) {
        for (id, name) in [("controller/tidb-operator", OPERATOR), ("runner", RUNNER)] {
            parties.push(rereading(cluster, &cluster.client_secret(), client, id, name));
            ends.push(End { id: id.into(), component: name, pod: "", serves: false });
        }
    }
    View { parties, links: all_links(cluster, &ends, answers) }
}

/// One end of links.
struct End<'a> {
    id: String,
    component: &'a str,
    pod: &'a str,
    serves: bool,
}

fn all_links(cluster: &Cluster, ends: &[End<'_>], answers: &BTreeMap<&str, &Answer>) -> Vec<Link> {
    let object = &cluster.object;
    let mut found = Vec::new();
    for server in ends.iter().filter(|end| end.serves) {
        let client_cn = config::allowed_cn(&cluster.value, server.component);
        for client in ends.iter().filter(|end| end.id != server.id) {
            let forms = links::forms(client.component, server.component);
            if forms.is_empty() {
                continue;
            }
            found.push(Link {
                client: client.id.clone(),
                server: server.id.clone(),
                names: links::names(&forms, &object.name, &object.namespace, server.component, server.pod),
                mutual: true,
                client_cn: client_cn.clone(),
                handshake: if client.component == RUNNER {
                    answers.get(server.pod).and_then(|a| handshake(a))
                } else {
                    None
                },
            });
        }
    }
    found
}

/// What our own handshake says of the link from us to a pod. A connection that failed for another reason than trust says
/// nothing.
pub(super) fn handshake(answer: &Answer) -> Option<Handshake> {
    match &answer.failure {
        None => Some(Handshake::Accepted),
        Some(failure) if failure.is_refusal() => Some(Handshake::Refused(failure.to_string())),
        Some(_) => None,
    }
}

/// One pod with one Secret. `reloaded` tells which effects had this very process load what it has mounted.
#[allow(clippy::too_many_arguments, reason = "all that is known of one pod")]
pub(super) fn party(
    cluster: &Cluster,
    part: &Part,
    tls: &Tls,
    pod: &Value,
    answer: Option<&Answer>,
    history: &[Past],
    issuers: &Issuers,
    reloaded: &dyn Fn(&Place) -> bool,
) -> Party {
    let source = cluster.secret_ref(&part.secret).place();
    let (spot, restarts) = restarts(&cluster.object, part);
    let marker = text(pod, &["metadata", "annotations", spot.key]);
    let own = Ref::new("v1", "Pod", &cluster.object.namespace, text(pod, &["metadata", "name"]));
    // Either the pod carries the restart's marker, or another of its name was deleted by it.
    let made = |place: &Place, known: &str| {
        (!marker.is_empty() && known == marker && *place == restarts)
            || follows(place, &own, pod)
            || reloaded(place)
    };
    let held = |key: &str| may_hold_made_by(history, &source, key, &made, &tls.pem(key));
    let fresh = mounted_after_the_last_write(pod, &tls.value);

    let trust = held("ca.crt");
    let anchor_evidence =
        if trust.restarted || (!trust.written && fresh) { Evidence::Inferred } else { Evidence::Unknown };
    let mut anchors: Vec<Certs> = trust.texts.iter().flat_map(|text| stores(text)).collect();
    if anchor_evidence == Evidence::Unknown {
        // It may have started with less than lies there now, but with what the chains in use need.
        let narrow: Vec<Certs> = anchors.iter().filter_map(|set| issuers.narrow(set)).collect();
        anchors.extend(narrow);
    }

    let (chains, chain_evidence) = match answer.and_then(|a| a.chain.as_ref()) {
        Some(served) => {
            let is_served = |text: &str| parse(text).as_ref() == Some(served);
            let mut chains = vec![served.clone()];
            let mut soon = may_present(history, &source, "tls.crt", &is_served, &tls.pem("tls.crt"));
            let mounted = held("tls.crt");
            if mounted.restarted {
                // What was superseded before the pod was made can no longer arrive.
                soon.retain(|text| mounted.texts.contains(text));
            }
            chains.extend(soon.iter().filter_map(|text| parse(text)));
            (chains, Evidence::Measured)
        }
        None => {
            let MayHold { texts, restarted, written } = held("tls.crt");
            let known = restarted || !written;
            (
                texts.iter().filter_map(|t| parse(t)).collect(),
                if known { Evidence::Inferred } else { Evidence::Unknown },
            )
        }
    };
    Party {
        id: format!("pod/{}", text(pod, &["metadata", "name"])),
        group: part.component.clone(),
        process: text(pod, &["metadata", "uid"]).to_owned(),
        verifier: part.verifier,
        source,
        anchors_source: None,
        chains: distinct(chains),
        chain_evidence,
        anchors: distinct(anchors),
        anchor_evidence,
    }
}

/// A party that reads its Secret again for every connection: it holds what lies there.
pub(super) fn rereading(cluster: &Cluster, secret: &str, tls: &Tls, id: &str, group: &str) -> Party {
    Party {
        id: id.into(),
        group: group.into(),
        process: id.into(),
        verifier: Verifier::Go,
        source: cluster.secret_ref(secret).place(),
        anchors_source: None,
        chains: vec![probe::certs(&tls.chain)],
        chain_evidence: Evidence::Inferred,
        anchors: vec![probe::certs(&tls.anchors)],
        anchor_evidence: Evidence::Inferred,
    }
}

/// Whether a deletion at this place was that of the pod's predecessor: another of its name.
fn follows(place: &Place, own: &Ref, pod: &Value) -> bool {
    let uid = text(pod, &["metadata", "uid"]);
    let deleted = place.0.strip_prefix(&own.place().0).and_then(|rest| rest.strip_prefix('#'));
    deleted.is_some_and(|deleted| deleted != uid)
}

/// Where a part's restart marker is, and the place under which restarts of it are recorded.
fn restarts(object: &Ref, part: &Part) -> (Spot, Place) {
    match part.runs {
        Runs::Operator => {
            let spot = restart::spot(&part.component);
            let place = spot.place(object);
            (spot, place)
        }
        Runs::Workload(kind) => {
            let spot = Spot::template();
            let place = spot.place(&Ref::new("apps/v1", kind, &object.namespace, &part.name));
            (spot, place)
        }
    }
}

/// Whether a pod was made after its Secret's CA was last written, by the API server's clock in whole seconds. The pod's
/// creation counts and not its container's start, which may read a folder that lags behind.
///
/// Within the same second the order is not known; it counts as after, since a restart follows its write. Proofs by
/// handshake (`tidb::accepts`) do not rest on this.
fn mounted_after_the_last_write(pod: &Value, secret: &Value) -> bool {
    let made = text(pod, &["metadata", "creationTimestamp"]);
    let written =
        last_written(secret, "ca.crt").unwrap_or_else(|| text(secret, &["metadata", "creationTimestamp"]));
    !made.is_empty() && !written.is_empty() && seconds(made) >= seconds(written)
}

/// An RFC 3339 time up to its seconds, which compares as text.
fn seconds(time: &str) -> &str {
    time.get(..19).unwrap_or(time)
}

fn parse(text: &str) -> Option<Certs> {
    cert::parse_many(text.as_bytes(), "").ok().map(|list| probe::certs(&list))
}

/// The trust stores that a program may make of a text: all of it; and where readers lose certificates of it, each alone.
fn stores(text: &str) -> Vec<Certs> {
    let Ok(parsed) = cert::parse(text.as_bytes(), "") else { return Vec::new() };
    let mut stores = vec![probe::certs(&parsed.certificates)];
    if !parsed.notes.is_empty() {
        stores.extend(parsed.certificates.iter().map(|c| probe::certs(std::slice::from_ref(c))));
    }
    stores
}

fn distinct(list: Vec<Certs>) -> Vec<Certs> {
    let mut seen: Vec<Certs> = Vec::new();
    for certs in list {
        if !certs.0.is_empty() && !seen.contains(&certs) {
            seen.push(certs);
        }
    }
    seen
}

/// Which CAs have signed what is in use.
pub(super) struct Issuers {
    in_use: Vec<Certificate>,
}

impl Issuers {
    pub(super) fn of(cluster: &Cluster, answers: &BTreeMap<&str, &Answer>) -> Self {
        let served = answers.values().filter_map(|a| a.chain.as_ref()).flat_map(|c| &c.0);
        let mut in_use: Vec<Certificate> =
            served.filter_map(|der| Certificate::from_der(der.to_vec()).ok()).collect();
        if in_use.is_empty() {
            in_use = cluster.secrets.values().flat_map(|tls| tls.chain.iter().cloned()).collect();
        }
        Self { in_use }
    }

    /// The part of a store without which handshakes would fail now; `None` where that is all of it.
    fn narrow(&self, store: &Certs) -> Option<Certs> {
        let needed = |ca: &Certificate| self.in_use.iter().any(|c| c.check_signed_by(ca).is_ok());
        let kept: Vec<_> = store
            .0
            .iter()
            .filter(|der| Certificate::from_der(der.to_vec()).is_ok_and(|ca| needed(&ca)))
            .cloned()
            .collect();
        (!kept.is_empty() && kept.len() < store.0.len()).then_some(Certs(kept))
    }
}
