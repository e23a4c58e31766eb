use serde_json::json;

use super::*;

struct Scene {
    component: &'static str,
    cluster: Value,
    set: Value,
    pods: Vec<Arc<Value>>,
    pd: Option<PdView>,
    blocked_by: Option<&'static str>,
    evictions: BTreeMap<String, Eviction>,
}

fn pod(component: &str, n: u32, revision: &str, ready: bool) -> Arc<Value> {
    Arc::new(json!({
        "metadata": { "name": format!("basic-{component}-{n}"), "labels": { REVISION: revision } },
        "status": { "conditions": [{ "type": "Ready", "status": if ready { "True" } else { "False" } }] },
    }))
}

fn scene(component: &'static str, partition: u32) -> Scene {
    let member = |id: u64| Member { id, url: String::new(), health: true };
    let store = |id| Store {
        id,
        pod: format!("basic-tikv-{}", id - 1),
        component: "tikv".into(),
        up: true,
        leaders: 120,
        evicting: false,
    };
    Scene {
        component,
        cluster: json!({ "metadata": {} }),
        set: json!({
            "metadata": { "name": format!("basic-{component}"), "generation": 2,
                "annotations": { crate::world::operator::component::LAST_APPLIED: "{}" } },
            "spec": { "replicas": 3, "updateStrategy": { "rollingUpdate": { "partition": partition } } },
            "status": { "observedGeneration": 2, "currentRevision": "old", "updateRevision": "new" },
        }),
        pods: (0..3).map(|n| pod(component, n, "old", true)).collect(),
        pd: Some(PdView {
            members: (0..3u64).map(|n| (format!("basic-pd-{n}"), member(n))).collect(),
            leader: "basic-pd-1".into(),
            stores: (1..=3).map(store).collect(),
        }),
        blocked_by: None,
        evictions: BTreeMap::new(),
    }
}

impl Scene {
    fn next(&self, wanted: &Value) -> Step {
        next(&View {
            component: self.component,
            cluster: &self.cluster,
            set: &self.set,
            pods: &self.pods,
            wanted,
            pd: self.pd.as_ref(),
            blocked_by: self.blocked_by,
            evictions: &self.evictions,
        })
    }
    fn roll(&self) -> Step {
        self.next(&json!({}))
    }
    fn change(&self) -> Step {
        self.next(&json!({ "new": true }))
    }
    fn pd(&mut self) -> &mut PdView {
        self.pd.as_mut().unwrap()
    }
}

#[test]
fn a_new_template_is_written_without_restarting_anything_and_waits_for_what_comes_before() {
    let mut tikv = scene("tikv", 0);
    assert_eq!(tikv.change(), Step::Write(3));
    tikv.blocked_by = Some("pd");
    assert!(matches!(tikv.change(), Step::Wait(_)));
}

#[test]
fn pd_rolls_from_the_highest_and_its_leader_hands_over_first() {
    let mut pd = scene("pd", 3);
    assert_eq!(pd.roll(), Step::Partition(2));
    pd.pods = vec![pod("pd", 0, "old", true), pod("pd", 1, "old", true), pod("pd", 2, "new", false)];
    pd.set["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = json!(2);
    assert!(matches!(pd.roll(), Step::Wait(_)), "not before the last one is ready");
    pd.pods = vec![pod("pd", 0, "old", true), pod("pd", 1, "old", true), pod("pd", 2, "new", true)];
    assert_eq!(pd.roll(), Step::Transfer("basic-pd-2".into()));
    pd.pd().members.get_mut("basic-pd-2").unwrap().health = false;
    assert!(matches!(pd.roll(), Step::Wait(_)), "not before its member is healthy");
    pd.pd().members.get_mut("basic-pd-2").unwrap().health = true;
    pd.pd().leader = "basic-pd-2".into();
    assert_eq!(pd.roll(), Step::Partition(1));
}

#[test]
fn tikv_restarts_when_its_leaders_have_moved_or_the_time_is_up() {
    let mut tikv = scene("tikv", 3);
    assert_eq!(tikv.roll(), Step::Evict("basic-tikv-2".into(), 3));
    tikv.pd().stores[2].evicting = true;
    let eviction = Eviction { before: 120, since: Duration::from_secs(1), ended: None };
    tikv.evictions.insert("basic-tikv-2".into(), eviction);
    assert!(matches!(tikv.roll(), Step::Wait(_)));
    tikv.cluster = json!({ "spec": { "tikv": { "evictLeaderTimeout": "1s" } } });
    assert_eq!(tikv.roll(), Step::Partition(2));
    tikv.cluster = json!({});
    tikv.pd().stores[2].leaders = 0;
    assert_eq!(tikv.roll(), Step::Partition(2));
}

#[test]
fn a_restarted_store_must_be_up_and_have_its_leaders_back_before_the_next() {
    let mut tikv = scene("tikv", 2);
    tikv.pods = vec![pod("tikv", 0, "old", true), pod("tikv", 1, "old", true), pod("tikv", 2, "new", true)];
    tikv.pd().stores[2] = Store { up: false, evicting: true, leaders: 0, ..tikv.pd().stores[2].clone() };
    assert!(matches!(tikv.roll(), Step::Wait(_)));
    tikv.pd().stores[2].up = true;
    assert_eq!(tikv.roll(), Step::EndEviction("basic-tikv-2".into(), 3));
    tikv.pd().stores[2].evicting = false;
    let ended =
        |secs| Eviction { before: 300, since: Duration::ZERO, ended: Some(Duration::from_secs(secs)) };
    tikv.evictions.insert("basic-tikv-2".into(), ended(1));
    assert!(matches!(tikv.roll(), Step::Wait(_)), "0 of 300 leaders are back");
    tikv.evictions.insert("basic-tikv-2".into(), ended(401));
    assert!(matches!(tikv.roll(), Step::Evict(..)), "waited long enough");
    tikv.evictions.insert("basic-tikv-2".into(), ended(1));
    tikv.pd().stores[2].leaders = 200;
    assert!(matches!(tikv.roll(), Step::Evict(..)), "two thirds are back");
}

#[test]
fn without_pd_nothing_rolls_unless_forced() {
    let mut pd = scene("pd", 3);
    pd.pd = None;
    assert!(matches!(pd.change(), Step::Wait(_)));
    assert!(matches!(pd.roll(), Step::Wait(_)));
    pd.cluster = json!({ "metadata": { "annotations": { "tidb.pingcap.com/force-upgrade": "true" } } });
    assert_eq!(pd.change(), Step::Write(0));
    assert_eq!(pd.roll(), Step::Partition(0));
    let mut tikv = scene("tikv", 3);
    tikv.pd = None;
    tikv.cluster = pd.cluster.clone();
    assert!(matches!(tikv.roll(), Step::Wait(_)), "force-upgrade is for PD alone");
}

#[test]
fn go_durations() {
    assert_eq!(go_duration("1500m"), Some(Duration::from_secs(90_000)));
    assert_eq!(go_duration("1h1.5s"), Some(Duration::from_millis(3_601_500)));
    assert_eq!(go_duration(""), None);
    assert_eq!(go_duration("3d"), None);
}
