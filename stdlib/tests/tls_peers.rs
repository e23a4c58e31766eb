//! Handshakes with `openssl s_server` and `openssl s_client`: refusals are seen as such on both protocol versions.
//!
//! And with a server of Go's, which speaks HTTP: it is asked, and its judgement not read out of silence.
//!
//! Needs the programs `openssl` and `go`; fails by name where one is missing.
#![allow(clippy::disallowed_methods)]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use stdlib::secret::Secret;
use stdlib::tls::config::{Identity, Trust, always, client, server};
use stdlib::tls::{
    Handshake, TlsFailure, Wait, handshake_asking, handshake_client, handshake_server, observe,
};
use stdlib::trust::{Certs, Verifier};
use stdlib::world::{Clock, Net as _, SystemClock, SystemNet};

const WITHIN: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_millis(500);

struct Ca {
    issuer: Issuer<'static, KeyPair>,
    certs: Certs,
}

fn ca(name: &str) -> Ca {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certs = Certs(vec![params.self_signed(&key).unwrap().der().clone()]);
    Ca { issuer: Issuer::new(params, key), certs }
}

impl Ca {
    fn pair(&self) -> (Certs, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "peer");
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let cert = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        (Certs(vec![cert]), key.serialize_pem())
    }

    fn identity(&self) -> Identity {
        let (chain, key) = self.pair();
        Identity::new(&chain, &Secret::new(key, "spki:test")).unwrap()
    }

    fn trust(&self) -> Trust {
        Trust { verifier: Verifier::Openssl, anchors: Arc::new(self.certs.clone()), allowed_cn: Vec::new() }
    }

    /// Certificate, key and CA as files: what `openssl` wants.
    fn files(&self, folder: &Path) -> [PathBuf; 3] {
        let (chain, key) = self.pair();
        let paths = ["cert.pem", "key.pem", "ca.pem"].map(|name| folder.join(name));
        for (path, text) in paths.iter().zip([chain.pem(), key, self.certs.pem()]) {
            std::fs::write(path, text).unwrap();
        }
        paths
    }
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn openssl(arguments: &[&str]) -> Killed {
    let child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    match child {
        Ok(child) => Killed(child),
        Err(error) => panic!("`openssl` cannot be run ({error}); install it: apt-get install -y openssl"),
    }
}

/// A server of OpenSSL that demands a client certificate of this authority.
async fn s_server(ca: &Ca, folder: &Path, protocol: &str) -> (Killed, u16) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let files = ca.files(folder);
    let [cert, key, anchors] = files.each_ref().map(|path| path.to_str().unwrap());
    let accept = format!("127.0.0.1:{port}");
    let server = openssl(&[
        "s_server",
        "-accept",
        &accept,
        "-cert",
        cert,
        "-key",
        key,
        "-CAfile",
        anchors,
        "-Verify",
        "2",
        "-verify_return_error",
        "-quiet",
        protocol,
    ]);
    for _ in 0..200 {
        if SystemNet.dial("127.0.0.1", port).await.is_ok() {
            return (server, port);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("openssl s_server does not listen");
}

async fn dial(port: u16, identity: Option<Identity>, trust: Trust) -> Result<Handshake, TlsFailure> {
    let config = client(identity.map(always), trust, clock(), &[]).unwrap();
    let stream = SystemNet.dial("127.0.0.1", port).await.unwrap();
    handshake_client(stream, config, "localhost", Wait::DataOrSilence(SILENCE), WITHIN, &SystemClock).await
}

#[tokio::test]
async fn a_real_server_accepts_by_silence_and_refuses_by_alert() {
    for (protocol, named) in [("-tls1_3", "TLSv1.3"), ("-tls1_2", "TLSv1.2")] {
        let (ours, other) = (ca("ours"), ca("other"));
        let folder = tempfile::tempdir().unwrap();
        let (_server, port) = s_server(&ours, folder.path(), protocol).await;

        let accepted = dial(port, Some(ours.identity()), ours.trust()).await.unwrap();
        assert_eq!(accepted.protocol, named);
        assert!(!accepted.peer.0.is_empty());

        let refused = dial(port, Some(other.identity()), ours.trust()).await.unwrap_err();
        assert_eq!(refused, TlsFailure::RefusedBy("unknown_ca".into()), "{named}");
        let nameless = dial(port, None, ours.trust()).await.unwrap_err();
        assert!(matches!(nameless, TlsFailure::RefusedBy(_)), "{named}: {nameless}");
        let refusing = dial(port, Some(ours.identity()), other.trust()).await.unwrap_err();
        assert!(matches!(&refusing, TlsFailure::Rejected(r) if r.code == "unknown-authority"), "{refusing}");

        let stream = SystemNet.dial("127.0.0.1", port).await.unwrap();
        let seen = observe(stream, "localhost", WITHIN, clock()).await.unwrap();
        assert!(seen.asks_client);
        assert_eq!(seen.protocol, named, "also where the server then refuses us");
        assert_eq!(seen.chain, accepted.peer);
    }
}

#[tokio::test]
async fn a_real_client_is_judged() {
    for protocol in ["-tls1_3", "-tls1_2"] {
        let (ours, other) = (ca("ours"), ca("other"));
        let folder = tempfile::tempdir().unwrap();
        for (trust, holds) in [(ours.trust(), true), (other.trust(), false)] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let files = ours.files(folder.path());
            let [cert, key, anchors] = files.each_ref().map(|path| path.to_str().unwrap());
            let _client = openssl(&[
                "s_client",
                "-connect",
                &address,
                "-cert",
                cert,
                "-key",
                key,
                "-CAfile",
                anchors,
                "-verify_return_error",
                "-quiet",
                protocol,
            ]);
            let (stream, _) = listener.accept().await.unwrap();
            let config = server(always(ours.identity()), Some(trust), clock(), &[]).unwrap();
            let judged =
                handshake_server(Box::new(stream), config, Duration::from_secs(2), &SystemClock).await;
            match judged {
                Ok(handshake) => assert!(holds && !handshake.peer.0.is_empty(), "{protocol}"),
                Err(TlsFailure::Rejected(rejection)) => {
                    assert!(!holds, "{protocol}: {}", rejection.text);
                    assert_eq!(rejection.code, "unknown-authority");
                }
                Err(failure) => panic!("{protocol}: {failure}"),
            }
        }
    }
}

#[tokio::test]
async fn nobody_listening_is_no_refusal() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let failure = TlsFailure::from(SystemNet.dial("127.0.0.1", port).await.err().unwrap());
    assert!(
        matches!(&failure, TlsFailure::Io { kind: std::io::ErrorKind::ConnectionRefused, .. }),
        "{failure}"
    );
    assert!(!failure.is_refusal());
}

/// A server of Go's that speaks these protocols and demands a client certificate of this authority.
fn go_server(ca: &Ca, folder: &Path, protocols: &str) -> (Killed, u16) {
    let program = folder.join("https");
    let built = Command::new("go")
        .env("GO111MODULE", "off")
        .env("GOCACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("go/cache"))
        .args(["build", "-o"])
        .arg(&program)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls_peers/https.go"))
        .output()
        .expect("`go` is needed: apt-get install -y golang-go");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let mut child = Command::new(program)
        .args(ca.files(folder))
        .arg(protocols)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (Killed(child), line.trim().parse().unwrap())
}

#[tokio::test]
async fn a_server_of_http_is_asked_and_need_not_be_waited_for() {
    let (ours, other) = (ca("ours"), ca("other"));
    // Who accepts only by silence would be waited for longer than the test may take.
    let silence = Duration::from_secs(3600);
    for protocols in ["h2", "http/1.1"] {
        let folder = tempfile::tempdir().unwrap();
        let (_server, port) = go_server(&ours, folder.path(), protocols);
        let meet = |identity: Identity| {
            let alpn: &[&[u8]] = &[b"h2", b"http/1.1"];
            let config = client(Some(always(identity)), ours.trust(), clock(), alpn).unwrap();
            let dial = move || async move { Ok(SystemNet.dial("127.0.0.1", port).await?) };
            handshake_asking(dial, config, "localhost", Wait::DataOrSilence(silence), WITHIN, &SystemClock)
        };
        let both = async {
            meet(ours.identity()).await.unwrap();
            // It closes with its alert, whether it has read the question or not: the line may break under it.
            for _ in 0..20 {
                let refused = meet(other.identity()).await.unwrap_err();
                assert_eq!(refused, TlsFailure::RefusedBy("bad_certificate".into()), "{protocols}");
            }
        };
        tokio::time::timeout(WITHIN * 6, both).await.expect("a server that was asked was waited for");
    }
}
