//! Trust stores and PEM files.

use super::desk::{CA_CSR, Desk, fits};

/// A desk with two CAs of one name and a third that has expired.
fn desk() -> Desk {
    let desk = Desk::with_ca();
    desk.cert(&["ca", "ca-csr.json", "--out", "new"]).ok();
    desk.write("expired.json", &CA_CSR.replace("87600h", "-1h").replace(r#""CN":"TiDB""#, r#""CN":"gone""#));
    desk.cert(&["ca", "expired.json", "--cfssl-lax"]).ok();
    desk
}

fn count(desk: &Desk, file: &str) -> String {
    let text = desk.openssl(&["storeutl", "-noout", "-certs", file]);
    text.lines().find(|line| line.starts_with("Total found")).unwrap().to_owned()
}

#[test]
fn bundles_are_merged_without_losing_one_and_cleaned_of_others() {
    let desk = desk();
    // As `cat` leaves it where a file lacks its last newline: openssl refuses it, Go and Rust read one of two.
    desk.write("cat.pem", &format!("{}{}", desk.read("ca.pem").trim_end(), desk.read("new.pem")));
    let merge = ["bundle", "merge", "cat.pem", "ca.pem", "expired.pem", "--out", "all.pem"];
    desk.cert(&merge).says(0, &["warning: cat.pem: line ", "a newline is missing", "3 certificates"]);
    assert_eq!(count(&desk, "all.pem"), "Total found: 3");

    let text = desk.cert(&["bundle", "list", "all.pem"]).says(
        0,
        &[
            "all.pem: 3 certificates",
            "EXPIRED",
            "! 2: has the name of certificate 1 and another key",
            "! 3: expired on",
        ],
    );
    fits(&text);
    let codes: Vec<String> = desk.json(&["bundle", "list", "all.pem"])["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["code"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(codes, ["same-name", "expired"]);

    desk.cert(&["bundle", "remove", "all.pem", "--expired", "--out", "two.pem"]).says(0, &["2 certificates"]);
    desk.cert(&["bundle", "remove", "two.pem", "--cert", "ca.pem", "--out", "one.pem"]).ok();
    assert_eq!(desk.read("one.pem"), desk.read("new.pem"));
    let print = desk.openssl(&["x509", "-in", "new.pem", "-noout", "-fingerprint", "-sha256"]);
    let print = print.trim().rsplit('=').next().unwrap();
    let rest = desk.cert(&["bundle", "remove", "two.pem", "--fingerprint", print]).ok();
    assert_eq!(rest, desk.read("ca.pem"), "without --out it is printed");
    desk.cert(&["bundle", "remove", "one.pem", "--cert", "new.pem"]).says(
        11,
        &["one.pem: a bundle would be left without any certificate", "put the new CA into the bundle"],
    );
    desk.cert(&["bundle", "remove", "one.pem", "--cert", "ca.pem"]).says(13, &["is not in the bundle"]);
    desk.cert(&["bundle", "remove", "one.pem"]).says(2, &["what shall be taken out?"]);
}

#[test]
fn bundles_are_compared_by_fingerprint_and_by_key() {
    let desk = desk();
    desk.cert(&["renew", "ca.pem", "--lifetime", "24h", "--out", "renewed"]).ok();
    desk.cert(&["bundle", "merge", "ca.pem", "new.pem", "--out", "before.pem"]).ok();
    desk.cert(&["bundle", "merge", "new.pem", "renewed.pem", "--out", "after.pem"]).ok();
    let text = desk.cert(&["bundle", "compare", "before.pem", "after.pem"]).says(
        42,
        &["only in before.pem", "only in after.pem", "in both", "have one key: what one vouches for"],
    );
    fits(&text);
    desk.cert(&["bundle", "merge", "new.pem", "ca.pem", "--out", "turned.pem"]).ok();
    desk.cert(&["bundle", "compare", "before.pem", "turned.pem"]).says(0, &["in another order"]);
    let told = desk.json(&["bundle", "compare", "before.pem", "after.pem"]);
    assert_eq!(
        (told["only_first"].as_array().unwrap().len(), told["same_key"].as_array().unwrap().len()),
        (1, 1)
    );
}

#[test]
fn pem_files_are_taken_apart_and_put_together() {
    let desk = desk();
    let haproxy = format!(
        "Bag Attributes: x\r\n{}{}{}",
        desk.read("pd-server.pem").trim_end().replace('\n', "\r\n"),
        desk.read("ca.pem"),
        desk.read("pd-server-key.pem")
    );
    desk.write("haproxy.pem", &haproxy);
    desk.cert(&["pem", "list", "haproxy.pem"])
        .says(0, &["CERTIFICATE", "EC PRIVATE KEY", "a newline is missing"]);
    desk.cert(&["pem", "split", "haproxy.pem", "--out", "part"])
        .says(0, &["part-key.pem", "part-1.pem", "part-2.pem"]);
    assert_eq!(desk.mode("part-key.pem"), 0o600);
    for (part, whole) in
        [("part-1.pem", "pd-server.pem"), ("part-2.pem", "ca.pem"), ("part-key.pem", "pd-server-key.pem")]
    {
        assert_eq!(desk.read(part), desk.read(whole));
    }
    // With a key in it, nothing goes to standard output.
    desk.cert(&["pem", "normalise", "haproxy.pem"])
        .says(11, &["there is a private key in it, which is not printed"]);
    desk.cert(&["pem", "normalise", "haproxy.pem", "--out", "clean.pem"]).ok();
    assert_eq!(desk.mode("clean.pem"), 0o600);
    let parts = ["pd-server.pem", "ca.pem", "pd-server-key.pem"].map(|name| desk.read(name)).concat();
    assert_eq!(desk.read("clean.pem"), parts);
    let joined = desk.cert(&["pem", "join", "ca.pem", "new.pem"]).ok();
    assert_eq!(joined, format!("{}{}", desk.read("ca.pem"), desk.read("new.pem")));
    desk.write("cut.pem", desk.read("ca.pem").get(..200).unwrap());
    desk.cert(&["pem", "list", "cut.pem"])
        .says(17, &["cut.pem: line 1: the block `CERTIFICATE` is opened and never closed"]);
}
