//! What must hold of any bytes, one function a reader. `cargo fuzz` runs them without end, the tests of `stdlib` for a
//! while (`stdlib/tests/certs/fuzz.rs`); both begin with the files in `seeds`.
//!
//! Besides that nothing panics: what is read can be written and is read again, what is refused is refused with words
//! that an operator can use, and no certificate is lost that another reader finds.

use std::sync::OnceLock;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use stdlib::cert::{self, Certificate, Issuer, Key, SigningRequest, Template};
use stdlib::cfssl::{self, Config, Profile, Request};
use stdlib::error::Code;
use stdlib::{PrimError, bundle, ca};
use time::OffsetDateTime;
use time::macros::datetime;

/// Reads bytes; whether any of it could be read.
pub(crate) type Target = fn(&[u8]) -> bool;

/// The targets by name.
pub(crate) const TARGETS: [(&str, Target); 4] =
    [("pem", pem), ("request", request), ("config", config), ("csr", csr)];

const AT: OffsetDateTime = datetime!(2026-11-22 06:18 UTC);
const FILE: &str = "pki/file";

/// An authority that is made once.
fn authority() -> &'static (Certificate, Key) {
    static MADE: OnceLock<(Certificate, Key)> = OnceLock::new();
    MADE.get_or_init(|| {
        let request =
            Request::from_json(br#"{"CN":"fuzz","ca":{"expiry":"876000h"}}"#, "ca-csr.json").expect("valid");
        ca::create(&request, AT).expect("an authority")
    })
}

/// What an operator can use: the file, what to do, nothing that plays with the terminal, and not a page of it.
fn told(error: &PrimError) {
    let text = format!("{error} {}", error.hint.as_deref().unwrap_or_default());
    assert!(error.object.contains(FILE), "without the file: {text}");
    assert!(error.hint.is_some(), "without what to do: {text}");
    assert!(error.expected.is_some() && error.found.is_some(), "without what was expected: {text}");
    assert!(error.code != Code::Internal, "not our fault: {text}");
    assert!(!text.chars().any(char::is_control), "with control characters: {text:?}");
    assert!(text.len() < 2000, "without end: {text}");
}

/// A PEM file of certificates or of a key, or a DER file. Whether any of it could be read.
pub(crate) fn pem(data: &[u8]) -> bool {
    let certificates = match cert::parse(data, FILE) {
        Ok(parsed) => {
            let again = bundle::encode(&parsed.certificates).expect("a bundle that was read");
            assert_eq!(cert::parse_many(again.as_bytes(), FILE).expect("what we wrote"), parsed.certificates);
            for der in CertificateDer::pem_slice_iter(data).flatten() {
                assert!(parsed.certificates.iter().any(|ours| ours.der() == &der), "a certificate was lost");
            }
            parsed.certificates
        }
        Err(error) => {
            told(&error);
            cert::parse_any(data, FILE).map(|parsed| parsed.certificates).unwrap_or_default()
        }
    };
    for certificate in &certificates {
        seen(certificate);
    }
    let key = match Key::from_pem(data, FILE) {
        Ok(key) => {
            let text = key.to_pem().expect("a key that was read");
            assert_eq!(Key::from_pem(text.as_bytes(), FILE).expect("what we wrote").spki(), key.spki());
            true
        }
        Err(error) => {
            told(&error);
            false
        }
    };
    key || !certificates.is_empty()
}

/// Everything that is asked of a certificate, and a certificate that follows it.
fn seen(certificate: &Certificate) {
    assert!(!certificate.subject_text().chars().any(char::is_control));
    assert!(!certificate.to_string().chars().any(char::is_control));
    let _ = (certificate.fingerprint(), certificate.serial_hex(), certificate.key_kind());
    let _ = certificate.check_signed_by(certificate);
    let _ = certificate.check_valid_at(AT);
    let (ca, key) = authority();
    if let Ok((next, _)) = cfssl::reissue(ca, key, certificate, Some(key.clone()), None, AT) {
        assert_eq!(next.subject(), certificate.subject());
        let missing = certificate.sans().iter().find(|san| !next.sans().contains(san));
        assert!(missing.is_none(), "{missing:?} was lost");
    }
}

/// A cfssl request.
pub(crate) fn request(data: &[u8]) -> bool {
    let request = match Request::from_json(data, FILE) {
        Ok(request) => request,
        Err(error) => {
            told(&error);
            return false;
        }
    };
    let subject = match request.subject() {
        Ok(subject) => subject,
        Err(error) => {
            told(&error);
            return false;
        }
    };
    let (ca, key) = authority();
    let template = Template::leaf(subject.clone(), key.spki(), AT, AT + time::Duration::HOUR);
    let template = Template { sans: request.hosts.clone(), ..template };
    let leaf = template.sign(Issuer { certificate: ca, key }).expect("a certificate of what was read");
    assert_eq!(leaf.subject(), subject);
    let missing = request.hosts.iter().find(|host| !leaf.sans().contains(host));
    assert!(missing.is_none(), "{missing:?} was lost");
    let csr =
        SigningRequest::create(&subject, &request.hosts, key).expect("a signing request of what was read");
    let csr = SigningRequest::from_pem(csr.as_bytes(), FILE).expect("what we wrote");
    assert_eq!((csr.subject.as_slice(), csr.sans.as_slice()), (subject.as_slice(), leaf.sans()));
    if let Err(error) = ca::create_for(&request, key, AT) {
        told(&error);
    }
    true
}

/// A cfssl configuration.
pub(crate) fn config(data: &[u8]) -> bool {
    let config = match Config::from_json(data, FILE) {
        Ok(config) => config,
        Err(error) => {
            told(&error);
            return false;
        }
    };
    let (ca, key) = authority();
    let request = Request::from_json(br#"{"CN":"x","hosts":["a"]}"#, FILE).expect("valid");
    for (name, profile) in &config.profiles {
        let fact = profile.to_fact();
        let again = Profile::from_value(name, &fact, FILE).expect("a profile that was read");
        assert_eq!(
            (again.key_usage, &again.ext_usage, again.expiry, again.basic),
            (profile.key_usage, &profile.ext_usage, profile.expiry, profile.basic)
        );
        match cfssl::issue_for(ca, key, &request, profile, key.spki(), AT) {
            Ok(leaf) => {
                assert_eq!(leaf.ext_usage().unwrap_or_default(), profile.ext_usage);
                assert!(leaf.not_after() <= ca.not_after());
            }
            Err(error) => told(&error),
        }
    }
    true
}

/// A signing request, PEM or DER; or the extensions of one, which are then signed, as random bytes never are.
pub(crate) fn csr(data: &[u8]) -> bool {
    let (ca, key) = authority();
    let read = [SigningRequest::from_pem(data, FILE), SigningRequest::from_der(data), signed(data, key)];
    if let [Err(error), ..] = &read {
        told(error);
    }
    let mut any = false;
    for csr in read.into_iter().flatten() {
        any = true;
        assert!(!csr.subject_text.chars().any(char::is_control));
        let profile = br#"{"signing":{"default":{"expiry":"1h","usages":["any"]}}}"#;
        let profile = Config::from_json(profile, FILE).expect("valid");
        match cfssl::sign(ca, key, &csr, profile.profile("default").expect("it is there"), AT) {
            Ok(leaf) => {
                assert_eq!((leaf.subject(), leaf.spki()), (csr.subject.as_slice(), csr.spki.as_slice()));
                let missing = csr.sans.iter().find(|san| !leaf.sans().contains(san));
                assert!(missing.is_none(), "{missing:?} was lost");
            }
            Err(error) => assert!(csr.ca, "{error}"),
        }
    }
    any
}

/// A signing request whose requested extensions are these bytes.
fn signed(extensions: &[u8], key: &Key) -> Result<SigningRequest, PrimError> {
    if extensions.is_empty() {
        return Err(PrimError::invalid("no extensions"));
    }
    let template = SigningRequest::create(&[0x30, 0], &[], key)?;
    let der = cert::pem::scan(template.as_bytes(), FILE)?.blocks.remove(0).der;
    // The algorithm stands between what is signed and the signature.
    let algorithm = tlv(0x30, &hex("06082a8648ce3d040302"));
    assert!(der.windows(algorithm.len()).any(|window| window == algorithm));
    let attribute = [hex("06092a864886f70d01090e"), tlv(0x31, &tlv(0x30, extensions))].concat();
    let info = [vec![2, 1, 0, 0x30, 0], key.spki().to_vec(), tlv(0xa0, &tlv(0x30, &attribute))].concat();
    let info = tlv(0x30, &info);
    let signature = [vec![0], key.sign(&info)?].concat();
    SigningRequest::from_der(&tlv(0x30, &[info, algorithm, tlv(3, &signature)].concat()))
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
    let head = match length.as_slice() {
        [] => vec![tag, 0],
        [short] if *short < 0x80 => vec![tag, *short],
        long => [&[tag, 0x80 | u8::try_from(long.len()).expect("a small one")][..], long].concat(),
    };
    [head, content.to_vec()].concat()
}
