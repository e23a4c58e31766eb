//! Who may do what: rules in the manner of RBAC, without its objects.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::error::{ApiError, qualified};
use super::request::RequestInfo;

/// What a user may do. An empty list of names or namespaces means all of them; `*` stands for everything elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// Verbs.
    pub verbs: Vec<String>,
    /// API groups; the empty string is core.
    pub groups: Vec<String>,
    /// Plural resources, `pods/log` for a subresource.
    pub resources: Vec<String>,
    /// Names of objects; empty for all.
    pub names: Vec<String>,
    /// Namespaces; empty for all, and for cluster objects.
    pub namespaces: Vec<String>,
}

impl Rule {
    /// The rules of a Role or ClusterRole object; of a Role, for its own namespace alone.
    pub fn of_role(role: &Value) -> Vec<Self> {
        let list = |rule: &Value, key: &str| -> Vec<String> {
            let values = rule.get(key).and_then(Value::as_array).into_iter().flatten();
            values.filter_map(Value::as_str).map(ToOwned::to_owned).collect()
        };
        let namespace = role.pointer("/metadata/namespace").and_then(Value::as_str).map(ToOwned::to_owned);
        role.get("rules")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .map(|rule| Self {
                verbs: list(rule, "verbs"),
                groups: list(rule, "apiGroups"),
                resources: list(rule, "resources"),
                names: list(rule, "resourceNames"),
                namespaces: namespace.clone().into_iter().collect(),
            })
            .collect()
    }

    fn allows(&self, info: &RequestInfo) -> bool {
        let has = |list: &[String], word: &str| list.iter().any(|one| one == "*" || one == word);
        let resource = full_resource(info);
        let any_sub = format!("*/{}", info.subresource);
        has(&self.verbs, &info.verb)
            && has(&self.groups, &info.group)
            && (has(&self.resources, &resource)
                || (!info.subresource.is_empty() && self.resources.contains(&any_sub)))
            && (self.names.is_empty() || self.names.contains(&info.name))
            && (self.namespaces.is_empty() || self.namespaces.contains(&info.namespace))
    }

    fn to_json(&self) -> Value {
        json!({"verbs": self.verbs, "apiGroups": self.groups, "resources": self.resources, "resourceNames": self.names})
    }
}

fn full_resource(info: &RequestInfo) -> String {
    if info.subresource.is_empty() {
        info.resource.clone()
    } else {
        format!("{}/{}", info.resource, info.subresource)
    }
}

/// The users with rules. A user without any is an administrator.
#[derive(Debug, Default)]
pub(crate) struct Access {
    users: HashMap<String, Vec<Rule>>,
}

impl Access {
    pub(crate) fn set(&mut self, user: &str, rules: Option<Vec<Rule>>) {
        match rules {
            Some(rules) => self.users.insert(user.into(), rules),
            None => self.users.remove(user),
        };
    }

    pub(crate) fn allowed(&self, info: &RequestInfo) -> bool {
        if info.resource.is_empty() {
            return true;
        }
        // What every authenticated user may ask about itself.
        if info.resource.starts_with("selfsubject") {
            return true;
        }
        self.users.get(&info.user).is_none_or(|rules| rules.iter().any(|rule| rule.allows(info)))
    }

    pub(crate) fn rules(&self, user: &str, namespace: &str) -> Vec<Value> {
        match self.users.get(user) {
            None => vec![json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]})],
            Some(rules) => rules
                .iter()
                .filter(|rule| {
                    rule.namespaces.is_empty() || rule.namespaces.iter().any(|one| one == namespace)
                })
                .map(Rule::to_json)
                .collect(),
        }
    }

    pub(crate) fn check(&self, info: &RequestInfo) -> Result<(), ApiError> {
        if self.allowed(info) {
            return Ok(());
        }
        let place = if info.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace \"{}\"", info.namespace)
        };
        let subject = qualified(&info.group, &info.resource);
        let subject = if info.name.is_empty() { subject } else { format!("{subject} \"{}\"", info.name) };
        let message = format!(
            "{subject} is forbidden: User \"{}\" cannot {} resource \"{}\" in API group \"{}\" {place}",
            info.user,
            info.verb,
            full_resource(info),
            info.group
        );
        Err(ApiError::new(403, "Forbidden", message).about(&info.group, &info.resource, &info.name))
    }
}
