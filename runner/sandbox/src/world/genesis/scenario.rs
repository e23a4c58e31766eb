//! What the world begins with.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What of the cluster's certificates has expired when the world begins. They were valid when its processes started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expired {
    /// Nothing has.
    #[default]
    Nothing,
    /// The certificates, but not the CA.
    Leaves,
    /// The CA too.
    Everything,
}

impl Expired {
    /// How long ago the certificates were made: a day more than they live, as TiDB's documented inputs have it.
    pub fn age(self) -> time::Duration {
        let hours = match self {
            Self::Nothing => return time::Duration::ZERO,
            Self::Leaves => 8_760,
            Self::Everything => 87_600,
        };
        time::Duration::hours(hours + 24)
    }
}

/// Who issues the cluster's certificates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IssuedBy {
    /// A person with cfssl, who made the Secrets.
    #[default]
    Cfssl,
    /// cert-manager, which keeps them.
    CertManager,
}

/// Which TiDB operator keeps the cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operator {
    /// Version 1: a `TidbCluster`, and StatefulSets.
    #[default]
    V1,
    /// Version 2: a `Cluster` and groups, each called as its component is.
    V2,
}

/// What becomes of a private key when cert-manager renews its certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RotationPolicy {
    /// A new one is made.
    #[default]
    Always,
    /// It is kept.
    Never,
}

impl RotationPolicy {
    /// As a Certificate has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::Never => "Never",
        }
    }
}

/// A TiDB cluster with its clients. Every field has a default: the smallest scenario is an empty file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scenario {
    /// Namespace of the cluster.
    pub namespace: String,
    /// Name of the cluster.
    pub cluster: String,
    /// Which TiDB operator keeps it.
    pub operator: Operator,
    /// How many pods of which component.
    pub components: BTreeMap<String, u32>,
    /// How many client pods.
    pub clients: u32,
    /// Common names that servers allow of their clients (`cert-allowed-cn`); empty allows all.
    pub allowed_cn: Vec<String>,
    /// Leaders that each TiKV store holds. From 200 on the operator waits until they are back.
    pub leaders_per_store: u32,
    /// The type of the cluster's Secrets.
    pub secret_type: String,
    /// What has expired.
    pub expired: Expired,
    /// Who issues its certificates.
    pub issued_by: IssuedBy,
    /// What becomes of keys, where that is cert-manager.
    pub rotation_policy: RotationPolicy,
    /// Whether TiDB's MySQL side speaks TLS, with a CA of its own, and has clients.
    pub sql_tls: bool,
    /// Instead of all that: hosts with a cluster of etcd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etcd: Option<crate::hosts::Etcd>,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            namespace: "tidb".into(),
            cluster: "basic".into(),
            operator: Operator::V1,
            components: [("pd", 3), ("tikv", 3), ("tidb", 2)].map(|(name, n)| (name.to_owned(), n)).into(),
            clients: 1,
            allowed_cn: Vec::new(),
            leaders_per_store: 120,
            secret_type: "kubernetes.io/tls".into(),
            etcd: None,
            expired: Expired::Nothing,
            issued_by: IssuedBy::Cfssl,
            rotation_policy: RotationPolicy::Always,
            sql_tls: false,
        }
    }
}

impl Scenario {
    /// The same with some pods of a further component.
    #[must_use]
    pub fn with(mut self, component: &str, replicas: u32) -> Self {
        self.components.insert(component.to_owned(), replicas);
        self
    }

    /// Reads a scenario.
    ///
    /// # Errors
    /// The text is not YAML, has unknown fields, or names a component that there is not.
    pub fn from_yaml(text: &str) -> Result<Self, String> {
        let scenario: Self = serde_yaml::from_str(text).map_err(|e| e.to_string())?;
        let unknown = scenario.components.keys().find(|c| crate::world::pod::program::program(c).is_none());
        match unknown {
            Some(name) => Err(format!("there is no component `{name}`")),
            None => Ok(scenario),
        }
    }

    /// How long ago the cluster was made. What cert-manager issues is not backdated, and no cluster is rotated in the
    /// minute in which it was made.
    pub fn age(&self) -> time::Duration {
        match self.issued_by {
            IssuedBy::Cfssl => self.expired.age(),
            IssuedBy::CertManager => self.expired.age().max(time::Duration::DAY),
        }
    }

    /// The name of a component's Secret; `client` is one too.
    pub fn secret_name(&self, component: &str) -> String {
        super::objects::secret_name(self.stem(component), component)
    }

    /// The name of a Secret of the MySQL side: that of the `server` or of the `client`.
    pub fn sql_secret(&self, role: &str) -> String {
        format!("{}-tidb-{role}-secret", self.stem("tidb"))
    }

    /// What the names of a component's objects begin with: the cluster's name, or under operator v2 its group's, which is
    /// called as the component is.
    pub fn stem<'a>(&'a self, component: &'a str) -> &'a str {
        if self.operator == Operator::V2 && component != "client" { component } else { &self.cluster }
    }

    /// The components that the scenario has pods of, by name.
    pub fn present(&self) -> impl Iterator<Item = &str> {
        self.components.iter().filter(|(_, n)| **n > 0).map(|(name, _)| name.as_str())
    }
}
