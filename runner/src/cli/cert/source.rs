//! Where `rollover cert` looks: a file, standard input, a Secret of a cluster, an endpoint.

use std::path::{Path, PathBuf};

use sandbox::world::Scenario;
use stdlib::cert::{Certificate, Key, SigningRequest, pem};
use stdlib::error::Code;
use stdlib::k8s::client::Objects;
use stdlib::k8s::content::{self, Flavor};
use stdlib::k8s::object::Ref;
use stdlib::tls::probe::{Opening, Probed, Target, probe};
use stdlib::{PrimError, Secret, World};
use zeroize::Zeroizing;

use super::args::{Cluster, Dial};
use super::files::{failed, read};
use super::here;
use crate::cli::args::Connection;
use crate::cli::{Context, connect};
use crate::error::Failure;
use crate::exit_code::ExitCode;

/// Where to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// A file, or `-`.
    File(PathBuf),
    /// A Secret.
    Secret(String, String),
    /// An endpoint.
    Endpoint(String, u16),
}

impl Source {
    /// What an argument means. A file that is there wins over everything else.
    pub(super) fn of(text: &str) -> Result<Self, Failure> {
        let path = Path::new(text);
        if text == "-" || path.exists() {
            return Ok(Self::File(path.to_owned()));
        }
        if let Some(rest) = text.strip_prefix("secret/") {
            return match rest.split_once('/') {
                Some((namespace, name))
                    if !namespace.is_empty() && !name.is_empty() && !name.contains('/') =>
                {
                    Ok(Self::Secret(namespace.to_owned(), name.to_owned()))
                }
                _ => Err(Failure::new(ExitCode::Usage, "is no Secret")
                    .on(text)
                    .hint("write `secret/NAMESPACE/NAME`")),
            };
        }
        match endpoint(text) {
            Some((host, port)) => Ok(Self::Endpoint(host, port)),
            None => Err(Failure::new(ExitCode::ObjectMissing, "there is no such file")
                .on(text)
                .hint("name a file, HOST:PORT, `secret/NAMESPACE/NAME`, or `-` for standard input")),
        }
    }
}

/// `HOST:PORT`, also with an address in brackets.
pub(super) fn endpoint(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port > 0)?;
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let host = match bare {
        Some(inner) => inner,
        None if host.contains(':') || host.contains('/') => return None,
        None => host,
    };
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

/// The keys found somewhere, or why one could not be read.
pub(super) enum Found {
    /// A private key.
    Open(Key),
    /// One that is encrypted, and no passphrase is at hand.
    Sealed,
    /// One that cannot be read.
    Broken(PrimError),
}

impl Found {
    /// Reads a private key without asking anybody.
    pub(super) fn read(bytes: &[u8], what: &str, passphrase: Option<&Secret>) -> Self {
        if passphrase.is_none() && Key::needs_passphrase(bytes) {
            return Self::Sealed;
        }
        match Key::from_bytes(bytes, what, passphrase) {
            Ok(key) => Self::Open(key),
            Err(error) => Self::Broken(error),
        }
    }
}

/// What lies in one place: a file, or one value of a Secret.
pub(super) struct Item {
    /// What it is called.
    pub name: String,
    /// Certificates, in order.
    pub certificates: Vec<Certificate>,
    /// Signing requests.
    pub requests: Vec<SigningRequest>,
    /// A private key among them.
    pub key: Option<Found>,
    /// What was repaired in reading.
    pub notes: Vec<String>,
}

impl Item {
    /// Reads whatever it is.
    pub(super) fn read(name: &str, bytes: &[u8], passphrase: Option<&Secret>) -> Result<Self, PrimError> {
        let mut item = Self {
            name: name.to_owned(),
            certificates: Vec::new(),
            requests: Vec::new(),
            key: None,
            notes: Vec::new(),
        };
        if bytes.windows(11).any(|window| window == b"-----BEGIN ") {
            item.read_pem(bytes, passphrase)?;
        } else if bytes.first() == Some(&0x30) {
            item.read_der(bytes, passphrase)?;
        } else {
            stdlib::pem::blocks(bytes, name).map_err(|error| match bytes.trim_ascii_start().first() {
                Some(b'{') => error
                    .hint("a cfssl request or configuration: `rollover cert sign` and `cert folder` read it"),
                _ => error,
            })?;
        }
        Ok(item)
    }

    fn read_pem(&mut self, bytes: &[u8], passphrase: Option<&Secret>) -> Result<(), PrimError> {
        let scan = stdlib::pem::blocks(bytes, &self.name)?;
        let at = |line: usize, error: PrimError| PrimError {
            message: format!("line {line}: {}", error.message),
            object: self.name.clone(),
            ..error
        };
        let mut keys = Vec::new();
        for block in &scan.blocks {
            match stdlib::pem::label(block) {
                "CERTIFICATE" => self
                    .certificates
                    .push(Certificate::from_der(block.der.to_vec()).map_err(|error| at(block.line, error))?),
                "CERTIFICATE REQUEST" => self
                    .requests
                    .push(SigningRequest::from_der(&block.der).map_err(|error| at(block.line, error))?),
                _ if stdlib::pem::is_key(block) => keys.push(block),
                "EC PARAMETERS" => {}
                label => self.notes.push(format!("line {}: a block `{label}` is left out", block.line)),
            }
        }
        self.notes.splice(0..0, scan.notes);
        if let [block] = keys.as_slice() {
            // Alone, so that what else is in the text does not matter; as it stands, where it has headers.
            let text = if block.encrypted_headers {
                Zeroizing::new(bytes.to_vec())
            } else {
                Zeroizing::new(pem::encode(&block.label, &block.der).into_bytes())
            };
            self.key = Some(Found::read(&text, &self.name, passphrase));
        } else if keys.len() > 1 {
            self.notes.push(format!("{} private keys; only one belongs to a certificate", keys.len()));
        }
        Ok(())
    }

    fn read_der(&mut self, bytes: &[u8], passphrase: Option<&Secret>) -> Result<(), PrimError> {
        if let Ok(certificate) = Certificate::from_der(bytes) {
            self.certificates.push(certificate);
        } else if let Ok(request) = SigningRequest::from_der(bytes) {
            self.requests.push(request);
        } else if let found @ (Found::Open(_) | Found::Sealed) = Found::read(bytes, &self.name, passphrase) {
            self.key = Some(found);
        } else {
            return Err(PrimError::invalid(
                "is neither a certificate nor a signing request nor a private key",
            )
            .on(self.name.clone())
            .expected("PEM, or DER of one of them", "other binary data"));
        }
        Ok(())
    }

    /// Whether there is nothing in it that this program knows.
    pub(super) fn is_empty(&self) -> bool {
        self.certificates.is_empty() && self.requests.is_empty() && self.key.is_none()
    }
}

/// What a file holds.
pub(super) fn file(path: &Path, passphrase: Option<&Secret>) -> Result<Item, Failure> {
    let name = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
    Item::read(&name, &read(path)?, passphrase).map_err(failed)
}

/// The world of a cluster.
async fn cluster(context: &Context, cluster: &Cluster) -> Result<World, Failure> {
    let connection = Connection {
        reach: cluster.reach.clone(),
        sandbox_dir: cluster.sandbox_dir.clone(),
        ..Connection::default()
    };
    let way = connect::find(context, &connection, &Scenario::default(), || Ok(())).await?;
    connect::world(&way).await
}

/// What a Secret holds, by key: certificates and keys; other values are left out.
pub(super) async fn secret(
    context: &Context,
    way: &Cluster,
    namespace: &str,
    name: &str,
    passphrase: Option<&Secret>,
) -> Result<(String, Vec<Item>), Failure> {
    let world = cluster(context, way).await?;
    let object = Ref::secret(namespace, name);
    let value = Objects::of(&world).map_err(failed)?.get(&object).await.map_err(|error| {
        let unreachable = error.code == Code::Unavailable;
        let error = if unreachable { error.hint("check the connection: `kubectl version`") } else { error };
        failed(error)
    })?;
    let content = content::read(Flavor::Secret, &object, &value).map_err(failed)?;
    let mut items = Vec::new();
    for (key, bytes) in &content {
        let what = format!("{object}, key `{key}`");
        if bytes.windows(11).any(|window| window == b"-----BEGIN ") {
            let item = Item::read(&what, bytes, passphrase).map_err(failed)?;
            items.push(Item { name: key.clone(), ..item });
        }
    }
    if items.is_empty() {
        let keys = content.keys().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        return Err(Failure {
            expected: Some("`tls.crt`, `tls.key`, `ca.crt`, or another key with PEM".into()),
            found: Some(if keys.is_empty() { "no keys".into() } else { keys }),
            ..Failure::new(ExitCode::Malformed, "holds no certificate").on(object.to_string())
        });
    }
    Ok((object.to_string(), items))
}

/// Looks at an endpoint, as nobody.
pub(super) async fn look(host: &str, port: u16, dial: &Dial) -> Result<Probed, Failure> {
    let target = target(host, port, dial);
    ask(&here(), &target).await
}

/// Whom a probe dials, before anything is shown or trusted.
pub(super) fn target(host: &str, port: u16, dial: &Dial) -> Target {
    Target {
        host: host.to_owned(),
        port,
        name: dial.name.clone().unwrap_or_else(|| host.to_owned()),
        opening: if dial.mysql { Opening::Mysql } else { Opening::Tls },
        identity: None,
        trust: None,
        within: dial.timeout,
    }
}

/// Probes; that nobody speaks TLS there is told with what may help.
pub(super) async fn ask(world: &World, target: &Target) -> Result<Probed, Failure> {
    probe(world, target).await.map_err(|failure| {
        let found = Failure::new(ExitCode::Unavailable, failure.to_string())
            .on(format!("{}:{}", target.host, target.port));
        match (target.opening, &failure) {
            (Opening::Tls, stdlib::tls::TlsFailure::Protocol(_)) => {
                found.hint("is it a TLS port? a MySQL port needs `--mysql`")
            }
            _ => found.hint("look at the address and the port; `--timeout 30s` waits longer"),
        }
    })
}

/// The certificates that an endpoint served.
pub(super) fn served(found: &Probed) -> Result<Vec<Certificate>, Failure> {
    found.observed.chain.0.iter().map(|der| Certificate::from_der(der.to_vec()).map_err(failed)).collect()
}

/// The trust store that an argument names: a file, or the `ca.crt` of a Secret.
pub(super) async fn anchors(
    context: &Context,
    way: &Cluster,
    text: &str,
) -> Result<(String, Vec<Certificate>), Failure> {
    match Source::of(text)? {
        Source::File(path) => Ok((text.to_owned(), super::files::certificates(&path)?)),
        Source::Secret(namespace, name) => {
            let (title, items) = secret(context, way, &namespace, &name, None).await?;
            let item = items.into_iter().find(|item| item.name == "ca.crt");
            match item.filter(|item| !item.certificates.is_empty()) {
                Some(item) => Ok((format!("{title} ca.crt"), item.certificates)),
                None => {
                    Err(Failure::new(ExitCode::ObjectMissing, "has no certificates under `ca.crt`").on(title))
                }
            }
        }
        Source::Endpoint(..) => Err(Failure::new(ExitCode::Usage, "is no trust store")
            .on(text)
            .hint("name a file, or `secret/NAMESPACE/NAME`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_told_from_files() {
        assert_eq!(endpoint("10.0.0.7:2379"), Some(("10.0.0.7".into(), 2379)));
        assert_eq!(endpoint("[::1]:443"), Some(("::1".into(), 443)));
        assert_eq!(endpoint("basic-pd.tidb.svc:2379"), Some(("basic-pd.tidb.svc".into(), 2379)));
        for no in ["pd.pem", "host:", ":443", "::1:443", "host:0", "host:70000", "a/b:443"] {
            assert_eq!(endpoint(no), None, "{no}");
        }
    }

    #[test]
    fn what_is_neither_is_told() {
        assert!(matches!(Source::of("secret/tidb/basic"), Ok(Source::Secret(..))));
        assert_eq!(Source::of("secret/tidb").unwrap_err().exit, ExitCode::Usage);
        assert_eq!(Source::of("no-such-file.pem").unwrap_err().exit, ExitCode::ObjectMissing);
    }
}
