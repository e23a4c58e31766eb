//! What cert-manager does, or does not do, of its own accord around a run: stories on the sandbox's API server and on a
//! real one.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::time::Duration;

use runner::events::EndState;
use runner::exit_code::ExitCode;
use sandbox::world::kube::{CERTIFICATES, Kube, SECRETS};
use sandbox::world::volume::secret_files;
use sandbox::world::{Fault, Scenario, Served, json as js};
use serde_json::{Value, json};
use stdlib::cert::parse_many;

use crate::stage::Stage;

/// The documented way, which deletes the CA's Secret.
pub const FORCED: &str = "tidb/cert-manager-ca";
/// The way without an outage.
pub const GAPLESS: &str = "tidb/cert-manager-ca-gapless";
const NS: &str = "tidb";
const CA: &str = "basic-ca-secret";
const PD: &str = "basic-pd-cluster-secret";
/// For how long nobody may touch what was put back; cert-manager would within seconds.
const WATCHED: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(100);

/// A Secret without what the server sets.
async fn whole(kube: &Kube, name: &str) -> Option<Value> {
    let secret = kube.get(SECRETS, NS, name).await.unwrap()?;
    let metadata = |field: &str| secret["metadata"].get(field).cloned();
    Some(json!({
        "type": secret["type"], "data": secret["data"], "immutable": secret["immutable"],
        "labels": metadata("labels"), "annotations": metadata("annotations"), "owners": metadata("ownerReferences"),
    }))
}

/// Lets a run go on until it has deleted the CA's Secret, and drops it there as a kill would. cert-manager must be away.
pub async fn cut_off_without_ca<T>(kube: &Kube, run: impl Future<Output = T>) {
    let gone = async {
        while kube.get(SECRETS, NS, CA).await.unwrap().is_some() {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        _ = run => assert!(whole(kube, CA).await.is_none(), "the run ended, and the CA's Secret is there"),
        () = gone => {}
    }
}

/// A run is stopped where it has deleted the CA's Secret and cert-manager does not make it again: going back makes it as it
/// was, and cert-manager, back at work, leaves it so.
pub async fn issuer_away(stage: &impl Stage) {
    let kube = Kube::new(stage.world().client());
    let before = whole(&kube, CA).await.unwrap();
    assert!(before["annotations"].as_object().is_some_and(|all| all.len() > 3), "{before}");
    let uid = js::uid(&kube.get(SECRETS, NS, CA).await.unwrap().unwrap()).to_owned();

    stage.world().set_fault(Fault::IssuerAway);
    cut_off_without_ca(&kube, stage.forward(FORCED, &[])).await;
    tokio::time::sleep(WATCHED).await;
    assert_eq!(whole(&kube, CA).await, None, "nobody else makes it again");
    let back = stage.back().await;
    assert_eq!(back.state, EndState::RolledBack, "{:?}", back.failure);
    assert_eq!(whole(&kube, CA).await.unwrap(), before);
    let again = js::uid(&kube.get(SECRETS, NS, CA).await.unwrap().unwrap()).to_owned();
    assert_ne!(again, uid, "it is another object");

    stage.world().lift_fault(&Fault::IssuerAway);
    tokio::time::sleep(WATCHED).await;
    assert_eq!(whole(&kube, CA).await.unwrap(), before, "cert-manager takes it for valid");
    stage.world().steady(stage.patience()).await.unwrap();
    let end = stage.world().end_state().await;
    assert!(end.holds(), "{:?}", end.broken);
}

/// Digests of what the cluster's Secrets hold, and which Secret each Certificate is kept in. Keys of certificates that are
/// being issued come and go.
pub async fn kept(kube: &Kube) -> (BTreeMap<String, u64>, BTreeMap<String, String>) {
    let secrets = kube.list(SECRETS, NS).await.unwrap().0;
    let ours = |secret: &&Value| {
        js::name(secret).starts_with("basic-")
            && js::label(secret, "cert-manager.io/next-private-key").is_empty()
    };
    let hashes = BuildHasherDefault::<DefaultHasher>::default();
    let digest = |secret: &Value| hashes.hash_one(secret["data"].to_string());
    let secrets = secrets.iter().filter(ours).map(|secret| (js::name(secret).to_owned(), digest(secret)));
    let certificates = kube.list(CERTIFICATES, NS).await.unwrap().0;
    let names =
        certificates.iter().map(|c| (js::name(c).to_owned(), js::text(c, "/spec/secretName").to_owned()));
    (secrets.collect(), names.collect())
}

/// What cert-manager does by itself when these certificates are due: waits until each is another.
pub async fn renewed_by_itself(stage: &impl Stage, kube: &Kube, due: impl Fn(&str) -> bool) {
    let before = kept(kube).await;
    let due: Vec<(String, String)> = before.1.clone().into_iter().filter(|(name, _)| due(name)).collect();
    assert!(!due.is_empty());
    for (name, _) in &due {
        let seen = kube.get(CERTIFICATES, NS, name).await.unwrap().unwrap();
        let mut conditions = js::items(&seen, "/status/conditions").to_vec();
        conditions.retain(|condition| js::text(condition, "/type") != "Issuing");
        conditions.push(json!({ "type": "Issuing", "status": "True", "reason": "Renewing", "message": "due",
            "lastTransitionTime": "2026-06-01T12:00:00Z" }));
        let patch = json!({ "status": { "conditions": conditions } });
        kube.merge(CERTIFICATES, (NS, name), "/status", &patch).await.unwrap();
    }
    let begun = tokio::time::Instant::now();
    loop {
        let now = kept(kube).await.0;
        if due.iter().all(|(_, secret)| now.get(secret) != before.0.get(secret)) {
            break;
        }
        assert!(begun.elapsed() < stage.patience(), "not everything is renewed");
        tokio::time::sleep(LOOK).await;
    }
    stage.world().steady(stage.patience()).await.unwrap();
}

/// That every pod presents what its component's Secret holds, as soon as the kubelet has brought it there, and that
/// nobody is refused.
pub async fn is_served(stage: &impl Stage, kube: &Kube) {
    let begun = tokio::time::Instant::now();
    loop {
        let mut held = BTreeMap::new();
        for secret in kube.list(SECRETS, NS).await.unwrap().0 {
            let Some(pem) = secret_files(&secret).remove("tls.crt") else { continue };
            let leaf = parse_many(&pem, js::name(&secret)).unwrap().remove(0).fingerprint();
            held.insert(js::name(&secret).to_owned(), leaf.trim_start_matches("sha256:").to_owned());
        }
        let end = stage.world().end_state().await;
        let behind = |(pod, served): (&String, &Served)| {
            let wanted = held.get(&Scenario::default().secret_name(&served.component));
            (wanted.is_none() || wanted != served.chain.first()).then(|| pod.clone())
        };
        let behind: Vec<String> = end.pods.iter().filter_map(behind).collect();
        if behind.is_empty() && end.holds() {
            assert!(!end.pods.is_empty());
            return;
        }
        let broken = end.broken;
        assert!(begun.elapsed() < stage.patience(), "{behind:?} present something else; {broken:?}");
        tokio::time::sleep(10 * LOOK).await;
    }
}

fn leaf(name: &str) -> bool {
    name != "basic-ca"
}

/// cert-manager renews what a run has left there, and the run is taken back all the same: to what was there before it.
pub async fn renewed_since(stage: &impl Stage, workflow: &str) {
    let kube = Kube::new(stage.world().client());
    let before = kept(&kube).await;
    let done = stage.forward(workflow, &[]).await.unwrap();
    assert_eq!(done.state, EndState::Done, "{:?}", done.failure);
    let left = kept(&kube).await;
    renewed_by_itself(stage, &kube, leaf).await;
    is_served(stage, &kube).await;

    // What a person has put there is no renewal, and refuses the way back before anything is changed.
    let renewed = kept(&kube).await;
    assert_ne!(renewed.0[PD], left.0[PD]);
    kube.merge(SECRETS, (NS, PD), "", &json!({ "data": { "theirs": "MQ==" } })).await.unwrap();
    let at_hand = kept(&kube).await;
    let refused = stage.back().await;
    let failure = refused.failure.unwrap();
    assert_eq!((refused.state, refused.exit), (EndState::Refused, ExitCode::Conflict), "{failure:?}");
    let told = format!("{failure} {}", failure.hint.clone().unwrap_or_default());
    assert!(told.contains(PD) && told.contains("cmctl renew"), "{told}");
    assert_eq!(kept(&kube).await, at_hand);

    // Where it holds what cert-manager has issued, and nothing else, there is a way back.
    kube.merge(SECRETS, (NS, PD), "", &json!({ "data": { "theirs": null } })).await.unwrap();
    let back = stage.back().await;
    assert_eq!(back.state, EndState::RolledBack, "{:?}", back.failure);
    tokio::time::sleep(WATCHED).await;
    assert_eq!(kept(&kube).await, before, "and cert-manager leaves it so");
    stage.world().steady(stage.patience()).await.unwrap();
    let end = stage.world().end_state().await;
    assert!(end.holds(), "{:?}", end.broken);
}

/// cert-manager has renewed the CA too, with another key, and signs with it: there is no way back, which is told before
/// anything is changed.
pub async fn authority_renewed_since(stage: &impl Stage, workflow: &str) {
    let kube = Kube::new(stage.world().client());
    let done = stage.forward(workflow, &[]).await.unwrap();
    assert_eq!(done.state, EndState::Done, "{:?}", done.failure);
    renewed_by_itself(stage, &kube, |name| !leaf(name)).await;
    renewed_by_itself(stage, &kube, |name| name.contains("pd")).await;
    let at_hand = kept(&kube).await;
    let refused = stage.back().await;
    let failure = refused.failure.unwrap();
    assert_eq!((refused.state, refused.exit), (EndState::Refused, ExitCode::Conflict), "{failure:?}");
    let told = format!("{failure} {}", failure.hint.clone().unwrap_or_default());
    assert!(told.contains(PD) && told.contains("rollover run tidb/cert-manager-ca --set ca=keep"), "{told}");
    assert_eq!(kept(&kube).await, at_hand);
}
