//! Discovery: which groups, versions and resources there are.

use serde_json::{Value, json};

use super::resources::{Catalog, Resource, Version};

const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// Groups that only serve reviews.
const REVIEWS: [(&str, &str, &str); 5] = [
    ("authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview"),
    ("authentication.k8s.io", "tokenreviews", "TokenReview"),
    ("authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
    ("authorization.k8s.io", "selfsubjectrulesreviews", "SelfSubjectRulesReview"),
    ("authorization.k8s.io", "subjectaccessreviews", "SubjectAccessReview"),
];

fn groups(catalog: &Catalog) -> Vec<(String, Vec<String>)> {
    let mut groups = catalog.groups();
    for (group, _, _) in REVIEWS {
        groups.entry(group.to_owned()).or_insert_with(|| vec!["v1".into()]);
    }
    groups
        .into_iter()
        .map(|(group, mut versions)| {
            versions.sort_by_key(|version| std::cmp::Reverse(super::customs::priority(version)));
            (group, versions)
        })
        .collect()
}

fn group(name: &str, versions: &[String]) -> Value {
    let list: Vec<Value> = versions
        .iter()
        .map(|version| json!({"groupVersion": format!("{name}/{version}"), "version": version}))
        .collect();
    json!({"name": name, "preferredVersion": list.first(), "versions": list})
}

/// The answer to a discovery path, if it is one.
pub(crate) fn answer(catalog: &Catalog, path: &str, aggregated: bool) -> Option<Value> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts.as_slice() {
        ["api"] if aggregated => Some(aggregate(catalog, true)),
        ["apis"] if aggregated => Some(aggregate(catalog, false)),
        ["api"] => Some(json!({
            "kind": "APIVersions",
            "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": "127.0.0.1:6443"}],
        })),
        ["apis"] => {
            let all: Vec<Value> =
                groups(catalog).iter().map(|(name, versions)| group(name, versions)).collect();
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": all}))
        }
        ["apis", name] => {
            let all = groups(catalog);
            let (name, versions) = all.iter().find(|(group, _)| group == name)?;
            let mut body = group(name, versions);
            if let Some(map) = body.as_object_mut() {
                map.insert("kind".into(), json!("APIGroup"));
                map.insert("apiVersion".into(), json!("v1"));
            }
            Some(body)
        }
        ["api", version] => resources(catalog, "", version),
        ["apis", group, version] => resources(catalog, group, version),
        _ => None,
    }
}

fn of<'a>(
    catalog: &'a Catalog,
    group: &'a str,
    version: &'a str,
) -> impl Iterator<Item = (&'a Resource, &'a Version)> {
    catalog
        .all()
        .filter(move |resource| resource.gr.group == group)
        .filter_map(move |resource| resource.version(version).map(|version| (resource.as_ref(), version)))
}

fn sub_kind(resource: &Resource, sub: &str) -> (&'static str, &'static str, Option<String>) {
    match sub {
        "scale" => ("autoscaling", "v1", Some("Scale".into())),
        "eviction" => ("policy", "v1", Some("Eviction".into())),
        "token" => ("authentication.k8s.io", "v1", Some("TokenRequest".into())),
        "binding" => ("", "v1", Some("Binding".into())),
        "exec" => ("", "v1", Some("PodExecOptions".into())),
        "portforward" => ("", "v1", Some("PodPortForwardOptions".into())),
        _ => ("", "", Some(resource.kind.clone())),
    }
}

fn sub_verbs(sub: &str) -> &'static [&'static str] {
    match sub {
        "eviction" | "token" | "binding" => &["create"],
        "log" => &["get"],
        "exec" | "portforward" => &["create", "get"],
        "finalize" => &["update"],
        _ => &["get", "patch", "update"],
    }
}

fn resources(catalog: &Catalog, group: &str, version: &str) -> Option<Value> {
    let mut list = Vec::new();
    for (resource, at) in of(catalog, group, version) {
        let mut entry = json!({
            "name": resource.gr.plural,
            "singularName": resource.singular,
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": VERBS,
        });
        if let Some(map) = entry.as_object_mut() {
            if !resource.short_names.is_empty() {
                map.insert("shortNames".into(), json!(resource.short_names));
            }
            if !resource.categories.is_empty() {
                map.insert("categories".into(), json!(resource.categories));
            }
        }
        list.push(entry);
        for sub in resource.subresources(at) {
            let (of_group, of_version, kind) = sub_kind(resource, sub);
            let mut entry = json!({
                "name": format!("{}/{sub}", resource.gr.plural),
                "singularName": "",
                "namespaced": resource.namespaced,
                "kind": kind,
                "verbs": sub_verbs(sub),
            });
            if !of_version.is_empty()
                && let Some(map) = entry.as_object_mut()
            {
                map.insert("group".into(), json!(of_group));
                map.insert("version".into(), json!(of_version));
            }
            list.push(entry);
        }
    }
    for (_, plural, kind) in REVIEWS.iter().filter(|(of, _, _)| *of == group && version == "v1") {
        list.push(json!({"name": plural, "singularName": kind.to_lowercase(), "namespaced": false, "kind": kind, "verbs": ["create"]}));
    }
    if list.is_empty() {
        return None;
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Some(
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": list}),
    )
}

/// Aggregated discovery, `apidiscovery.k8s.io/v2`.
fn aggregate(catalog: &Catalog, core: bool) -> Value {
    let all = if core { vec![(String::new(), vec!["v1".to_owned()])] } else { groups(catalog) };
    let items: Vec<Value> = all
        .iter()
        .map(|(group, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|version| {
                    let mut list: Vec<Value> = of(catalog, group, version)
                        .map(|(resource, at)| aggregate_one(resource, at))
                        .collect();
                    for (_, plural, kind) in REVIEWS.iter().filter(|(of, _, _)| of == group) {
                        list.push(json!({
                            "resource": plural,
                            "responseKind": {"group": group, "version": version, "kind": kind},
                            "scope": "Cluster",
                            "singularResource": kind.to_lowercase(),
                            "verbs": ["create"],
                        }));
                    }
                    json!({"version": version, "resources": list, "freshness": "Current"})
                })
                .collect();
            let metadata = if group.is_empty() {
                json!({"creationTimestamp": null})
            } else {
                json!({"name": group, "creationTimestamp": null})
            };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn aggregate_one(resource: &Resource, at: &Version) -> Value {
    let group = &resource.gr.group;
    let subs: Vec<Value> = resource
        .subresources(at)
        .iter()
        .map(|sub| {
            let (of_group, of_version, kind) = sub_kind(resource, sub);
            let (of_group, of_version) = if of_version.is_empty() {
                (group.as_str(), at.name.as_str())
            } else {
                (of_group, of_version)
            };
            json!({
                "subresource": sub,
                "responseKind": {"group": of_group, "version": of_version, "kind": kind},
                "verbs": sub_verbs(sub),
            })
        })
        .collect();
    let mut entry = json!({
        "resource": resource.gr.plural,
        "responseKind": {"group": group, "version": at.name, "kind": resource.kind},
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": VERBS,
        "subresources": subs,
    });
    if let Some(map) = entry.as_object_mut() {
        if !resource.short_names.is_empty() {
            map.insert("shortNames".into(), json!(resource.short_names));
        }
        if !resource.categories.is_empty() {
            map.insert("categories".into(), json!(resource.categories));
        }
    }
    entry
}
