//! What cert-manager keeps, told as everything else is: Certificates, issuers, and the requests that it made.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sandbox::world::json as js;
use sandbox::world::kube::{CERTIFICATE_REQUESTS, CERTIFICATES, ISSUERS, Kube, SECRETS};
use sandbox::world::volume::secret_files;
use serde_json::{Value, json};

use super::{Markers, Names, Neutral, State, conditions};

/// The annotation of a request that names its Certificate.
const OF: &str = "cert-manager.io/certificate-name";
const NEXT_KEY: &str = "cert-manager.io/next-private-key";

async fn list(kube: &Kube, kind: sandbox::world::kube::Kind, namespace: &str) -> Vec<Value> {
    kube.list(kind, namespace).await.unwrap().0
}

/// Whether it has nothing under way: what it issues is there, and what it needed for that, or has replaced, is gone.
pub async fn at_rest(kube: &Kube, namespace: &str) -> bool {
    let issuing =
        |one: &Value| js::condition(one, "Issuing") == "True" || js::condition(one, "Ready") != "True";
    let mut requests = BTreeMap::<String, usize>::new();
    for request in list(kube, CERTIFICATE_REQUESTS, namespace).await {
        *requests.entry(js::annotation(&request, OF).to_owned()).or_default() += 1;
    }
    let next_key = |secret: &Value| !js::label(secret, NEXT_KEY).is_empty();
    !list(kube, CERTIFICATES, namespace).await.iter().any(issuing)
        && !list(kube, SECRETS, namespace).await.iter().any(next_key)
        && requests.values().all(|count| *count == 1)
}

/// Tells it. A request stands for what its Certificate's Secret holds, or for something else; where markers are dropped,
/// which is on the way back, only the latter is told: to go back is to withdraw requests, and cert-manager itself withdraws
/// those of earlier revisions.
pub(super) async fn tell(
    kube: &Kube,
    namespace: &str,
    neutral: Neutral<'_>,
    names: &mut Names,
    state: &mut State,
) {
    let mut held = BTreeMap::new();
    for secret in list(kube, SECRETS, namespace).await {
        held.insert(
            js::name(&secret).to_owned(),
            secret_files(&secret).remove("tls.crt").unwrap_or_default(),
        );
    }
    let mut kept_in = BTreeMap::new();
    for kind in [CERTIFICATES, ISSUERS] {
        for object in list(kube, kind, namespace).await {
            let mut told = neutral.metadata(&object);
            told["spec"] = neutral.value(&object["spec"]);
            told["conditions"] = conditions(&object);
            // Failures, and a key that was made for nothing.
            for part in ["failedIssuanceAttempts", "nextPrivateKeySecretName"] {
                told[part] = object["status"][part].clone();
            }
            kept_in.insert(js::name(&object).to_owned(), js::text(&object, "/spec/secretName").to_owned());
            state.insert(format!("{} {}", kind.kind, js::name(&object)), told);
        }
    }
    let mut numbers = BTreeMap::<String, usize>::new();
    for mut request in list(kube, CERTIFICATE_REQUESTS, namespace).await {
        let of = js::annotation(&request, OF).to_owned();
        let issued = |part: &str| STANDARD.decode(js::text(&request, &format!("/status/{part}"))).unwrap();
        let (certificate, ca) = (issued("certificate"), issued("ca"));
        let stands = kept_in.get(&of).and_then(|secret| held.get(secret)) == Some(&certificate);
        if stands && neutral.markers == Markers::Dropped {
            continue;
        }
        request["spec"]["request"] = Value::Null;
        let mut told = neutral.metadata(&request);
        told["spec"] = neutral.value(&request["spec"]);
        told["conditions"] = conditions(&request);
        told["issued"] = json!([names.content(&certificate), names.content(&ca)]);
        told["stands"] = json!(stands);
        let number = numbers.entry(of.clone()).or_default();
        *number += 1;
        state.insert(format!("CertificateRequest of {of} #{number}"), told);
    }
}
