#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::datetime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf};

use super::config::{Identities, Identity, Trust, always, client, server};
use super::*;
use crate::gate::{Gate, ReadOnly};
use crate::secret::Secret;
use crate::trust::{Certs, Verifier};
use crate::world::{Clock, Net, Stream, TokioClock, World};

const NOW: OffsetDateTime = datetime!(2026-03-01 12:00 UTC);
const SECOND: Duration = Duration::from_secs(1);

struct Ca {
    issuer: Issuer<'static, KeyPair>,
    cert: CertificateDer<'static>,
}

fn ca(name: &str) -> Ca {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    (params.not_before, params.not_after) = (NOW - SECOND * 600, NOW + SECOND * 3600 * 24 * 365);
    let cert = params.self_signed(&key).unwrap().der().clone();
    Ca { issuer: Issuer::new(params, key), cert }
}

impl Ca {
    fn trust(&self) -> Certs {
        Certs(vec![self.cert.clone()])
    }

    fn pair(&self, names: &[&str]) -> (Certs, Secret) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "TiDB");
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = (NOW - SECOND * 600, NOW + SECOND * 3600 * 24);
        let cert = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        (Certs(vec![cert]), Secret::new(key.serialize_pem(), "spki:test"))
    }

    fn identity(&self, names: &[&str]) -> Identity {
        let (chain, key) = self.pair(names);
        Identity::new(&chain, &key).unwrap()
    }
}

fn trust(anchors: &Certs) -> Trust {
    Trust { verifier: Verifier::Go, anchors: Arc::new(anchors.clone()), allowed_cn: Vec::new() }
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(TokioClock::starting_at(NOW))
}

/// Both ends over a pipe: what the client and what the server say of it.
async fn meet(
    server_config: Arc<ServerConfig>,
    client_config: Arc<rustls::ClientConfig>,
) -> (Result<Handshake, TlsFailure>, Result<Handshake, TlsFailure>) {
    let (near, far) = tokio::io::duplex(1 << 16);
    let clock = clock();
    tokio::join!(
        handshake_client(Box::new(near), client_config, "pd-0", Wait::Data(SECOND), SECOND, clock.as_ref()),
        handshake_server(Box::new(far), server_config, SECOND, clock.as_ref()),
    )
}

#[tokio::test(start_paused = true)]
async fn both_ends_accept_and_see_each_other() {
    let ca = ca("ca");
    let (at_server, at_client) = (ca.identity(&["pd-0"]), ca.identity(&["client"]));
    let (client_says, server_says) = meet(
        server(always(at_server.clone()), Some(trust(&ca.trust())), clock(), &[b"h2"]).unwrap(),
        client(Some(always(at_client.clone())), trust(&ca.trust()), clock(), &[b"h2"]).unwrap(),
    )
    .await;
    let (client_says, server_says) = (client_says.unwrap(), server_says.unwrap());
    assert_eq!(client_says.protocol, "TLSv1.3");
    assert_eq!(client_says.peer.0, at_server.chain());
    assert_eq!(server_says.peer.0, at_client.chain());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_refused_learns_it_although_it_finished_first() {
    let (old, new) = (ca("old"), ca("new"));
    let (client_says, server_says) = meet(
        server(always(old.identity(&["pd-0"])), Some(trust(&old.trust())), clock(), &[]).unwrap(),
        client(Some(always(new.identity(&["c"]))), trust(&old.trust()), clock(), &[]).unwrap(),
    )
    .await;
    assert_eq!(client_says.unwrap_err(), TlsFailure::RefusedBy("certificate_unknown".into()));
    match server_says.unwrap_err() {
        TlsFailure::Rejected(rejection) => {
            assert_eq!(rejection.code, "unknown-authority");
            assert!(rejection.text.contains("issued by `CN=new`"), "{}", rejection.text);
        }
        other => panic!("{other}"),
    }
}

/// A line on which every byte takes 300 ms each way.
fn far_apart() -> (DuplexStream, DuplexStream) {
    async fn carry(mut from: ReadHalf<DuplexStream>, mut to: WriteHalf<DuplexStream>) {
        let mut bytes = vec![0; 1 << 16];
        while let Ok(read @ 1..) = from.read(&mut bytes).await {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let _ = to.write_all(&bytes[..read]).await;
        }
        let _ = to.shutdown().await;
    }
    let ((near, left), (far, right)) = (tokio::io::duplex(1 << 16), tokio::io::duplex(1 << 16));
    let ((from_left, to_left), (from_right, to_right)) = (tokio::io::split(left), tokio::io::split(right));
    tokio::spawn(carry(from_left, to_right));
    tokio::spawn(carry(from_right, to_left));
    (near, far)
}

#[tokio::test(start_paused = true)]
async fn silence_is_no_consent_before_a_server_that_is_far_could_have_refused() {
    let (old, new) = (ca("old"), ca("new"));
    let at_server = server(always(old.identity(&["pd-0"])), Some(trust(&old.trust())), clock(), &[]).unwrap();
    let us = client(Some(always(new.identity(&["c"]))), trust(&old.trust()), clock(), &[]).unwrap();
    let (near, far) = far_apart();
    let (clock, wait) = (clock(), Wait::DataOrSilence(Duration::from_millis(400)));
    let (client_says, _) = tokio::join!(
        handshake_client(Box::new(near), us, "pd-0", wait, SECOND * 10, clock.as_ref()),
        handshake_server(Box::new(far), at_server, SECOND * 10, clock.as_ref()),
    );
    assert_eq!(client_says.unwrap_err(), TlsFailure::RefusedBy("certificate_unknown".into()));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_asked_need_not_be_waited_for() {
    let (old, new) = (ca("old"), ca("new"));
    let protocols: &[&[u8]] = &[b"http/1.1"];
    for (presents, accepted) in [(&old, true), (&new, false)] {
        let identity = always(old.identity(&["pd-0"]));
        let at_server = server(identity, Some(trust(&old.trust())), clock(), protocols).unwrap();
        let identity = always(presents.identity(&["c"]));
        let us = client(Some(identity), trust(&old.trust()), clock(), &[b"h2", b"http/1.1"]).unwrap();
        let (near, far) = tokio::io::duplex(1 << 16);
        let silence = SECOND * 3600;
        let clock = clock();
        // It says nothing before it is asked, as a server of HTTP does.
        let answering = async {
            let mut stream = tokio_rustls::TlsAcceptor::from(at_server).accept(far).await?;
            let mut line = [0; 18];
            stream.read_exact(&mut line).await?;
            assert_eq!(&line, b"OPTIONS * HTTP/1.1");
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            stream.shutdown().await
        };
        let begun = tokio::time::Instant::now();
        let line = Mutex::new(Some(near));
        let dial = || async { Ok(Box::new(line.lock().unwrap().take().unwrap()) as Box<dyn Stream>) };
        let wait = Wait::DataOrSilence(silence);
        let (shaken, _) =
            tokio::join!(handshake_asking(dial, us, "pd-0", wait, SECOND, clock.as_ref()), answering);
        assert!(begun.elapsed() < silence);
        match shaken {
            Ok(_) => assert!(accepted),
            Err(failure) => {
                assert!(!accepted);
                assert_eq!(failure, TlsFailure::RefusedBy("certificate_unknown".into()));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_alert_that_a_broken_line_swallowed_is_asked_for_again() {
    let (old, new) = (ca("old"), ca("new"));
    let identity = || always(old.identity(&["pd-0"]));
    let breaking = server(identity(), None, clock(), &[b"http/1.1"]).unwrap();
    let refusing = server(identity(), Some(trust(&old.trust())), clock(), &[b"http/1.1"]).unwrap();
    let servers = Mutex::new(vec![refusing, breaking]);
    let us =
        client(Some(always(new.identity(&["c"]))), trust(&old.trust()), clock(), &[b"http/1.1"]).unwrap();
    let dial = || async {
        let config = servers.lock().unwrap().pop().unwrap();
        let (near, far) = tokio::io::duplex(1 << 16);
        tokio::spawn(async move { tokio_rustls::TlsAcceptor::from(config).accept(far).await.map(drop) });
        Ok(Box::new(near) as Box<dyn Stream>)
    };
    let shaken =
        handshake_asking(dial, us, "pd-0", Wait::DataOrSilence(SECOND), SECOND, clock().as_ref()).await;
    assert_eq!(shaken.unwrap_err(), TlsFailure::RefusedBy("certificate_unknown".into()));
    assert!(servers.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_server_of_another_protocol_is_asked_nothing() {
    let ca = ca("ca");
    let other =
        server(always(ca.identity(&["pd-0"])), Some(trust(&ca.trust())), clock(), &[b"other"]).unwrap();
    let us = client(Some(always(ca.identity(&["c"]))), trust(&ca.trust()), clock(), ASKED).unwrap();
    let dials = AtomicUsize::new(0);
    let dial = || async {
        dials.fetch_add(1, Ordering::Relaxed);
        let (near, far) = tokio::io::duplex(1 << 16);
        let (clock, other) = (clock(), Arc::clone(&other));
        tokio::spawn(async move { handshake_server(Box::new(far), other, SECOND, clock.as_ref()).await });
        Ok(Box::new(near) as Box<dyn Stream>)
    };
    let shaken =
        handshake_asking(dial, us, "pd-0", Wait::DataOrSilence(SECOND), SECOND, clock().as_ref()).await;
    assert_eq!(shaken.unwrap().peer.0.len(), 1);
    assert_eq!(dials.into_inner(), 2, "offered ours, then nothing");
}

#[tokio::test(start_paused = true)]
async fn a_client_refuses_and_the_server_learns_it() {
    let (old, new) = (ca("old"), ca("new"));
    let (client_says, server_says) = meet(
        server(always(old.identity(&["elsewhere"])), Some(trust(&old.trust())), clock(), &[]).unwrap(),
        client(Some(always(old.identity(&["c"]))), trust(&old.trust()), clock(), &[]).unwrap(),
    )
    .await;
    let failure = client_says.unwrap_err();
    assert!(
        matches!(&failure, TlsFailure::Rejected(rejection) if rejection.code == "name-mismatch"),
        "{failure}"
    );
    assert!(failure.to_string().contains("not valid for `pd-0`; it names elsewhere"), "{failure}");
    assert_eq!(server_says.unwrap_err(), TlsFailure::RefusedBy("certificate_unknown".into()));

    let (client_says, _) = meet(
        server(always(old.identity(&["pd-0"])), None, clock(), &[]).unwrap(),
        client(None, trust(&new.trust()), clock(), &[]).unwrap(),
    )
    .await;
    assert!(client_says.unwrap_err().is_refusal());
}

#[tokio::test(start_paused = true)]
async fn who_shows_no_certificate_is_refused_where_one_is_demanded() {
    let ca = ca("ca");
    let (client_says, server_says) = meet(
        server(always(ca.identity(&["pd-0"])), Some(trust(&ca.trust())), clock(), &[]).unwrap(),
        client(None, trust(&ca.trust()), clock(), &[]).unwrap(),
    )
    .await;
    assert_eq!(client_says.unwrap_err(), TlsFailure::RefusedBy("certificate_required".into()));
    assert!(matches!(server_says.unwrap_err(), TlsFailure::Rejected(r) if r.code == "empty-chain"));
}

#[tokio::test(start_paused = true)]
async fn the_identity_is_read_for_every_connection_and_nothing_is_resumed() {
    let ca = ca("ca");
    let on_disk = Arc::new(Mutex::new(ca.identity(&["pd-0"])));
    let read = Arc::clone(&on_disk);
    let identities: Identities = Arc::new(move || Some(read.lock().unwrap().clone()));
    let server_config = server(identities, None, clock(), &[]).unwrap();
    let client_config = client(None, trust(&ca.trust()), clock(), &[]).unwrap();
    let (first, _) = meet(Arc::clone(&server_config), Arc::clone(&client_config)).await;
    let renewed = ca.identity(&["pd-0"]);
    *on_disk.lock().unwrap() = renewed.clone();
    let (second, _) = meet(server_config, client_config).await;
    assert_ne!(first.unwrap().peer, second.as_ref().unwrap().peer.clone());
    assert_eq!(second.unwrap().peer.0, renewed.chain());
}

#[tokio::test(start_paused = true)]
async fn allowed_names_and_expiry_are_judged_at_the_time_of_the_clock() {
    let ca = ca("ca");
    let picky = Trust { allowed_cn: vec!["PD".into()], ..trust(&ca.trust()) };
    let (client_says, _) = meet(
        server(always(ca.identity(&["pd-0"])), Some(picky), clock(), &[]).unwrap(),
        client(Some(always(ca.identity(&["c"]))), trust(&ca.trust()), clock(), &[]).unwrap(),
    )
    .await;
    assert!(client_says.unwrap_err().is_refusal());

    let later: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(NOW + SECOND * 3600 * 25));
    let (client_says, _) = meet(
        server(always(ca.identity(&["pd-0"])), None, clock(), &[]).unwrap(),
        client(None, trust(&ca.trust()), later, &[]).unwrap(),
    )
    .await;
    assert!(matches!(client_says.unwrap_err(), TlsFailure::Rejected(r) if r.code == "expired"));
}

#[test]
fn a_key_that_belongs_to_another_certificate_is_no_identity() {
    let ca = ca("ca");
    let ((chain, _), (_, key)) = (ca.pair(&["a"]), ca.pair(&["b"]));
    let error = Identity::new(&chain, &key).unwrap_err();
    assert!(error.message.contains("does not fit the certificate `CN=TiDB`"), "{error}");
    assert!(!format!("{error:?}").contains("PRIVATE KEY"));
}

/// Servers by port, each with the configuration of the moment.
#[derive(Default)]
struct Servers {
    by_port: Mutex<HashMap<u16, Arc<ServerConfig>>>,
}

impl Servers {
    fn set(&self, port: u16, config: Arc<ServerConfig>) {
        self.by_port.lock().unwrap().insert(port, config);
    }
}

struct Pipes(Arc<Servers>);

impl Net for Pipes {
    fn dial(&self, _host: &str, port: u16) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let Some(config) = self.0.by_port.lock().unwrap().get(&port).cloned() else {
                return Err(io::ErrorKind::ConnectionRefused.into());
            };
            let (near, far) = tokio::io::duplex(1 << 16);
            tokio::spawn(async move {
                handshake_server(Box::new(far), config, SECOND * 10, clock().as_ref()).await
            });
            Ok(Box::new(near) as Box<dyn Stream>)
        })
    }
}

/// Two pods on the old authority, and the world that dials them.
struct Scene {
    old: Ca,
    new: Ca,
    servers: Arc<Servers>,
    world: World,
}

fn scene() -> Scene {
    let (old, new) = (ca("old"), ca("new"));
    let servers = Arc::new(Servers::default());
    let mut world = World::system(None, std::env::temp_dir());
    world.clock = clock();
    world.net = Arc::new(Pipes(Arc::clone(&servers)));
    let scene = Scene { old, new, servers, world };
    for port in [1, 2] {
        scene.serve(port, &scene.old, &scene.old);
    }
    scene
}

impl Scene {
    fn serve(&self, port: u16, issuer: &Ca, trusts: &Ca) {
        let config =
            server(always(issuer.identity(&["pd-0"])), Some(trust(&trusts.trust())), clock(), &[]).unwrap();
        self.servers.set(port, config);
    }

    fn identity(&self, ca: &Ca) -> Value {
        let (chain, key) = ca.pair(&["client"]);
        json!({ "cert": chain.pem(), "key": self.world.secrets.put(&key).unwrap() })
    }

    fn component(&self) -> Value {
        json!({
            "endpoints": [
                { "pod": "pd-0", "host": "10.0.0.1", "port": 1, "names": ["pd-0"] },
                { "pod": "pd-1", "host": "10.0.0.2", "port": 2, "names": ["pd-0"] },
            ],
            "verifier": "go",
            "identity": self.identity(&self.old),
        })
    }

    async fn call(&self, name: &str, args: &[Value]) -> Result<Value, crate::PrimError> {
        let primitive = PRIMITIVES.iter().find(|primitive| primitive.name == name).unwrap();
        let gate: &dyn Gate = &ReadOnly;
        (primitive.run)(&self.world, args, gate).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_shows_what_is_served_and_whether_a_certificate_is_wanted() {
    let scene = scene();
    let seen = scene.call("tls::probe", &["pd-0".into(), 1.into()]).await.unwrap();
    assert_eq!(seen["issuer"], "CN=old");
    assert_eq!((&seen["asks_client"], &seen["protocol"]), (&json!(true), &json!("TLSv1.3")));
    assert!(seen["fingerprint"].as_str().unwrap().starts_with("sha256:"));
    let open = server(always(scene.new.identity(&["pd-0"])), None, clock(), &[]).unwrap();
    scene.servers.set(3, open);
    let seen = scene.call("tls::probe", &["10.0.0.3".into(), 3.into(), "pd-0".into()]).await.unwrap();
    assert_eq!((&seen["issuer"], &seen["asks_client"]), (&json!("CN=new"), &json!(false)));

    let error = scene.call("tls::probe", &["pd-9".into(), 9.into()]).await.unwrap_err();
    assert_eq!(error.code, crate::error::Code::Unavailable);
    assert!(error.to_string().starts_with("pd-9:9: no connection"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_proof_waits_for_the_pod_that_lags() {
    let scene = scene();
    let expected = json!({ "issued_by": scene.new.trust().pem() });
    scene.serve(1, &scene.new, &scene.old);
    let component = scene.component();
    let proved = async {
        let started = tokio::time::Instant::now();
        let evidence = scene.call("tls::serves", &[component, expected]).await.unwrap();
        (evidence, started.elapsed())
    };
    let lag = async {
        tokio::time::sleep(SECOND * 30).await;
        scene.serve(2, &scene.new, &scene.old);
    };
    let ((evidence, waited), ()) = tokio::join!(proved, lag);
    assert!(waited >= SECOND * 30 && waited < SECOND * 33, "{waited:?}");
    let endpoints = evidence["endpoints"].as_array().unwrap();
    assert_eq!(endpoints.len(), 2);
    assert!(endpoints.iter().all(|endpoint| endpoint["issuer"] == "CN=new"));
}

#[tokio::test(start_paused = true)]
async fn a_proof_that_fails_names_the_pod_what_was_expected_and_what_was_found() {
    let scene = scene();
    scene.serve(1, &scene.new, &scene.old);
    let expected = json!({ "issued_by": scene.new.trust().pem(), "within": "10s" });
    let error = scene.call("tls::serves", &[scene.component(), expected]).await.unwrap_err();
    assert_eq!((error.code, error.object.as_str()), (crate::error::Code::Unproved, "pd-1"));
    let issuer = crate::trust::describe(&scene.new.cert).fingerprint;
    assert_eq!(error.expected.unwrap(), format!("a certificate issued by `CN=new` ({issuer})"));
    assert!(error.found.unwrap().ends_with("issued by `CN=old`"));

    let both = json!({ "trusted_by": format!("{}{}", scene.new.trust().pem(), scene.old.trust().pem()) });
    scene.call("tls::serves", &[scene.component(), both]).await.unwrap();
    let nothing = scene.call("tls::serves", &[scene.component(), json!({})]).await.unwrap_err();
    assert_eq!(nothing.code, crate::error::Code::Argument);
}

#[tokio::test(start_paused = true)]
async fn an_old_identity_must_be_refused_by_every_endpoint_with_an_alert() {
    let scene = scene();
    let options = json!({ "identity": scene.identity(&scene.old), "within": "10s" });
    scene.serve(1, &scene.new, &scene.new);
    let error = scene.call("tls::refuses", &[scene.component(), options.clone()]).await.unwrap_err();
    assert_eq!(error.object, "pd-1");
    assert!(error.message.starts_with("it still accepts `CN=TiDB`"), "{error}");

    scene.serve(2, &scene.new, &scene.new);
    let evidence = scene.call("tls::refuses", &[scene.component(), options.clone()]).await.unwrap();
    assert_eq!(evidence["endpoints"][1]["alert"], "certificate_unknown");

    scene.servers.by_port.lock().unwrap().remove(&2);
    let error = scene.call("tls::refuses", &[scene.component(), options]).await.unwrap_err();
    assert!(error.message.contains("did not get as far as refusing: no connection"), "{error}");
}
