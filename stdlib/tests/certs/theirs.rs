//! What cfssl and openssl have made, with every kind of key that each can: we read it, extend it and rotate it, and all
//! three judges accept what comes of it.

use std::path::Path;

use stdlib::cert::{Certificate, Key, KeyKind, SigningRequest};
use stdlib::{bundle, ca, cfssl as ours};

use crate::inputs::key_json;
use crate::peers::{Court, KINDS, NO, YES, all_tiers, key};
use crate::support::*;

const NAME: &str = "basic-pd.tidb.svc";

/// An authority of theirs and a leaf of it, with their keys.
struct Theirs {
    label: String,
    ca: Certificate,
    ca_key: Key,
    leaf: Certificate,
    leaf_key: Key,
}

fn read(folder: &Path, stem: &str) -> (Certificate, Key) {
    let key = std::fs::read(folder.join(format!("{stem}-key.pem"))).unwrap();
    let key = Key::from_pem(&key, stem).unwrap();
    let certificate = read_certificate(&folder.join(format!("{stem}.pem")));
    assert!(key.matches(&certificate), "{stem}");
    (certificate, key)
}

/// Half a minute for a key, and two keys: only where everything is asked for. Else the key is ours, the certificate theirs.
fn is_slow(kind: KeyKind) -> bool {
    kind == KeyKind::Rsa(8192) && !all_tiers()
}

fn write_key(folder: &Path, name: &str, kind: KeyKind) {
    std::fs::write(folder.join(name), key(kind).to_pem().unwrap().as_bytes()).unwrap();
}

const SIGN: [&str; 5] =
    ["-ca=ca.pem", "-ca-key=ca-key.pem", "-config=ca-config.json", "-profile=internal", "leaf.json"];

fn of_cfssl(kind: KeyKind) -> Theirs {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let with = |json: &str, kind| json.replace(r#"{"algo":"ecdsa","size":256}"#, &key_json(kind).to_string());
    let leaf_kind = if is_slow(kind) { KeyKind::P256 } else { kind };
    write(
        folder,
        &[
            ("ca.json", &with(CA_CSR, kind)),
            ("ca-config.json", CA_CONFIG),
            ("leaf.json", &with(PD, leaf_kind)),
        ],
    );
    if is_slow(kind) {
        write_key(folder, "ca-key.pem", kind);
        cfssl(folder, &["gencert", "-initca", "-ca-key=ca-key.pem", "ca.json"], "made");
        std::fs::rename(folder.join("made.pem"), folder.join("ca.pem")).unwrap();
    } else {
        cfssl(folder, &["gencert", "-initca", "ca.json"], "ca");
    }
    cfssl(folder, &[&["gencert"], &SIGN[..]].concat(), "leaf");
    let ((ca, ca_key), (leaf, leaf_key)) = (read(folder, "ca"), read(folder, "leaf"));
    Theirs { label: format!("cfssl's {kind}"), ca, ca_key, leaf, leaf_key }
}

fn openssl_key(folder: &Path, name: &str, kind: KeyKind) {
    let make = |args: &[&str]| {
        drop(run(folder, "openssl", &[&["genpkey", "-out", name, "-algorithm"], args].concat(), true))
    };
    match kind {
        _ if is_slow(kind) => write_key(folder, name, kind),
        KeyKind::Rsa(bits) => make(&["rsa", "-pkeyopt", &format!("rsa_keygen_bits:{bits}")]),
        KeyKind::P256 => make(&["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]),
        KeyKind::P384 => make(&["ec", "-pkeyopt", "ec_paramgen_curve:P-384"]),
        KeyKind::P521 => make(&["ec", "-pkeyopt", "ec_paramgen_curve:P-521"]),
        KeyKind::Ed25519 => make(&["ed25519"]),
    }
}

fn openssl_leaf(folder: &Path) {
    let names = format!(
        "subjectAltName=DNS:{NAME},DNS:*.basic-pd-peer.tidb.svc,IP:127.0.0.1,email:a@b.example,URI:spiffe://tidb/pd"
    );
    let request =
        ["req", "-new", "-key", "leaf-key.pem", "-subj", "/C=US/L=San Francisco/CN=TiDB", "-addext", &names];
    run(folder, "openssl", &[&request[..], &["-out", "leaf.csr"]].concat(), true);
    let ext = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature,keyEncipherment\n\
               extendedKeyUsage=clientAuth,serverAuth\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n";
    write(folder, &[("ext", ext)]);
    let sign = [
        "x509",
        "-req",
        "-in",
        "leaf.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca-key.pem",
        "-CAcreateserial",
        "-days",
        "365",
    ];
    run(
        folder,
        "openssl",
        &[&sign[..], &["-copy_extensions", "copy", "-extfile", "ext", "-out", "leaf.pem"]].concat(),
        true,
    );
}

fn of_openssl(kind: KeyKind) -> Theirs {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    openssl_key(folder, "ca-key.pem", kind);
    openssl_key(folder, "leaf-key.pem", if is_slow(kind) { KeyKind::P256 } else { kind });
    let ca = [
        "req",
        "-x509",
        "-new",
        "-key",
        "ca-key.pem",
        "-days",
        "3650",
        "-subj",
        "/C=US/O=PingCAP/OU=a/OU=b/CN=TiDB",
    ];
    let usage = ["-addext", "keyUsage=critical,keyCertSign,cRLSign", "-out", "ca.pem"];
    run(folder, "openssl", &[&ca[..], &usage[..]].concat(), true);
    openssl_leaf(folder);
    let ((ca, ca_key), (leaf, leaf_key)) = (read(folder, "ca"), read(folder, "leaf"));
    Theirs { label: format!("openssl's {kind}"), ca, ca_key, leaf, leaf_key }
}

/// Everything that a rotation does with what is there.
fn rotate(theirs: &Theirs, court: &mut Court) {
    let Theirs { label, ca: old, ca_key: old_key, leaf, leaf_key } = theirs;
    let at = now();
    let internal = config().profile("internal").unwrap().clone();
    let mut ask = |what: &str, chain: &[&Certificate], anchors: &[&Certificate], answer| {
        let label = format!("{label}: {what}");
        court.server(&label, chain, anchors, (NAME, at), answer);
        court.client(&label, chain, anchors, at, answer);
    };
    // Read.
    assert_eq!((old.key_kind(), old_key.kind()), (Some(old_key.kind()), old_key.kind()), "{label}");
    old.check_signed_by(old).unwrap();
    leaf.check_signed_by(old).unwrap();
    ask("theirs under theirs", &[leaf], &[old], YES);

    // Extend.
    let (mine, _) = ours::issue(old, old_key, &request(PD), &internal, at).unwrap();
    ask("ours under theirs", &[&mine], &[old], YES);
    let renewed = ca::renew(old, old_key, None, at).unwrap();
    assert_ne!(renewed.serial(), old.serial());
    assert_eq!((renewed.subject(), renewed.spki(), renewed.skid()), (old.subject(), old.spki(), old.skid()));
    ask("theirs under the renewed", &[leaf], &[&renewed], YES);
    ask("ours under the renewed", &[&mine], &[&renewed], YES);

    // Rotate: both are trusted, then the leaves are switched.
    let (new, new_key) = ca::create(&request(CA_CSR), at).unwrap();
    let both =
        bundle::encode(&bundle::merge([std::slice::from_ref(&new), std::slice::from_ref(old)])).unwrap();
    let both = bundle::parse(both.as_bytes(), "ca.crt").unwrap();
    let [first, second] = both.as_slice() else { panic!("{label}: {} in the bundle", both.len()) };
    assert_eq!((first, second), (&new, old));
    // Another key of this kind, or, where that takes too long, the same key.
    let kept = is_slow(leaf_key.kind()).then(|| leaf_key.clone());
    let (next, next_key) = ours::reissue(&new, &new_key, leaf, kept, None, at).unwrap();
    assert_eq!((next_key.kind(), next.subject()), (leaf_key.kind(), leaf.subject()), "{label}");
    assert_eq!((next.ext_usage(), next.key_usage()), (leaf.ext_usage(), leaf.key_usage()), "{label}");
    let missing = leaf.sans().iter().find(|san| !next.sans().contains(san));
    assert!(missing.is_none() && next.sans().len() == leaf.sans().len(), "{label}: {missing:?}");
    for anchors in [[first, second], [second, first]] {
        ask("theirs under both", &[leaf], &anchors, YES);
        ask("the next under both", &[&next], &anchors, YES);
    }
    ask("the next under the new", &[&next], &[&new], YES);
    ask("the next under the old", &[&next], &[old], NO);
    ask("theirs under the new", &[leaf], &[&new], NO);

    // Bridges, for those who trust only one of the two.
    let bridge = ca::cross_sign(old, old_key, &new, at).unwrap();
    ask("the next by a bridge under the old", &[&next, &bridge], &[old], YES);
    let back = ca::cross_sign(&new, &new_key, old, at).unwrap();
    ask("theirs by a bridge under the new", &[leaf, &back], &[&new], YES);
}

#[test]
fn what_cfssl_has_made_is_read_extended_and_rotated() {
    let mut court = Court::default();
    // Its version 1.2 does not make Ed25519.
    for theirs in made(of_cfssl, |kind| kind != KeyKind::Ed25519) {
        rotate(&theirs, &mut court);
    }
    assert!(court.judge() > 150);
}

#[test]
fn what_openssl_has_made_is_read_extended_and_rotated() {
    let mut court = Court::default();
    for theirs in made(of_openssl, |_| true) {
        rotate(&theirs, &mut court);
    }
    assert!(court.judge() > 150);
}

/// The slow kinds beside each other.
fn made(make: fn(KeyKind) -> Theirs, can: fn(KeyKind) -> bool) -> Vec<Theirs> {
    std::thread::scope(|scope| {
        let kinds = KINDS.into_iter().filter(|kind| can(*kind));
        let making: Vec<_> = kinds.map(|kind| scope.spawn(move || make(kind))).collect();
        making.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

/// The other way round: under an authority of ours they issue, and their signing requests are signed by it.
#[test]
fn they_issue_under_our_authorities_and_we_sign_their_requests() {
    let mut court = Court::default();
    let internal = config().profile("internal").unwrap().clone();
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let ca_key = key(kind);
        let ca = ca::create_for(&request(CA_CSR), &ca_key, now()).unwrap();
        write_pair(folder, "ca.pem", "ca-key.pem", &ca, &ca_key);
        write(folder, &[("ca-config.json", CA_CONFIG), ("leaf.json", PD)]);
        let mut leaves = Vec::new();
        // cfssl 1.2 neither makes nor knows Ed25519.
        if kind != KeyKind::Ed25519 {
            cfssl(folder, &[&["gencert"], &SIGN[..]].concat(), "leaf");
            leaves.push(("cfssl's", read(folder, "leaf").0));
        }
        openssl_key(folder, "leaf-key.pem", kind);
        openssl_leaf(folder);
        leaves.push(("openssl's", read(folder, "leaf").0));
        let csr = std::fs::read(folder.join("leaf.csr")).unwrap();
        let csr = SigningRequest::from_pem(&csr, "leaf.csr").unwrap();
        assert_eq!(csr.key_text, kind.to_string());
        leaves.push(("their request", ours::sign(&ca, &ca_key, &csr, &internal, now()).unwrap()));
        for (what, leaf) in &leaves {
            leaf.check_signed_by(&ca).unwrap();
            court.server(&format!("{what} under our {kind}"), &[leaf], &[&ca], (NAME, now()), YES);
            court.client(&format!("{what} under our {kind}"), &[leaf], &[&ca], now(), YES);
        }
    }
    assert_eq!(court.judge(), 8 * 3 * 2 - 2);
}
