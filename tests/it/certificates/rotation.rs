//! A rotation in a PKI folder, by hand, one command at a time; openssl judges each point of it.

use super::desk::{CA_CSR, Desk, PD};

#[test]
fn a_folder_goes_through_a_rotation_by_hand() {
    let desk = Desk::with_ca();
    let old = desk.read("ca.pem");
    desk.cert(&["install", "."])
        .says(13, &["there is no successor in the folder", "rollover cert successor"]);

    desk.cert(&["successor", "."]).says(0, &["ca.new.pem", "ca-key.old.pem", "signed by itself"]);
    let new = desk.read("ca.new.pem");
    assert_eq!(desk.read("ca.pem"), format!("{new}{old}"));
    assert_eq!(["ca-key.new.pem", "ca-key.old.pem"].map(|name| desk.mode(name)), [0o600; 2]);
    assert!(!desk.path("ca-key.pem").exists(), "as the page leaves it");
    desk.cert(&["folder", "."]).says(0, &["successor", "ca.pem holds the old and the new CA"]);
    // Once more: no second CA, and nothing is written.
    let again = desk.json(&["successor", "."]);
    assert_eq!((&again["adopted"], &again["written"]), (&true.into(), &serde_json::json!([])));
    assert_eq!(desk.read("ca.new.pem"), new);

    // The leaf in use is the old CA's, so another is needed; what is there is not written over unasked.
    desk.openssl(&["verify", "-CAfile", "ca.pem", "pd-server.pem"]);
    let leaf = ["leaf", ".", "pd-server", "--profile", "internal"];
    desk.cert(&leaf).says(
        11,
        &["pd-server.pem: is there already", "was issued by another key of the same name", "`--force`"],
    );
    desk.openssl(&["verify", "-CAfile", "ca.old.pem", "pd-server.pem"]);
    desk.cert(&[&leaf[..], &["--force"]].concat())
        .says(0, &["pd-server-key.pem", "pd-server.pem", "a new leaf"]);
    desk.openssl(&["verify", "-x509_strict", "-CAfile", "ca.pem", "pd-server.pem"]);
    desk.openssl(&["verify", "-x509_strict", "-CAfile", "ca.new.pem", "pd-server.pem"]);
    let (certificate, key) = (desk.read("pd-server.pem"), desk.read("pd-server-key.pem"));
    desk.cert(&leaf).says(0, &["the leaf in use is good, and is kept"]);
    assert_eq!((desk.read("pd-server.pem"), desk.read("pd-server-key.pem")), (certificate, key));

    // Names that were added to the old leaf by hand stay.
    desk.write("pd-server.json", &PD.replace("\"basic-pd\",", ""));
    let told = desk.json(&[&leaf[..], &["--force"]].concat());
    assert_eq!(
        (&told["adopted"], &told["added"]),
        (&true.into(), &serde_json::json!([])),
        "it has all and more"
    );
    desk.write("pd-server.json", &PD.replace("\"basic-pd\",", "\"basic-pd-2\","));
    let told = desk.json(&[&leaf[..], &["--force"]].concat());
    assert_eq!(told["why"], "it does not name DNS:basic-pd-2");
    assert_eq!(told["added"], serde_json::json!(["DNS:basic-pd"]));
    let names = desk.openssl(&["x509", "-in", "pd-server.pem", "-noout", "-ext", "subjectAltName"]);
    assert!(names.contains("DNS:basic-pd-2") && names.contains("DNS:basic-pd,"), "{names}");

    desk.cert(&["install", "."]).says(0, &["ca.pem", "retired/"]);
    assert_eq!(desk.read("ca.pem"), new);
    assert_eq!(desk.mode("ca-key.pem"), 0o600);
    desk.openssl(&["verify", "-x509_strict", "-CAfile", "ca.pem", "pd-server.pem"]);
    desk.cert(&["folder", "."]).says(0, &["no rotation was begun by hand"]);
    let left: Vec<String> = desk.names().into_iter().filter(|name| name.starts_with("ca")).collect();
    assert_eq!(left, ["ca-config.json", "ca-csr.json", "ca-key.pem", "ca.csr", "ca.pem"]);
    desk.cert(&leaf).says(0, &["is kept"]);
}

#[test]
fn a_ca_of_ones_own_is_installed_and_what_is_missing_is_named() {
    let desk = Desk::with_ca();
    // A size that is not made here, for a CA: openssl makes the key.
    desk.openssl(&["genrsa", "-out", "next-key.pem", "2560"]);
    desk.write(
        "next.json",
        &CA_CSR.replace(r#"{"algo":"ecdsa","size":256}"#, r#"{"algo":"rsa","size":2560}"#),
    );
    desk.cert(&["ca", "next.json", "--out", "next"])
        .says(17, &["next.json: key.size:", "`openssl genrsa`", "`--key FILE`"]);
    desk.cert(&["ca", "next.json", "--key", "next-key.pem"]).says(0, &["next.pem"]);
    let text = desk.openssl(&["x509", "-in", "next.pem", "-noout", "-text"]);
    assert!(text.contains("(2560 bit)") && text.contains("CA:TRUE"), "{text}");
    desk.openssl(&["req", "-in", "next.csr", "-noout", "-verify"]);

    let pki = Desk::with_ca();
    for name in ["next.pem", "next-key.pem"] {
        std::fs::copy(desk.path(name), pki.path(name)).unwrap();
    }
    pki.cert(&["install", ".", "--ca", "next.pem"]).says(0, &["ca.pem", "ca-key.pem"]);
    assert_eq!(pki.read("ca.pem"), desk.read("next.pem"));
    let leaf = |name: &str, profile: &str| pki.cert(&["leaf", ".", name, "--profile", profile]);
    leaf("pd", "internal").says(13, &["there is no such request", "expected `pd-server`", "found `pd`"]);
    leaf("pd-server", "intenal").says(13, &["there is no such profile", "`client`, `default`, `internal`"]);
    pki.cert(&["leaf", ".", "pd-server", "--profile", "client", "--in-use", "pd-server.pem"])
        .says(2, &["write `secret/NAMESPACE/NAME`"]);
    pki.write("other.json", &CA_CSR.replace("87600h", "-1h"));
    pki.cert(&["successor", ".", "--csr", "other.json"]).says(17, &["other.json: ca.expiry:"]);
}

const GUIDE: &str = include_str!("../../../docs/guides/certificates.md");

/// The guide's table names every primitive of these namespaces once, with a command that there is.
#[test]
fn every_primitive_has_a_command() {
    use clap::CommandFactory as _;

    let named = |line: &'static str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        match cells.as_slice() {
            ["", primitive, command, ""] => {
                let primitive = primitive.strip_prefix('`')?.strip_suffix('`')?;
                let command = command.strip_prefix("`rollover ")?.split('`').next()?;
                primitive.contains("::").then_some((primitive, command))
            }
            _ => None,
        }
    };
    let rows: Vec<(&str, &str)> = GUIDE.lines().filter_map(named).collect();
    let primitives: Vec<&str> = stdlib::registry()
        .iter()
        .map(|primitive| primitive.name)
        .filter(|name| {
            let space = name.split("::").next().unwrap();
            ["cert", "ca", "bundle", "cfssl", "pem"].contains(&space)
        })
        .collect();
    let mut listed: Vec<&str> = rows.iter().map(|(primitive, _)| *primitive).collect();
    listed.sort_unstable();
    let mut all = primitives.clone();
    all.sort_unstable();
    assert_eq!(listed, all);
    let program = runner::cli::args::Cli::command();
    for (primitive, words) in rows {
        let (mut at, mut words) = (&program, words.split(' ').peekable());
        while let Some(word) = words.next_if(|word| !word.starts_with('-')) {
            at = at
                .find_subcommand(word)
                .unwrap_or_else(|| panic!("{primitive}: there is no command `{word}`"));
        }
        for flag in words {
            let known = at.get_arguments().any(|arg| arg.get_long() == flag.strip_prefix("--"));
            assert!(known, "{primitive}: `{}` has no `{flag}`", at.get_name());
        }
    }
}
