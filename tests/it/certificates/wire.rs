//! Endpoints and clusters.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use sandbox::api::{Options, Server, kubeconfig};
use serde_json::json;
use stdlib::cert::{Certificate, Key};
use stdlib::tls::config::{Identity, always, server};
use stdlib::trust::Certs;
use stdlib::world::SystemClock;

use super::desk::{Answer, Desk, fits};

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An openssl server that demands a certificate of `ca.pem`.
fn s_server(desk: &Desk, protocol: &str) -> (Killed, String) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let child = Command::new("openssl")
        .args(["s_server", "-accept", &address, "-cert", "pd-server.pem", "-key", "pd-server-key.pem"])
        .args(["-CAfile", "ca.pem", "-Verify", "2", "-verify_return_error", "-quiet", protocol])
        .current_dir(desk.folder())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut server = Killed(child);
    while std::net::TcpStream::connect(&address).is_err() {
        assert!(server.0.try_wait().unwrap().is_none(), "openssl s_server has ended");
        std::thread::yield_now();
    }
    (server, address)
}

/// Asks again while nobody has refused yet: silence counts as acceptance, and a busy server may take longer to refuse.
fn refused(ask: impl Fn() -> Answer) -> Answer {
    let mut answer = ask();
    for _ in 0..20 {
        if answer.code != 0 {
            break;
        }
        answer = ask();
    }
    answer
}

#[test]
fn an_endpoint_is_probed_with_and_without_an_identity() {
    let desk = Desk::with_ca();
    desk.cert(&["ca", "ca-csr.json", "--out", "other"]).ok();
    desk.cert(&["sign", "pd-server.json", "--profile", "internal", "--ca", "other.pem", "--out", "foreign"])
        .ok();
    for (protocol, named) in [("-tls1_3", "TLSv1.3"), ("-tls1_2", "TLSv1.2")] {
        let (_server, address) = s_server(&desk, protocol);
        let probe = |more: &[&str]| desk.cert(&[&["probe", &address, "--timeout", "60s"][..], more].concat());
        let text = probe(&["--anchors", "ca.pem", "--cert", "pd-server.pem"]).says(
            0,
            &[
                named,
                "serves C=US",
                "for a client certificate",
                "the certificate that was presented",
                "ok openssl",
            ],
        );
        fits(&text);
        refused(|| probe(&["--anchors", "ca.pem"])).says(42, &[named, "NO client without a certificate"]);
        refused(|| probe(&["--anchors", "ca.pem", "--cert", "foreign.pem"]))
            .says(42, &["NOT the certificate that was presented", "`unknown_ca`"]);
        probe(&["--anchors", "other.pem", "--cert", "pd-server.pem"])
            .says(42, &["FAIL go", "accepts the certificate that was presented"]);
        probe(&["--anchors", "ca.pem", "--cert", "pd-server.pem", "--name", "wrong.example"])
            .says(42, &["is not valid for `wrong.example`"]);
        let seen = desk.json(&["probe", &address, "--anchors", "ca.pem", "--cert", "pd-server.pem"]);
        assert_eq!((&seen["accepted"], &seen["protocol"]), (&json!(true), &json!(named)));
        desk.cert(&["inspect", &address]).says(0, &[named, "certificate for server and client"]);
        let seen = desk.json(&["inspect", &address, "--ca", "ca.pem"]);
        assert_eq!(seen["items"][0]["certificates"][0]["signed"], json!({ "by": "ca.pem", "checked": true }));
        desk.cert(&["probe", &address, "--mysql", "--timeout", "300ms"])
            .says(19, &["does not greet as a MySQL server does"]);
    }
}

#[test]
fn an_endpoint_that_does_not_answer_is_told_within_the_deadline() {
    let desk = Desk::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    desk.cert(&["probe", &address, "--timeout", "300ms"]).says(19, &["no connection: ", "--timeout 30s"]);
    drop(listener);
    desk.cert(&["probe", &address]).says(19, &["Connection refused"]);
    desk.cert(&["probe", "nowhere"]).says(2, &["write HOST:PORT"]);
}

/// The program against an API server: a Secret that is sound, one whose key is another's, one that is not there.
#[test]
fn a_secret_of_a_cluster_is_told_by_key() {
    let desk = Desk::with_ca();
    desk.cert(&["ca", "ca-csr.json", "--out", "other"]).ok();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (leaf, key) = (desk.read("pd-server.pem"), desk.read("pd-server-key.pem"));
    let identity = Identity::new(
        &Certs(vec![Certificate::from_pem(leaf.as_bytes(), "leaf").unwrap().der().clone()]),
        &Key::from_pem(key.as_bytes(), "key").unwrap().to_secret().unwrap(),
    );
    let api = Server::new(Options::new(Arc::new(SystemClock)));
    api.add_token("t0ken", "operator");
    let address = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tls = server(always(identity.unwrap()), None, Arc::new(SystemClock), &[b"http/1.1"]).unwrap();
        tokio::spawn(Arc::clone(&api).serve(listener, tls));
        let secret = |name: &str, key: &str| {
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "default"},
                "type": "Opaque", "stringData": {"tls.crt": leaf, "tls.key": key, "ca.crt": desk.read("ca.pem"), "note": "hello"}})
        };
        let client = api.client("operator");
        for (name, key) in [("sound", &key), ("mixed", &desk.read("other-key.pem"))] {
            let resource = kube::core::ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk("", "v1", "Secret"));
            let secrets: kube::Api<kube::core::DynamicObject> =
                kube::Api::namespaced_with(client.clone(), "default", &resource);
            let object = serde_json::from_value(secret(name, key)).unwrap();
            secrets.create(&kube::api::PostParams::default(), &object).await.unwrap();
        }
        address
    });
    desk.write("kubeconfig", &kubeconfig(address, &desk.read("ca.pem"), "t0ken", "default"));
    let inspect = |name: &str| desk.cert(&["inspect", name, "--kubeconfig", "kubeconfig"]);
    let text = inspect("secret/default/sound").says(
        0,
        &[
            "Secret default/sound",
            "tls.key belongs to it",
            "the one in ca.crt: its signature holds",
            "belongs to tls.crt",
        ],
    );
    fits(&text);
    inspect("secret/default/mixed").says(0, &["tls.key does NOT belong to it"]);
    inspect("secret/default/gone").says(13, &["Secret default/gone", "does not exist"]);
    let compare = |first: &str| {
        desk.cert(&["bundle", "compare", first, "secret/default/sound", "--kubeconfig", "kubeconfig"])
    };
    compare("ca.pem").ok();
    compare("other.pem").says(42, &["only in Secret default/sound ca.crt"]);
}
