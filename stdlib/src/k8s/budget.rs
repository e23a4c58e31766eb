//! PodDisruptionBudgets: whether a restart may take a pod away now.
//!
//! The controllers of Deployments, StatefulSets and DaemonSets do not ask them; a restart that begins while others are
//! about it would leave fewer pods than the budget promises. So we ask before we begin, and evict where we take pods away.

use serde_json::Value;

use crate::error::{Code, PrimError};
use crate::gate::{Gate, Progress};
use crate::world::World;

use super::client::Objects;
use super::discovery;
use super::object::{Ref, at, number, text};
use super::owned::{self, Own};
use super::restart::Poll;

/// Whether a pod may be missing now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Room {
    /// It may.
    Free,
    /// Not now: the reason.
    Not(String),
    /// All pods are well and it may not all the same: the reason.
    Never(String),
}

/// How many pods a rolling restart takes away before their successors are ready.
pub fn taken(kind: &str, object: &Value) -> i64 {
    if kind != "Deployment" {
        return 1;
    }
    if text(object, &["spec", "strategy", "type"]) == "Recreate" {
        return replicas(object);
    }
    match at(object, &["spec", "strategy", "rollingUpdate", "maxUnavailable"]) {
        Some(Value::String(percent)) => {
            let percent = percent.strip_suffix('%').and_then(|p| p.parse::<i64>().ok()).unwrap_or(25);
            replicas(object) * percent / 100
        }
        Some(number) => number.as_i64().unwrap_or_default(),
        None => replicas(object) / 4,
    }
}

fn replicas(object: &Value) -> i64 {
    at(object, &["spec", "replicas"]).and_then(Value::as_i64).unwrap_or(1)
}

/// Whether these budgets let one of these pods be missing.
pub fn room(budgets: &[Value], pods: &[Value]) -> Room {
    for budget in budgets.iter().filter(|budget| pods.iter().any(|pod| covers(budget, pod))) {
        let name = text(budget, &["metadata", "name"]);
        let status = |field: &str| number(budget, &["status", field]);
        if status("observedGeneration") < number(budget, &["metadata", "generation"]) {
            return Room::Not(format!("PodDisruptionBudget {name} has not been looked at yet"));
        }
        if status("disruptionsAllowed") > 0 {
            continue;
        }
        let (healthy, wanted, all) =
            (status("currentHealthy"), status("desiredHealthy"), status("expectedPods"));
        let text = format!("PodDisruptionBudget {name} wants {wanted} healthy pods of {all}, {healthy} are");
        return if healthy >= all { Room::Never(text) } else { Room::Not(text) };
    }
    Room::Free
}

/// Whether a budget is about a pod. One without a selector is about none.
fn covers(budget: &Value, pod: &Value) -> bool {
    let wanted = at(budget, &["spec", "selector"]).and_then(owned::read);
    wanted.is_some_and(|wanted| owned::finds(&wanted, pod))
}

/// Waits until the budgets of a workload's pods let its restart begin.
pub async fn wait(
    world: &World,
    gate: &dyn Gate,
    objects: &Objects<'_>,
    object: &Ref,
) -> Result<(), PrimError> {
    let known = discovery::kind_of(objects, "policy", "poddisruptionbudgets").await?;
    let Some((version, kind)) = known else { return Ok(()) };
    let (mut poll, mut own) = (Poll::default(), Own::default());
    loop {
        let look = async {
            let budgets = objects.list(&version, &kind, &object.namespace, "").await?;
            let value = objects.get(object).await?;
            if budgets.is_empty() || taken(&object.kind, &value) == 0 {
                return Ok(Room::Free);
            }
            let pods = own.pods(objects, object, &value).await?;
            Ok(room(&budgets, &pods))
        };
        match poll.seen(look.await)? {
            Some(Room::Free) => return Ok(()),
            Some(Room::Not(why)) => {
                gate.progress(Progress { text: format!("{}: {why}", object.name), done: None })
            }
            Some(Room::Never(why)) => {
                return Err(PrimError::new(Code::Refused, format!("its restart takes a pod away, and {why} already"))
                    .on(object.to_string())
                    .hint("let the budget be one pod smaller for as long as the run takes, or give `#{ budgets: \"ignore\" }` to `k8s::rollout_restart`"));
            }
            None => gate.progress(Progress { text: "waiting for the API server".into(), done: None }),
        }
        world.clock.sleep(poll.pause()).await;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn budget(allowed: i64, healthy: i64) -> Value {
        json!({
            "metadata": {"name": "most", "generation": 2},
            "spec": {"selector": {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["test"]}]}},
            "status": {"observedGeneration": 2, "disruptionsAllowed": allowed, "currentHealthy": healthy, "desiredHealthy": 2, "expectedPods": 3},
        })
    }

    fn pods(labels: Value) -> Vec<Value> {
        vec![json!({"metadata": {"labels": labels}})]
    }

    #[test]
    fn a_budget_gives_room_waits_or_never_will() {
        let web = pods(json!({"app": "web"}));
        assert_eq!(room(&[budget(1, 3)], &web), Room::Free);
        assert_eq!(
            room(&[budget(0, 2)], &web),
            Room::Not("PodDisruptionBudget most wants 2 healthy pods of 3, 2 are".into())
        );
        assert!(matches!(room(&[budget(0, 3)], &web), Room::Never(_)));
        assert_eq!(
            room(&[budget(0, 2)], &pods(json!({"app": "web", "tier": "test"}))),
            Room::Free,
            "about others"
        );
        let mut unseen = budget(1, 3);
        unseen["metadata"]["generation"] = json!(3);
        assert!(matches!(room(&[unseen], &web), Room::Not(_)), "it was just changed");
    }

    #[test]
    fn a_deployment_that_makes_new_pods_first_takes_none_away() {
        let of = |replicas: i64, unavailable: Value| json!({"spec": {"replicas": replicas, "strategy": {"rollingUpdate": {"maxUnavailable": unavailable}}}});
        assert_eq!(taken("Deployment", &of(3, json!("25%"))), 0);
        assert_eq!(taken("Deployment", &of(8, json!("25%"))), 2);
        assert_eq!(taken("Deployment", &of(3, json!(1))), 1);
        assert_eq!(taken("StatefulSet", &of(3, json!("25%"))), 1);
        let recreate = json!({"spec": {"replicas": 2, "strategy": {"type": "Recreate"}}});
        assert_eq!(taken("Deployment", &recreate), 2);
    }
}
