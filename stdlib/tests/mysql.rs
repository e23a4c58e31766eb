//! Sessions with a real MariaDB: the upgrade, logins with and without a certificate, statements, and certificates loaded
//! again. MariaDB does that by `FLUSH SSL` and knows no `ALTER INSTANCE`: that statement is tested on the sandbox's servers.
//!
//! Needs the programs `mariadbd` and `mariadb-install-db`; fails by name where they are missing.
#![allow(clippy::disallowed_methods)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use stdlib::cert::{Certificate, Key};
use stdlib::cfssl::{self, Config, Request};
use stdlib::mysql::STATEMENT;
use stdlib::mysql::session::{Address, Failure, Login, Reply, Session};
use stdlib::tls::TlsFailure;
use stdlib::tls::config::{Identity, Trust, always, client};
use stdlib::trust::{Certs, Verifier};
use stdlib::{Secret, World};
use time::OffsetDateTime;

const WITHIN: Duration = Duration::from_secs(30);

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
        let request = Request::from_json(br#"{"CN":"x","hosts":["tidb.example"]}"#, "leaf").unwrap();
        let config = br#"{"signing":{"profiles":{"p":{"expiry":"24h","usages":["signing","server auth","client auth"]}}}}"#;
        let profile = Config::from_json(config, "config").unwrap().profile("p").unwrap().clone();
        cfssl::issue(&self.certificate, &self.key, &request, &profile, OffsetDateTime::now_utc()).unwrap()
    }

    fn identity(&self) -> Identity {
        let (leaf, key) = self.issue();
        Identity::new(&Certs(vec![leaf.der().clone()]), &key.to_secret().unwrap()).unwrap()
    }
}

/// A program of MariaDB's.
fn program(name: &str) -> PathBuf {
    let found = ["/usr/sbin", "/usr/bin"].into_iter().map(|folder| Path::new(folder).join(name));
    let found = found.into_iter().find(|path| path.exists());
    found.unwrap_or_else(|| panic!("install `{name}` with `apt-get install mariadb-server-core`"))
}

/// Files that a server has loaded or will load.
fn put(folder: &Path, leaf: &Certificate, key: &Key) {
    std::fs::write(folder.join("cert.pem"), leaf.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), key.to_pem().unwrap().as_bytes()).unwrap();
}

struct Server {
    child: Child,
    folder: tempfile::TempDir,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// One that knows two accounts: `plain`, and `strict`, which must show a certificate.
    fn start(ca: &Ca) -> Self {
        let folder = tempfile::Builder::new().prefix("db").tempdir_in("/tmp").unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let user = std::env::var("USER").unwrap_or_else(|_| "root".into());
        let (leaf, key) = ca.issue();
        put(folder.path(), &leaf, &key);
        std::fs::write(folder.path().join("ca.pem"), ca.certificate.pem()).unwrap();
        let accounts = "CREATE USER plain@'%' IDENTIFIED BY 'pass word';\n\
                        CREATE USER strict@'%' IDENTIFIED BY 'pass word' REQUIRE X509;\n\
                        GRANT ALL PRIVILEGES ON *.* TO plain@'%';\n";
        std::fs::write(folder.path().join("accounts.sql"), accounts).unwrap();
        let made = Command::new(program("mariadb-install-db"))
            .args([
                "--no-defaults",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--skip-name-resolve",
            ])
            .args([format!("--datadir={}", at("data")), format!("--user={user}")])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(program("mariadbd"))
            .args(["--no-defaults", "--skip-name-resolve", "--bind-address=127.0.0.1"])
            .args([format!("--port={port}"), format!("--user={user}"), format!("--datadir={}", at("data"))])
            .args([format!("--socket={}", at("socket")), format!("--pid-file={}", at("pid"))])
            .args([format!("--ssl-cert={}", at("cert.pem")), format!("--ssl-key={}", at("key.pem"))])
            .args([format!("--ssl-ca={}", at("ca.pem")), format!("--init-file={}", at("accounts.sql"))])
            .stdout(Stdio::null())
            .stderr(Stdio::from(std::fs::File::create(folder.path().join("log")).unwrap()))
            .spawn()
            .unwrap();
        Self { child, folder, port }
    }

    /// Logs in, presenting this identity and trusting this authority.
    async fn login(
        &self,
        (user, password): (&str, &str),
        identity: Option<Identity>,
        trusted: &Ca,
    ) -> Result<Session, Failure> {
        let world = World::system(None, PathBuf::from("/"));
        let anchors = Arc::new(Certs(vec![trusted.certificate.der().clone()]));
        let trust = Trust { verifier: Verifier::Go, anchors, allowed_cn: Vec::new() };
        let config = client(identity.map(always), trust, world.clock.clone(), &[]).unwrap();
        let address = Address { host: "127.0.0.1", port: self.port, name: "tidb.example" };
        let login = Login { user: user.into(), password: Secret::new(password.as_bytes(), "") };
        Session::open(&world, address, config, &login, WITHIN).await
    }

    /// The same as soon as the server is there.
    async fn first(&mut self, ca: &Ca) -> Session {
        loop {
            match self.login(("plain", "pass word"), Some(ca.identity()), ca).await {
                Ok(session) => return session,
                Err(
                    Failure::Tls(TlsFailure::Io { .. } | TlsFailure::Protocol(_)) | Failure::Server { .. },
                ) => {}
                Err(failure) => panic!("{failure}"),
            }
            if let Some(ended) = self.child.try_wait().unwrap() {
                let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap();
                panic!("mariadbd ends with {ended}: {log}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn presents(session: &Session) -> Certificate {
    Certificate::from_der(session.chain().0[0].to_vec()).unwrap()
}

#[tokio::test]
async fn a_real_server_is_logged_in_to_and_loads_its_certificate_again() {
    let (ours, other) = (Ca::new("ours"), Ca::new("other"));
    let world = World::system(None, PathBuf::from("/"));
    let mut server = Server::start(&ours);
    let mut session = server.first(&ours).await;
    assert!(session.version().contains("MariaDB"), "{}", session.version());
    let reply = session.run(&world, "SELECT 'a', NULL, 7", WITHIN).await.unwrap();
    assert_eq!(reply, Reply::Rows(vec![vec![Some("a".into()), None, Some("7".into())]]));
    let status = session.run(&world, "SHOW STATUS LIKE 'Ssl_server_not_after'", WITHIN).await.unwrap();
    assert!(matches!(&status, Reply::Rows(rows) if rows[0][1].as_ref().is_some_and(|at| at.contains("GMT"))));

    let wrong = server.login(("plain", "password"), Some(ours.identity()), &ours).await.unwrap_err();
    assert!(
        matches!(&wrong, Failure::Server { code: 1045, message } if message.contains("plain")),
        "{wrong}"
    );
    server.login(("strict", "pass word"), Some(ours.identity()), &ours).await.unwrap().close().await;
    let bare = server.login(("strict", "pass word"), None, &ours).await.unwrap_err();
    assert!(matches!(bare, Failure::Server { code: 1045, .. }), "{bare}");
    let stranger = server.login(("strict", "pass word"), Some(other.identity()), &ours).await.unwrap_err();
    assert!(matches!(stranger, Failure::Tls(TlsFailure::RefusedBy(_))), "{stranger}");
    let feigned = server.login(("plain", "pass word"), Some(ours.identity()), &other).await.unwrap_err();
    assert!(matches!(feigned, Failure::Tls(TlsFailure::Rejected(_))), "{feigned}");

    // The statement for TiDB and MySQL is none of MariaDB's.
    let unknown = session.run(&world, STATEMENT, WITHIN).await.unwrap_err();
    assert!(matches!(unknown, Failure::Server { code: 1064, .. }), "{unknown}");
    let old = presents(&session);
    let (leaf, key) = ours.issue();
    put(server.folder.path(), &leaf, &key);
    let before = server.login(("plain", "pass word"), Some(ours.identity()), &ours).await.unwrap();
    assert_eq!(presents(&before), old, "what lies there is not loaded by itself");
    assert_eq!(session.run(&world, "FLUSH SSL", WITHIN).await.unwrap(), Reply::Done);
    let after = server.login(("plain", "pass word"), Some(ours.identity()), &ours).await.unwrap();
    assert_eq!(presents(&after), leaf);

    put(server.folder.path(), &ours.issue().0, &key);
    let refused = session.run(&world, "FLUSH SSL", WITHIN).await.unwrap_err();
    assert!(matches!(refused, Failure::Server { .. }), "{refused}");
    let kept = server.login(("plain", "pass word"), Some(ours.identity()), &ours).await.unwrap();
    assert_eq!(presents(&kept), leaf, "it keeps what it had");
}
