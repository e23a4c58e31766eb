//! Keys: made, decrypted, asked for without echo.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::desk::Desk;

#[test]
fn keys_are_made_in_every_kind_and_refused_with_the_list() {
    let desk = Desk::new();
    for (kind, text) in [
        ("rsa 2048", "2048 bit"),
        ("ecdsa 256", "256 bit"),
        ("ecdsa 384", "384 bit"),
        ("ecdsa 521", "521 bit"),
        ("ed25519", "ED25519"),
    ] {
        let file = format!("{}.pem", kind.replace(' ', "-"));
        desk.cert(&["key", &file, "--kind", kind]).says(0, &[&file, kind, "spki:"]);
        assert_eq!(desk.mode(&file), 0o600);
        assert!(desk.openssl(&["pkey", "-in", &file, "-noout", "-text", "-check"]).contains(text), "{kind}");
    }
    desk.cert(&["key", "x.pem", "--kind", "rsa 2050"])
        .says(11, &["cannot be made", "2048, 3072, 4096 or 8192 bits", "openssl genrsa"]);
    desk.cert(&["key", "x.pem", "--kind", "dsa"]).says(11, &["`ed25519`"]);
    assert!(!desk.path("x.pem").exists());
}

/// A CA whose key is encrypted: the passphrase comes from a file or from the terminal, never from an argument.
#[test]
fn an_encrypted_ca_key_is_opened_with_a_file() {
    let desk = Desk::with_ca();
    let seal = ["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-passout", "pass:open sesame", "-in", "ca-key.pem"];
    desk.openssl(&[&seal[..], &["-out", "sealed.pem"]].concat());
    desk.write("pass.txt", "open sesame\n");
    desk.write("wrong.txt", "sesame\n");
    let sign = |more: &[&str]| {
        let args =
            ["sign", "pd-server.json", "--profile", "internal", "--ca-key", "sealed.pem", "--out", "x"];
        desk.cert(&[&args[..], more].concat())
    };
    sign(&[])
        .says(17, &["sealed.pem: line 1: the key is encrypted with a passphrase", "--passphrase-file FILE"]);
    sign(&["--passphrase-file", "wrong.txt"]).says(17, &["cannot be opened with this passphrase"]);
    sign(&["--passphrase-file", "nowhere.txt"]).says(13, &["nowhere.txt"]);
    sign(&["--passphrase-file", "pass.txt"]).ok();
    desk.openssl(&["verify", "-CAfile", "ca.pem", "x.pem"]);
    desk.cert(&["inspect", "ca.pem", "--key", "sealed.pem", "--passphrase-file", "pass.txt"])
        .says(0, &["sealed.pem belongs to it"]);
    desk.cert(&["inspect", "sealed.pem"]).says(0, &["private key, encrypted"]);

    desk.cert(&["key", "plain.pem", "--from", "sealed.pem", "--passphrase-file", "pass.txt"]).ok();
    assert_eq!((desk.read("plain.pem"), desk.mode("plain.pem")), (desk.read("ca-key.pem"), 0o600));

    desk.openssl(&["ec", "-aes128", "-passout", "pass:x", "-in", "ca-key.pem", "-out", "maybe-old.pem"]);
    desk.openssl(&["genrsa", "-traditional", "-aes128", "-passout", "pass:x", "-out", "old.pem", "2048"]);
    desk.cert(&["key", "y.pem", "--from", "old.pem", "--passphrase-file", "pass.txt"])
        .says(17, &["OpenSSL's old way", "openssl pkcs8 -topk8 -v2 aes-256-cbc -in OLD -out NEW"]);
}

/// At a terminal it asks, and does not show what is typed.
#[test]
fn at_a_terminal_the_passphrase_is_asked_for_without_echo() {
    let desk = Desk::with_ca();
    let seal = ["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-passout", "pass:opensesame", "-in", "ca-key.pem"];
    desk.openssl(&[&seal[..], &["-out", "sealed.pem"]].concat());
    let program = env!("CARGO_BIN_EXE_rollover-under-test");
    let line = format!("tty > terminal; exec {program} cert key opened.pem --from sealed.pem");
    // `script` gives the program a terminal of its own; what that echoes is in its output.
    let mut script = Command::new("script")
        .args(["--quiet", "--echo", "always", "--return", "--command", &line, "/dev/null"])
        .current_dir(desk.folder())
        .env("ROLLOVER_STATE", desk.path(".state"))
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("install `script` with `apt-get install bsdutils`");
    // Only when the terminal is told not to echo is anything typed.
    let silent = || {
        let terminal = std::fs::read_to_string(desk.path("terminal")).ok()?;
        let settings = Command::new("stty").args(["-F", terminal.trim(), "-a"]).output().ok()?;
        String::from_utf8_lossy(&settings.stdout).contains(" -echo ").then_some(())
    };
    while silent().is_none() {
        assert!(script.try_wait().unwrap().is_none(), "it asks before it ends");
        std::thread::yield_now();
    }
    script.stdin.take().unwrap().write_all(b"opensesame\n").unwrap();
    let mut seen = String::new();
    std::io::Read::read_to_string(script.stdout.as_mut().unwrap(), &mut seen).unwrap();
    assert!(seen.contains("Passphrase for sealed.pem: "), "{seen}");
    assert!(script.wait().unwrap().success(), "{seen}");
    assert!(!seen.contains("opensesame"), "{seen}");
    assert_eq!(desk.read("opened.pem"), desk.read("ca-key.pem"));
}

/// Signing requests, with a new key and with one that is there.
#[test]
fn signing_requests_are_made_for_others_to_answer() {
    let desk = Desk::with_ca();
    desk.write("node.json", &super::desk::PD.replace("basic-pd", "node"));
    desk.cert(&["csr", "node.json"]).says(0, &["node-key.pem", "node.csr"]);
    desk.openssl(&["req", "-in", "node.csr", "-noout", "-verify"]);
    let answer = [
        "sign",
        "-ca=ca.pem",
        "-ca-key=ca-key.pem",
        "-config=ca-config.json",
        "-profile=internal",
        "node.csr",
    ];
    desk.judge("cfssl", &answer, true);
    desk.cert(&["csr", "node.json", "--key", "pd-server-key.pem", "--out", "again"]).ok();
    assert!(!desk.path("again-key.pem").exists());
    desk.cert(&["inspect", "again.csr", "--key", "pd-server-key.pem"])
        .says(0, &["pd-server-key.pem belongs to it"]);
    desk.cert(&["sign", "node.json", "--profile", "internal", "--key", "node-key.pem"]).ok();
    desk.cert(&["inspect", "node.pem"]).says(0, &["node-key.pem belongs to it"]);
}
