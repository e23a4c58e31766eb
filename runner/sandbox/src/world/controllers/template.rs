//! Pods from templates, and the hashes by which revisions are told apart.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::world::json as js;

/// The one node of the sandbox. Its controllers place pods on it themselves: there is nothing to schedule.
pub const NODE: &str = "sandbox-node";

/// A short hash of a pod template. Object keys are sorted, so the order in which it was written does not matter.
pub fn hash(template: &Value) -> String {
    let digest = Sha256::digest(template.to_string().as_bytes());
    // The letters that Kubernetes uses in such hashes: no vowels, so that no word appears by chance.
    const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    digest.iter().take(10).map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect()
}

/// Who owns a pod.
pub fn owner(api_version: &str, kind: &str, object: &Value) -> Value {
    json!({
        "apiVersion": api_version, "kind": kind, "name": js::name(object), "uid": js::uid(object),
        "controller": true, "blockOwnerDeletion": true,
    })
}

/// A pod made from a template.
pub fn pod(
    template: &Value,
    name: &str,
    owner: Value,
    labels: &[(&str, &str)],
    extra: &[(&str, &str)],
) -> Value {
    let mut all_labels = template.pointer("/metadata/labels").cloned().unwrap_or_else(|| json!({}));
    if let Some(map) = all_labels.as_object_mut() {
        map.extend(labels.iter().map(|(k, v)| ((*k).to_owned(), json!(v))));
    }
    let mut spec = template.get("spec").cloned().unwrap_or_else(|| json!({}));
    if let Some(map) = spec.as_object_mut() {
        map.insert("nodeName".into(), json!(NODE));
        map.extend(extra.iter().map(|(k, v)| ((*k).to_owned(), json!(v))));
    }
    json!({
        "metadata": {
            "name": name,
            "labels": all_labels,
            "annotations": template.pointer("/metadata/annotations").cloned().unwrap_or_else(|| json!({})),
            "ownerReferences": [owner],
        },
        "spec": spec,
    })
}
