//! Trust stores: what one has that another has not, what somebody will trip over, and what each verifier says.

use serde_json::{Value, json};
use stdlib::cert::Certificate;
use stdlib::gate::ReadOnly;
use stdlib::{bundle, ca};
use time::Duration;

use crate::support::*;

fn ask(name: &str, args: &[Value]) -> Value {
    call(&world(std::path::Path::new("/"), now()), &ReadOnly, name, args).unwrap()
}

fn refuse(name: &str, args: &[Value]) -> String {
    let error = call(&world(std::path::Path::new("/"), now()), &ReadOnly, name, args).unwrap_err();
    format!("{error}; {}", error.hint.clone().unwrap_or_default())
}

#[test]
fn two_stores_are_compared_by_fingerprint_and_by_key() {
    let ((old, old_key), (new, _), (third, _)) = (new_ca(), new_ca(), new_ca());
    let renewed = ca::renew(&old, &old_key, None, now() + Duration::hours(1)).unwrap();
    let text = |all: &[&Certificate]| json!(all.iter().map(|one| one.pem()).collect::<String>());

    let seen = ask("bundle::compare", &[text(&[&old, &new, &old]), text(&[&new, &renewed, &third])]);
    let prints = |list: &Value| {
        list.as_array()
            .unwrap()
            .iter()
            .map(|one| one["fingerprint"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(seen["same"], false);
    assert_eq!(prints(&seen["only_first"]), [old.fingerprint()]);
    assert_eq!(prints(&seen["only_second"]), [renewed.fingerprint(), third.fingerprint()]);
    assert_eq!(prints(&seen["both"]), [new.fingerprint()]);
    assert_eq!(
        seen["same_key"],
        json!([{ "first": old.fingerprint(), "second": renewed.fingerprint(), "spki": old.spki_fingerprint() }])
    );
    let turned = ask("bundle::compare", &[text(&[&old, &new]), text(&[&new, &old])]);
    assert_eq!((&turned["same"], &turned["same_order"]), (&json!(true), &json!(false)));
}

#[test]
fn what_somebody_will_trip_over_is_found_in_a_store() {
    let ((old, old_key), (twin, _)) = (new_ca(), new_ca());
    let short = CA_CSR.replace("87600h", "24h").replace("TiDB", "short");
    let (short, _) = ca::create(&request(&short), now()).unwrap();
    let renewed = ca::renew(&old, &old_key, None, now()).unwrap();
    let leaf = leaf_of(&old, &old_key, now());
    let (other, other_key) = ca::create(&request(&CA_CSR.replace("TiDB", "other")), now()).unwrap();
    let bridge = ca::cross_sign(&other, &other_key, &twin, now()).unwrap();
    let store = [old.clone(), twin, old, renewed, short, leaf, bridge];
    let found: Vec<(usize, &str)> = bundle::check(&store, now() + Duration::days(2))
        .into_iter()
        .map(|finding| (finding.position, finding.code))
        .collect();
    assert_eq!(
        found,
        [
            (2, "same-name"),
            (3, "duplicate"),
            (4, "same-key"),
            (5, "expired"),
            (6, "not-a-ca"),
            (7, "intermediate"),
            (7, "same-key"),
        ]
    );
    let early = bundle::check(&store[..1], now() - Duration::days(1));
    assert_eq!(early[0].code, "not-yet-valid");
    assert!(bundle::check(&store[..1], now()).is_empty(), "a store of one good CA");
    let seen = ask("bundle::check", &[json!(store[0].pem()), json!("2999-01-01")]);
    assert_eq!(seen["findings"][0]["code"], "expired");
}

/// A leaf whose name is its CA's, without an authority key id, as cfssl makes it: the three verifiers disagree, and it is
/// said why.
#[test]
fn where_verifiers_differ_it_is_said_why() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    same_named_by_cfssl(folder);
    let [old, new, leaf] =
        ["old.pem", "new.pem", "theirs.pem"].map(|name| read_certificate(&folder.join(name)).pem());
    let both = json!([old.clone(), new.clone()]);

    let seen = ask("cert::opinions", &[json!(leaf), both.clone(), json!({ "name": "basic-pd" })]);
    assert_eq!(seen["agree"], false, "{seen}");
    let says = |verifier: &str| {
        let all = seen["opinions"].as_array().unwrap();
        all.iter().find(|one| one["verifier"] == verifier).unwrap().clone()
    };
    assert_eq!(says("go")["accepted"], true);
    assert_eq!(says("go")["anchor"], json!(read_certificate(&folder.join("new.pem")).fingerprint()));
    assert_eq!(says("openssl")["accepted"], false);
    let why = seen["differences"].to_string();
    assert!(why.contains("authority key id"), "{why}");

    // openssl itself says the same.
    write(folder, &[("both.pem", &format!("{old}{new}"))]);
    run(folder, "openssl", &["verify", "-CAfile", "both.pem", "theirs.pem"], false);

    let verdict =
        ask("cert::verify", &[json!(leaf), both.clone(), json!("openssl"), json!({ "name": "basic-pd" })]);
    assert_eq!(verdict["accepted"], false);
    let verdict =
        ask("cert::verify", &[json!(leaf), both.clone(), json!("go"), json!({ "names": ["basic-pd"] })]);
    assert_eq!(verdict["accepted"], true);
    let all = ask("cert::verify", &[json!(leaf), both, json!("all")]);
    assert_eq!(all["accepted"], false, "one that refuses is enough");
}

/// An expired CA as anchor: webpki does not look at its dates.
#[test]
fn an_expired_anchor_holds_for_webpki_alone() {
    let (ca, key) = ca::create(&request(&CA_CSR.replace("87600h", "24h")), now()).unwrap();
    let leaf = leaf_of(&ca, &key, now());
    // The leaf ends with its CA, so another leaf of the same key that outlives it is needed.
    let longer = ca::renew(&ca, &key, Some(Duration::days(30)), now()).unwrap();
    let long_leaf = leaf_of(&longer, &key, now());
    assert!(long_leaf.not_after() > leaf.not_after());
    let at = stdlib::cert::date(now() + Duration::days(3));
    let options = json!({ "name": "basic-pd", "at": at });
    let seen = ask("cert::opinions", &[json!(long_leaf.pem()), json!(ca.pem()), options.clone()]);
    let accepted: Vec<bool> =
        seen["opinions"].as_array().unwrap().iter().map(|one| one["accepted"].as_bool().unwrap()).collect();
    assert_eq!(accepted, [true, false, false], "{seen}");
    assert!(seen["differences"].to_string().contains("does not look at its dates"), "{seen}");
    let agreed = ask("cert::opinions", &[json!(long_leaf.pem()), json!(longer.pem()), options]);
    assert_eq!((&agreed["agree"], &agreed["differences"]), (&json!(true), &json!([])), "{agreed}");
}

#[test]
fn a_wrong_question_is_told() {
    let (ca, _) = new_ca();
    let pem = json!(ca.pem());
    let told = |options: Value| refuse("cert::opinions", &[pem.clone(), pem.clone(), options]);
    assert!(told(json!({ "usage": "peer" })).contains("expected `server` or `client`"));
    assert!(told(json!({ "at": "tomorrow" })).contains("as `2036-11-19T00:00:00Z`"));
    assert!(told(json!({ "names": [1] })).contains("`names` is no list of texts"));
    assert!(
        refuse("cert::verify", &[pem.clone(), pem.clone(), json!("gnutls")])
            .contains("`webpki`, `go`, `openssl` or `all`")
    );
    assert!(refuse("cert::matches", &[pem.clone(), json!("key")]).contains("is no private key's handle"));
    assert!(refuse("bundle::compare", &[pem, json!(null)]).contains("is nothing"));
}

/// What an authority says of itself is kept when it is renewed or cross-signed: alternative names, name constraints and
/// extensions that we do not know.
#[test]
fn renewing_and_cross_signing_keep_everything_that_an_authority_says_of_itself() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(
        folder,
        &[(
            "ca.cnf",
            "[req]\ndistinguished_name=dn\nx509_extensions=ext\n[dn]\n[ext]\nbasicConstraints=critical,CA:TRUE,pathlen:3\n\
             keyUsage=critical,keyCertSign,cRLSign,digitalSignature\nsubjectKeyIdentifier=hash\n\
             subjectAltName=DNS:kubernetes\nnameConstraints=critical,permitted;DNS:example,excluded;IP:10.0.0.0/255.0.0.0\n\
             crlDistributionPoints=URI:http://x/crl\n1.2.3.4=ASN1:UTF8String:own\n",
        )],
    );
    let args = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca-key.pem", "-out", "ca.pem"];
    let more = ["-subj", "/CN=limited", "-days", "300", "-config", "ca.cnf"];
    run(folder, "openssl", &[&args[..], &more].concat(), true);
    let old = read_certificate(&folder.join("ca.pem"));
    assert_eq!(old.name_constraints(), ["permitted DNS:example", "excluded IP:10.0.0.0/255.0.0.0"]);
    let key = stdlib::cert::Key::from_pem(&std::fs::read(folder.join("ca-key.pem")).unwrap(), "key").unwrap();
    let renewed = ca::renew(&old, &key, None, now()).unwrap();
    assert_eq!((renewed.sans(), renewed.name_constraints()), (old.sans(), old.name_constraints()));
    assert_eq!(
        (renewed.key_usage(), renewed.basic_constraints()),
        (old.key_usage(), old.basic_constraints())
    );
    assert_eq!(renewed.other_extensions(), old.other_extensions());
    write(folder, &[("renewed.pem", &renewed.pem())]);
    run(folder, "openssl", &["verify", "-x509_strict", "-CAfile", "renewed.pem", "renewed.pem"], true);

    let (issuer, issuer_key) = new_ca();
    let cross = ca::cross_sign(&issuer, &issuer_key, &old, now()).unwrap();
    assert_eq!((cross.sans(), cross.name_constraints()), (old.sans(), old.name_constraints()));
    let has = |oid: &str| cross.other_extensions().iter().any(|(found, _, _)| found == oid);
    assert!(has("1.2.3.4") && !has("2.5.29.31"), "where the issuer's revocations lie is the issuer's to say");
    write(folder, &[("issuer.pem", &issuer.pem()), ("cross.pem", &cross.pem())]);
    run(folder, "openssl", &["verify", "-x509_strict", "-CAfile", "issuer.pem", "cross.pem"], true);
}

#[test]
fn pem_texts_are_listed_split_joined_and_written_anew() {
    let ((one, key), (two, _)) = (new_ca(), new_ca());
    let joined = format!("# a comment\r\n{}{}", one.pem().trim_end().replace('\n', "\r\n"), two.pem());
    let seen = ask("pem::blocks", &[json!(joined)]);
    assert_eq!(seen["blocks"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&seen["blocks"][0]["line"], &seen["blocks"][0]["sha256"]),
        (&json!(2), &json!(one.fingerprint()))
    );
    assert!(seen["notes"][0].as_str().unwrap().contains("a newline is missing"), "{seen}");
    let clean = format!("{}{}", one.pem(), two.pem());
    assert_eq!(ask("pem::normalise", &[json!(joined)]), json!(clean));
    assert_eq!(ask("pem::split", &[json!(joined)]), json!([one.pem(), two.pem()]));
    assert_eq!(
        ask("pem::join", &[json!([joined, one.pem()])]),
        json!(format!("{clean}{}", one.pem())),
        "twins stay"
    );

    let secret = key.to_pem().unwrap();
    let with_key = format!("{}{}", one.pem(), *secret);
    let seen = ask("pem::blocks", &[json!(with_key)]);
    assert_eq!(seen["blocks"][1]["label"], "EC PRIVATE KEY");
    assert!(seen["blocks"][1].get("sha256").is_none(), "of a key, nothing");
    for name in ["pem::split", "pem::normalise"] {
        let told = refuse(name, &[json!(with_key)]);
        assert!(
            told.contains("a private key stands in the text") && told.contains("cert::read_key"),
            "{told}"
        );
    }
    let told = refuse("pem::join", &[json!([clean, with_key])]);
    assert!(told.starts_with("texts[1]: line "), "{told}");
    assert!(refuse("pem::blocks", &[json!("hello")]).contains("holds no PEM block"));
    assert!(refuse("pem::join", &[json!([[clean]])]).contains("a list within a list"));
    let cut = one.pem().replace("-----END", "-----EN");
    assert!(
        refuse("pem::split", &[json!(cut)])
            .contains("line 1: the block `CERTIFICATE` is opened and never closed")
    );
}
