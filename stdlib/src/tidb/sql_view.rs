//! `tidb::sql_trust`: who trusts whom between TiDB's servers and MySQL clients.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::error::PrimError;
use crate::gate::{Gate, Past, Place};
use crate::k8s::args;
use crate::k8s::object::text;
use crate::trust::{Link, View};
use crate::world::World;

use super::cluster::Cluster;
use super::links::RUNNER;
use super::probe::{self, Answer, Endpoint};
use super::{sql, sql_servers, view};

/// `tidb::sql_trust(id)`.
pub(super) async fn run(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let named = args::map(args, 0, "cluster")?;
    let known: Vec<String> = named
        .get("secrets")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect();
    let cluster = sql::load(world, &sql::Side::id(args)?, Some(&known)).await?;
    let missing =
        |name: &str| PrimError::not_found("it does not exist").on(cluster.secret_ref(name).to_string());
    let client = &cluster.client_secret;
    let client_tls = cluster.secrets.get(client).ok_or_else(|| missing(client))?;
    let mut endpoints = Vec::new();
    if let Some(part) = cluster.parts.first() {
        let server_tls = cluster.secrets.get(&part.secret).ok_or_else(|| missing(&part.secret))?;
        endpoints =
            sql_servers::endpoints(&part.namespace, &part.name, &part.pods, server_tls, world.clock.now());
    }
    let identity = probe::identity(client_tls)?;
    let anchors = Arc::new(probe::certs(&client_tls.anchors));
    let answers = probe::all(world, &endpoints, &identity, &anchors).await?;
    let view = assemble(&cluster, &endpoints, &answers, &gate.history());
    serde_json::to_value(view).map_err(|e| PrimError::internal(e.to_string()))
}

/// Builds the view from what was read and measured. Pure.
fn assemble(cluster: &Cluster, endpoints: &[Endpoint], answers: &[Answer], history: &[Past]) -> View {
    let by_pod: BTreeMap<&str, &Answer> =
        endpoints.iter().map(|endpoint| endpoint.pod.as_str()).zip(answers).collect();
    let issuers = view::Issuers::of(cluster, &by_pod);
    let mut parties = Vec::new();
    let (mut servers, mut clients): (Vec<(String, &str)>, Vec<String>) = (Vec::new(), Vec::new());
    for part in &cluster.parts {
        let Some(tls) = cluster.secrets.get(&part.secret) else { continue };
        for pod in &part.pods {
            if matches!(text(pod, &["status", "phase"]), "Succeeded" | "Failed") {
                continue;
            }
            let name = text(pod, &["metadata", "name"]);
            let uid = text(pod, &["metadata", "uid"]);
            let id = if part.port.is_some() {
                format!("pod/{name}")
            } else {
                format!("pod/{name} ({})", part.secret)
            };
            let answer = part.port.and_then(|_| by_pod.get(name).copied());
            let reloaded = |place: &Place| part.port.is_some() && is_reload(place, name, uid);
            let party = view::party(cluster, part, tls, pod, answer, history, &issuers, &reloaded);
            parties.push(crate::trust::Party { id: id.clone(), ..party });
            if part.port.is_some() { servers.push((id, name)) } else { clients.push(id) }
        }
    }
    let client = &cluster.client_secret;
    if let Some(tls) = cluster.secrets.get(client) {
        parties.push(view::rereading(cluster, client, tls, "runner", RUNNER));
        clients.push("runner".into());
    }
    // Without an authority for clients a server asks for no certificate.
    let mutual = sql::asks_clients(cluster);
    let mut links = Vec::new();
    for (server, pod) in &servers {
        let Some(endpoint) = endpoints.iter().find(|endpoint| endpoint.pod == *pod) else { continue };
        for client in &clients {
            links.push(Link {
                client: client.clone(),
                server: server.clone(),
                names: endpoint.names.clone(),
                mutual,
                client_cn: Vec::new(),
                handshake: if client == "runner" {
                    by_pod.get(pod).and_then(|answer| view::handshake(answer))
                } else {
                    None
                },
            });
        }
    }
    View { parties, links }
}

/// The place of the effect by which a server is told to load its files.
pub(crate) fn reload_place(host: &str, port: u16, pod: &str, uid: &str) -> Place {
    Place(format!("mysql:{host}:{port}#{pod}/{uid}"))
}

/// Whether this was such an effect upon this very pod.
fn is_reload(place: &Place, pod: &str, uid: &str) -> bool {
    place.0.starts_with("mysql:")
        && place.0.split_once('#').is_some_and(|(_, whom)| whom.split_once('/') == Some((pod, uid)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_is_that_of_one_pod_and_not_of_its_namesake() {
        let place = reload_place("fd00::7", 4000, "basic-tidb-0", "u1");
        assert!(is_reload(&place, "basic-tidb-0", "u1"));
        assert!(!is_reload(&place, "basic-tidb-0", "u2") && !is_reload(&place, "basic-tidb-1", "u1"));
        assert!(!is_reload(&Place("k8s:v1/Pod/tidb/basic-tidb-0#u1".into()), "basic-tidb-0", "u1"));
    }
}
