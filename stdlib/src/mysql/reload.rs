//! `mysql::reload_tls`: every server is told to load what its Secret holds, until it is seen that it has.
//!
//! A server reads its files when it is told to, and the kubelet brings a changed Secret into them in its own time: a server
//! that was told too early has loaded the old ones. So each is told again until a new connection shows the certificate of
//! the Secret, and clients are judged as the authorities in the Secret say.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::login;
use super::servers::{self, PATIENCE, WITHIN};
use super::session::{Failure, Login, Session};
use crate::cert::Certificate;
use crate::error::{Code, PrimError};
use crate::gate::{Effect, EffectClass, Gate, Place, Progress};
use crate::k8s::args;
use crate::k8s::object::text;
use crate::k8s::restart::Poll;
use crate::tidb::probe::{self, Endpoint};
use crate::tidb::sql_servers::{self, Servers};
use crate::tls::TlsFailure;
use crate::tls::config::Identity;
use crate::trust::{Ask, Certs, Usage, Verifier, verify};
use crate::world::World;

/// Never with `NO ROLLBACK ON ERROR`: a server that cannot use its files would go on without TLS.
pub const STATEMENT: &str = "ALTER INSTANCE RELOAD TLS";
/// How long the kubelet may take to bring a changed Secret into a pod, unless told otherwise.
const KUBELET: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_secs(2);

/// What a call wants beside the Secret's certificate.
struct Wanted {
    /// Clients by which it is seen which authorities a server has loaded.
    clients: Vec<Client>,
    within: Duration,
}

struct Client {
    chain: Certs,
    identity: Identity,
}

/// What is known of one round.
struct Round<'a> {
    world: &'a World,
    gate: &'a dyn Gate,
    login: &'a Login,
    wanted: &'a Wanted,
    servers: &'a Servers,
    marker: &'a str,
}

/// How far one server is.
enum State {
    /// It has loaded what the Secret holds.
    Loaded(Value),
    /// Not yet; why.
    Late(PrimError),
    /// It could not be asked.
    Unreached(PrimError),
}

/// `mysql::reload_tls(component, login, options)`.
pub(super) async fn run(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let part = args::map(args, 0, "component")?;
    let login = login::read(world, args, 1).await?;
    let wanted = wanted(world, args.get(2))?;
    let marker = gate.marker();
    if marker.is_empty() {
        return Err(PrimError::new(Code::Refused, "only a step of a run may have a server load its files"));
    }
    let mut loaded: BTreeMap<String, Value> = BTreeMap::new();
    let (mut late_for, mut away_for) = (Duration::ZERO, Duration::ZERO);
    let mut poll = Poll::default();
    loop {
        let Some(servers) = poll.seen(Servers::read(world, part).await)? else {
            gate.progress(Progress { text: "waiting for the API server".into(), done: None });
            world.clock.sleep(poll.pause()).await;
            continue;
        };
        let round = Round { world, gate, login: &login, wanted: &wanted, servers: &servers, marker: &marker };
        let (mut late, mut away) = (None, None);
        let mut present = BTreeSet::new();
        for endpoint in &servers.endpoints {
            let uid = uid_of(&servers, &endpoint.pod);
            present.insert(uid.clone());
            if loaded.contains_key(&uid) {
                continue;
            }
            match round.server(endpoint, &uid).await? {
                State::Loaded(told) => {
                    loaded.insert(uid, told);
                }
                State::Late(why) => late = late.or(Some(why)),
                State::Unreached(why) => away = away.or(Some(why)),
            }
        }
        loaded.retain(|uid, _| present.contains(uid));
        let there = loaded.len() as u64;
        if late.is_none() && away.is_none() && there >= servers.wanted {
            return Ok(json!({ "servers": loaded.into_values().collect::<Vec<_>>(), "marker": marker }));
        }
        let why = match (late, away) {
            (Some(why), _) if late_for >= wanted.within => return Err(why),
            (_, Some(why)) if away_for >= PATIENCE => return Err(why),
            (late, away) => {
                late_for += if late.is_some() { PAUSE } else { Duration::ZERO };
                // One that is not there is as one that does not answer.
                away_for = if late.is_none() { away_for + PAUSE } else { away_for };
                late.or(away)
            }
        };
        let missing = || {
            PrimError::new(Code::Unproved, "not every server is there to be told")
                .expected(format!("{} servers", servers.wanted), there.to_string())
        };
        let why = match why {
            Some(why) => why,
            None if away_for >= PATIENCE => return Err(missing()),
            None => missing(),
        };
        gate.progress(Progress { text: why.to_string(), done: Some((there, servers.wanted)) });
        world.clock.sleep(PAUSE).await;
    }
}

fn wanted(world: &World, options: Option<&Value>) -> Result<Wanted, PrimError> {
    let options = match options {
        None | Some(Value::Null) => return Ok(Wanted { clients: Vec::new(), within: KUBELET }),
        Some(Value::Object(map)) => map,
        Some(_) => return Err(PrimError::argument("`options` is no map")),
    };
    let listed = options.get("clients").and_then(Value::as_array).cloned().unwrap_or_default();
    let client = |value: &Value| -> Result<Client, PrimError> {
        let certificates =
            crate::bundle::certificates(value.get("cert").unwrap_or(&Value::Null), "clients.cert")?;
        let key = world.secrets.get(value.get("key").unwrap_or(&Value::Null))?;
        let chain = probe::certs(&certificates);
        Ok(Client { identity: Identity::new(&chain, &key)?, chain })
    };
    let within = match options.get("within").and_then(Value::as_str) {
        None => KUBELET,
        Some(text) => crate::duration::parse(text).map_err(PrimError::argument)?,
    };
    Ok(Wanted { clients: listed.iter().map(client).collect::<Result<_, _>>()?, within })
}

fn uid_of(servers: &Servers, pod: &str) -> String {
    let found = servers.pods.iter().find(|value| text(value, &["metadata", "name"]) == pod);
    found.map(|value| text(value, &["metadata", "uid"])).unwrap_or_default().to_owned()
}

fn digest(text: &str) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(text)))
}

impl Round<'_> {
    async fn open(&self, endpoint: &Endpoint, identity: &Identity) -> Result<Session, Failure> {
        let anchors = servers::anchors(&self.servers.client.anchors);
        servers::open(self.world, endpoint, identity, &anchors, self.login).await
    }

    /// Tells one server to load its files, and looks whether they are those of the Secret.
    async fn server(&self, endpoint: &Endpoint, uid: &str) -> Result<State, PrimError> {
        let place = crate::tidb::reload_place(&endpoint.host, endpoint.port, &endpoint.pod, uid);
        let identity = probe::identity(&self.servers.client)?;
        let session = match self.open(endpoint, &identity).await {
            Ok(session) => session,
            Err(failure) => return self.failed(&failure, endpoint),
        };
        let before = presented(session.chain());
        // Told apart from the one that counts: which files are there now is not known yet.
        let asked = Place(format!("{}/asked", place.0));
        let (version, told) =
            (session.version().to_owned(), self.tell(session, endpoint, asked, &before).await?);
        if let Some(failure) = told {
            return self.failed(&failure, endpoint);
        }
        if let Some(state) = self.look(endpoint, &identity).await? {
            return Ok(state);
        }
        // What lies there never goes back by itself, so whatever a server loads from here on is the Secret's.
        let session = match self.open(endpoint, &identity).await {
            Ok(session) => session,
            Err(failure) => return self.failed(&failure, endpoint),
        };
        let now = presented(session.chain());
        if let Some(failure) = self.tell(session, endpoint, place, &now).await? {
            return self.failed(&failure, endpoint);
        }
        Ok(State::Loaded(json!({ "pod": endpoint.pod, "version": version, "fingerprint": now })))
    }

    fn failed(&self, failure: &Failure, endpoint: &Endpoint) -> Result<State, PrimError> {
        if let Some(error) = servers::hopeless(failure, &endpoint.pod, self.login) {
            return Err(error);
        }
        let why = servers::unreached(self.world, failure, &endpoint.pod);
        Ok(match failure {
            Failure::Tls(failure) if failure.is_refusal() => State::Late(why),
            _ => State::Unreached(why),
        })
    }

    /// Announces and runs the statement. A connection that broke is given back: whether the server heard is not known.
    async fn tell(
        &self,
        mut session: Session,
        endpoint: &Endpoint,
        place: Place,
        presents: &str,
    ) -> Result<Option<Failure>, PrimError> {
        let effect = Effect {
            before: digest(presents),
            after: digest(&format!("{} {}", self.marker, place.0)),
            place,
            class: EffectClass::Compensable,
            backup: None,
            summary: json!({ "marker": self.marker, "statement": STATEMENT, "presents": presents }),
        };
        // To load once more what was loaded changes nothing, so it is done again whatever the record says.
        self.gate.effect(effect).await?;
        let told = session.run(self.world, STATEMENT, WITHIN).await;
        session.close().await;
        match told {
            Ok(_) => Ok(None),
            Err(failure @ Failure::Server { .. }) => Err(match servers::hopeless(&failure, &endpoint.pod, self.login) {
                Some(error) if error.code == Code::Forbidden => error,
                _ => PrimError::invalid(format!("it could not load its files: {failure}; it keeps the certificate that it had"))
                    .on(endpoint.pod.clone())
                    .hint("the certificate, the key and the CA in its Secret must fit together: look at the Secret and at the server's log, then `rollover resume`, or `rollover rollback`"),
            }),
            Err(failure) => Ok(Some(failure)),
        }
    }

    /// What a new connection shows: nothing where all is as the Secret has it.
    async fn look(&self, endpoint: &Endpoint, identity: &Identity) -> Result<Option<State>, PrimError> {
        let late = |message: String| {
            PrimError::new(Code::Unproved, message).on(endpoint.pod.clone()).hint(
                "the kubelet brings a changed Secret into a pod within a minute or two, and into a mount by `subPath` never; `kubectl describe pod` tells of trouble, `--set reload=restart` restarts the servers instead",
            )
        };
        let session = match self.open(endpoint, identity).await {
            Ok(session) => session,
            Err(failure) => return self.failed(&failure, endpoint).map(Some),
        };
        let now = presented(session.chain());
        session.close().await;
        let leaf = sql_servers::leaf(&self.servers.server).map(Certificate::fingerprint).unwrap_or_default();
        if now != leaf {
            let why = late(
                "it was told to load its files and still presents another certificate than its Secret holds"
                    .into(),
            );
            return Ok(Some(State::Late(why.expected(leaf, now))));
        }
        let anchors = probe::certs(&self.servers.server.anchors);
        for client in &self.wanted.clients {
            let ask = Ask { usage: Usage::Client, name: None, allowed_cn: &[], at: self.world.clock.now() };
            let should = verify(Verifier::Go, &client.chain.0, &anchors.0, &ask).is_ok();
            let does = match self.open(endpoint, &client.identity).await {
                Ok(session) => {
                    session.close().await;
                    true
                }
                // The certificate was accepted; it is the account that wants another one.
                Err(Failure::Server { .. }) => true,
                Err(Failure::Tls(TlsFailure::RefusedBy(_))) => false,
                Err(failure) => return self.failed(&failure, endpoint).map(Some),
            };
            if does != should {
                let certificate = presented(&client.chain);
                let (should, does) = if should { ("accepted", "refused") } else { ("refused", "accepted") };
                let why = late(format!(
                    "it was told to load its files and judges the client certificate {certificate} by other authorities than its Secret holds"
                ));
                return Ok(Some(State::Late(why.expected(should, does))));
            }
        }
        Ok(None)
    }
}

/// The fingerprint of a chain's leaf.
fn presented(chain: &Certs) -> String {
    let leaf = chain.0.first().and_then(|der| Certificate::from_der(der.to_vec()).ok());
    leaf.map_or_else(|| "no certificate".into(), |leaf| leaf.fingerprint())
}
