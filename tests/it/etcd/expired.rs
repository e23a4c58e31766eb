//! A cluster that is down since its certificates, or its CA too, have expired: it comes back with its data.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use stdlib::cert::Certificate;
use stdlib::cfssl::Request;
use stdlib::etcd::{Access, Endpoint, ask};
use stdlib::tls::config::Identity;
use stdlib::trust::Certs;
use stdlib::world::{Clock as _, SystemClock};
use stdlib::{Secret, World};

use super::members::Cluster;
use super::rotation::{all_tier, no_marks, parameters, person, texts, types};
use crate::program::{says, told};

const DAY: Duration = Duration::from_secs(24 * 3600);

pub(super) fn systemctl(folder: &Path, word: &str) {
    let status = Command::new(folder.join("bin/systemctl")).args([word, "--", "etcd"]).status().unwrap();
    assert!(status.success());
}

/// What the application asks of the first member.
pub(super) fn asks(cluster: &Cluster, path: &str, body: &Value) -> Result<Value, String> {
    let root = cluster.machines.root.path();
    let folder = root.join("app");
    let text = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let key = Secret::new(text("client-key.pem").into_bytes(), "key");
    let identity = Identity::new(&Certs::from_pem(&text("client.pem")).unwrap(), &key).unwrap();
    let access = Access { identity, anchors: Arc::new(Certs::from_pem(&text("ca.pem")).unwrap()) };
    let endpoint = Endpoint::of(&cluster.endpoints()[0]).unwrap();
    let world = World::system(None, root.to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(ask(&world, &endpoint, &access, path, Some(body))).map_err(|error| error.to_string())
}

/// Puts a CA of long ago, and pairs of it that have expired, in the place of all; the CA has expired too, or not.
fn expire(cluster: &Cluster, ca_too: bool) {
    let now = SystemClock.now();
    let hours = if ca_too { 2 * 8760 } else { 10 * 8760 };
    let request = json!({ "CN": "etcd", "key": { "algo": "ecdsa", "size": 256 }, "ca": { "expiry": format!("{hours}h") } });
    let request = Request::from_json(request.to_string().as_bytes(), "ca").unwrap();
    let (ca, key) = stdlib::ca::create(&request, now - DAY * 1000).unwrap();
    assert_eq!(ca.not_after() < now, ca_too);
    fs::write(cluster.machines.root.path().join("ca-key.pem"), key.to_pem().unwrap().as_bytes()).unwrap();
    for folder in cluster.folders() {
        let folder = Path::new(&folder);
        fs::write(folder.join("ca.pem"), ca.pem()).unwrap();
        for stem in ["server", "peer", "client"] {
            let path = folder.join(format!("{stem}.pem"));
            let Ok(text) = fs::read(&path) else { continue };
            let old = Certificate::from_pem(&text, "old").unwrap();
            let (leaf, leaf_key) =
                stdlib::cfssl::reissue(&ca, &key, &old, None, None, now - DAY * 900).unwrap();
            assert!(leaf.not_after() < now);
            fs::write(&path, leaf.pem()).unwrap();
            fs::write(folder.join(format!("{stem}-key.pem")), leaf_key.to_pem().unwrap().as_bytes()).unwrap();
        }
    }
}

fn comes_back(ca_too: bool) {
    let cluster = Cluster::start(3);
    let program = person();
    let words = ["run", "etcd/renew-expired", "--yes", "--accept-outage"];
    let kept = json!({ "key": STANDARD.encode("kept"), "value": STANDARD.encode("through it all") });
    asks(&cluster, "/v3/kv/put", &kept).unwrap();

    // Nothing has expired yet: there is a better way.
    let (code, text) = told(&types(&program, &words, &parameters(&cluster)));
    assert_ne!(code, 0, "{text}");
    assert!(text.contains("nothing has expired") && text.contains("etcd/rotate-ca"), "{text}");

    let folders: Vec<_> = cluster.machines.all.iter().map(|machine| machine.folder.clone()).collect();
    for folder in &folders {
        systemctl(folder, "stop");
    }
    expire(&cluster, ca_too);
    let expired = cluster.files();
    // Two try to run, without a quorum; one is down altogether.
    for folder in &folders[..2] {
        systemctl(folder, "start");
    }
    // From here on a start returns when the member serves, as systemd's does (`Type=notify`).
    for folder in &folders {
        fs::write(folder.join("notify"), "").unwrap();
    }
    let get = json!({ "key": STANDARD.encode("kept") });
    asks(&cluster, "/v3/kv/range", &get).unwrap_err();

    let mut more = parameters(&cluster);
    if !ca_too {
        let key = cluster.machines.root.path().join("ca-key.pem");
        more.extend(["--set".to_owned(), format!("ca_key={}", key.display())]);
    }
    let text = says(&types(&program, &words, &more), 0, &["expired: m1:", "outage"]);
    let answer = asks(&cluster, "/v3/kv/range", &get).unwrap();
    assert_eq!(answer.pointer("/kvs/0/value"), Some(&json!(STANDARD.encode("through it all"))), "{text}");
    no_marks(&cluster, &program.runs().pop().unwrap());
    let files = cluster.files();
    for (path, (bytes, mode)) in &expired {
        assert_eq!(files[path].0 == *bytes, !ca_too && path.ends_with("/ca.pem"), "{path}");
        assert_eq!(files[path].1, *mode, "{path}");
    }
    let anchors = texts(&files, "/ca.pem");
    assert!(anchors.iter().all(|anchor| *anchor == anchors[0]));
}

#[test]
fn a_cluster_whose_certificates_and_ca_have_expired_comes_back_with_its_data() {
    comes_back(true);
}

#[test]
fn a_cluster_whose_certificates_alone_have_expired_keeps_its_ca() {
    if all_tier() {
        comes_back(false);
    }
}
