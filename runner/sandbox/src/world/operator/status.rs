//! The status of a TidbCluster: pure functions of what the operator sees.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::upgrade::{Eviction, PdView};
use crate::world::json as js;

/// What the operator sees of one component.
pub struct Seen {
    /// `pd`.
    pub component: &'static str,
    /// Its StatefulSet.
    pub set: Option<Arc<Value>>,
    /// Its pods.
    pub pods: Vec<Arc<Value>>,
    /// Whether it is being upgraded.
    pub upgrading: bool,
}

/// The status, with conditions that keep their time from `before`.
pub fn status(
    cluster: &Value,
    seen: &[Seen],
    pd: Result<&PdView, &str>,
    evictions: &BTreeMap<String, Eviction>,
    now: &str,
) -> Value {
    let mut status = Map::new();
    for component in seen {
        let mut part = Map::new();
        part.insert("phase".into(), json!(if component.upgrading { "Upgrade" } else { "Normal" }));
        if let Some(set) = component.set.as_ref().and_then(|set| set.get("status")) {
            part.insert("statefulSet".into(), set.clone());
        }
        members(cluster, component, pd, evictions, &mut part);
        status.insert(component.component.to_owned(), Value::Object(part));
    }
    let (holds, reason, message) = readiness(cluster, &status, seen);
    status.insert("conditions".into(), json!([condition(cluster, holds, reason, message, now)]));
    Value::Object(status)
}

fn members(
    cluster: &Value,
    component: &Seen,
    pd: Result<&PdView, &str>,
    evictions: &BTreeMap<String, Eviction>,
    part: &mut Map<String, Value>,
) {
    let by_pod = |health: &dyn Fn(&Value) -> Value| -> Value {
        let pods = component.pods.iter().map(|pod| (js::name(pod).to_owned(), health(pod)));
        Value::Object(pods.collect())
    };
    let health = |pod: &Value| json!({ "name": js::name(pod), "health": js::ready(pod) });
    match component.component {
        "pd" => {
            part.insert("synced".into(), json!(pd.is_ok()));
            if let Ok(view) = pd {
                let members = view.members.iter().map(|(name, m)| {
                    let id = m.id.to_string();
                    let member = json!({ "name": name, "id": id, "clientURL": m.url, "health": m.health });
                    (name.clone(), member)
                });
                part.insert("members".into(), Value::Object(members.collect()));
                if let Some(leader) = view.members.get(&view.leader) {
                    let leader = json!({ "name": view.leader, "health": leader.health, "id": leader.id.to_string(),
                        "clientURL": leader.url });
                    part.insert("leader".into(), leader);
                }
            }
        }
        "tikv" | "tiflash" => {
            part.insert("synced".into(), json!(pd.is_ok()));
            if let Ok(view) = pd {
                let own = view.stores.iter().filter(|s| s.component == component.component);
                let stores = own.map(|s| {
                    let (service, _) = s.pod.rsplit_once('-').unwrap_or_default();
                    let ip = format!("{}.{service}-peer.{}.svc", s.pod, js::namespace(cluster));
                    let mut store = json!({ "id": s.id.to_string(), "podName": s.pod, "ip": ip,
                        "leaderCount": s.leaders, "state": if s.up { "Up" } else { "Disconnected" } });
                    if let (Some(eviction), Some(map)) = (evictions.get(&s.pod), store.as_object_mut()) {
                        map.insert("leaderCountBeforeUpgrade".into(), json!(eviction.before));
                    }
                    (s.id.to_string(), store)
                });
                part.insert("stores".into(), Value::Object(stores.collect()));
                let evicting =
                    view.stores.iter().filter(|s| s.component == component.component && s.evicting);
                let evicting = evicting.map(|s| (s.pod.clone(), json!({ "value": "upgrade" })));
                part.insert("evictLeader".into(), Value::Object(evicting.collect()));
            }
        }
        "ticdc" => {
            part.insert("synced".into(), json!(pd.is_ok()));
            let capture = |pod: &Value| json!({ "podName": js::name(pod), "ready": js::ready(pod) });
            part.insert("captures".into(), by_pod(&capture));
        }
        "pump" => {
            let member = |pod: &Arc<Value>| {
                json!({ "nodeId": js::name(pod), "host": format!("{}:8250", js::name(pod)),
                    "state": if js::ready(pod) { "online" } else { "offline" } })
            };
            part.insert("members".into(), component.pods.iter().map(member).collect());
        }
        _ => {
            part.insert("members".into(), by_pod(&health));
        }
    }
}

/// Whether the cluster is ready, with the operator's own words.
fn readiness(
    cluster: &Value,
    status: &Map<String, Value>,
    seen: &[Seen],
) -> (bool, &'static str, &'static str) {
    let up_to_date = |component: &Seen| {
        component.set.as_ref().is_some_and(|set| {
            let revision = |which: &str| js::text(set, which).to_owned();
            revision("/status/currentRevision") == revision("/status/updateRevision")
        })
    };
    if !seen.iter().all(up_to_date) {
        return (false, "StatefulSetNotUpToDate", "Statefulset(s) are in progress");
    }
    let well = |component: &str, list: &str, test: &dyn Fn(&Value) -> bool| {
        let Some(part) = status.get(component) else { return true };
        let wanted = js::number(cluster, &format!("/spec/{component}/replicas")).unwrap_or(0);
        let all = part.get(list).and_then(Value::as_object);
        let good = all.map_or(0, |all| all.values().filter(|v| test(v)).count());
        let known = all.map_or(0, Map::len);
        good == known && i64::try_from(good).is_ok_and(|good| good >= wanted)
    };
    let health = |v: &Value| v.get("health") == Some(&json!(true));
    let up = |v: &Value| js::text(v, "/state") == "Up";
    let ready = |v: &Value| v.get("ready") == Some(&json!(true));
    let pd_synced = status.get("pd").is_none_or(|pd| pd.get("synced") == Some(&json!(true)));
    if !pd_synced || !well("pd", "members", &health) {
        (false, "PDUnhealthy", "PD(s) are not healthy")
    } else if !well("tikv", "stores", &up) {
        (false, "TiKVStoreNotUp", "TiKV store(s) are not up")
    } else if !well("tidb", "members", &health) {
        (false, "TiDBUnhealthy", "TiDB(s) are not healthy")
    } else if !well("tiflash", "stores", &up) {
        (false, "TiFlashStoreNotUp", "TiFlash store(s) are not up")
    } else if !well("tiproxy", "members", &health) {
        (false, "TiProxyUnhealthy", "TiProxy(s) are not healthy")
    } else if !well("ticdc", "captures", &ready) {
        (false, "TiCDCCaptureNotReady", "TiCDC capture(s) are not ready")
    } else {
        (true, "Ready", "TiDB cluster is fully up and running")
    }
}

fn condition(cluster: &Value, holds: bool, reason: &str, message: &str, now: &str) -> Value {
    let status = if holds { "True" } else { "False" };
    let before = js::items(cluster, "/status/conditions").iter().find(|c| js::text(c, "/type") == "Ready");
    let since = before
        .filter(|c| js::text(c, "/status") == status)
        .map_or(now, |c| js::text(c, "/lastTransitionTime"));
    let updated = before.filter(|c| js::text(c, "/status") == status && js::text(c, "/reason") == reason);
    let updated = updated.map_or(now, |c| js::text(c, "/lastUpdateTime"));
    json!({ "type": "Ready", "status": status, "reason": reason, "message": message,
        "lastTransitionTime": since, "lastUpdateTime": updated })
}

/// The merge patch that makes `old` into `new`; `None` when they are equal.
pub fn merge_patch(old: &Value, new: &Value) -> Option<Value> {
    if old == new {
        return None;
    }
    let (Some(from), Some(to)) = (old.as_object(), new.as_object()) else { return Some(new.clone()) };
    let gone = from.keys().filter(|k| !to.contains_key(*k)).map(|k| (k.clone(), Value::Null));
    let changed = to.iter().filter_map(|(k, v)| match from.get(k) {
        Some(before) => Some((k.clone(), merge_patch(before, v)?)),
        None => Some((k.clone(), v.clone())),
    });
    Some(Value::Object(gone.chain(changed).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> Value {
        json!({ "spec": { "tidb": { "replicas": 1 } } })
    }

    fn seen(current: &str, ready: &str) -> Vec<Seen> {
        let set = json!({ "status": { "currentRevision": current, "updateRevision": "b" } });
        let pod = json!({ "metadata": { "name": "basic-tidb-0" },
            "status": { "conditions": [{ "type": "Ready", "status": ready }] } });
        let upgrading = current != "b";
        vec![Seen { component: "tidb", set: Some(Arc::new(set)), pods: vec![Arc::new(pod)], upgrading }]
    }

    fn reason(cluster: &Value, seen: &[Seen], now: &str) -> (String, String) {
        let status = status(cluster, seen, Ok(&PdView::default()), &BTreeMap::new(), now);
        let at = |p: &str| js::text(&status, p).to_owned();
        (at("/conditions/0/reason"), at("/conditions/0/lastTransitionTime"))
    }

    #[test]
    fn the_reason_names_what_is_missing_and_the_time_moves_with_the_status_alone() {
        assert_eq!(
            reason(&cluster(), &seen("a", "True"), "t1"),
            ("StatefulSetNotUpToDate".into(), "t1".into())
        );
        assert_eq!(reason(&cluster(), &seen("b", "False"), "t1"), ("TiDBUnhealthy".into(), "t1".into()));
        let mut known = cluster();
        known["status"] = status(&known, &seen("a", "True"), Ok(&PdView::default()), &BTreeMap::new(), "t1");
        assert_eq!(
            reason(&known, &seen("b", "False"), "t2"),
            ("TiDBUnhealthy".into(), "t1".into()),
            "still not ready"
        );
        assert_eq!(reason(&known, &seen("b", "True"), "t2"), ("Ready".into(), "t2".into()));
    }

    #[test]
    fn a_cluster_whose_pd_cannot_be_asked_is_not_ready() {
        let cluster = json!({ "spec": { "pd": { "replicas": 1 } } });
        let set = json!({ "status": { "currentRevision": "b", "updateRevision": "b" } });
        let seen = [Seen { component: "pd", set: Some(Arc::new(set)), pods: vec![], upgrading: false }];
        let status = status(&cluster, &seen, Err("certificate refused"), &BTreeMap::new(), "t");
        assert_eq!(status["pd"]["synced"], json!(false));
        assert_eq!(status["conditions"][0]["reason"], json!("PDUnhealthy"));
    }

    #[test]
    fn a_patch_holds_what_changed_and_removes_what_went() {
        let old = json!({ "a": 1, "b": { "c": 1, "d": 2 }, "e": 1 });
        let new = json!({ "a": 1, "b": { "c": 2, "d": 2 } });
        assert_eq!(merge_patch(&old, &new), Some(json!({ "b": { "c": 2 }, "e": null })));
        assert_eq!(merge_patch(&new, &new), None);
    }
}
