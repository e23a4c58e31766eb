//! Inventories in Ansible's YAML form. Pure: from a text to hosts.
//!
//! What says how a host is reached is read here; all other variables are kept as data. What we would read otherwise than
//! Ansible does is refused by name, never guessed at.

mod range;
mod tree;
mod vars;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::PrimError;
use crate::near::nearest;
use vars::entry;

/// Where our lock and mark lie on a host, unless `rollover_state` says otherwise.
pub const STATE: &str = "/var/lib/rollover";

/// How a host is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Connection {
    /// By the operator's OpenSSH.
    #[default]
    Ssh,
    /// It is this machine.
    Local,
}

/// A host: its name, how it is reached, and what else the inventory says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name in the inventory.
    pub name: String,
    /// `ansible_host`, or its name.
    pub address: String,
    /// How it is reached.
    #[serde(default)]
    pub connection: Connection,
    /// `ansible_port`; without it OpenSSH decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// `ansible_user`; without it OpenSSH decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// `ansible_ssh_private_key_file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<String>,
    /// `ansible_ssh_common_args` and `ansible_ssh_extra_args`, as words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// The user to become by `sudo`, where `ansible_become` is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#become: Option<String>,
    /// `rollover_state`: where our lock and mark lie on it.
    #[serde(default = "default_state")]
    pub state: String,
    /// All other variables.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub vars: Map<String, Value>,
}

fn default_state() -> String {
    STATE.to_owned()
}

impl Entry {
    /// For people: `m1 (10.0.0.1)`.
    pub fn title(&self) -> String {
        if self.name == self.address {
            self.name.clone()
        } else {
            format!("{} ({})", self.name, self.address)
        }
    }

    /// Whether both lead to the same place in the same way.
    pub(super) fn reaches_as(&self, other: &Self) -> bool {
        Self { vars: Map::new(), ..self.clone() } == Self { vars: Map::new(), ..other.clone() }
    }
}

/// Hosts, and the groups that they are in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Hosts by name.
    pub hosts: BTreeMap<String, Entry>,
    /// Names of hosts by group, those of its children included, in the order of the file. `all` has every one.
    pub groups: BTreeMap<String, Vec<String>>,
}

impl Inventory {
    /// The hosts of a group, or one host by its name.
    ///
    /// # Errors
    /// There is neither.
    pub fn named(&self, name: &str) -> Result<Vec<&Entry>, PrimError> {
        if let Some(group) = self.groups.get(name) {
            return Ok(group.iter().filter_map(|host| self.hosts.get(host)).collect());
        }
        if let Some(host) = self.hosts.get(name) {
            return Ok(vec![host]);
        }
        let known = || self.groups.keys().chain(self.hosts.keys()).map(String::as_str);
        let error = PrimError::not_found(format!("the inventory has no group and no host `{name}`"));
        Err(match nearest(name, known()) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint(format!("it has: {}", known().collect::<Vec<_>>().join(", "))),
        })
    }
}

/// Files and folders of variables that Ansible would read beside an inventory for the hosts of a group, by their names
/// from its folder.
pub fn beside(inventory: &Inventory, group: &str) -> impl Iterator<Item = String> {
    let hosts: Vec<String> =
        inventory.named(group).unwrap_or_default().into_iter().map(|host| host.name.clone()).collect();
    let groups = inventory.groups.iter().filter(|(_, of)| of.iter().any(|host| hosts.contains(host)));
    let groups: Vec<String> = groups.map(|(name, _)| format!("group_vars/{name}")).collect();
    let hosts = hosts.into_iter().map(|host| format!("host_vars/{host}"));
    let stems = groups.into_iter().chain(hosts);
    stems.flat_map(|stem| ["", ".yml", ".yaml", ".json"].map(|ending| format!("{stem}{ending}")))
}

/// A group while it is read.
#[derive(Default)]
struct Group {
    hosts: Vec<String>,
    children: Vec<String>,
    vars: Vec<(String, Value)>,
}

#[derive(Default)]
struct Reading {
    groups: BTreeMap<String, Group>,
    /// Variables of hosts, in the order of the file.
    hosts: BTreeMap<String, Vec<(String, Value)>>,
    order: Vec<String>,
}

/// Reads an inventory. `what` names it in errors.
///
/// # Errors
/// It is no YAML, has a key twice, a group within itself, or says something that would be read otherwise than Ansible
/// does.
pub fn parse(text: &str, what: &str) -> Result<Inventory, PrimError> {
    let fail = |error: PrimError| {
        let object =
            if error.object.is_empty() { what.to_owned() } else { format!("{what}, {}", error.object) };
        error.on(object)
    };
    let root = tree::parse(text).map_err(|message| PrimError::invalid(message).on(what))?;
    let mut reading = Reading::default();
    reading.groups.entry("all".into()).or_default();
    for (name, body) in pairs(root, "the inventory").map_err(fail)? {
        reading.group(&name, body).map_err(fail)?;
    }
    reading.finish().map_err(fail)
}

/// The entries of a map; nothing counts as an empty one, as Ansible has it.
fn pairs(node: tree::Node, what: &str) -> Result<Vec<(String, tree::Node)>, PrimError> {
    match node {
        tree::Node::Null => Ok(Vec::new()),
        tree::Node::Map(pairs) => Ok(pairs),
        other => Err(PrimError::invalid(format!("{what} must be a map")).expected("a map", other.word())),
    }
}

impl Reading {
    fn group(&mut self, name: &str, body: tree::Node) -> Result<(), PrimError> {
        if name.is_empty() || name.contains(['[', ']', '*', ':', ' ']) {
            return Err(PrimError::invalid(format!("`{name}` is no name of a group")));
        }
        self.groups.entry(name.to_owned()).or_default();
        for (key, value) in pairs(body, &format!("group `{name}`"))? {
            let inside = format!("`{key}` of group `{name}`");
            match key.as_str() {
                "hosts" => {
                    for (pattern, vars) in pairs(value, &inside)? {
                        self.hosts_of(name, &pattern, vars)?;
                    }
                }
                "children" => {
                    for (child, body) in pairs(value, &inside)? {
                        self.group(&child, body)?;
                        let children = &mut self.groups.entry(name.to_owned()).or_default().children;
                        if !children.contains(&child) {
                            children.push(child);
                        }
                    }
                }
                "vars" => {
                    for (key, value) in pairs(value, &inside)? {
                        let value = value.into_value();
                        self.groups.entry(name.to_owned()).or_default().vars.push((key, value));
                    }
                }
                other => {
                    let error = PrimError::invalid(format!("group `{name}` has an unknown key `{other}`"))
                        .expected("`hosts`, `children` or `vars`", format!("`{other}`"));
                    return Err(match nearest(other, ["hosts", "children", "vars"]) {
                        Some(near) => error.hint(format!("did you mean `{near}`?")),
                        None => error.hint(format!("a group within a group stands below `children`; a variable below `vars`: `{name}: {{ vars: {{ {other}: … }} }}`")),
                    });
                }
            }
        }
        Ok(())
    }

    fn hosts_of(&mut self, group: &str, pattern: &str, vars: tree::Node) -> Result<(), PrimError> {
        let names = range::expand(pattern)
            .map_err(|message| PrimError::invalid(message).on(format!("host `{pattern}`")))?;
        let vars: Vec<(String, Value)> = pairs(vars, &format!("host `{pattern}`"))?
            .into_iter()
            .map(|(key, value)| (key, value.into_value()))
            .collect();
        for name in names {
            if !self.hosts.contains_key(&name) {
                self.order.push(name.clone());
            }
            self.hosts.entry(name.clone()).or_default().extend(vars.iter().cloned());
            let hosts = &mut self.groups.entry(group.to_owned()).or_default().hosts;
            if !hosts.contains(&name) {
                hosts.push(name);
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Inventory, PrimError> {
        let mut groups = BTreeMap::new();
        for name in self.groups.keys() {
            let mut found = Vec::new();
            self.collect(name, &mut Vec::new(), &mut found)?;
            groups.insert(name.clone(), found);
        }
        groups.insert("all".into(), self.order.clone());
        let depths = self.depths();
        let mut hosts = BTreeMap::new();
        for name in &self.order {
            // The nearer group wins; of equally near ones the last by name, as Ansible has it.
            let mut of: Vec<(usize, &String)> = depths
                .iter()
                .filter(|(group, _)| groups.get(**group).is_some_and(|hosts| hosts.contains(name)))
                .map(|(group, depth)| (*depth, *group))
                .collect();
            of.sort();
            let mut vars = Map::new();
            let inherited =
                of.iter().filter_map(|(_, group)| self.groups.get(*group)).flat_map(|group| &group.vars);
            for (key, value) in inherited.chain(self.hosts.get(name).into_iter().flatten()) {
                vars.insert(key.clone(), value.clone());
            }
            hosts.insert(name.clone(), entry(name, vars)?);
        }
        Ok(Inventory { hosts, groups })
    }

    /// The hosts of a group and its children.
    fn collect(&self, name: &str, above: &mut Vec<String>, found: &mut Vec<String>) -> Result<(), PrimError> {
        if above.iter().any(|group| group == name) {
            return Err(PrimError::invalid(format!("group `{name}` is within itself"))
                .hint(format!("the way round is {} → {name}", above.join(" → "))));
        }
        let Some(group) = self.groups.get(name) else { return Ok(()) };
        for host in &group.hosts {
            if !found.contains(host) {
                found.push(host.clone());
            }
        }
        above.push(name.to_owned());
        for child in &group.children {
            self.collect(child, above, found)?;
        }
        above.pop();
        Ok(())
    }

    /// How deep each group lies: `all` above every one, a child below all of its parents.
    fn depths(&self) -> BTreeMap<&String, usize> {
        let mut depths: BTreeMap<&String, usize> =
            self.groups.keys().map(|name| (name, usize::from(name != "all"))).collect();
        // There is no way round, so as many rounds as there are groups reach every depth.
        for _ in 0..self.groups.len() {
            for (name, group) in &self.groups {
                let below = depths.get(name).copied().unwrap_or_default() + 1;
                for child in &group.children {
                    if let Some(depth) = depths.get_mut(child) {
                        *depth = below.max(*depth);
                    }
                }
            }
        }
        depths
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
