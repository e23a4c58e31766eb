//! What the disruption controller says of a PodDisruptionBudget: a pure function of it and its pods.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::world::json as js;

/// The whole status. `scale` is how many pods the controllers of these want.
pub fn decide(budget: &Value, pods: &[Arc<Value>], scale: usize) -> Value {
    let there = |name: &str| pods.iter().any(|pod| js::name(pod) == name && !js::terminating(pod));
    // Evicted and not gone yet: they no longer count.
    let disrupted: serde_json::Map<String, Value> = budget
        .pointer("/status/disruptedPods")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(name, _)| there(name))
        .map(|(name, at)| (name.clone(), at.clone()))
        .collect();
    let healthy = pods
        .iter()
        .filter(|pod| js::ready(pod) && !js::terminating(pod) && !disrupted.contains_key(js::name(pod)))
        .count();
    let (expected, desired) =
        match (budget.pointer("/spec/minAvailable"), budget.pointer("/spec/maxUnavailable")) {
            (Some(Value::Number(least)), _) => (pods.len(), count(least)),
            (Some(Value::String(least)), _) => (scale, percent(least, scale)),
            (_, Some(Value::Number(most))) => (scale, scale.saturating_sub(count(most))),
            (_, Some(Value::String(most))) => (scale, scale.saturating_sub(percent(most, scale))),
            _ => (pods.len(), 0),
        };
    let mut status = json!({
        "observedGeneration": js::generation(budget),
        "expectedPods": expected,
        "desiredHealthy": desired,
        "currentHealthy": healthy,
        "disruptionsAllowed": healthy.saturating_sub(desired),
    });
    let listed = budget.pointer("/status/disruptedPods").is_some();
    if let Some(map) = status.as_object_mut().filter(|_| listed) {
        let left = if disrupted.is_empty() { Value::Null } else { Value::Object(disrupted) };
        map.insert("disruptedPods".into(), left);
    }
    status
}

fn count(number: &serde_json::Number) -> usize {
    number.as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or_default()
}

/// Rounded up, as the real one does it.
fn percent(text: &str, of: usize) -> usize {
    let part: usize = text.strip_suffix('%').and_then(|part| part.parse().ok()).unwrap_or_default();
    (of * part).div_ceil(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(ready: &[&str]) -> Vec<Arc<Value>> {
        let pod = |(n, ready): (usize, &&str)| {
            Arc::new(
                json!({"metadata": {"name": format!("web-{n}")}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}),
            )
        };
        ready.iter().enumerate().map(pod).collect()
    }

    fn allowed(spec: Value, pods: &[Arc<Value>]) -> Value {
        decide(&json!({"spec": spec}), pods, 3)["disruptionsAllowed"].clone()
    }

    #[test]
    fn as_many_may_be_missing_as_are_more_than_wanted() {
        let (all, two) = (pods(&["True"; 3]), pods(&["True", "True", "False"]));
        assert_eq!(allowed(json!({"minAvailable": 2}), &all), 1);
        assert_eq!(allowed(json!({"minAvailable": 2}), &two), 0);
        assert_eq!(allowed(json!({"maxUnavailable": 0}), &all), 0);
        assert_eq!(allowed(json!({"minAvailable": "50%"}), &all), 1, "50% of 3 are 2");
        let evicted = json!({"spec": {"minAvailable": 2}, "status": {"disruptedPods": {"web-0": "now", "gone": "then"}}});
        let status = decide(&evicted, &all, 3);
        assert_eq!(
            (&status["disruptionsAllowed"], &status["disruptedPods"]),
            (&json!(0), &json!({"web-0": "now"}))
        );
    }
}
