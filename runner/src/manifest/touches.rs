//! What a workflow may touch (law 9 of the design): patterns of the manifest against what calls say they touch.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use stdlib::registry::Touch;

use super::Manifest;

/// One line of `touches`. Texts may hold `{{parameter}}`; `*` stands for any text.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Allowed {
    /// Kubernetes objects.
    Kube(KubeAllowed),
    /// Files and folders of this machine, with everything below a folder.
    Files(FilesAllowed),
    /// Files, folders, services and commands of hosts.
    Hosts(HostsAllowed),
    /// Endpoints that are dialled.
    Net(NetAllowed),
}

/// Kubernetes objects that a workflow may touch.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KubeAllowed {
    /// API group, empty for core.
    #[serde(default)]
    pub group: String,
    /// Plural resource name, with subresource where one is meant.
    pub resource: String,
    /// Namespace; absent for cluster-scoped objects.
    #[serde(default)]
    pub namespace: String,
    /// Object names; absent for all of that kind there.
    #[serde(default)]
    pub names: Vec<String>,
    /// Whether they may be changed; reading is always allowed.
    #[serde(default)]
    pub write: bool,
}

/// Files that a workflow may touch.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilesAllowed {
    /// A file, or a folder with everything below.
    pub path: String,
    /// Whether they may be written; reading is always allowed.
    #[serde(default)]
    pub write: bool,
}

/// What of hosts a workflow may touch.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostsAllowed {
    /// Names in the inventory.
    pub name: String,
    /// Files, and folders with everything below.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Services, by their names.
    #[serde(default)]
    pub services: Vec<String>,
    /// Commands that `host::run` may run there to look: a program and its arguments, as a shell would be given them.
    #[serde(default)]
    pub commands: Vec<String>,
    /// Whether they may be written and restarted; reading is always allowed.
    #[serde(default)]
    pub write: bool,
}

/// Endpoints that a workflow may dial.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetAllowed {
    /// Host name or address.
    pub host: String,
    /// Ports; absent for all.
    #[serde(default)]
    pub ports: Vec<u16>,
}

impl Allowed {
    /// The texts that may hold parameters.
    pub(super) fn templates(&self) -> Vec<&str> {
        match self {
            Allowed::Kube(kube) => [kube.group.as_str(), &kube.resource, &kube.namespace]
                .into_iter()
                .chain(kube.names.iter().map(String::as_str))
                .collect(),
            Allowed::Files(files) => vec![&files.path],
            Allowed::Hosts(hosts) => [&hosts.name]
                .into_iter()
                .chain(&hosts.paths)
                .chain(&hosts.services)
                .chain(&hosts.commands)
                .map(String::as_str)
                .collect(),
            Allowed::Net(net) => vec![&net.host],
        }
    }
}

/// What a workflow may touch, with its parameters filled in.
#[derive(Debug, Clone)]
pub struct Allowance {
    lines: Vec<Allowed>,
    folder: PathBuf,
}

impl Manifest {
    /// What the workflow may touch with these parameters, relative paths being below `folder`. A list parameter stands
    /// for each of its items.
    pub fn allowance(&self, params: &BTreeMap<String, Value>, folder: &Path) -> Allowance {
        let lines = self.touches.iter().flat_map(|allowed| fill(allowed, params)).collect();
        Allowance { lines, folder: folder.to_owned() }
    }
}

impl Allowance {
    /// Whether a call may touch this. Links are not followed.
    pub fn allows(&self, touch: &Touch) -> bool {
        self.lines.iter().any(|allowed| match (allowed, touch) {
            (Allowed::Kube(kube), Touch::Kube { group, resource, namespace, name, verbs }) => {
                // RBAC cannot limit creation by name, so primitives announce it without; the name stands in another touch.
                let creates = name.is_empty() && verbs.iter().all(|verb| verb == "create");
                let reads = verbs.iter().all(|verb| matches!(verb.as_str(), "get" | "list" | "watch"));
                (kube.write || reads)
                    && glob(&kube.group, group)
                    && glob(&kube.resource, object_of(resource))
                    && glob(&kube.namespace, namespace)
                    && (creates
                        || kube.names.is_empty()
                        || kube.names.iter().any(|pattern| names_object(pattern, name)))
            }
            (Allowed::Files(files), Touch::File { path, write }) => {
                (files.write || !write) && below(&self.absolute(&files.path), &self.absolute(path))
            }
            (Allowed::Hosts(hosts), Touch::Host { host, what, write }) => {
                (hosts.write || !write)
                    && glob(&hosts.name, host)
                    && match what.split_once(':') {
                        Some(("service", name)) => hosts.services.iter().any(|pattern| glob(pattern, name)),
                        Some(("command", line)) => hosts.commands.iter().any(|pattern| glob(pattern, line)),
                        // What is asked of a host as a whole changes nothing and names no file.
                        _ if what == "/" => !write,
                        _ => what.starts_with('/') && hosts.paths.iter().any(|path| below(path, what)),
                    }
            }
            (Allowed::Net(net), Touch::Net { host, port }) => {
                glob(&net.host, host) && (net.ports.is_empty() || net.ports.contains(port))
            }
            _ => false,
        })
    }

    /// The namespaces whose pods it names.
    pub fn pod_namespaces(&self) -> Vec<String> {
        let mut namespaces: Vec<String> = self
            .lines
            .iter()
            .filter_map(|line| match line {
                Allowed::Kube(kube) if kube.group.is_empty() && glob(&kube.resource, "pods") => {
                    Some(kube.namespace.clone())
                }
                _ => None,
            })
            .filter(|namespace| !namespace.is_empty() && !namespace.contains(['*', '\u{0}']))
            .collect();
        namespaces.sort();
        namespaces.dedup();
        namespaces
    }

    fn absolute(&self, path: &str) -> String {
        // An empty path is one that is not known yet; it is below nothing.
        if path.is_empty() { String::new() } else { self.folder.join(path).display().to_string() }
    }

    /// The line to add to the manifest for it.
    pub fn line_for(touch: &Touch) -> String {
        match touch {
            Touch::Kube { group, resource, namespace, name, verbs } => {
                let resource = object_of(resource);
                let write = verbs.iter().any(|verb| !matches!(verb.as_str(), "get" | "list" | "watch"));
                let names = if name.is_empty() { String::new() } else { format!(", names: [\"{name}\"]") };
                let write = if write { ", write: true" } else { "" };
                format!(
                    "- kube: {{ group: \"{group}\", resource: {resource}, namespace: \"{namespace}\"{names}{write} }}"
                )
            }
            Touch::File { path, write } => {
                format!("- files: {{ path: \"{path}\"{} }}", if *write { ", write: true" } else { "" })
            }
            Touch::Host { host, what, write } => {
                let what = match what.split_once(':') {
                    Some(("service", service)) => format!("services: [\"{service}\"]"),
                    Some(("command", line)) => {
                        format!("commands: [\"{}\"]", line.replace('\\', "\\\\").replace('"', "\\\""))
                    }
                    _ => format!("paths: [\"{what}\"]"),
                };
                let write = if *write { ", write: true" } else { "" };
                format!("- hosts: {{ name: \"{host}\", {what}{write} }}")
            }
            Touch::Net { host, port } => format!("- net: {{ host: \"{host}\", ports: [{port}] }}"),
        }
    }
}

/// An empty name means all objects of the kind, which only a pattern for all allows.
fn names_object(pattern: &str, name: &str) -> bool {
    if name.is_empty() { pattern == "*" } else { glob(pattern, name) }
}

/// A path allows itself and what lies below, after `.` and `..` are worked out.
fn below(pattern: &str, path: &str) -> bool {
    if pattern.is_empty() || path.is_empty() {
        return false;
    }
    let (pattern, path) = (tidy(pattern), tidy(path));
    glob(&pattern, &path) || glob(&format!("{}/*", pattern.trim_end_matches('/')), &path)
}

fn tidy(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if path.starts_with('/') => {}
            part => parts.push(part),
        }
    }
    let root = if path.starts_with('/') { "/" } else { "" };
    format!("{root}{}", parts.join("/"))
}

/// `*` matches any text, also none.
fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(rest) = parts.next().and_then(|head| text.strip_prefix(head)) else { return false };
    let mut rest = rest;
    let parts: Vec<_> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(index) => rest = rest.get(index + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

/// Names between `{{` and `}}`.
pub(super) fn placeholders(template: &str) -> Vec<&str> {
    template
        .split("{{")
        .skip(1)
        .filter_map(|part| part.split_once("}}"))
        .map(|(name, _)| name.trim())
        .collect()
}

fn fill(allowed: &Allowed, params: &BTreeMap<String, Value>) -> Vec<Allowed> {
    let mut lines = vec![allowed.clone()];
    let names: Vec<String> =
        allowed.templates().into_iter().flat_map(placeholders).map(str::to_owned).collect();
    for name in names {
        let texts: Vec<String> = match params.get(&name) {
            Some(Value::Array(items)) => items.iter().map(text_of).collect(),
            // A star in a parameter must not widen what the manifest says; no object or file is named so.
            Some(value) => vec![text_of(value)],
            None => Vec::new(),
        };
        lines = lines
            .iter()
            .flat_map(|line| texts.iter().map(|text| replaced(line, &name, &text.replace('*', "\u{0}"))))
            .collect();
    }
    lines
}

fn replaced(allowed: &Allowed, name: &str, text: &str) -> Allowed {
    let put = |template: &str| {
        let mut out = String::new();
        let mut rest = template;
        while let Some((head, tail)) = rest.split_once("{{") {
            out.push_str(head);
            match tail.split_once("}}") {
                Some((found, after)) if found.trim() == name => {
                    out.push_str(text);
                    rest = after;
                }
                _ => {
                    out.push_str("{{");
                    rest = tail;
                }
            }
        }
        out + rest
    };
    match allowed {
        Allowed::Kube(kube) => Allowed::Kube(KubeAllowed {
            group: put(&kube.group),
            resource: put(&kube.resource),
            namespace: put(&kube.namespace),
            names: kube.names.iter().map(|name| put(name)).collect(),
            write: kube.write,
        }),
        Allowed::Files(files) => Allowed::Files(FilesAllowed { path: put(&files.path), write: files.write }),
        Allowed::Hosts(hosts) => Allowed::Hosts(HostsAllowed {
            name: put(&hosts.name),
            paths: hosts.paths.iter().map(|path| put(path)).collect(),
            services: hosts.services.iter().map(|service| put(service)).collect(),
            commands: hosts.commands.iter().map(|command| put(command)).collect(),
            write: hosts.write,
        }),
        Allowed::Net(net) => Allowed::Net(NetAllowed { host: put(&net.host), ports: net.ports.clone() }),
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A part of an object (`pods/eviction`) is named by the object.
fn object_of(resource: &str) -> &str {
    resource.split_once('/').map_or(resource, |(object, _)| object)
}
