//! Making and signing.

use std::process::{Command, Stdio};

use super::desk::{CA_CSR, Desk, PD};

#[test]
fn a_ca_and_its_certificates_are_made_as_cfssljson_leaves_them() {
    let desk = Desk::new();
    let told = desk.cert(&["ca", "ca-csr.json", "--out", "ca"]).ok();
    assert_eq!(told, "ca-key.pem\nca.csr\nca.pem\n".replace("ca.csr\nca.pem", "ca.pem\nca.csr"));
    desk.cert(&["sign", "pd-server.json", "--profile", "internal"])
        .says(0, &["pd-server.pem", "364 days left", "signed by C=US, ST=Beijing"]);
    assert_eq!(
        desk.names(),
        [
            "ca-config.json",
            "ca-csr.json",
            "ca-key.pem",
            "ca.csr",
            "ca.pem",
            "pd-server-key.pem",
            "pd-server.csr",
            "pd-server.json",
            "pd-server.pem"
        ],
        "nothing is left lying about, no state folder either"
    );
    for name in ["ca", "pd-server"] {
        let modes = ["-key.pem", ".pem", ".csr"].map(|ending| desk.mode(&format!("{name}{ending}")));
        assert_eq!(modes, [0o600, 0o644, 0o644]);
        assert!(desk.read(&format!("{name}-key.pem")).starts_with("-----BEGIN EC PRIVATE KEY-----\n"));
    }
    // openssl accepts it, and cfssl reads what we wrote and goes on with it.
    desk.openssl(&["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", "ca.pem", "pd-server.pem"]);
    desk.openssl(&["req", "-in", "pd-server.csr", "-noout", "-verify"]);
    desk.openssl(&["req", "-in", "ca.csr", "-noout", "-verify"]);
    desk.judge("cfssl", &["certinfo", "-cert", "pd-server.pem"], true);
    let sign = ["sign", "-ca=ca.pem", "-ca-key=ca-key.pem", "-config=ca-config.json", "-profile=internal"];
    desk.judge("cfssl", &[&sign[..], &["pd-server.csr"]].concat(), true);
}

/// `cfssl … | cfssljson -bare` with our program in its place; only then is a key printed.
#[test]
fn in_a_pipe_it_stands_in_for_cfssl() {
    let desk = Desk::with_ca();
    let args = ["gencert", "pd-server.json", "--profile", "internal", "--cfssl-json"];
    let printed = desk.cert_with_keys(&args).ok();
    let fields: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let names: Vec<&String> = fields.as_object().unwrap().keys().collect();
    assert_eq!(names, ["cert", "csr", "key"]);
    for (args, name) in [(&args[..], "piped"), (&["ca", "ca-csr.json", "--cfssl-json"], "piped-ca")] {
        let mut ours = desk.command(&[&["cert"], args].concat()).stdout(Stdio::piped()).spawn().unwrap();
        let pipe = ours.stdout.take().unwrap();
        let status =
            Command::new("cfssljson").args(["-bare", name]).current_dir(desk.folder()).stdin(pipe).status();
        assert!(status.unwrap().success() && ours.wait().unwrap().success());
        let public = |args: &[&str]| desk.openssl(args);
        let key = public(&["pkey", "-in", &format!("{name}-key.pem"), "-pubout"]);
        assert_eq!(key, public(&["x509", "-in", &format!("{name}.pem"), "-noout", "-pubkey"]));
        assert_eq!(key, public(&["req", "-in", &format!("{name}.csr"), "-noout", "-pubkey"]));
    }
    desk.openssl(&["verify", "-CAfile", "ca.pem", "piped.pem"]);
}

#[test]
fn requests_of_openssl_are_signed_and_odd_ones_refused() {
    let desk = Desk::with_ca();
    let args =
        ["req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "node-key.pem", "-out", "node.csr"];
    desk.openssl(
        &[&args[..], &["-subj", "/O=x/CN=node", "-addext", "subjectAltName=DNS:node.example"]].concat(),
    );
    desk.cert(&["sign", "node.csr", "--profile", "client"]).says(0, &["node.pem", "O=x, CN=node"]);
    desk.openssl(&["verify", "-purpose", "sslclient", "-CAfile", "ca.pem", "node.pem"]);
    assert!(desk.openssl(&["x509", "-in", "node.pem", "-noout", "-text"]).contains("DNS:node.example"));
    desk.openssl(&["req", "-in", "node.csr", "-outform", "der", "-out", "node.der"]);
    desk.cert(&["sign", "node.der", "--profile", "client", "--out", "from-der"]).ok();

    let sign = |file: &str, more: &[&str]| desk.cert(&[&["sign", file, "--out", "x"][..], more].concat());
    sign("node.csr", &["--profile", "client", "--hostname", "a.example"])
        .says(2, &["brings its own names and key"]);
    sign("ca.pem", &["--profile", "client"])
        .says(17, &["ca.pem: holds no signing request", "a block `CERTIFICATE`"]);
    sign("pd-server.json", &["--profile", "clinet"]).says(
        17,
        &["ca-config.json: there is no profile `clinet`", "`client`, `default`, `internal`", "`--cfssl-lax`"],
    );
    sign("pd-server.json", &["--profile", "client", "--ca", "pd-server.pem"])
        .says(17, &["may not sign certificates", "no CA"]);
    sign("pd-server.json", &["--profile", "client", "--ca-key", "pd-server-key.pem"])
        .says(14, &["the private key does not belong to the certificate"]);
    std::fs::rename(desk.path("ca-key.pem"), desk.path("elsewhere.pem")).unwrap();
    sign("pd-server.json", &["--profile", "client"])
        .says(16, &["ca-key.pem: there is no such file", "--ca-key"]);
    assert!(!desk.names().iter().any(|name| name.starts_with("x.")), "nothing was written");
    sign(
        "pd-server.json",
        &["--profile", "client", "--ca-key", "elsewhere.pem", "--hostname", "a.example,10.0.0.1"],
    )
    .ok();
    let names = desk.openssl(&["x509", "-in", "x.pem", "-noout", "-ext", "subjectAltName"]);
    assert!(names.contains("DNS:a.example, IP Address:10.0.0.1"), "{names}");
}

/// cfssl itself is asked what it does; ours does the same where told to, and says so.
#[test]
fn what_cfssl_lets_pass_passes_with_the_switch_and_a_warning() {
    let desk = Desk::with_ca();
    let theirs =
        ["gencert", "-ca=ca.pem", "-ca-key=ca-key.pem", "-config=ca-config.json", "-profile=intenal"];
    desk.judge("cfssl", &[&theirs[..], &["pd-server.json"]].concat(), true);
    let args = ["sign", "pd-server.json", "--profile", "intenal", "--out", "lax"];
    desk.cert(&args).says(17, &["there is no profile `intenal`"]);
    desk.cert(&[&args[..], &["--cfssl-lax"]].concat()).says(
        0,
        &["warning: ca-config.json: there is no profile `intenal`", "`default` is taken, as cfssl does"],
    );
    let usages = desk.openssl(&["x509", "-in", "lax.pem", "-noout", "-ext", "extendedKeyUsage"]);
    assert!(usages.contains("Client") && !usages.contains("Server"), "{usages}");

    desk.write("old.json", &CA_CSR.replace("87600h", "-1h"));
    desk.cert(&["ca", "old.json"])
        .says(17, &["ca.expiry: `-1h` is no duration: it is negative", "`--cfssl-lax`"]);
    desk.cert(&["ca", "old.json", "--cfssl-lax"]).says(0, &["warning:", "EXPIRED"]);
    desk.write("rsa.json", &PD.replace(r#"{"algo":"ecdsa","size":256}"#, r#"{"algo":"rsa"}"#));
    desk.cert(&["sign", "rsa.json", "--profile", "internal", "--cfssl-lax"])
        .says(17, &["key.size: an RSA key needs a size"]);
}

#[test]
fn a_ca_is_renewed_bridged_and_its_certificates_issued_again() {
    let desk = Desk::with_ca();
    desk.cert(&["renew", "ca.pem"]).says(2, &["where to?", "--out ca.renewed"]);
    desk.cert(&["renew", "ca.pem", "--lifetime", "7300d", "--out", "ca.renewed"])
        .says(0, &["ca.renewed.pem"]);
    desk.openssl(&["verify", "-x509_strict", "-CAfile", "ca.renewed.pem", "pd-server.pem"]);
    let dates =
        desk.openssl(&["x509", "-in", "ca.renewed.pem", "-noout", "-checkend", &(7200 * 86400).to_string()]);
    assert!(dates.contains("will not expire"), "{dates}");
    desk.cert(&["renew", "pd-server.pem", "--out", "x"]).says(17, &["is no root authority"]);

    desk.cert(&["ca", "ca-csr.json", "--out", "ca.new"]).ok();
    desk.cert(&["cross-sign", "ca.new.pem", "--out", "bridge"]).ok();
    let new = ["reissue", "pd-server.pem", "--ca", "ca.new.pem", "--out", "pd-server.new"];
    desk.cert(&new).says(0, &["pd-server.new-key.pem", "pd-server.new.pem"]);
    desk.openssl(&["verify", "-x509_strict", "-CAfile", "ca.new.pem", "pd-server.new.pem"]);
    desk.judge("openssl", &["verify", "-CAfile", "ca.pem", "pd-server.new.pem"], false);
    desk.openssl(&[
        "verify",
        "-x509_strict",
        "-CAfile",
        "ca.pem",
        "-untrusted",
        "bridge.pem",
        "pd-server.new.pem",
    ]);
    let text =
        |name: &str| desk.openssl(&["x509", "-in", name, "-noout", "-subject", "-ext", "subjectAltName"]);
    assert_eq!(text("pd-server.new.pem"), text("pd-server.pem"));
    let same = ["reissue", "pd-server.pem", "--key", "pd-server-key.pem", "--out", "same"];
    desk.cert(&same).ok();
    assert!(!desk.path("same-key.pem").exists(), "the key stays what and where it was");
    desk.cert(&["inspect", "same.pem", "--key", "pd-server-key.pem"])
        .says(0, &["pd-server-key.pem belongs to it"]);
    desk.cert(&["reissue", "ca.pem", "--out", "x"]).says(17, &["renewed and not issued again"]);

    // Servers send the bridge along: a chain, which is joined and not `cat`.
    desk.cert(&["pem", "join", "pd-server.new.pem", "bridge.pem", "--out", "chain.pem"]).ok();
    desk.cert(&["verify", "chain.pem", "--anchors", "ca.pem", "--name", "basic-pd"])
        .says(0, &["ok webpki", "ok go", "ok openssl"]);
}

#[test]
fn nothing_that_is_there_is_written_over() {
    let desk = Desk::with_ca();
    let before = desk.names().into_iter().map(|name| (desk.read(&name), name)).collect::<Vec<_>>();
    let there = "is there already, and is not written over";
    desk.cert(&["ca", "ca-csr.json", "--out", "ca"]).says(11, &["ca.pem: ", there, "`--force`"]);
    desk.cert(&["sign", "pd-server.json", "--profile", "internal"]).says(11, &[there]);
    desk.cert(&["key", "ca-key.pem"]).says(11, &["ca-key.pem: ", there]);
    desk.cert(&["csr", "pd-server.json"]).says(11, &[there]);
    desk.cert(&["bundle", "merge", "pd-server.pem", "--out", "ca.pem"]).says(11, &["ca.pem: ", there]);
    // A key alone is enough to stop it, wherever the rest is free.
    desk.write("free-key.pem", "precious");
    desk.cert(&["sign", "pd-server.json", "--profile", "internal", "--out", "free"])
        .says(11, &["free-key.pem"]);
    assert_eq!(desk.read("free-key.pem"), "precious");
    assert!(!desk.path("free.pem").exists());
    for (text, name) in before {
        assert_eq!(desk.read(&name), text, "{name}");
    }
    let old = desk.read("pd-server-key.pem");
    desk.cert(&["sign", "pd-server.json", "--profile", "internal", "--force"]).ok();
    assert_ne!(desk.read("pd-server-key.pem"), old);
    assert_eq!(desk.mode("pd-server-key.pem"), 0o600);
    desk.cert(&["sign", "pd-server.json", "--profile", "internal", "--out", "no/such/folder/x"])
        .says(13, &["no/such/folder/x-key.pem", "make the folder first"]);
}
