//! Objects that Argo CD may know by the label `app.kubernetes.io/instance`, as it does before 3.0 unless told otherwise. Helm
//! and operators set that label too, so the Application of that name is asked whether the object is among its own.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{argo, named};
use crate::error::{Code, PrimError};
use crate::gate::Gate;
use crate::k8s::args;
use crate::k8s::client::Objects;
use crate::k8s::discovery;
use crate::k8s::object::Ref;
use crate::k8s::owner;
use crate::registry::Touch;
use crate::world::World;

/// Group and plural name of Applications.
pub(super) const APPLICATIONS: (&str, &str) = ("argoproj.io", "applications");

/// The Applications that were asked for, each once.
pub(super) struct Applications<'a> {
    objects: &'a Objects<'a>,
    argocd: String,
    /// `apiVersion` and kind, once they were asked for; nothing where the server has none.
    #[allow(clippy::option_option, reason = "not asked for, not there, and there are three answers")]
    kind: Option<Option<(String, String)>>,
    known: BTreeMap<Ref, Option<Value>>,
}

/// What is known of who keeps an object.
pub(super) enum Keeper {
    /// This Application, by its own word.
    Application(Ref),
    /// It may be this one, which may not be read.
    Unread(Ref),
}

impl<'a> Applications<'a> {
    pub(super) fn new(objects: &'a Objects<'a>, argocd: &str) -> Self {
        Self { objects, argocd: argocd.to_owned(), kind: None, known: BTreeMap::new() }
    }

    /// Who keeps an object that has this label.
    pub(super) async fn keeper(&mut self, object: &Ref, instance: &str) -> Result<Option<Keeper>, PrimError> {
        let kind = match &self.kind {
            Some(kind) => kind.clone(),
            None => {
                let kind = discovery::kind_of(self.objects, APPLICATIONS.0, APPLICATIONS.1).await?;
                self.kind.insert(kind).clone()
            }
        };
        let Some((version, kind)) = kind else { return Ok(None) };
        let (namespace, name) = argo::place(instance, &self.argocd);
        let application = Ref::new(&version, &kind, &namespace, &name);
        if !self.known.contains_key(&application) {
            let found = match self.objects.find(&application).await {
                Err(error) if error.code == Code::Forbidden => return Ok(Some(Keeper::Unread(application))),
                found => found?,
            };
            self.known.insert(application.clone(), found);
        }
        let lists =
            self.known.get(&application).and_then(Option::as_ref).is_some_and(|app| argo::lists(app, object));
        Ok(lists.then_some(Keeper::Application(application)))
    }
}

/// What cannot be known of an object, and why.
pub(super) fn unknown(object: &Ref, application: &Ref) -> String {
    format!(
        "{object} has the label `{}`, and {application}, which that may mean, may not be read: whether Argo CD keeps the object is not known",
        owner::INSTANCE
    )
}

/// `k8s::tracked(objects, options)`.
pub(in crate::k8s) async fn run(world: &World, args: &[Value], _gate: &dyn Gate) -> Result<Value, PrimError> {
    let Some(Value::Array(listed)) = args.first() else {
        return Err(PrimError::argument("`objects` has the wrong type").expected("a list", "something else"));
    };
    let objects = Objects::of(world)?;
    let mut applications = Applications::new(&objects, super::argocd(args));
    let (mut managed, mut unread, mut found) = (Vec::new(), Vec::new(), Vec::new());
    for (n, entry) in listed.iter().enumerate() {
        let name = format!("objects[{n}]");
        let map = entry.as_object().ok_or_else(|| {
            PrimError::argument(format!("`{name}` has the wrong type")).expected("a map", entry.to_string())
        })?;
        let (object, instance) = (named(map, &name)?, args::field(map, "instance", &name)?);
        match applications.keeper(&object, instance).await? {
            None => {}
            Some(Keeper::Unread(application)) => unread.push(unknown(&object, &application)),
            Some(Keeper::Application(application)) => {
                managed.push(owner::told(&object, "Argo CD", &application.name));
                found.push(application);
            }
        }
    }
    found.sort();
    found.dedup();
    let found: Vec<Value> = found.iter().map(super::described).collect();
    Ok(json!({ "managed": managed, "unread": unread, "applications": found }))
}

/// What it needs. Which Applications there are is known from the answer.
pub(in crate::k8s) fn touches(args: &[Value]) -> Vec<Touch> {
    let answered = args.get(2).and_then(|answer| answer.get("applications")).and_then(Value::as_array);
    let found = answered.into_iter().flatten().filter_map(Value::as_object);
    found.filter_map(|map| named(map, "").ok()).map(|application| application.touch(&["get"])).collect()
}
