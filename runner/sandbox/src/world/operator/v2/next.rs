//! What operator v2 does next for one group: a pure function. One instance at a time takes the new template; its pod is
//! deleted once PD's leadership or TiKV's leaders have moved away, and made again under its name.
//!
//! While PD cannot be asked no group is ready: what PD said last counts for the order of a restart alone. A member without a
//! pod gets one all the same; a store gets none, since the operator asks PD about it first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::objects::{is_current, label, pod_name};
use crate::world::json as js;
use crate::world::operator::upgrade::PdView;

/// What there is to see of a group.
pub struct View<'a> {
    /// `pd`.
    pub component: &'a str,
    /// The revision that it asks for.
    pub revision: &'a str,
    /// How many instances it asks for.
    pub replicas: usize,
    /// Its instances.
    pub instances: &'a [Arc<Value>],
    /// Its pods.
    pub pods: &'a [Arc<Value>],
    /// What PD said last.
    pub pd: Option<&'a PdView>,
    /// Whether it said so just now.
    pub asked: bool,
    /// For how long the leaders of a pod have been told to move away.
    pub evicting: &'a BTreeMap<String, Duration>,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Rest,
    /// Nothing until something happens.
    Wait(String),
    /// Make one more instance.
    Grow,
    /// Give this instance the group's template.
    Update(String),
    /// Make the pod of this instance.
    Make(String),
    /// Delete this pod.
    Delete(String),
    /// Hand PD's leadership over to this member.
    Transfer(String),
    /// Move the leaders away from this pod's store.
    Evict(String, u64),
    /// Let leaders come back to it.
    EndEviction(String, u64),
}

const EVICT: Duration = Duration::from_secs(1_500 * 60);

impl View<'_> {
    fn pod(&self, instance: &Value) -> Option<&Arc<Value>> {
        let name = pod_name(instance, self.component);
        self.pods.iter().find(|pod| js::name(pod) == name)
    }

    fn healthy(&self, pod: &str) -> bool {
        let Some(pd) = self.pd else { return true };
        match self.component {
            "pd" => pd.members.get(pod).is_some_and(|member| member.health),
            "tikv" | "tiflash" => pd.stores.iter().any(|store| store.pod == pod && store.up),
            _ => true,
        }
    }

    /// Whether an instance serves, with its template of now, as far as was known last.
    pub fn is_available(&self, instance: &Value) -> bool {
        self.pod(instance)
            .is_some_and(|pod| js::ready(pod) && is_current(pod, instance) && self.healthy(js::name(pod)))
    }

    /// Whether it is known now that an instance serves: of members and stores PD knows it alone.
    pub fn is_well(&self, instance: &Value) -> bool {
        let known = self.asked || !matches!(self.component, "pd" | "tikv" | "tiflash");
        known && self.is_available(instance)
    }

    /// Whether an instance has the group's template.
    pub fn is_updated(&self, instance: &Value) -> bool {
        label(instance, "instance-revision-hash") == self.revision
    }
}

/// Decides the next step.
pub fn next(view: &View<'_>) -> Step {
    if view.instances.len() < view.replicas {
        return Step::Grow;
    }
    for instance in view.instances {
        let name = pod_name(instance, view.component);
        match view.pod(instance) {
            // What is believed healthy must be seen to be gone first.
            None if view.component == "pd" && view.asked && view.healthy(&name) => {
                return Step::Wait(format!("{name} is gone, and PD has not said so yet"));
            }
            None if view.component == "tikv" && view.pd.is_some() && !view.asked => {
                return Step::Wait(format!("{name} is gone, and PD cannot be asked about its store"));
            }
            None => return Step::Make(js::name(instance).to_owned()),
            Some(pod) if js::terminating(pod) => return Step::Wait(format!("{name} stops")),
            Some(pod) if !is_current(pod, instance) => return before_deletion(view, &name),
            Some(pod) => {
                let store = view.pd.and_then(|pd| pd.stores.iter().find(|store| store.pod == name));
                if let Some(store) = store.filter(|store| store.evicting && store.up && js::ready(pod)) {
                    return Step::EndEviction(name, store.id);
                }
            }
        }
    }
    let outdated: Vec<&Arc<Value>> = view.instances.iter().filter(|i| !view.is_updated(i)).collect();
    let unavailable = view.instances.iter().find(|i| !view.is_available(i));
    if let Some(broken) = outdated.iter().find(|i| !view.is_available(i)) {
        return Step::Update(js::name(broken).to_owned());
    }
    let leads = |instance: &Value| {
        view.pd.is_some_and(|pd| view.component == "pd" && pd.leader == pod_name(instance, "pd"))
    };
    match (outdated.iter().min_by_key(|instance| leads(instance)), unavailable) {
        (None, None) => Step::Rest,
        (_, Some(unavailable)) => Step::Wait(format!("{} is not available", js::name(unavailable))),
        (Some(first), None) => Step::Update(js::name(first).to_owned()),
    }
}

/// What comes before the deletion of a pod whose instance has another template.
fn before_deletion(view: &View<'_>, pod: &str) -> Step {
    let Some(pd) = view.pd else { return Step::Delete(pod.to_owned()) };
    match view.component {
        "pd" if pd.leader == pod && pd.members.len() > 1 => {
            let heir = pd.members.iter().find(|(name, member)| name.as_str() != pod && member.health);
            match heir {
                Some((name, _)) => Step::Transfer(name.clone()),
                None => Step::Wait(format!("no healthy member can take over from {pod}")),
            }
        }
        "tikv" => {
            let store = pd.stores.iter().find(|store| store.pod == pod);
            let others = pd.stores.iter().any(|s| s.component == "tikv" && s.pod != pod && s.up);
            match store.filter(|_| others) {
                Some(store) if !store.evicting => Step::Evict(pod.to_owned(), store.id),
                Some(store)
                    if store.leaders > 0 && view.evicting.get(pod).is_none_or(|since| *since < EVICT) =>
                {
                    Step::Wait(format!("{pod}: {} leaders are still to move away", store.leaders))
                }
                _ => Step::Delete(pod.to_owned()),
            }
        }
        _ => Step::Delete(pod.to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::super::objects;
    use super::super::{GROUPS, Group};
    use super::*;
    use crate::world::operator::upgrade::{Member, Store};
    use crate::world::pod::program::program;

    struct Scene {
        kind: &'static Group,
        group: Value,
        instances: Vec<Arc<Value>>,
        pods: Vec<Arc<Value>>,
        pd: PdView,
        asked: bool,
    }

    fn scene(component: &str) -> Scene {
        let kind = GROUPS.iter().find(|kind| kind.component == component).unwrap();
        let group = json!({
            "metadata": { "name": component, "namespace": "tidb", "uid": "u" },
            "spec": { "cluster": { "name": "basic" }, "replicas": 2, "template": { "spec": { "version": "v8.5.0" } } },
        });
        let made = |suffix: &str| objects::instance(&group, kind, &objects::revision(&group), suffix);
        let instances: Vec<Arc<Value>> = ["a", "b"].iter().map(|suffix| Arc::new(made(suffix))).collect();
        let pods = instances.iter().map(|instance| {
            let mut pod = objects::pod(instance, kind, program(component).unwrap(), true);
            pod["status"] = json!({ "conditions": [{ "type": "Ready", "status": "True" }] });
            Arc::new(pod)
        });
        let pods: Vec<Arc<Value>> = pods.collect();
        let mut pd = PdView::default();
        for (n, pod) in pods.iter().enumerate() {
            let (pod, id) = (js::name(pod).to_owned(), n as u64);
            pd.members.insert(pod.clone(), Member { id, url: String::new(), health: true });
            let component = component.to_owned();
            pd.stores.push(Store { id, pod, component, up: true, leaders: 3, evicting: false });
        }
        pd.leader = js::name(&pods[0]).to_owned();
        Scene { kind, group, instances, pods, pd, asked: true }
    }

    impl Scene {
        fn next(&self) -> Step {
            next(&self.view(&objects::revision(&self.group)))
        }

        fn view<'a>(&'a self, revision: &'a str) -> View<'a> {
            static NONE: BTreeMap<String, Duration> = BTreeMap::new();
            View {
                component: self.kind.component,
                revision,
                replicas: 2,
                instances: &self.instances,
                pods: &self.pods,
                pd: Some(&self.pd),
                asked: self.asked,
                evicting: &NONE,
            }
        }

        fn restart(&mut self) {
            self.group["spec"]["template"]["metadata"] = json!({ "annotations": { "a": "m" } });
        }

        fn update(&mut self, n: usize) {
            let revision = objects::revision(&self.group);
            self.instances[n] =
                Arc::new(objects::updated(&self.instances[n], &self.group, self.kind, &revision));
        }
    }

    #[test]
    fn pd_goes_one_by_one_and_its_leader_hands_over() {
        let mut scene = scene("pd");
        assert_eq!(scene.next(), Step::Rest);
        scene.restart();
        assert_eq!(scene.next(), Step::Update("pd-b".into()), "one that does not lead");
        scene.update(1);
        assert_eq!(scene.next(), Step::Delete("pd-pd-b".into()));
        let gone = scene.pods.pop().unwrap();
        assert!(matches!(scene.next(), Step::Wait(_)), "PD calls it healthy yet");
        scene.pd.members.get_mut("pd-pd-b").unwrap().health = false;
        assert_eq!(scene.next(), Step::Make("pd-b".into()));
        let mut new = objects::pod(&scene.instances[1], scene.kind, program("pd").unwrap(), true);
        new["status"] = gone["status"].clone();
        scene.pods.push(Arc::new(new));
        assert!(matches!(scene.next(), Step::Wait(_)), "it is not healthy yet");
        scene.pd.members.get_mut("pd-pd-b").unwrap().health = true;
        assert_eq!(scene.next(), Step::Update("pd-a".into()));
        scene.update(0);
        assert_eq!(scene.next(), Step::Transfer("pd-pd-b".into()));
        scene.pd.leader = "pd-pd-b".into();
        assert_eq!(scene.next(), Step::Delete("pd-pd-a".into()));
    }

    #[test]
    fn tikv_is_deleted_when_its_leaders_have_moved() {
        let mut scene = scene("tikv");
        scene.restart();
        scene.update(0);
        assert_eq!(scene.next(), Step::Evict("tikv-tikv-a".into(), 0));
        scene.pd.stores[0].evicting = true;
        assert!(matches!(scene.next(), Step::Wait(_)));
        scene.pd.stores[0].leaders = 0;
        assert_eq!(scene.next(), Step::Delete("tikv-tikv-a".into()));
        let mut new = objects::pod(&scene.instances[0], scene.kind, program("tikv").unwrap(), true);
        new["status"] = scene.pods[1]["status"].clone();
        scene.pods[0] = Arc::new(new);
        assert_eq!(scene.next(), Step::EndEviction("tikv-tikv-a".into(), 0));
        scene.pd.stores[0].evicting = false;
        assert_eq!(scene.next(), Step::Update("tikv-b".into()));
    }

    #[test]
    fn while_pd_cannot_be_asked_its_own_pods_are_made_anew_and_stores_wait() {
        for (component, step) in [("pd", Some("pd-a")), ("tikv", None), ("tidb", Some("tidb-a"))] {
            let mut silent = Scene { asked: false, ..scene(component) };
            let well = silent.view("").is_well(&silent.instances[0]);
            assert_eq!(well, component == "tidb", "{component}");
            silent.pods.clear();
            match step {
                Some(instance) => assert_eq!(silent.next(), Step::Make(instance.into())),
                None => assert!(matches!(silent.next(), Step::Wait(_)), "{component}"),
            }
        }
    }
}
