//! The PKI that the world begins with: TiDB's documented inputs, a CA made from them, and a certificate for each
//! component.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use stdlib::PrimError;
use stdlib::cert::{Certificate, Key};
use stdlib::cfssl::{Config, Request};
use stdlib::world::Disk;
use time::OffsetDateTime;

use super::scenario::Scenario;
use super::sql::SqlPki;

macro_rules! input {
    ($name:literal) => {
        ($name, include_str!(concat!("../../../../../workflows/tidb/pki/", $name)))
    };
}

/// TiDB's inputs, written for the cluster `basic` in the namespace `tidb`.
pub const INPUTS: &[(&str, &str)] = &[
    input!("ca-config.json"),
    input!("ca-csr.json"),
    input!("pd-server.json"),
    input!("tikv-server.json"),
    input!("tidb-server.json"),
    input!("tiflash-server.json"),
    input!("ticdc-server.json"),
    input!("tiproxy-server.json"),
    input!("pump-server.json"),
    input!("client.json"),
];

/// A leaf with its key.
#[derive(Clone)]
pub struct Issued {
    /// The certificate, PEM.
    pub cert: String,
    key: stdlib::Secret,
}

impl Issued {
    pub(super) fn new(cert: String, key: stdlib::Secret) -> Self {
        Self { cert, key }
    }

    /// The three keys of its Secret.
    pub(super) fn secret(&self, ca: &Certificate) -> BTreeMap<&'static str, Vec<u8>> {
        [
            ("tls.crt", self.cert.clone().into_bytes()),
            ("tls.key", self.key.expose().to_vec()),
            ("ca.crt", ca.pem().into_bytes()),
        ]
        .into()
    }

    /// Its two files, as cfssljson names them.
    pub(super) fn write(&self, disk: &dyn Disk, folder: &Path, stem: &str) -> io::Result<()> {
        disk.write_atomic(&folder.join(format!("{stem}.pem")), self.cert.as_bytes(), 0o644)?;
        disk.write_atomic(&folder.join(format!("{stem}-key.pem")), self.key.expose(), 0o600)
    }
}

/// A CA, its inputs, and what it issued. Cheap enough to clone for every test world.
#[derive(Clone)]
pub struct Pki {
    inputs: BTreeMap<String, String>,
    ca: Certificate,
    ca_key: Key,
    leaves: BTreeMap<String, Issued>,
    sql: Option<SqlPki>,
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pki").field("ca", &self.ca.fingerprint()).finish_non_exhaustive()
    }
}

/// The file stem of a component's request.
pub fn stem(component: &str) -> String {
    if component == "client" { component.to_owned() } else { format!("{component}-server") }
}

impl Pki {
    /// Makes the CA and one certificate for each component of the scenario and for its clients.
    ///
    /// # Errors
    /// An input is malformed: a bug of ours, or a scenario whose names make no host names.
    pub fn make(scenario: &Scenario, now: OffsetDateTime) -> Result<Self, PrimError> {
        let named = |name: &str, text: &str| {
            let component = name.split(['-', '.']).next().unwrap_or_default();
            text.replace("basic-", &format!("{}-", scenario.stem(component)))
                .replace(".tidb", &format!(".{}", scenario.namespace))
        };
        let mut inputs: BTreeMap<String, String> =
            INPUTS.iter().map(|(name, text)| ((*name).to_owned(), named(name, text))).collect();
        let wanted: Vec<String> = scenario.present().chain(["client"]).map(str::to_owned).collect();
        inputs.retain(|name, _| {
            name.starts_with("ca-") || wanted.iter().any(|c| *name == format!("{}.json", stem(c)))
        });
        let input = |name: &str| {
            inputs
                .get(name)
                .map(String::as_bytes)
                .ok_or_else(|| PrimError::not_found("no such input").on(name))
        };
        let config = Config::from_json(input("ca-config.json")?, "ca-config.json")?;
        let request = Request::from_json(input("ca-csr.json")?, "ca-csr.json")?;
        let (ca, ca_key) = stdlib::ca::create(&request, now)?;
        let mut leaves = BTreeMap::new();
        for component in wanted {
            let file = format!("{}.json", stem(&component));
            let request = Request::from_json(input(&file)?, &file)?;
            let profile = config.profile(if component == "client" { "client" } else { "internal" })?;
            let (cert, key) = stdlib::cfssl::issue(&ca, &ca_key, &request, profile, now)?;
            leaves.insert(component, Issued::new(cert.pem(), key.to_secret()?));
        }
        let sql = scenario.sql_tls.then(|| SqlPki::make(scenario, now)).transpose()?;
        Ok(Self { inputs, ca, ca_key, leaves, sql })
    }

    /// The PKI of the MySQL side, where that speaks TLS.
    pub fn sql(&self) -> Option<&SqlPki> {
        self.sql.as_ref()
    }

    /// The CA's certificate, PEM.
    pub fn ca_pem(&self) -> String {
        self.ca.pem()
    }

    /// The CA with its key.
    pub fn authority(&self) -> (Certificate, Key) {
        (self.ca.clone(), self.ca_key.clone())
    }

    /// `tls.crt`, `tls.key` and `ca.crt` of a component's Secret.
    pub fn secret(&self, component: &str) -> Option<BTreeMap<&'static str, Vec<u8>>> {
        Some(self.leaves.get(component)?.secret(&self.ca))
    }

    /// The components that have a certificate.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.leaves.keys().map(String::as_str)
    }

    /// The hosts that a component's request names.
    pub(super) fn hosts(&self, component: &str) -> Vec<String> {
        let request = self.inputs.get(&format!("{}.json", stem(component)));
        let read = request.and_then(|text| text.parse::<serde_json::Value>().ok()).unwrap_or_default();
        let hosts = read.get("hosts").and_then(serde_json::Value::as_array);
        hosts.into_iter().flatten().filter_map(|host| Some(host.as_str()?.to_owned())).collect()
    }

    /// Writes the folder as a person who followed the page left it: inputs, CA, certificates, keys.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn write(&self, disk: &dyn Disk, folder: &Path) -> io::Result<()> {
        disk.make_dir(folder, 0o700)?;
        for (name, text) in &self.inputs {
            disk.write_atomic(&folder.join(name), text.as_bytes(), 0o644)?;
        }
        disk.write_atomic(&folder.join("ca.pem"), self.ca.pem().as_bytes(), 0o644)?;
        let key = self.ca_key.to_pem().map_err(io::Error::other)?;
        disk.write_atomic(&folder.join("ca-key.pem"), key.as_bytes(), 0o600)?;
        for (component, leaf) in &self.leaves {
            leaf.write(disk, folder, &stem(component))?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::disallowed_methods)]
mod tests {
    use super::*;

    #[test]
    fn certificates_name_the_cluster_and_namespace_of_the_scenario() {
        let scenario = Scenario { cluster: "prod".into(), namespace: "db".into(), ..Scenario::default() };
        let pki = Pki::make(&scenario, OffsetDateTime::now_utc()).unwrap();
        assert_eq!(pki.components().collect::<Vec<_>>(), ["client", "pd", "tidb", "tikv"]);
        let secret = pki.secret("tidb").unwrap();
        let cert = Certificate::from_pem(&secret["tls.crt"], "tls.crt").unwrap();
        let names: Vec<String> = cert.sans().iter().map(ToString::to_string).collect();
        assert!(names.iter().any(|n| n.contains("*.prod-tidb-peer.db.svc")), "{names:?}");
        assert!(!names.iter().any(|n| n.contains("basic") || n.contains(".tidb")), "{names:?}");
    }
}
