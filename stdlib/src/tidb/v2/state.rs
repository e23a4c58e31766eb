//! Whether a group is as its specification wants it: pure.

use serde_json::Value;

use crate::k8s::object::{number, text};
use crate::k8s::rollout::{condition, replicas};

/// What a group still lacks; nothing when it is as it should be.
pub fn lacks(group: &Value) -> Option<String> {
    if number(group, &["status", "observedGeneration"]) < number(group, &["metadata", "generation"]) {
        return Some("the operator has not seen its last change yet".into());
    }
    let (current, update) =
        (text(group, &["status", "currentRevision"]), text(group, &["status", "updateRevision"]));
    if current != update || update.is_empty() {
        return Some(format!("revision {update} is not the current one yet"));
    }
    let wanted = replicas(group);
    for field in ["replicas", "updatedReplicas", "currentReplicas", "readyReplicas"] {
        let found = number(group, &["status", field]);
        if found != wanted {
            return Some(format!("{field} is {found}, wanted {wanted}"));
        }
    }
    ["Synced", "Ready"].into_iter().find_map(|kind| {
        let found = condition(group, kind);
        let seen = found.map_or(0, |c| number(c, &["observedGeneration"]));
        match found {
            Some(c) if text(c, &["status"]) == "True" => (seen > 0
                && seen < number(group, &["metadata", "generation"]))
            .then(|| format!("its condition `{kind}` is of an older specification")),
            Some(c) => Some(format!("it is not `{kind}`: {}", text(c, &["reason"]))),
            None => Some(format!("it has no condition `{kind}`")),
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// A group of three that is as it should be.
    pub(in crate::tidb::v2) fn group() -> Value {
        let holds =
            |kind: &str| json!({"type": kind, "status": "True", "reason": kind, "observedGeneration": 2});
        json!({
            "metadata": {"name": "pd", "generation": 2},
            "spec": {"replicas": 3, "cluster": {"name": "basic"},
                "template": {"metadata": {"annotations": {"pingcap.com/restartedAt": "m"}}}},
            "status": {
                "observedGeneration": 2, "currentRevision": "pd-b", "updateRevision": "pd-b", "replicas": 3,
                "updatedReplicas": 3, "currentReplicas": 3, "readyReplicas": 3,
                "conditions": [holds("Ready"), holds("Synced")],
            },
        })
    }

    #[test]
    fn a_group_lacks_nothing_only_when_all_holds_at_once() {
        type Spoil = fn(&mut Value);
        assert_eq!(lacks(&group()), None);
        let cases: [(Spoil, &str); 7] = [
            (|g| g["metadata"]["generation"] = json!(3), "the operator has not seen its last change yet"),
            (|g| g["status"]["currentRevision"] = json!("pd-a"), "revision pd-b is not the current one yet"),
            (|g| g["status"]["readyReplicas"] = json!(2), "readyReplicas is 2, wanted 3"),
            (|g| g["status"]["updatedReplicas"] = json!(2), "updatedReplicas is 2, wanted 3"),
            (|g| g["status"]["replicas"] = json!(4), "replicas is 4, wanted 3"),
            (
                |g| {
                    g["status"]["conditions"][1] =
                        json!({"type": "Synced", "status": "False", "reason": "NotAllInstancesUpToDate"})
                },
                "it is not `Synced`: NotAllInstancesUpToDate",
            ),
            (
                |g| g["status"]["conditions"][0]["observedGeneration"] = json!(1),
                "its condition `Ready` is of an older specification",
            ),
        ];
        for (spoil, expected) in cases {
            let mut group = group();
            spoil(&mut group);
            assert_eq!(lacks(&group).unwrap(), expected);
        }
    }
}
