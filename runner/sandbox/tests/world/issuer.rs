//! The certificate issuer as a person with `kubectl` and `cmctl` meets it: what it issues again, and what it does not.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sandbox::world::json as js;
use sandbox::world::kube::{CERTIFICATE_REQUESTS, CERTIFICATES, Kube, SECRETS};
use sandbox::world::{IssuedBy, Options, RotationPolicy, Scenario, Timing, World};
use serde_json::{Value, json};
use stdlib::cert::Certificate;

const CA: &str = "basic-ca-secret";
const PD: &str = "basic-pd-cluster-secret";

async fn world(seed: u64, rotation_policy: RotationPolicy) -> (World, Kube) {
    let scenario = Scenario { issued_by: IssuedBy::CertManager, rotation_policy, ..Scenario::default() };
    let mut options = Options { scenario, ..Options::in_process(seed) };
    options.timing = Timing { restart_mean: 0, ..Timing::lifelike() };
    let world = World::start(options).await.unwrap();
    let kube = Kube::new(world.client());
    (world, kube)
}

async fn secret(kube: &Kube, name: &str) -> Option<Value> {
    kube.get(SECRETS, "tidb", name).await.unwrap()
}

fn data(secret: &Value, key: &str) -> Vec<u8> {
    STANDARD.decode(secret["data"][key].as_str().unwrap()).unwrap()
}

async fn held(kube: &Kube, name: &str, key: &str) -> Certificate {
    let secret = secret(kube, name).await.unwrap();
    stdlib::cert::parse_many(&data(&secret, key), name).unwrap().remove(0)
}

async fn certificate(kube: &Kube, name: &str) -> Value {
    kube.get(CERTIFICATES, "tidb", name).await.unwrap().unwrap()
}

fn revision(certificate: &Value) -> i64 {
    js::number(certificate, "/status/revision").unwrap()
}

/// Waits until nothing is being issued and so many revisions were.
async fn at_revision(kube: &Kube, name: &str, wanted: i64) -> Value {
    for _ in 0..600 {
        let seen = certificate(kube, name).await;
        if js::number(&seen, "/status/revision") == Some(wanted) && js::condition(&seen, "Ready") == "True" {
            return seen;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("{name} does not come to revision {wanted}: {}", certificate(kube, name).await["status"]);
}

async fn delete(kube: &Kube, name: &str) {
    let uid = js::uid(&secret(kube, name).await.unwrap()).to_owned();
    kube.delete(SECRETS, ("tidb", name), &uid, None).await.unwrap();
}

/// What `cmctl renew` does.
async fn renew(kube: &Kube, name: &str) {
    let seen = certificate(kube, name).await;
    let mut conditions = js::items(&seen, "/status/conditions").to_vec();
    conditions.push(json!({"type": "Issuing", "status": "True", "reason": "ManuallyTriggered",
        "message": "Certificate re-issuance manually triggered", "lastTransitionTime": "2026-06-01T12:00:00Z"}));
    let patch = json!({"status": {"conditions": conditions}});
    kube.merge(CERTIFICATES, ("tidb", name), "/status", &patch).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_cluster_stands_on_what_the_issuer_made_and_a_changed_ca_reissues_nothing() {
    let (world, kube) = world(61, RotationPolicy::Always).await;
    assert!(world.end_state().await.holds());
    let made = secret(&kube, PD).await.unwrap();
    let annotations = js::texts(&made, "/metadata/annotations");
    for (key, value) in [
        ("cert-manager.io/certificate-name", PD),
        ("cert-manager.io/issuer-name", "basic-tidb-issuer"),
        ("cert-manager.io/issuer-kind", "Issuer"),
        ("cert-manager.io/issuer-group", "cert-manager.io"),
        ("cert-manager.io/common-name", "TiDB"),
        ("cert-manager.io/subject-organizations", "PingCAP"),
        ("cert-manager.io/ip-sans", "127.0.0.1,::1"),
    ] {
        assert_eq!(annotations[key], value, "{key}");
    }
    assert!(annotations["cert-manager.io/alt-names"].contains("*.basic-pd-peer.tidb.svc"));
    assert_eq!(
        (js::text(&made, "/type"), js::label(&made, "controller.cert-manager.io/fao")),
        ("kubernetes.io/tls", "true")
    );
    let seen = certificate(&kube, PD).await;
    assert_eq!((revision(&seen), js::condition(&seen, "Ready")), (1, "True"));
    assert!(js::text(&seen, "/status/renewalTime") < js::text(&seen, "/status/notAfter"));
    let left = |s: &Value| !js::label(s, "cert-manager.io/next-private-key").is_empty();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(!kube.list(SECRETS, "tidb").await.unwrap().0.iter().any(left), "no key is left lying about");

    // The CA is made anew, and nobody else is: the trap.
    let (old_ca, old_leaf) = (held(&kube, CA, "tls.crt").await, held(&kube, PD, "tls.crt").await);
    delete(&kube, CA).await;
    at_revision(&kube, "basic-ca", 2).await;
    let new_ca = held(&kube, CA, "tls.crt").await;
    assert_ne!(new_ca.spki(), old_ca.spki());
    tokio::time::sleep(Duration::from_secs(900)).await;
    assert_eq!(held(&kube, PD, "tls.crt").await, old_leaf);
    assert_eq!(held(&kube, PD, "ca.crt").await, old_ca);
    // A bundle that somebody puts into `ca.crt` stays, until the next certificate.
    let bundle = STANDARD.encode(new_ca.pem() + &old_ca.pem());
    kube.merge(SECRETS, ("tidb", PD), "", &json!({"data": {"ca.crt": bundle}})).await.unwrap();
    tokio::time::sleep(Duration::from_secs(900)).await;
    assert_eq!(secret(&kube, PD).await.unwrap()["data"]["ca.crt"], json!(bundle));

    delete(&kube, PD).await;
    at_revision(&kube, PD, 2).await;
    held(&kube, PD, "tls.crt").await.check_signed_by(&new_ca).unwrap();
    assert_eq!(held(&kube, PD, "ca.crt").await, new_ca);
    world.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_put_back_is_issued_away_unless_the_request_goes_first() {
    let (world, kube) = world(62, RotationPolicy::Always).await;
    let before = secret(&kube, PD).await.unwrap();
    renew(&kube, PD).await;
    at_revision(&kube, PD, 2).await;
    assert_ne!(secret(&kube, PD).await.unwrap()["data"]["tls.key"], before["data"]["tls.key"]);
    let put_back = json!({"data": before["data"]});
    kube.merge(SECRETS, ("tidb", PD), "", &put_back).await.unwrap();
    at_revision(&kube, PD, 3).await;
    assert_ne!(secret(&kube, PD).await.unwrap()["data"], before["data"], "it was issued away");

    let requests = kube.list(CERTIFICATE_REQUESTS, "tidb").await.unwrap().0;
    let of_pd = |r: &&Value| js::annotation(r, "cert-manager.io/certificate-name") == PD;
    for request in requests.iter().filter(of_pd) {
        kube.delete(CERTIFICATE_REQUESTS, ("tidb", js::name(request)), js::uid(request), None).await.unwrap();
    }
    kube.merge(SECRETS, ("tidb", PD), "", &put_back).await.unwrap();
    tokio::time::sleep(Duration::from_secs(900)).await;
    assert_eq!(secret(&kube, PD).await.unwrap()["data"], before["data"], "it is as valid as any other");
    assert_eq!(js::condition(&certificate(&kube, PD).await, "Ready"), "True");
    world.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn keys_that_are_kept_survive_renewals_and_certificates_are_renewed_in_time() {
    let (world, kube) = world(63, RotationPolicy::Never).await;
    let (old, leaf) = (held(&kube, CA, "tls.crt").await, held(&kube, PD, "tls.crt").await);
    renew(&kube, "basic-ca").await;
    at_revision(&kube, "basic-ca", 2).await;
    let renewed = held(&kube, CA, "tls.crt").await;
    assert!(renewed != old && renewed.spki() == old.spki() && renewed.skid() == old.skid());
    leaf.check_signed_by(&renewed).unwrap();

    // Another lifetime is another request; and from then on it is renewed by itself.
    let short = json!({"spec": {"duration": "1h", "renewBefore": "30m"}});
    kube.merge(CERTIFICATES, ("tidb", PD), "", &short).await.unwrap();
    at_revision(&kube, PD, 2).await;
    let first = held(&kube, PD, "tls.crt").await;
    tokio::time::sleep(Duration::from_secs(20 * 60)).await;
    assert_eq!(held(&kube, PD, "tls.crt").await, first);
    tokio::time::sleep(Duration::from_secs(25 * 60)).await;
    at_revision(&kube, PD, 3).await;
    let second = held(&kube, PD, "tls.crt").await;
    assert!(second != first && second.spki() == first.spki());
    second.check_signed_by(&renewed).unwrap();
    assert!(world.end_state().await.holds());
    assert_eq!(world.counters().refused, 0);
    world.shutdown().await;
}
