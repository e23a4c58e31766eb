//! `k8s::managers`: which controllers keep some objects, and whether they can be paused.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::labelled::{self, APPLICATIONS, Applications, Keeper};
use super::{Manager, Tool, argo, named};
use crate::error::PrimError;
use crate::gate::Gate;
use crate::k8s::client::Objects;
use crate::k8s::discovery;
use crate::k8s::object::{Ref, at, text};
use crate::k8s::owner;
use crate::registry::Touch;
use crate::world::World;

/// `k8s::managers(objects, options)`.
pub(in crate::k8s) async fn run(world: &World, args: &[Value], _gate: &dyn Gate) -> Result<Value, PrimError> {
    let Some(Value::Array(listed)) = args.first() else {
        return Err(PrimError::argument("`objects` has the wrong type").expected("a list", "something else"));
    };
    let argocd = super::argocd(args);
    let objects = Objects::of(world)?;
    let mut applications = Applications::new(&objects, argocd);
    let mut managers: BTreeMap<Ref, Vec<Ref>> = BTreeMap::new();
    let mut others = Vec::new();
    for (n, entry) in listed.iter().enumerate() {
        let map = entry.as_object().ok_or_else(|| {
            PrimError::argument(format!("`objects[{n}]` has the wrong type"))
                .expected("a map", entry.to_string())
        })?;
        let object = named(map, &format!("objects[{n}]"))?;
        let value = objects.get(&object).await?;
        // What a run leaves on other objects are markers: to lose them undoes nothing.
        let content = map.get("content") != Some(&Value::Bool(false));
        match keeper(&object, &value, argocd) {
            None => {
                let Some(instance) = owner::instance(&value) else { continue };
                match applications.keeper(&object, instance).await? {
                    None => {}
                    Some(Keeper::Unread(application)) => {
                        others.push(labelled::unknown(&object, &application))
                    }
                    Some(Keeper::Application(application)) => {
                        managers.entry(application).or_default().extend(content.then_some(object));
                    }
                }
            }
            Some(Err(other)) => others.push(other),
            Some(Ok((group, plural, namespace, name))) => {
                let Some((version, kind)) = discovery::kind_of(&objects, group, plural).await? else {
                    others.push(format!("{object} says that {plural}.{group} {namespace}/{name} manages it, but the server has none of that kind"));
                    continue;
                };
                let keeps = managers.entry(Ref::new(&version, &kind, &namespace, &name)).or_default();
                keeps.extend(content.then_some(object));
            }
        }
    }
    let mut found = Vec::new();
    for (manager, keeps) in managers {
        match objects.find(&manager).await? {
            None => {
                others.push(format!("{manager} is said to manage {}, but does not exist", listing(&keeps)))
            }
            Some(value) => match above(&manager, &value) {
                Some(why) => others.push(format!("{manager} cannot be paused from here: {why}")),
                None => found.push(told(&manager, &keeps)),
            },
        }
    }
    Ok(json!({ "managers": found, "others": others }))
}

fn listing(objects: &[Ref]) -> String {
    if objects.is_empty() {
        return "it".into();
    }
    objects.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn told(manager: &Ref, keeps: &[Ref]) -> Value {
    let mut told = super::described(manager);
    if let Some(fields) = told.as_object_mut() {
        fields.insert("title".into(), manager.to_string().into());
        fields.insert("keeps".into(), keeps.iter().map(super::described).collect());
    }
    told
}

/// Group, plural, namespace and name of the controller's object.
type Found = (&'static str, &'static str, String, String);

/// Who keeps an object: somebody who can be paused, or why nobody can be.
fn keeper(object: &Ref, value: &Value, argocd: &str) -> Option<Result<Found, String>> {
    let (who, name) = owner::manager(value)?;
    let label = |key: &str| text(value, &["metadata", "labels", key]);
    let flux = |group: &'static str, plural: &'static str, kind: &str| {
        let key = |field: &str| format!("{kind}.toolkit.fluxcd.io/{field}");
        let (name, namespace) = (label(&key("name")), label(&key("namespace")));
        let namespace = if namespace.is_empty() { &object.namespace } else { namespace };
        (!name.is_empty()).then(|| (group, plural, namespace.to_owned(), name.to_owned()))
    };
    Some(match who {
        "Argo CD" => {
            // `APP:GROUP/KIND:NAMESPACE/NAME`.
            let app = name.split(':').next().unwrap_or_default();
            let (namespace, app) = argo::place(app, argocd);
            Ok((APPLICATIONS.0, APPLICATIONS.1, namespace, app))
        }
        "Flux" => flux("kustomize.toolkit.fluxcd.io", "kustomizations", "kustomize")
            .or_else(|| flux("helm.toolkit.fluxcd.io", "helmreleases", "helm"))
            .ok_or_else(|| format!("{object} is managed by Flux, but does not say by what")),
        "Helm" => Err(format!(
            "{object} was installed by Helm (`{name}`), which has no controller that could be paused: whoever upgrades the release next puts its own version back"
        )),
        who => Err(format!("{object} is managed by {who} (`{name}`), which cannot be paused from here")),
    })
}

/// Who keeps the manager itself and would take the pause away.
fn above(manager: &Ref, value: &Value) -> Option<String> {
    let tool = Tool::of(&manager.kind)?;
    let owners = at(value, &["metadata", "ownerReferences"]).and_then(Value::as_array);
    if let Some(owner) =
        owners.into_iter().flatten().find(|one| one.get("controller") == Some(&Value::Bool(true)))
    {
        return Some(format!("{} {} keeps it", text(owner, &["kind"]), text(owner, &["name"])));
    }
    let instance = text(value, &["metadata", "labels", owner::INSTANCE]);
    let by_label = (tool == Tool::Application && !instance.is_empty() && instance != manager.name)
        .then(|| ("Argo CD", instance.to_owned()));
    let (who, name) = owner::manager(value).or(by_label)?;
    let mut path = vec!["fieldsV1".to_owned()];
    path.extend(tool.switch().iter().map(|name| format!("f:{name}")));
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let entries = at(value, &["metadata", "managedFields"]).and_then(Value::as_array);
    let mut applied = entries.into_iter().flatten().filter(|one| text(one, &["operation"]) == "Apply");
    // Flux applies what its source says, and leaves other fields alone.
    (who != "Flux" || applied.any(|entry| at(entry, &path).is_some())).then(|| {
        format!(
            "it is managed by {who} itself (`{name}`), which would put `{}` back",
            tool.switch().join(".")
        )
    })
}

/// What it needs. Which managers there are is known from the answer.
pub(in crate::k8s) fn touches(args: &[Value]) -> Vec<Touch> {
    let listed = args.first().and_then(Value::as_array).into_iter().flatten();
    let objects = listed.filter_map(Value::as_object).filter_map(|map| named(map, "").ok());
    let answered = args.get(2).and_then(|answer| answer.get("managers")).and_then(Value::as_array);
    let managers = answered
        .into_iter()
        .flatten()
        .filter_map(|one| Manager::read(std::slice::from_ref(one)).ok().map(|manager| manager.object));
    objects.chain(managers).map(|object| object.touch(&["get"])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signs_of_an_object_name_its_manager() {
        let secret = Ref::secret("tidb", "s");
        let found = |metadata: Value| keeper(&secret, &json!({ "metadata": metadata }), "argocd");
        let of = |group, plural, namespace: &str, name: &str| {
            Some(Ok((group, plural, namespace.to_owned(), name.to_owned())))
        };
        let tracked = |id: &str| json!({"annotations": {"argocd.argoproj.io/tracking-id": id}});
        assert_eq!(
            found(tracked("shop:/Secret:tidb/s")),
            of("argoproj.io", "applications", "argocd", "shop")
        );
        assert_eq!(
            found(tracked("team_shop:/Secret:tidb/s")),
            of("argoproj.io", "applications", "team", "shop")
        );
        let flux = |kind: &str| {
            json!({"labels": {format!("{kind}.toolkit.fluxcd.io/name"): "db", format!("{kind}.toolkit.fluxcd.io/namespace"): "flux-system"},
                "annotations": {"meta.helm.sh/release-name": "db"}})
        };
        assert_eq!(
            found(flux("kustomize")),
            of("kustomize.toolkit.fluxcd.io", "kustomizations", "flux-system", "db")
        );
        assert_eq!(found(flux("helm")), of("helm.toolkit.fluxcd.io", "helmreleases", "flux-system", "db"));
        let helm = json!({"annotations": {"meta.helm.sh/release-name": "db"}});
        assert!(matches!(found(helm), Some(Err(why)) if why.contains("no controller")));
        assert_eq!(found(json!({"labels": {"app": "tidb"}})), None);
    }

    #[test]
    fn a_manager_that_is_managed_itself_is_not_paused_behind_its_back() {
        let app = Ref::new("argoproj.io/v1alpha1", "Application", "argocd", "shop");
        let of = |manager: &Ref, metadata: Value| above(manager, &json!({ "metadata": metadata }));
        assert_eq!(of(&app, json!({})), None);
        assert_eq!(of(&app, json!({"labels": {"app.kubernetes.io/instance": "shop"}})), None);
        let set = json!({"ownerReferences": [{"kind": "ApplicationSet", "name": "all", "controller": true}]});
        assert!(of(&app, set).is_some());
        assert!(of(&app, json!({"labels": {"app.kubernetes.io/instance": "apps"}})).is_some());
        let child = Ref::new("kustomize.toolkit.fluxcd.io/v1", "Kustomization", "flux-system", "db");
        let labels = json!({"kustomize.toolkit.fluxcd.io/name": "flux-system"});
        let owns = |fields: Value| {
            json!({"labels": labels, "managedFields": [{"manager": "kustomize-controller", "operation": "Apply",
                "fieldsV1": {"f:spec": fields}}]})
        };
        assert_eq!(
            of(&child, owns(json!({"f:path": {}}))),
            None,
            "what its source does not say, Flux leaves alone"
        );
        assert!(of(&child, owns(json!({"f:suspend": {}}))).is_some());
    }
}
