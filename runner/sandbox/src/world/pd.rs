//! What the members of a PD cluster agree on (who leads, where the stores' leaders are) and the API that tells it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::timing::{Dice, Timing};

#[derive(Debug, Clone)]
struct Store {
    pod: String,
    up: bool,
    component: &'static str,
    /// Leaders that it holds when nothing moves.
    share: u32,
    moving: Option<Moving>,
}

/// Leaders on their way from one number to another.
#[derive(Debug, Clone, Copy)]
struct Moving {
    from: u32,
    to: u32,
    since: Instant,
    takes: Duration,
}

impl Store {
    fn leaders(&self, now: Instant) -> u32 {
        let Some(m) = self.moving else { return self.share };
        let gone = now.saturating_duration_since(m.since).as_millis();
        let takes = m.takes.as_millis().max(1);
        if gone >= takes {
            return m.to;
        }
        let span = i128::from(m.to) - i128::from(m.from);
        let moved = span * i128::try_from(gone).unwrap_or(0) / i128::try_from(takes).unwrap_or(1);
        u32::try_from(i128::from(m.from) + moved).unwrap_or(0)
    }

    fn evicting(&self) -> bool {
        self.moving.is_some_and(|m| m.to == 0)
    }
}

#[derive(Debug, Default)]
struct Inner {
    members: BTreeMap<String, Member>,
    leader: Option<String>,
    stores: BTreeMap<u64, Store>,
}

#[derive(Debug, Clone)]
struct Member {
    id: u64,
    alive: bool,
    url: String,
}

/// The agreed state of one cluster.
pub struct Pd {
    inner: Mutex<Inner>,
    timing: Timing,
    dice: Dice,
    leaders_per_store: u32,
}

impl Pd {
    /// An empty cluster whose stores hold so many leaders each.
    pub fn new(timing: Timing, dice: Dice, leaders_per_store: u32) -> Self {
        Self { inner: Mutex::default(), timing, dice, leaders_per_store }
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A member has come up.
    pub fn member_up(&self, pod: &str, url: &str) {
        let mut inner = self.inner();
        let id = 1_000 + inner.members.len() as u64;
        let member =
            inner.members.entry(pod.to_owned()).or_insert(Member { id, alive: false, url: url.to_owned() });
        member.alive = true;
        elect(&mut inner, &self.dice);
    }

    /// A member has stopped. If it led, another leads.
    pub fn member_down(&self, pod: &str) {
        let mut inner = self.inner();
        if let Some(member) = inner.members.get_mut(pod) {
            member.alive = false;
        }
        elect(&mut inner, &self.dice);
    }

    /// A store has come up and reported.
    pub fn store_up(&self, pod: &str, component: &'static str) {
        let mut inner = self.inner();
        let next = inner.stores.keys().max().map_or(1, |id| id + 1);
        let share = if component == "tikv" { self.leaders_per_store } else { 0 };
        if let Some(store) = inner.stores.values_mut().find(|s| s.pod == pod) {
            store.up = true;
        } else {
            inner
                .stores
                .insert(next, Store { pod: pod.to_owned(), up: true, component, share, moving: None });
        }
    }

    /// A store has stopped.
    pub fn store_down(&self, pod: &str) {
        if let Some(store) = self.inner().stores.values_mut().find(|s| s.pod == pod) {
            store.up = false;
        }
    }

    /// The leader's pod.
    pub fn leader(&self) -> Option<String> {
        self.inner().leader.clone()
    }

    /// Answers a request of PD's API. The address of what is asked is as in PD.
    pub fn answer(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let mut inner = self.inner();
        if inner.leader.is_none() {
            return (503, json!("no leader"));
        }
        let parts: Vec<&str> = path.trim_start_matches("/pd/api/v1/").split('/').collect();
        match (method, parts.as_slice()) {
            ("GET", ["health"]) => {
                let health = inner.members.iter().map(|(name, m)| {
                    json!({ "name": name, "member_id": m.id, "client_urls": [m.url], "health": m.alive })
                });
                (200, health.collect())
            }
            ("GET", ["members"]) => {
                let members: Vec<Value> = inner
                    .members
                    .iter()
                    .map(|(name, m)| json!({ "name": name, "member_id": m.id, "client_urls": [m.url] }))
                    .collect();
                (200, json!({ "members": members, "leader": { "name": inner.leader } }))
            }
            ("GET", ["leader"]) => (200, json!({ "name": inner.leader })),
            ("POST", ["leader", "transfer", to]) => match inner.members.get(*to) {
                Some(member) if member.alive => {
                    inner.leader = Some((*to).to_owned());
                    (200, json!("The transfer command is submitted."))
                }
                _ => (400, json!(format!("member {to} is not healthy"))),
            },
            ("GET", ["stores"]) => {
                let now = Instant::now();
                let stores: Vec<Value> = inner
                    .stores
                    .iter()
                    .map(|(id, s)| {
                        json!({
                            "store": { "id": id, "address": s.pod, "labels": [{ "key": "engine", "value": s.component }],
                                "state_name": if s.up { "Up" } else { "Disconnected" } },
                            "status": { "leader_count": s.leaders(now) },
                        })
                    })
                    .collect();
                (200, json!({ "count": stores.len(), "stores": stores }))
            }
            ("GET", ["schedulers"]) => {
                let evicting = inner.stores.iter().filter(|(_, s)| s.evicting());
                (200, evicting.map(|(id, _)| json!(format!("evict-leader-scheduler-{id}"))).collect())
            }
            ("POST", ["schedulers"]) => match body.get("store_id").and_then(Value::as_u64) {
                Some(id) => self.move_leaders(&mut inner, id, true),
                None => (400, json!("missing store id")),
            },
            ("DELETE", ["schedulers", name]) => {
                match name.strip_prefix("evict-leader-scheduler-").and_then(|id| id.parse().ok()) {
                    Some(id) => self.move_leaders(&mut inner, id, false),
                    None => (404, json!("scheduler not found")),
                }
            }
            _ => (404, json!("not found")),
        }
    }

    fn move_leaders(&self, inner: &mut Inner, id: u64, away: bool) -> (u16, Value) {
        let Some(store) = inner.stores.get_mut(&id) else {
            return (404, json!(format!("store {id} not found")));
        };
        if away == store.evicting() {
            return (200, json!("already"));
        }
        let (now, span) = (Instant::now(), if away { self.timing.evict } else { self.timing.leaders_return });
        let from = store.leaders(now);
        let to = if away { 0 } else { store.share };
        store.moving = Some(Moving { from, to, since: now, takes: self.dice.span(span) });
        (200, json!("ok"))
    }
}

/// Keeps the leader while it lives; otherwise any living member, if they are a majority.
fn elect(inner: &mut Inner, dice: &Dice) {
    let alive: Vec<&String> = inner.members.iter().filter(|(_, m)| m.alive).map(|(name, _)| name).collect();
    if alive.len() * 2 <= inner.members.len() {
        inner.leader = None;
    } else if !inner.leader.as_ref().is_some_and(|l| alive.contains(&l)) {
        inner.leader = alive.get(dice.below(alive.len())).map(|name| (*name).clone());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn pd() -> Pd {
        let pd = Pd::new(Timing::lifelike(), Dice::new(1, "pd"), 120);
        for n in 0..3 {
            pd.member_up(&format!("basic-pd-{n}"), "https://x:2379");
            pd.store_up(&format!("basic-tikv-{n}"), "tikv");
        }
        pd
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_stops_is_followed_by_another_and_without_a_majority_nobody_leads() {
        let pd = pd();
        let first = pd.leader().unwrap();
        pd.member_down(&first);
        let second = pd.leader().unwrap();
        assert_ne!(first, second);
        pd.member_down(&second);
        assert_eq!(pd.leader(), None);
        assert_eq!(pd.answer("GET", "/pd/api/v1/health", &Value::Null).0, 503);
        pd.member_up(&first, "");
        assert!(pd.leader().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn evicted_leaders_move_away_in_time_and_come_back_afterwards() {
        let pd = pd();
        let count = || {
            let stores = pd.answer("GET", "/pd/api/v1/stores", &Value::Null).1;
            stores["stores"][0]["status"]["leader_count"].as_u64().unwrap()
        };
        assert_eq!(count(), 120);
        assert_eq!(pd.answer("POST", "/pd/api/v1/schedulers", &json!({ "store_id": 1 })).0, 200);
        assert_eq!(count(), 120, "moving takes time");
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!((1..120).contains(&count()));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(count(), 0);
        assert_eq!(
            pd.answer("DELETE", "/pd/api/v1/schedulers/evict-leader-scheduler-1", &Value::Null).0,
            200
        );
        tokio::time::sleep(Duration::from_secs(40)).await;
        assert_eq!(count(), 120);
    }
}
