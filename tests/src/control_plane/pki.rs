//! The control plane's own certificates.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};

/// Signs everything.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, both PEM.
pub(super) struct Identity {
    certificate: String,
    key: String,
}

fn bad(error: rcgen::Error) -> io::Error {
    io::Error::other(error)
}

impl Authority {
    pub(super) fn new(name: &str) -> io::Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(bad)?;
        CertifiedIssuer::self_signed(params, key).map(Self).map_err(bad)
    }

    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(super) fn server(&self, name: &str) -> io::Result<Identity> {
        let mut params =
            CertificateParams::new(vec!["localhost".into(), "kubernetes.default.svc".into()]).map_err(bad)?;
        params.subject_alt_names.push(SanType::IpAddress(Ipv4Addr::LOCALHOST.into()));
        params.distinguished_name.push(DnType::CommonName, name);
        self.issue(params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A client: a user by its common name, a group by its organisation.
    pub(super) fn client(&self, user: &str, group: Option<&str>) -> io::Result<Identity> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        self.issue(params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(&self, mut params: CertificateParams, usage: ExtendedKeyUsagePurpose) -> io::Result<Identity> {
        params.extended_key_usages = vec![usage];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().map_err(bad)?;
        let certificate = params.signed_by(&key, &self.0).map_err(bad)?.pem();
        Ok(Identity { certificate, key: key.serialize_pem() })
    }
}

impl Identity {
    /// Certificate and key.
    pub(super) fn parts(&self) -> (String, String) {
        (self.certificate.clone(), self.key.clone())
    }

    /// Writes `STEM.pem` and `STEM-key.pem`.
    pub(super) fn write(&self, stem: &Path) -> io::Result<()> {
        let beside = |suffix: &str| {
            let mut name = stem.as_os_str().to_owned();
            name.push(suffix);
            name
        };
        fs::write(beside(".pem"), &self.certificate)?;
        fs::write(beside("-key.pem"), &self.key)
    }
}

/// The key with which tokens of service accounts are signed: `sa-key.pem`, `sa-pub.pem`.
pub(super) fn service_account_key(dir: &Path) -> io::Result<()> {
    let key = KeyPair::generate().map_err(bad)?;
    fs::write(dir.join("sa-key.pem"), key.serialize_pem())?;
    fs::write(dir.join("sa-pub.pem"), key.public_key_pem())
}
