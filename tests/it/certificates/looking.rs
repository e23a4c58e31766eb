//! Looking: `inspect`, `verify`, `folder`.

use super::desk::{CA_CSR, Desk, fits};

#[test]
fn a_certificate_is_told_with_what_a_person_needs_first() {
    let desk = Desk::with_ca();
    let text = desk.cert(&["inspect", "pd-server.pem"]).ok();
    fits(&text);
    let labels: Vec<&str> = text.lines().filter_map(|line| line.get(2..12)).map(str::trim).collect();
    let labels: Vec<&str> = labels.into_iter().filter(|label| !label.is_empty()).collect();
    assert_eq!(labels[1..], ["what", "whose", "names", "until", "signed by", "key", "sha256"], "{text}");
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for words in [
        "certificate for server and client",
        "C=US, ST=San Francisco, L=CA, CN=TiDB",
        "DNS:*.basic-pd-peer, IP:127.0.0.1, IP:::1",
        "364 days left",
        "CN=TiDB (the one in ca.pem: its signature holds)",
        "ecdsa 256; pd-server-key.pem belongs to it",
    ] {
        assert!(flat.contains(words), "{words}: {text}");
    }
    // The same facts as openssl gives them.
    let openssl = |what: &str| desk.openssl(&["x509", "-in", "pd-server.pem", "-noout", what]);
    let told = desk.json(&["inspect", "pd-server.pem"]);
    let one = &told["items"][0]["certificates"][0];
    let colons = |hex: &str| {
        hex.to_uppercase()
            .as_bytes()
            .chunks(2)
            .map(|two| String::from_utf8_lossy(two).into_owned())
            .collect::<Vec<_>>()
            .join(":")
    };
    let print = |field: &str| colons(one[field].as_str().unwrap().split_once(':').unwrap().1);
    let theirs = desk.openssl(&["x509", "-in", "pd-server.pem", "-noout", "-fingerprint", "-sha256"]);
    assert_eq!(theirs.trim(), format!("sha256 Fingerprint={}", print("fingerprint")));
    assert_eq!(openssl("-fingerprint").trim(), format!("SHA1 Fingerprint={}", print("sha1")));
    assert_eq!(
        openssl("-serial").trim(),
        format!("serial={}", one["serial"].as_str().unwrap().to_uppercase())
    );
    assert_eq!(one["private_key"], serde_json::json!({ "in": "pd-server-key.pem", "matches": true }));
    assert_eq!(one["signed"]["checked"], true);
    let long = desk.cert(&["inspect", "pd-server.pem", "--long"]).ok();
    fits(&long);
    assert!(long.contains("sha256//") && long.contains("digital signature, key encipherment"), "{long}");
}

#[test]
fn what_is_wrong_is_told_at_once() {
    let desk = Desk::with_ca();
    desk.cert(&["ca", "ca-csr.json", "--out", "other"]).ok();
    desk.cert(&["inspect", "pd-server.pem", "--key", "other-key.pem", "--ca", "other.pem"]).says(
        0,
        &["other-key.pem does NOT belong to it", "NOT by the one in other.pem: another key of the same name"],
    );
    let told = desk.json(&["inspect", "pd-server.pem", "--key", "other-key.pem"]);
    assert_eq!(told["items"][0]["certificates"][0]["private_key"]["matches"], false);

    desk.write("short.json", &CA_CSR.replace("87600h", "-1h"));
    desk.cert(&["ca", "short.json", "--cfssl-lax", "--out", "old"]).ok();
    desk.cert(&["inspect", "old.pem"]).says(0, &["until", "EXPIRED"]);

    let damaged = desk.read("pd-server.pem").replacen('M', "!", 2);
    desk.write("damaged.pem", &damaged);
    desk.cert(&["inspect", "damaged.pem"]).says(17, &["damaged.pem: line 2:", "not base64"]);
    desk.cert(&["inspect", "pd-server.json"])
        .says(17, &["holds no PEM block", "a cfssl request or configuration"]);
    desk.cert(&["inspect", "nobody.pem"]).says(13, &["nobody.pem: there is no such file", "HOST:PORT"]);
    desk.cert(&["inspect", "secret/tidb"]).says(2, &["write `secret/NAMESPACE/NAME`"]);
    std::fs::write(desk.path("noise"), [0x30, 0x82, 1, 2, 3]).unwrap();
    desk.cert(&["inspect", "noise"]).says(17, &["noise: is neither a certificate nor"]);
}

#[test]
fn der_requests_keys_chains_and_standard_input_are_read() {
    let desk = Desk::with_ca();
    desk.openssl(&["x509", "-in", "pd-server.pem", "-outform", "der", "-out", "pd-server.der"]);
    desk.cert(&["inspect", "pd-server.der"])
        .says(0, &["certificate for server and client", "pd-server-key.pem belongs"]);
    desk.cert(&["inspect", "pd-server.csr"])
        .says(0, &["signing request, signed by its own key", "pd-server-key.pem belongs to it"]);
    let key = desk
        .cert(&["inspect", "pd-server-key.pem"])
        .says(0, &["private key; only its public half is shown", "ecdsa 256"]);
    assert!(desk.read("pd-server-key.pem").lines().all(|line| line.starts_with('-') || !key.contains(line)));
    desk.openssl(&["pkey", "-in", "pd-server-key.pem", "-outform", "der", "-out", "key.der"]);
    desk.cert(&["inspect", "key.der"]).says(0, &["private key"]);

    desk.write(
        "chain.pem",
        &format!("{}{}{}", desk.read("pd-server.pem"), desk.read("ca.pem"), desk.read("pd-server-key.pem")),
    );
    let text = desk.cert(&["inspect", "chain.pem"]).says(
        0,
        &[
            "chain.pem: 2 certificates, each signed by the next",
            "root CA",
            "the key in this file belongs to it",
        ],
    );
    fits(&text);
    let mut piped = desk.command(&["cert", "inspect", "-"]);
    let out = piped.stdin(std::fs::File::open(desk.path("ca.pem")).unwrap()).output().unwrap();
    assert!(String::from_utf8(out.stdout).unwrap().starts_with("standard input\n  what       root CA"));
    let lines = desk.cert(&["inspect", "ca.pem", "pd-server.pem", "--output", "json"]).ok();
    assert_eq!(lines.lines().count(), 2, "one object a line");
}

/// The trap of the TiDB page: a leaf with its CA's name and no authority key id, and two CAs of one name. Go takes it,
/// OpenSSL does not, whatever the person expects.
#[test]
fn where_verifiers_differ_the_exit_code_follows_the_one_that_counts() {
    let desk = Desk::with_ca();
    desk.write("same.json", &CA_CSR.replace(r#""CA":{"expiry":"87600h"},"#, r#""hosts":["basic-tikv"],"#));
    desk.cert(&["ca", "ca-csr.json", "--out", "new"]).ok();
    let theirs =
        ["gencert", "-ca=new.pem", "-ca-key=new-key.pem", "-config=ca-config.json", "-profile=internal"];
    let answer = desk.judge("cfssl", &[&theirs[..], &["same.json"]].concat(), true);
    let line = answer.lines().find(|line| line.starts_with('{')).unwrap();
    let fields: serde_json::Value = serde_json::from_str(line).unwrap();
    desk.write("leaf.pem", fields["cert"].as_str().unwrap());
    desk.cert(&["bundle", "merge", "ca.pem", "new.pem", "--out", "both.pem"]).ok();

    let args = ["verify", "leaf.pem", "--anchors", "both.pem", "--name", "basic-tikv"];
    let text = desk
        .cert(&args)
        .says(42, &["ok go", "FAIL openssl TiKV, TiFlash", "! the leaf's name is its issuer's"]);
    fits(&text);
    desk.judge("openssl", &["verify", "-CAfile", "both.pem", "leaf.pem"], false);
    desk.cert(&[&args[..], &["--by", "go"]].concat()).says(0, &["FAIL openssl"]);
    desk.cert(&[&args[..], &["--by", "openssl"]].concat()).says(42, &["ok go"]);
    let told = desk.json(&args);
    assert_eq!((&told["accepted"], &told["agree"]), (&false.into(), &false.into()));

    // Issued by us, all three accept it: it names its issuer by key id.
    desk.cert(&["sign", "same.json", "--profile", "internal", "--ca", "new.pem", "--out", "ours"]).ok();
    desk.cert(&["verify", "ours.pem", "--anchors", "both.pem", "--name", "basic-tikv"]).ok();
    desk.openssl(&["verify", "-CAfile", "both.pem", "ours.pem"]);
}

#[test]
fn a_chain_is_verified_under_names_for_a_use_and_at_a_time() {
    let desk = Desk::with_ca();
    let verify =
        |more: &[&str]| desk.cert(&[&["verify", "pd-server.pem", "--anchors", "ca.pem"][..], more].concat());
    verify(&["--name", "basic-pd", "--name", "::1"]).says(0, &["ends in C=US, ST=Beijing"]);
    // The page's wildcards for PD's peers are such; only Go programs dial PD by them.
    verify(&["--name", "pd-0.basic-pd-peer"])
        .says(42, &["FAIL webpki", "ok go", "FAIL openssl", "`*.basic-pd-peer`, holds for Go alone"]);
    verify(&["--name", "basic-pd", "--name", "basic-tikv"]).says(42, &["is not valid for `basic-tikv`"]);
    verify(&["--usage", "client", "--allowed-cn", "TiDB"]).ok();
    verify(&["--usage", "client", "--allowed-cn", "other"])
        .says(42, &["`TiDB` is not among the allowed: other"]);
    verify(&["--at", "2020-01-01"]).says(42, &["is not valid before"]);
    verify(&["--at", "yesterday"]).says(11, &["--at: is no time", "`2036-11-19`"]);
    desk.cert(&["sign", "pd-server.json", "--profile", "client", "--out", "client"]).ok();
    desk.cert(&["verify", "client.pem", "--anchors", "ca.pem"])
        .says(42, &["may not be used for server authentication"]);
}

#[test]
fn a_pki_folder_is_told_as_it_lies() {
    let desk = Desk::with_ca();
    let text = desk.cert(&["folder", "."]).says(
        0,
        &[
            "no rotation was begun by hand",
            "profiles client, default, internal",
            "requests pd-server",
            "is there, and is the CA's",
        ],
    );
    fits(&text);
    std::fs::rename(desk.path("ca.pem"), desk.path("ca.old.pem")).unwrap();
    std::fs::rename(desk.path("ca-key.pem"), desk.path("ca-key.old.pem")).unwrap();
    desk.cert(&["folder", "."]).says(0, &["there is no new one yet"]);
    desk.cert(&["ca", "ca-csr.json", "--out", "ca", "--force"]).ok();
    desk.cert(&["folder", "."]).says(0, &["a run adopts it", "successor"]);
    assert_eq!(desk.json(&["folder", "."])["found"], "ca-made");
    desk.cert(&["folder", "nowhere"]).says(13, &["there is no such folder"]);
}

/// Every command's help has an example that a person can copy.
#[test]
fn every_help_teaches_by_example() {
    let desk = Desk::new();
    for command in
        ["inspect", "verify", "key", "csr", "ca", "sign", "renew", "cross-sign", "reissue", "folder", "probe"]
    {
        let help = desk.cert(&[command, "--help"]).ok();
        assert!(help.contains(&format!("  rollover cert {command} ")), "{command}: {help}");
    }
    for (group, command) in [
        ("bundle", "list"),
        ("bundle", "merge"),
        ("bundle", "remove"),
        ("bundle", "compare"),
        ("pem", "list"),
        ("pem", "split"),
        ("pem", "normalise"),
        ("pem", "join"),
    ] {
        let help = desk.cert(&[group, command, "--help"]).ok();
        assert!(help.contains(&format!("  rollover cert {group} {command} ")), "{group} {command}: {help}");
    }
    desk.cert(&["inspekt"]).says(2, &["inspect"]);
}
