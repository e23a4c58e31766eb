//! Probes of endpoints, MySQL's among them: a server in the test that speaks its greeting, and a real MariaDB.
//!
//! Needs the program `mariadbd`; fails by name where it is missing.
#![allow(clippy::disallowed_methods)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use stdlib::World;
use stdlib::cert::{Certificate, Key};
use stdlib::cfssl::{self, Config, Request};
use stdlib::error::PrimError;
use stdlib::gate::ReadOnly;
use stdlib::tls::config::{Identity, Trust, always, server};
use stdlib::tls::handshake_server;
use stdlib::trust::{Certs, Verifier};
use stdlib::world::{Stream, SystemClock};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const WITHIN: Duration = Duration::from_secs(20);

struct Ca {
    certificate: Certificate,
    key: Key,
}

impl Ca {
    fn new(name: &str) -> Self {
        let request = Request::from_json(format!(r#"{{"CN":"{name}"}}"#).as_bytes(), "ca").unwrap();
        let (certificate, key) = stdlib::ca::create(&request, OffsetDateTime::now_utc()).unwrap();
        Self { certificate, key }
    }

    fn issue(&self) -> (Certificate, Key) {
        let request =
            Request::from_json(br#"{"CN":"x","hosts":["127.0.0.1","tidb.example"]}"#, "leaf").unwrap();
        let config = br#"{"signing":{"profiles":{"p":{"expiry":"24h","usages":["signing","server auth","client auth"]}}}}"#;
        let profile = Config::from_json(config, "config").unwrap().profile("p").unwrap().clone();
        cfssl::issue(&self.certificate, &self.key, &request, &profile, OffsetDateTime::now_utc()).unwrap()
    }

    fn identity(&self) -> Identity {
        let (leaf, key) = self.issue();
        Identity::new(&Certs(vec![leaf.der().clone()]), &key.to_secret().unwrap()).unwrap()
    }

    fn trust(&self) -> Trust {
        let anchors = Arc::new(Certs(vec![self.certificate.der().clone()]));
        Trust { verifier: Verifier::Go, anchors, allowed_cn: Vec::new() }
    }

    /// An identity as a script has it.
    fn shown(&self, world: &World) -> Value {
        let (leaf, key) = self.issue();
        stdlib::ca::to_value(world, &leaf, &key).unwrap()
    }
}

fn world() -> World {
    World::system(None, PathBuf::from("/"))
}

async fn probe(world: &World, port: u16, options: Value) -> Result<Value, PrimError> {
    let primitive = stdlib::registry().get("tls::probe").unwrap();
    (primitive.run)(world, &[json!("127.0.0.1"), json!(port), options], &ReadOnly).await
}

/// What the server says first.
#[derive(Clone, Copy)]
enum Says {
    /// A greeting with these capabilities, then TLS.
    Greets(u16),
    /// That there are too many connections.
    TooMany,
    /// Nothing.
    Nothing,
}

fn packet(sequence: u8, body: &[u8]) -> Vec<u8> {
    [&[u8::try_from(body.len()).unwrap(), 0, 0, sequence], body].concat()
}

fn greeting(capabilities: u16) -> Vec<u8> {
    let mut body = [&[10][..], b"8.0.11-TiDB-v7.5.1", &[0, 7, 0, 0, 0], b"challeng", &[0]].concat();
    body.extend(capabilities.to_le_bytes());
    body.extend([45, 2, 0, 0xff, 0xc1, 21]);
    body.extend([0; 10]);
    body.extend(b"challenge-two\0mysql_native_password\0");
    packet(0, &body)
}

/// A server on a port of its own that counts its connections. `client` is whom it accepts; `None` asks nobody.
async fn serve(identity: Identity, client: Option<Trust>, says: Says) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let config = server(always(identity), client, Arc::new(SystemClock), &[]).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let config = Arc::clone(&config);
            tokio::spawn(async move {
                match says {
                    Says::Greets(capabilities) => {
                        stream.write_all(&greeting(capabilities)).await.unwrap();
                        let mut request = [0; 36];
                        // A client that wants no TLS goes away.
                        if stream.read_exact(&mut request).await.is_ok() {
                            assert_eq!(
                                request[..4],
                                [32, 0, 0, 1],
                                "an SSLRequest is 32 bytes, the second packet"
                            );
                            let flags = u32::from_le_bytes(request[4..8].try_into().unwrap());
                            assert_eq!(flags & 0xa00, 0xa00, "protocol 4.1 and TLS");
                            let stream: Box<dyn Stream> = Box::new(stream);
                            let _ = handshake_server(stream, config, WITHIN, &SystemClock).await;
                        }
                    }
                    Says::TooMany => {
                        let body = [&[0xff, 0x10, 0x04][..], b"Too many connections"].concat();
                        stream.write_all(&packet(0, &body)).await.unwrap();
                    }
                    Says::Nothing => {
                        let mut rest = Vec::new();
                        let _ = stream.read_to_end(&mut rest).await;
                    }
                }
            });
        }
    });
    (port, count)
}

#[tokio::test]
async fn a_mysql_port_is_asked_for_tls_and_tells_what_it_serves() {
    let (ours, other) = (Ca::new("ours"), Ca::new("other"));
    let world = world();
    let (port, count) = serve(ours.identity(), Some(ours.trust()), Says::Greets(0xffff)).await;

    let seen = probe(&world, port, json!({ "mysql": true })).await.unwrap();
    assert_eq!(seen["server"], "8.0.11-TiDB-v7.5.1");
    assert_eq!((&seen["subject"], &seen["asks_client"]), (&json!("CN=x"), &json!(true)));
    assert_eq!(seen["protocol"], "TLSv1.3");
    assert_eq!(
        (&seen["accepted"], &seen["refused_by"]),
        (&json!(false), &json!("server")),
        "nobody was shown"
    );
    assert_eq!(count.load(Ordering::SeqCst), 2, "one connection looks, another tries");

    let anchors = ours.certificate.pem();
    let options = json!({ "mysql": true, "identity": ours.shown(&world), "anchors": anchors });
    let seen = probe(&world, port, options).await.unwrap();
    assert_eq!((&seen["accepted"], &seen["differences"]), (&json!(true), &json!([])), "{seen}");
    assert_eq!(seen["opinions"][0]["accepted"], true);

    let options = json!({ "mysql": true, "identity": other.shown(&world) });
    let seen = probe(&world, port, options).await.unwrap();
    assert_eq!((&seen["accepted"], &seen["refused_by"]), (&json!(false), &json!("server")), "{seen}");

    let options =
        json!({ "mysql": true, "identity": ours.shown(&world), "anchors": other.certificate.pem() });
    let seen = probe(&world, port, options).await.unwrap();
    assert_eq!((&seen["refused_by"], &seen["server_accepts"]), (&json!("us"), &json!(true)), "{seen}");

    let options =
        json!({ "mysql": true, "identity": ours.shown(&world), "anchors": anchors, "name": "wrong.example" });
    let seen = probe(&world, port, options).await.unwrap();
    assert!(seen["reason"].as_str().unwrap().contains("not valid for `wrong.example`"), "{seen}");
}

#[tokio::test]
async fn what_is_no_mysql_server_with_tls_is_told() {
    let ca = Ca::new("ca");
    let world = world();
    let told = async |says: Says, options: Value| {
        let (port, _) = serve(ca.identity(), None, says).await;
        let error = probe(&world, port, options).await.unwrap_err();
        assert_eq!(error.code, stdlib::error::Code::Unavailable);
        assert!(error.object.starts_with("127.0.0.1:"));
        error.message
    };
    let mysql = || json!({ "mysql": true });
    assert!(told(Says::Greets(0x0200), mysql()).await.contains("(version 8.0.11-TiDB-v7.5.1) has no TLS"));
    assert!(told(Says::TooMany, mysql()).await.contains("Too many connections (error 1040)"));
    let hasty = json!({ "mysql": true, "within": "1s" });
    assert!(told(Says::Nothing, hasty).await.contains("does not greet as a MySQL server does"));
    let silent = told(Says::Nothing, json!({ "within": "200ms" })).await;
    assert!(silent.starts_with("no connection: "), "{silent}");
    let plain = told(Says::Greets(0xffff), json!(null)).await;
    assert!(plain.contains("no common TLS"), "a MySQL port without the flag: {plain}");
}

/// A server that asks for no client certificate is looked at once; one name as text is the name to ask for.
#[tokio::test]
async fn without_anything_to_try_one_connection_is_enough() {
    let ca = Ca::new("ca");
    let (port, count) = serve(ca.identity(), None, Says::Greets(0xffff)).await;
    let seen = probe(&world(), port, json!({ "mysql": true, "name": "tidb.example" })).await.unwrap();
    assert_eq!((&seen["asks_client"], seen.get("accepted")), (&json!(false), None));
    assert_eq!(count.load(Ordering::SeqCst), 1);
    let error = probe(&world(), port, json!(7)).await.unwrap_err();
    assert_eq!(error.message, "`options` is neither a name nor a map");
    let error = probe(&world(), port, json!({ "mysql": "yes" })).await.unwrap_err();
    assert_eq!(error.message, "`options.mysql` has the wrong type");
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A MariaDB with this identity that asks clients for certificates of this authority.
fn mariadb(folder: &Path, ca: &Ca, port: u16) -> Killed {
    let (leaf, key) = ca.issue();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let cert = file("cert.pem", leaf.pem().as_bytes());
    let key = file("key.pem", key.to_pem().unwrap().as_bytes());
    let anchors = file("ca.pem", ca.certificate.pem().as_bytes());
    let data = folder.join("data");
    std::fs::create_dir(&data).unwrap();
    let program =
        ["/usr/sbin/mariadbd", "/usr/bin/mariadbd"].into_iter().find(|path| Path::new(path).exists());
    let program = program.expect("install MariaDB with `apt-get install mariadb-server-core`");
    let user = std::env::var("USER").unwrap_or_else(|_| "root".into());
    let child = Command::new(program)
        .args(["--no-defaults", "--skip-grant-tables", "--skip-innodb", "--default-storage-engine=MyISAM"])
        .args(["--bind-address=127.0.0.1", &format!("--port={port}"), &format!("--user={user}")])
        .arg(format!("--datadir={}", data.display()))
        .arg(format!("--socket={}", folder.join("socket").display()))
        .arg(format!("--pid-file={}", folder.join("pid").display()))
        .args([format!("--ssl-cert={cert}"), format!("--ssl-key={key}"), format!("--ssl-ca={anchors}")])
        .stdout(Stdio::null())
        .stderr(Stdio::from(std::fs::File::create(folder.join("log")).unwrap()))
        .spawn()
        .unwrap();
    Killed(child)
}

/// The real protocol, in the words of a real server: our server above might share our misunderstandings.
#[tokio::test]
async fn a_real_mariadb_is_probed() {
    let (ours, other) = (Ca::new("ours"), Ca::new("other"));
    let folder = tempfile::Builder::new().prefix("db").tempdir_in("/tmp").unwrap();
    let world = world();
    let anchors = ours.certificate.pem();
    let options =
        |identity: Value| json!({ "mysql": true, "identity": identity, "anchors": anchors, "within": "60s" });
    let mut tries = 0..3;
    let (_server, port, seen) = 'started: loop {
        let number = tries.next().unwrap_or_else(|| {
            panic!(
                "mariadbd does not start: {}",
                std::fs::read_to_string(folder.path().join("2/log")).unwrap()
            )
        });
        let folder = folder.path().join(number.to_string());
        std::fs::create_dir(&folder).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let mut server = mariadb(&folder, &ours, port);
        // Until it answers; it ends by itself where somebody else has taken the port meanwhile.
        while server.0.try_wait().unwrap().is_none() {
            if let Ok(seen) = probe(&world, port, options(ours.shown(&world))).await {
                break 'started (server, port, seen);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    assert!(seen["server"].as_str().unwrap().contains("MariaDB"), "{seen}");
    assert_eq!((&seen["accepted"], &seen["asks_client"]), (&json!(true), &json!(true)), "{seen}");
    assert!(seen["chain"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    // Silence counts as acceptance; on a busy machine a refusal may come later than that.
    let mut refused = Value::Null;
    for _ in 0..20 {
        refused = probe(&world, port, options(other.shown(&world))).await.unwrap();
        if refused["accepted"] == false {
            break;
        }
    }
    assert_eq!(
        (&refused["accepted"], &refused["refused_by"]),
        (&json!(false), &json!("server")),
        "{refused}"
    );
    assert!(refused["reason"].as_str().unwrap().contains("unknown_ca"), "{refused}");
    let nobody = probe(&world, port, json!({ "mysql": true })).await.unwrap();
    assert_eq!(nobody["accepted"], true, "it asks, and does not demand: {nobody}");
}
