//! The PKI of TiDB's MySQL side: a CA of its own, the servers' certificate and the clients'.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use stdlib::PrimError;
use stdlib::cert::{Certificate, Key};
use stdlib::cfssl::{Config, Request};
use stdlib::world::Disk;
use time::OffsetDateTime;

use super::pki::Issued;
use super::scenario::Scenario;

macro_rules! input {
    ($name:literal) => {
        ($name, include_str!(concat!("../../../../../workflows/tidb/sql-pki/", $name)))
    };
}

/// TiDB's inputs, written for the cluster `basic` in the namespace `tidb`.
const INPUTS: &[(&str, &str)] =
    &[input!("ca-config.json"), input!("ca-csr.json"), input!("server.json"), input!("client.json")];

/// The CA of the MySQL side, its inputs, and what it issued.
#[derive(Clone)]
pub struct SqlPki {
    inputs: BTreeMap<&'static str, String>,
    ca: Certificate,
    ca_key: Key,
    leaves: BTreeMap<&'static str, Issued>,
}

impl SqlPki {
    /// Makes them.
    ///
    /// # Errors
    /// An input is malformed: a bug of ours.
    pub(super) fn make(scenario: &Scenario, now: OffsetDateTime) -> Result<Self, PrimError> {
        let named = |text: &str| {
            text.replace("basic-", &format!("{}-", scenario.stem("tidb")))
                .replace(".tidb", &format!(".{}", scenario.namespace))
        };
        let inputs: BTreeMap<&str, String> = INPUTS.iter().map(|(name, text)| (*name, named(text))).collect();
        let input = |name: &str| inputs.get(name).map(String::as_bytes).unwrap_or_default();
        let config = Config::from_json(input("ca-config.json"), "ca-config.json")?;
        let request = Request::from_json(input("ca-csr.json"), "ca-csr.json")?;
        let (ca, ca_key) = stdlib::ca::create(&request, now)?;
        let mut leaves = BTreeMap::new();
        for role in ["server", "client"] {
            let file = format!("{role}.json");
            let request = Request::from_json(input(&file), &file)?;
            let (cert, key) = stdlib::cfssl::issue(&ca, &ca_key, &request, config.profile(role)?, now)?;
            leaves.insert(role, Issued::new(cert.pem(), key.to_secret()?));
        }
        Ok(Self { inputs, ca, ca_key, leaves })
    }

    /// `tls.crt`, `tls.key` and `ca.crt` of the Secret of `server` or `client`.
    pub fn secret(&self, role: &str) -> Option<BTreeMap<&'static str, Vec<u8>>> {
        Some(self.leaves.get(role)?.secret(&self.ca))
    }

    /// Writes the folder as a person who followed the page left it.
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
        for (role, leaf) in &self.leaves {
            leaf.write(disk, folder, role)?;
        }
        Ok(())
    }
}
