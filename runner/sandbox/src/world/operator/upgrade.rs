//! What the operator does next to roll one component: a pure function. The highest ordinal first, one at a time, by the
//! StatefulSet's partition; a PD leader hands over first; TiKV's leaders move away first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::world::controllers::statefulset::{REVISION, ordinal};
use crate::world::json as js;

/// A member of PD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// PD's number for it.
    pub id: u64,
    /// Where it answers.
    pub url: String,
    /// Whether it is healthy.
    pub health: bool,
}

/// A store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// PD's number for it.
    pub id: u64,
    /// Its pod.
    pub pod: String,
    /// `tikv` or `tiflash`.
    pub component: String,
    /// Whether PD says `Up`.
    pub up: bool,
    /// Leaders on it.
    pub leaders: u32,
    /// Whether its leaders are told to move away.
    pub evicting: bool,
}

/// What PD told when it was asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PdView {
    /// Members by name.
    pub members: BTreeMap<String, Member>,
    /// Name of the leader.
    pub leader: String,
    /// All stores.
    pub stores: Vec<Store>,
}

/// What the operator remembers of an eviction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Eviction {
    /// Leaders when it began.
    pub before: u32,
    /// Since when.
    pub since: Duration,
    /// Since when it is over, if it is.
    pub ended: Option<Duration>,
}

/// What there is to see.
pub struct View<'a> {
    /// `pd`.
    pub component: &'a str,
    /// The cluster.
    pub cluster: &'a Value,
    /// The StatefulSet.
    pub set: &'a Value,
    /// Its pods.
    pub pods: &'a [Arc<Value>],
    /// The template that the cluster's specification asks for.
    pub wanted: &'a Value,
    /// What PD told; `None` when it could not be asked.
    pub pd: Option<&'a PdView>,
    /// A component that is upgrading and must end first.
    pub blocked_by: Option<&'static str>,
    /// Evictions by pod, with durations as of now.
    pub evictions: &'a BTreeMap<String, Eviction>,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing to do.
    Rest,
    /// Nothing to do until something happens.
    Wait(String),
    /// Write the wanted template, with the partition at this ordinal.
    Write(u32),
    /// Let the pods from this ordinal on restart.
    Partition(u32),
    /// Hand PD's leadership over.
    Transfer(String),
    /// Move the leaders away from this pod's store.
    Evict(String, u64),
    /// Let leaders come back to this pod's store.
    EndEviction(String, u64),
}

const WAIT_BACK: Duration = Duration::from_secs(400);
const FEW_LEADERS: u32 = 200;

/// Whether a StatefulSet is on its way to another revision.
pub fn upgrading(set: &Value, pods: &[Arc<Value>]) -> bool {
    let (current, update) =
        (js::text(set, "/status/currentRevision"), js::text(set, "/status/updateRevision"));
    current != update
        || js::generation(set) > js::number(set, "/status/observedGeneration").unwrap_or(0)
        || pods.iter().any(|pod| js::label(pod, REVISION) != update)
}

/// Whether the cluster asks that PD rolls at once although it cannot be asked.
pub fn forced(cluster: &Value) -> bool {
    js::annotation(cluster, "tidb.pingcap.com/force-upgrade") == "true"
}

/// How long TiKV's leaders are waited for: a Go duration, 1500 minutes unless set.
pub fn evict_timeout(cluster: &Value) -> Duration {
    go_duration(js::text(cluster, "/spec/tikv/evictLeaderTimeout")).unwrap_or(Duration::from_secs(1_500 * 60))
}

/// Reads a Go duration such as `1h30m` or `1.5s`.
pub fn go_duration(text: &str) -> Option<Duration> {
    let mut total = 0.0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, next) = tail.split_at(unit_end);
        let seconds = match unit {
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * seconds;
        rest = next;
    }
    Duration::try_from_secs_f64(total).ok()
}

/// Decides the next step.
pub fn next(view: &View<'_>) -> Step {
    let replicas = u32::try_from(js::number(view.set, "/spec/replicas").unwrap_or(0)).unwrap_or(0);
    let applied = js::annotation(view.set, super::component::LAST_APPLIED);
    let is_pd = view.component == "pd";
    let wanted = view.wanted.to_string();
    if applied != wanted {
        if is_pd && view.pd.is_none() {
            return if forced(view.cluster) { Step::Write(0) } else { unsynced() };
        }
        return match view.blocked_by {
            Some(other) => Step::Wait(format!("{other} is upgrading")),
            None => Step::Write(replicas),
        };
    }
    let partition = js::number(view.set, "/spec/updateStrategy/rollingUpdate/partition").unwrap_or(0);
    let partition = u32::try_from(partition).unwrap_or(0);
    let name = js::name(view.set);
    let update = js::text(view.set, "/status/updateRevision");
    if js::generation(view.set) > js::number(view.set, "/status/observedGeneration").unwrap_or(0) {
        return Step::Wait("the StatefulSet controller has not seen the change yet".into());
    }
    let Some(pd) = view.pd else {
        if is_pd && forced(view.cluster) && partition > 0 && upgrading(view.set, view.pods) {
            return Step::Partition(0);
        }
        return if upgrading(view.set, view.pods) { unsynced() } else { Step::Rest };
    };
    for n in (0..replicas).rev() {
        let pod = view.pods.iter().find(|pod| ordinal(name, js::name(pod)) == Some(n));
        let Some(pod) = pod.filter(|pod| !js::terminating(pod)) else {
            return Step::Wait(format!("{name}-{n} is being replaced"));
        };
        if js::label(pod, REVISION) == update {
            if let Some(step) = settle(view, pd, pod) {
                return step;
            }
        } else if partition <= n {
            return Step::Wait(format!("{} is about to restart", js::name(pod)));
        } else {
            return begin(view, pd, js::name(pod), n);
        }
    }
    Step::Rest
}

fn unsynced() -> Step {
    Step::Wait("PD could not be asked; not upgrading".into())
}

/// What is still to be waited for at a pod that has the new revision; `None` when it is well.
fn settle(view: &View<'_>, pd: &PdView, pod: &Value) -> Option<Step> {
    let name = js::name(pod);
    if !js::ready(pod) {
        return Some(Step::Wait(format!("{name} is not ready")));
    }
    match view.component {
        "pd" => match pd.members.get(name) {
            Some(member) if member.health => None,
            _ => Some(Step::Wait(format!("PD member {name} is not healthy"))),
        },
        "tikv" | "tiflash" => {
            let Some(store) = pd.stores.iter().find(|s| s.pod == name) else {
                return Some(Step::Wait(format!("{name} has no store yet")));
            };
            if !store.up {
                return Some(Step::Wait(format!("store of {name} is not Up")));
            }
            if store.evicting {
                return Some(Step::EndEviction(name.to_owned(), store.id));
            }
            let eviction = view.evictions.get(name)?;
            let waited = eviction.ended.unwrap_or_default();
            let back = u64::from(store.leaders) * 3 >= u64::from(eviction.before) * 2;
            let wait = eviction.before >= FEW_LEADERS && !back && waited < WAIT_BACK;
            wait.then(|| {
                Step::Wait(format!("{name}: {} of {} leaders are back", store.leaders, eviction.before))
            })
        }
        _ => None,
    }
}

/// What comes before a pod's restart.
fn begin(view: &View<'_>, pd: &PdView, pod: &str, n: u32) -> Step {
    match view.component {
        "pd" if pd.leader == pod => {
            // The last to roll hands over to one that has been upgraded; the others likewise: the highest healthy one.
            let heir = pd.members.iter().rev().find(|(name, member)| name.as_str() != pod && member.health);
            match heir {
                Some((name, _)) => Step::Transfer(name.clone()),
                None if pd.members.len() <= 1 => Step::Partition(n),
                None => Step::Wait(format!("no healthy member can take over from {pod}")),
            }
        }
        "tikv" => {
            let Some(store) = pd.stores.iter().find(|s| s.pod == pod) else { return Step::Partition(n) };
            let others = pd.stores.iter().any(|s| s.component == "tikv" && s.pod != pod && s.up);
            if !others {
                return Step::Partition(n);
            }
            if !store.evicting {
                return Step::Evict(pod.to_owned(), store.id);
            }
            let since = view.evictions.get(pod).map(|e| e.since).unwrap_or_default();
            if store.leaders > 0 && since < evict_timeout(view.cluster) {
                return Step::Wait(format!("{pod}: {} leaders are still to move away", store.leaders));
            }
            Step::Partition(n)
        }
        _ => Step::Partition(n),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "upgrade_tests.rs"]
mod tests;
