//! `tidb::trust`: who trusts whom in a cluster now, by handshakes, by what this run wrote and restarted, and by the API.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

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
use super::links::{self, OPERATOR, OPERATOR_PD, RUNNER};
use super::probe::{self, Answer, Endpoint};
use super::{fact, v1, v2};

/// Measures a cluster.
pub async fn measure(world: &World, cluster: &Cluster, gate: &dyn Gate) -> Result<View, PrimError> {
    let endpoints: Vec<Endpoint> = cluster.parts.iter().flat_map(endpoints).collect();
    let client = client_secret(cluster)?;
    let identity = probe::identity(client)?;
    let anchors = Arc::new(probe::certs(&client.anchors));
    let answers = probe::all(world, &endpoints, &identity, &anchors).await?;
    let answers: BTreeMap<&str, &Answer> = endpoints.iter().map(|e| e.pod.as_str()).zip(&answers).collect();
    Ok(assemble(cluster, &answers, &gate.history()))
}

/// The Secret that clients and the operator use.
pub fn client_secret(cluster: &Cluster) -> Result<&Tls, PrimError> {
    let name = &cluster.client_secret;
    cluster
        .secrets
        .get(name)
        .ok_or_else(|| PrimError::not_found("it does not exist").on(cluster.secret_ref(name).to_string()))
}

/// The endpoints of a part's pods.
pub fn endpoints(part: &Part) -> Vec<Endpoint> {
    fact::endpoints(&part.namespace, &part.name, &part.role, part.port, &part.pods)
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
            let server = part.port.is_some().then(|| (part, fact::peer(&part.name, &part.role, pod)));
            ends.push(End { id, role: &part.role, pod: name, server });
        }
    }
    if let Some(client) = cluster.secrets.get(&cluster.client_secret) {
        for (id, name) in [("controller/tidb-operator", OPERATOR), ("runner", RUNNER)] {
            parties.push(rereading(cluster, &cluster.client_secret, client, id, name));
            ends.push(End { id: id.into(), role: name, pod: "", server: None });
        }
    }
    View { parties, links: all_links(&ends, answers) }
}

/// One end of links.
struct End<'a> {
    id: String,
    role: &'a str,
    pod: &'a str,
    /// Of one that serves: its part, and the headless Service that it stands under.
    server: Option<(&'a Part, String)>,
}

fn all_links(ends: &[End<'_>], answers: &BTreeMap<&str, &Answer>) -> Vec<Link> {
    let mut found = Vec::new();
    for server in ends {
        let Some((part, peer)) = &server.server else { continue };
        for client in ends.iter().filter(|end| end.id != server.id) {
            let forms = links::forms(client.role, server.role);
            if forms.is_empty() {
                continue;
            }
            found.push(Link {
                client: client.id.clone(),
                server: server.id.clone(),
                names: links::names(&forms, &part.name, peer, &part.namespace, server.pod),
                mutual: true,
                client_cn: part.allowed_cn.clone(),
                handshake: if client.role == RUNNER {
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
    let (marker, restarts) = restarts(&cluster.object, part, pod);
    let own = Ref::new("v1", "Pod", &part.namespace, text(pod, &["metadata", "name"]));
    // Either the pod carries the restart's marker, or another of its name was deleted by it.
    let made = |place: &Place, known: &str| {
        (!marker.is_empty() && known == marker.as_str() && *place == restarts)
            || follows(place, &own, pod)
            || reloaded(place)
    };
    let held = |key: &str| may_hold_made_by(history, &source, key, &made, &tls.pem(key));
    // Operator v2 keeps both, its leaf too, since it first asked PD.
    let keeps = part.role == OPERATOR_PD;
    let fresh = |key: &str| {
        let held = if key == "ca.crt" { &tls.anchors } else { &tls.chain };
        (made_after_the_last_write(pod, &tls.value, key) && begun_before(held, pod))
            || (keeps && never_rewritten(&tls.value, key))
    };

    let trust = held("ca.crt");
    let anchor_evidence = if trust.restarted || (!trust.written && fresh("ca.crt")) {
        Evidence::Inferred
    } else {
        Evidence::Unknown
    };
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
            let known = restarted || (!written && (!keeps || fresh("tls.crt")));
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

/// The restart marker that a pod was made with, and the place under which restarts of its part are recorded.
fn restarts(object: &Ref, part: &Part, pod: &Value) -> (String, Place) {
    let on_pod = |spot: &Spot| text(pod, &["metadata", "annotations", spot.key]).to_owned();
    match part.runs {
        Runs::Operator => {
            let spot = v1::restart::spot(&part.component);
            (on_pod(&spot), spot.place(object))
        }
        Runs::Group => {
            let kind = v2::group_kind(&part.role).unwrap_or_default();
            let group =
                Ref::new(v2::API_VERSION, kind, &part.namespace, part.group_name().unwrap_or_default());
            (v2::pods::marker(pod).unwrap_or_default(), v2::restart::spot().place(&group))
        }
        Runs::Workload(kind) => {
            let spot = Spot::template();
            (on_pod(&spot), spot.place(&Ref::new("apps/v1", kind, &part.namespace, &part.name)))
        }
    }
}

/// Pods of operator v2 of which it is not known which certificate they show PD: they were made before it was last
/// written, and nobody restarted them since. They may show any that was ever there.
pub(super) fn stale_operators(cluster: &Cluster, view: &View) -> Vec<String> {
    let keeps = |pod: &Value| format!("pod/{}", text(pod, &["metadata", "name"]));
    let pods = cluster.parts.iter().filter(|part| part.role == OPERATOR_PD).flat_map(|part| &part.pods);
    let ids: Vec<String> = pods.map(keeps).collect();
    view.parties
        .iter()
        .filter(|party| ids.contains(&party.id) && party.chain_evidence == Evidence::Unknown)
        .map(|party| format!("{} (it keeps the one with which it began; restart it)", party.id))
        .collect()
}

/// Whether a pod was made after a key of its Secret was last written, by the API server's clock in whole seconds. The
/// pod's creation counts and not its container's start, which may read a folder that lags behind.
///
/// Within the same second the order is not known; it counts as after, since a restart follows its write. Proofs by
/// handshake (`tidb::accepts`) do not rest on this.
fn made_after_the_last_write(pod: &Value, secret: &Value, key: &str) -> bool {
    let made = text(pod, &["metadata", "creationTimestamp"]);
    let written = written(secret, key);
    !made.is_empty() && !written.is_empty() && seconds(made) >= seconds(written)
}

/// Whether these certificates were all valid when a pod was made: what had not begun by then was not there to be loaded.
///
/// The times of `managedFields` are not enough. Before Kubernetes 1.25 a server keeps the earlier time where the same tool
/// writes another value (kubernetes/kubernetes#110058), and anybody may take the entries away.
fn begun_before(certificates: &[Certificate], pod: &Value) -> bool {
    let made = text(pod, &["metadata", "creationTimestamp"]);
    let Ok(made) = OffsetDateTime::parse(made, &Rfc3339) else { return false };
    certificates.iter().all(|certificate| certificate.not_before() <= made)
}

/// Whether a key of a Secret is as it was when the Secret was made: whoever asks for it later finds the same.
fn never_rewritten(secret: &Value, key: &str) -> bool {
    let made = text(secret, &["metadata", "creationTimestamp"]);
    !made.is_empty() && seconds(written(secret, key)) <= seconds(made)
}

fn written<'a>(secret: &'a Value, key: &str) -> &'a str {
    last_written(secret, key).unwrap_or_else(|| text(secret, &["metadata", "creationTimestamp"]))
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
