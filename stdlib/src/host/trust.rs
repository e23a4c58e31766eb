//! `host::trust`: who trusts whom among processes of hosts: by what their files hold, what their ports serve, and what
//! this run wrote and restarted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use serde::Deserialize;
use serde_json::Value;

use super::inventory::Entry;
use super::port::Found;
use super::restart;
use super::service::Service;
use super::{change, facts};
use crate::cert;
use crate::error::PrimError;
use crate::gate::{Gate, Past};
use crate::tidb::history::may_hold;
use crate::tls::observe;
use crate::trust::{Certs, Evidence, Link, Party, Verifier, View};
use crate::world::World;

/// How long a look at a port may take.
const WITHIN: Duration = Duration::from_secs(5);

/// A party as a script names it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    /// Row and column of the table.
    group: String,
    /// Its host.
    host: Entry,
    /// The file of its chain.
    cert: String,
    /// The file of its anchors.
    ca: String,
    /// What loads the anchors when it starts; left out for what reads them for each connection.
    #[serde(default)]
    service: Option<Value>,
    /// Where it listens, as `host:port`; left out for what only dials.
    #[serde(default)]
    endpoint: Option<String>,
    /// Groups that it dials.
    #[serde(default)]
    dials: Vec<String>,
}

impl Named {
    /// Reads the list of a call.
    pub(super) fn list(value: Option<&Value>) -> Result<Vec<Self>, PrimError> {
        let wrong = |found: String| {
            PrimError::argument("`parties` is no list of parties")
                .expected("maps `group`, `host`, `cert`, `ca`, `service`, `endpoint`, `dials`", found)
        };
        let list = value.and_then(Value::as_array).ok_or_else(|| wrong("no list".into()))?;
        list.iter()
            .map(|one| serde_json::from_value(one.clone()).map_err(|error| wrong(error.to_string())))
            .collect()
    }

    fn id(&self) -> String {
        format!("host/{} ({})", self.host.name, self.cert)
    }

    fn service(&self) -> Result<Option<Service>, PrimError> {
        self.service.as_ref().map(Service::of).transpose()
    }

    fn address(&self) -> Option<(&str, u16)> {
        let (host, port) = self.endpoint.as_deref()?.rsplit_once(':')?;
        Some((host, port.parse().ok()?))
    }

    /// What is read and dialled for it.
    pub(super) fn touches(&self) -> Vec<crate::registry::Touch> {
        use crate::registry::Touch;
        let mut touched: Vec<Touch> = [&self.cert, &self.ca]
            .map(|path| Touch::Host { host: self.host.name.clone(), what: path.clone(), write: false })
            .into();
        if let Some((host, port)) = self.address() {
            touched.push(Touch::Net { host: host.to_owned(), port });
        }
        touched
    }
}

/// Measures who trusts whom now.
pub(super) async fn measure(world: &World, named: &[Named], gate: &dyn Gate) -> Result<View, PrimError> {
    let history = gate.history();
    let files = Files::read(world, named).await?;
    let parties = join_all(named.iter().map(|one| party(world, one, &history, &files))).await;
    let parties = parties.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(View { parties, links: links(named) })
}

/// What parties have on their hosts, each host asked once.
struct Files(BTreeMap<(String, String), Option<Found>>);

impl Files {
    async fn read(world: &World, named: &[Named]) -> Result<Self, PrimError> {
        let mut hosts: BTreeMap<&str, (&Entry, Vec<String>)> = BTreeMap::new();
        for one in named {
            let (_, paths) = hosts.entry(&one.host.name).or_insert((&one.host, Vec::new()));
            let marker = one.service()?.map(|service| restart::path(&one.host, &service));
            for path in [one.cert.clone(), one.ca.clone()].into_iter().chain(marker) {
                if !paths.contains(&path) {
                    paths.push(path);
                }
            }
        }
        let asked = hosts.into_values().map(|(entry, paths)| async move {
            let found = world.hosts.host(entry)?.read_all(&paths, facts::MOST).await?;
            let keys = paths.into_iter().map(|path| (entry.name.clone(), path));
            Ok::<_, PrimError>(keys.zip(found).collect::<Vec<_>>())
        });
        let all = join_all(asked).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(Self(all.into_iter().flatten().collect()))
    }

    fn get(&self, entry: &Entry, path: &str) -> Option<&Found> {
        self.0.get(&(entry.name.clone(), path.to_owned()))?.as_ref()
    }

    fn text(&self, entry: &Entry, path: &str) -> Result<&str, PrimError> {
        facts::text(facts::whole(self.get(entry, path), entry, path)?, entry, path)
    }
}

/// Who dials whom: every party of a group that is dialled, itself included.
fn links(named: &[Named]) -> Vec<Link> {
    let mut found = Vec::new();
    for server in named {
        let Some((name, _)) = server.address() else { continue };
        for client in named.iter().filter(|client| client.dials.contains(&server.group)) {
            found.push(Link {
                client: client.id(),
                server: server.id(),
                names: vec![name.to_owned()],
                mutual: true,
                client_cn: Vec::new(),
                handshake: None,
            });
        }
    }
    found
}

fn certs(text: &str, what: &str) -> Result<Certs, PrimError> {
    Ok(Certs(cert::parse_many(text.as_bytes(), what)?.iter().map(|cert| cert.der().clone()).collect()))
}

async fn party(world: &World, named: &Named, history: &[Past], files: &Files) -> Result<Party, PrimError> {
    let entry = &named.host;
    let (chain, anchors) = (files.text(entry, &named.cert)?, files.text(entry, &named.ca)?);
    let lies = certs(chain, &named.cert)?;
    // A pair is read at every handshake: what is served now may be what lay there before.
    let mut chains = vec![lies.clone()];
    let mut chain_evidence = Evidence::Inferred;
    if let Some((host, port)) = named.address()
        && let Ok(served) = served(world, host, port).await
    {
        chain_evidence = Evidence::Measured;
        if served != lies {
            chains.insert(0, served);
        }
    }
    let place = change::place(&entry.name, &named.ca);
    let (anchors, anchor_evidence) = match named.service()? {
        None => (vec![certs(anchors, &named.ca)?], Evidence::Inferred),
        Some(service) => {
            let marker = restart::marker_of(files.get(entry, &restart::path(entry, &service)));
            let held =
                may_hold(history, &place, "ca.crt", &restart::place(&entry.name, &service), &marker, anchors);
            let sets = held.texts.iter().map(|text| certs(text, &named.ca)).collect::<Result<Vec<_>, _>>()?;
            (sets, if held.restarted { Evidence::Inferred } else { Evidence::Unknown })
        }
    };
    Ok(Party {
        id: named.id(),
        group: named.group.clone(),
        process: format!(
            "{}:{}",
            entry.name,
            named.service.as_ref().map_or(named.cert.clone(), Value::to_string)
        ),
        verifier: Verifier::Go,
        source: change::place(&entry.name, &named.cert),
        anchors_source: Some(place),
        chains,
        chain_evidence,
        anchors,
        anchor_evidence,
    })
}

async fn served(world: &World, host: &str, port: u16) -> Result<Certs, PrimError> {
    let failed = |why: String| PrimError::new(crate::error::Code::Unavailable, why);
    let look = async {
        let stream = world.net.dial(host, port).await.map_err(|error| failed(error.to_string()))?;
        let seen = observe(stream, host, WITHIN, Arc::clone(&world.clock)).await;
        seen.map(|seen| seen.chain).map_err(|error| failed(error.to_string()))
    };
    tokio::select! {
        chain = look => chain,
        () = world.clock.sleep(WITHIN) => Err(failed("nobody answers".into())),
    }
}
