//! The least Kubernetes RBAC with which a plan runs: pure, from what its calls say they touch.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use stdlib::lease;
use stdlib::registry::{Registry, Touch};

use crate::engine::lease_target;
use crate::plan::Plan;

/// Verbs that a rule with `resourceNames` cannot grant.
const NAMELESS: [&str; 4] = ["create", "list", "watch", "deletecollection"];

/// One rule of a Role.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// API group, empty for core.
    pub group: String,
    /// Plural names, with subresource where one is meant.
    pub resources: Vec<String>,
    /// Object names; empty for all.
    pub names: Vec<String>,
    /// RBAC verbs.
    pub verbs: Vec<String>,
}

/// Namespace, group, verbs and names of a rule, without its resources.
type Grant = (String, String, Vec<String>, Vec<String>);

/// Verbs on all objects of a kind, and on some.
#[derive(Default)]
struct Granted {
    all: BTreeSet<String>,
    named: BTreeMap<String, BTreeSet<String>>,
}

/// Everything that a run of a plan touches in a cluster: facts, trust view, steps, and the lock on the target.
pub fn touches(plan: &Plan, registry: &Registry) -> Vec<Touch> {
    let mut touched: Vec<Touch> = plan.facts.iter().flat_map(|fact| fact.touches(registry)).collect();
    touched.extend(plan.trust_touches(registry));
    touched.extend(plan.touches(registry).into_iter().flat_map(|(_, touches)| touches));
    if let Some(target) = plan.target.as_ref().filter(|target| target.hosts.is_empty()) {
        touched.extend(lease::touches(&lease_target(target)));
    }
    touched
}

/// The rules by namespace; cluster-wide ones under the empty name. No rule grants what another one does.
pub fn rules(touched: &[Touch]) -> BTreeMap<String, Vec<Rule>> {
    let mut granted: BTreeMap<(String, String, String), Granted> = BTreeMap::new();
    for touch in touched {
        let Touch::Kube { group, resource, namespace, name, verbs } = touch else { continue };
        let place = granted.entry((namespace.clone(), group.clone(), resource.clone())).or_default();
        for verb in verbs {
            // What a part of an object is created by has the object's name.
            let nameless = NAMELESS.contains(&verb.as_str()) && !resource.contains('/');
            let of = if name.is_empty() || nameless {
                &mut place.all
            } else {
                place.named.entry(name.clone()).or_default()
            };
            of.insert(verb.clone());
        }
    }
    // Resources of one group that are granted alike share a rule.
    let mut alike: BTreeMap<Grant, Vec<String>> = BTreeMap::new();
    for ((namespace, group, resource), Granted { all, named }) in granted {
        let mut by_verbs: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
        for (name, verbs) in named {
            let more: Vec<String> = verbs.difference(&all).cloned().collect();
            if !more.is_empty() {
                by_verbs.entry(more).or_default().push(name);
            }
        }
        if !all.is_empty() {
            by_verbs.insert(all.into_iter().collect(), Vec::new());
        }
        for (verbs, names) in by_verbs {
            alike.entry((namespace.clone(), group.clone(), verbs, names)).or_default().push(resource.clone());
        }
    }
    let mut rules: BTreeMap<String, Vec<Rule>> = BTreeMap::new();
    for ((namespace, group, verbs, names), resources) in alike {
        rules.entry(namespace).or_default().push(Rule { group, resources, names, verbs });
    }
    rules
}

/// The objects to apply: a Role a namespace and, where something is cluster-wide, a ClusterRole; bound to a subject
/// (`system:serviceaccount:NS:NAME` or a user's name) where one is given.
pub fn manifests(rules: &BTreeMap<String, Vec<Rule>>, workflow: &str, subject: Option<&str>) -> Vec<Value> {
    let name = format!("rollover-{}", workflow.replace('/', "-"));
    let mut objects = Vec::new();
    for (namespace, rules) in rules {
        let kind = if namespace.is_empty() { "ClusterRole" } else { "Role" };
        objects.push(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": kind,
            "metadata": metadata(&name, namespace),
            "rules": rules.iter().map(Rule::to_value).collect::<Vec<_>>(),
        }));
        if let Some(subject) = subject {
            objects.push(json!({
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": format!("{kind}Binding"),
                "metadata": metadata(&name, namespace),
                "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name },
                "subjects": [bound(subject)],
            }));
        }
    }
    objects
}

fn metadata(name: &str, namespace: &str) -> Value {
    if namespace.is_empty() {
        json!({ "name": name })
    } else {
        json!({ "name": name, "namespace": namespace })
    }
}

fn bound(subject: &str) -> Value {
    let account = subject.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    match account {
        Some((namespace, name)) => {
            json!({ "kind": "ServiceAccount", "namespace": namespace, "name": name })
        }
        None => json!({ "kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": subject }),
    }
}

impl Rule {
    fn to_value(&self) -> Value {
        let mut rule = json!({ "apiGroups": [self.group], "resources": self.resources, "verbs": self.verbs });
        if let (false, Some(fields)) = (self.names.is_empty(), rule.as_object_mut()) {
            fields.insert("resourceNames".into(), json!(self.names));
        }
        rule
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn touch(resource: &str, name: &str, verbs: &[&str]) -> Touch {
        Touch::Kube {
            group: String::new(),
            resource: resource.into(),
            namespace: "tidb".into(),
            name: name.into(),
            verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        }
    }

    fn rule(resources: &[&str], names: &[&str], verbs: &[&str]) -> Rule {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Rule { group: String::new(), resources: owned(resources), names: owned(names), verbs: owned(verbs) }
    }

    #[test]
    fn what_is_granted_on_all_is_not_granted_again_by_name() {
        let touched = [touch("secrets", "", &["get"]), touch("secrets", "a", &["get", "patch"])];
        let expected = vec![rule(&["secrets"], &[], &["get"]), rule(&["secrets"], &["a"], &["patch"])];
        assert_eq!(rules(&touched)["tidb"], expected);
    }

    #[test]
    fn names_with_the_same_verbs_share_a_rule_and_so_do_kinds() {
        let touched = [
            touch("secrets", "a", &["patch"]),
            touch("secrets", "b", &["patch"]),
            touch("pods", "", &["list"]),
            touch("services", "", &["list"]),
        ];
        let expected =
            vec![rule(&["pods", "services"], &[], &["list"]), rule(&["secrets"], &["a", "b"], &["patch"])];
        assert_eq!(rules(&touched)["tidb"], expected);
    }

    #[test]
    fn a_verb_that_knows_no_names_is_granted_without_one() {
        let touched = [touch("leases", "lock", &["create", "get"])];
        let expected = vec![rule(&["leases"], &[], &["create"]), rule(&["leases"], &["lock"], &["get"])];
        assert_eq!(rules(&touched)["tidb"], expected);
    }

    #[test]
    fn a_part_of_an_object_is_created_under_the_objects_name() {
        let touched = [touch("pods/exec", "a", &["create", "get"])];
        assert_eq!(rules(&touched)["tidb"], vec![rule(&["pods/exec"], &["a"], &["create", "get"])]);
    }

    #[test]
    fn a_service_account_is_bound_as_one() {
        let rules = rules(&[touch("pods", "", &["list"])]);
        let objects = manifests(&rules, "tidb/cfssl-rotate", Some("system:serviceaccount:ops:rollover"));
        assert_eq!(
            objects[0]["metadata"],
            json!({ "name": "rollover-tidb-cfssl-rotate", "namespace": "tidb" })
        );
        assert_eq!(
            objects[1]["subjects"],
            json!([{ "kind": "ServiceAccount", "namespace": "ops", "name": "rollover" }])
        );
    }
}
