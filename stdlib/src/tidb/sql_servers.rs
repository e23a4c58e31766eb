//! TiDB's servers as MySQL clients find them at one moment: where each answers, and under which names.

use serde_json::{Map, Value};

use crate::cert::Certificate;
use crate::error::PrimError;
use crate::k8s::args;
use crate::k8s::client::Objects;
use crate::k8s::object::{Ref, at, touch};
use crate::k8s::secret::Tls;
use crate::registry::Touch;
use crate::trust::{Ask, Usage, Verifier, verify};
use crate::world::World;

use super::cluster::{self, API_VERSION, KIND};
use super::links::{self, Form};
use super::sql::{PORT, SERVER};
use super::{fact, probe, restart, v2};

/// How clients name a server.
const FORMS: &[Form] = &[Form::Service, Form::ServiceIn, Form::ServiceSvc, Form::Pod];

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
        let secret = async |name: &str| {
            let reference = Ref::secret(namespace, name);
            Tls::of(&reference, objects.get(&reference).await?)
        };
        let client = secret(field("client_secret")?).await?;
        let server = secret(field("secret")?).await?;
        let wanted = if field("kind")? == "group" {
            let (_, group) = restart::group(part)?;
            at(&objects.get(&group).await?, &["spec", "replicas"]).and_then(Value::as_u64).unwrap_or(1)
        } else {
            let value = objects.get(&cluster::reference(namespace, field("cluster")?)).await?;
            at(&value, &["spec", SERVER, "replicas"]).and_then(Value::as_u64).unwrap_or(0)
        };
        let pods = objects.list("v1", "Pod", namespace, field("selector")?).await?;
        let endpoints = endpoints(namespace, field("name")?, &pods, &server, world.clock.now());
        Ok(Self { pods, wanted, endpoints, server, client })
    }

    /// What reading them touches.
    pub(crate) fn touches(args: &[Value], index: usize) -> Vec<Touch> {
        let hint = |field| args::hint(args, index, field);
        let namespace = hint("namespace");
        let wanted = match v2::group_kind(hint("role")).filter(|_| hint("kind") == "group") {
            Some(kind) => touch(v2::API_VERSION, kind, namespace, hint("group"), &["get"]),
            None => touch(API_VERSION, KIND, namespace, hint("cluster"), &["get"]),
        };
        vec![
            wanted,
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
    namespace: &str,
    service: &str,
    pods: &[Value],
    server: &Tls,
    at_time: time::OffsetDateTime,
) -> Vec<probe::Endpoint> {
    let (chain, anchors) = (probe::certs(&server.chain), probe::certs(&server.anchors));
    let covered = |name: &String| {
        let ask = Ask { usage: Usage::Server, name: Some(name), allowed_cn: &[], at: at_time };
        verify(Verifier::Go, &chain.0, &anchors.0, &ask).is_ok()
    };
    pods.iter()
        .filter_map(|value| {
            let (pod, host) = fact::addresses(std::slice::from_ref(value)).next()?;
            let all = links::names(FORMS, service, &fact::peer(service, SERVER, value), namespace, pod);
            let named: Vec<String> = all.iter().filter(|name| covered(name)).cloned().collect();
            let names = if named.is_empty() { all } else { named };
            Some(probe::Endpoint {
                pod: pod.into(),
                host: host.into(),
                port: PORT,
                names,
                opening: probe::Opening::Mysql,
            })
        })
        .collect()
}

/// The leaf of a Secret.
pub(crate) fn leaf(tls: &Tls) -> Option<&Certificate> {
    tls.chain.first()
}
