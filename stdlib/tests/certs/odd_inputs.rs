//! The inputs of the procedures, and whatever else changes a certificate: what cfssl and ours are compared on.

use serde_json::{Value, json};
use stdlib::cfssl::Config;

use crate::inputs;

/// The profiles of the procedures and of everything else that changes a certificate.
const PROFILES: &str = r#"{
  "internal": {"expiry":"8760h","usages":["signing","key encipherment","server auth","client auth"]},
  "server": {"expiry":"8760h","usages":["signing","key encipherment","server auth"]},
  "client": {"expiry":"8760h","usages":["signing","key encipherment","client auth"]},
  "all": {"expiry":"8760h","usages":["signing","digital signature","content commitment","key encipherment",
    "key agreement","data encipherment","cert sign","crl sign","encipher only","decipher only","any","server auth",
    "client auth","code signing","email protection","s/mime","ipsec end system","ipsec tunnel","ipsec user",
    "timestamping","ocsp signing","microsoft sgc","netscape sgc"]},
  "as 1.2 spells it": {"expiry":"8760h","usages":["content committment"]},
  "urls": {"expiry":"8760h","usages":["server auth"],"ocsp_url":"http://ocsp.example",
    "crl_url":"http://crl.example/a.crl","issuer_urls":["http://one.example/ca.crt","http://two.example/ca.crt"]},
  "authority": {"expiry":"8760h","usages":["cert sign","crl sign"],"ca_constraint":{"is_ca":true}},
  "authority-1": {"expiry":"8760h","usages":["cert sign"],"ca_constraint":{"is_ca":true,"max_path_len":1}},
  "authority-0": {"expiry":"8760h","usages":["crl sign","cert sign"],
    "ca_constraint":{"is_ca":true,"max_path_len":0,"max_path_len_zero":true}},
  "dates": {"not_before":"2026-01-01T00:00:30Z","not_after":"2027-06-01T00:00:30Z","expiry":"1h","usages":["server auth"]},
  "backdated": {"expiry":"99h","backdate":"1h","usages":["any"]},
  "seconds": {"expiry":"36000.5s","usages":["any"]},
  "beyond-the-ca": {"expiry":"99999h","usages":["client auth"]}
}"#;

pub(crate) fn config() -> Config {
    Config::from_json(config_json().as_bytes(), "ca-config.json").unwrap()
}

pub(crate) fn config_json() -> String {
    format!(r#"{{"signing":{{"default":{{"expiry":"8760h"}},"profiles":{PROFILES}}}}}"#)
}

/// The requests for leaves: all of the procedures, and what else has an effect.
pub(crate) fn requests() -> Vec<(String, Value, &'static str)> {
    let mut all: Vec<(String, Value, &'static str)> =
        inputs::all().into_iter().map(|input| (input.name, input.request, input.profile)).collect();
    let mut add = |label: &str, request: Value, profile| all.push((label.to_owned(), request, profile));
    add("every usage", json!({ "CN": "x" }), "all");
    add("a usage misspelt", json!({ "CN": "x" }), "as 1.2 spells it");
    add("URLs", json!({ "CN": "x" }), "urls");
    for profile in ["authority", "authority-1", "authority-0"] {
        add(profile, json!({ "CN": "x" }), profile);
    }
    add(
        "an authority with hosts",
        json!({ "CN": "x", "hosts": ["a", "10.0.0.1", "a@b.c", "http://d/e"] }),
        "authority",
    );
    for profile in ["dates", "backdated", "seconds", "beyond-the-ca"] {
        add(profile, json!({ "CN": "x", "hosts": ["a"] }), profile);
    }
    add(
        "the CA's name",
        json!({ "CN": "TiDB", "hosts": ["a"], "names": [{ "C": "US", "L": "CA", "O": "PingCAP", "ST": "Beijing", "OU": "TiDB" }] }),
        "internal",
    );
    add("hosts alone", json!({ "hosts": ["a"] }), "internal");
    add("an organization alone", json!({ "names": [{ "O": "x" }] }), "internal");
    add(
        "several names",
        json!({ "cn": "x", "names": [{ "C": "US", "O": "a&b", "OU": "c" }, { "C": "DE", "O": "b", "OU": "d", "ST": "Zürich", "L": "x*y" }], "serialnumber": "99" }),
        "internal",
    );
    add(
        "blank and odd values",
        json!({ "CN": "a@b_c*d", "names": [{ "O": " ", "OU": "", "L": "日本" }] }),
        "internal",
    );
    add(
        "further attributes",
        json!({ "CN": "x", "names": [{ "E": "a@b.c", "O": "x", "OID": { "1.2.3.4": "v" } }] }),
        "internal",
    );
    add(
        "unknown fields",
        json!({ "CN": "x", "crl_url": "http://c", "delegation_enabled": true, "extensions": [], "more": 1 }),
        "internal",
    );
    add(
        "hosts of every kind",
        json!({ "CN": "x", "hosts": ["b.example", "a@b.example", "10.0.0.1", "*.z", "::1", "a.example.", "A_b", "::ffff:10.1.1.1"] }),
        "internal",
    );
    add("twins", json!({ "CN": "x", "hosts": ["a", "b", "a"] }), "internal");
    add("URIs", json!({ "CN": "x", "hosts": ["a", "spiffe://tidb/pd"] }), "internal");
    all
}

/// The requests for authorities.
pub(crate) fn authorities() -> Vec<Value> {
    let mut requests: Vec<Value> = inputs::authorities().into_iter().map(|(_, request)| request).collect();
    requests.extend([
        json!({ "CN": "x" }),
        json!({ "CN": "x", "hosts": ["a", "10.0.0.1", "a@b.c"] }),
        json!({ "CN": "x", "ca": { "expiry": "438000h", "pathlen": 2 } }),
        json!({ "CN": "x", "ca": { "pathlen": 0, "pathlenzero": true } }),
        json!({ "CN": "x", "ca": { "expiry": "100h", "backdate": "1h" } }),
        json!({ "names": [{ "O": "x" }, { "OU": "y" }] }),
        json!({ "CN": "x", "serialnumber": "9", "key": { "algo": "ecdsa", "size": 384 } }),
        json!({ "CN": "x", "key": { "algo": "ecdsa", "size": 521 } }),
        json!({ "CN": "x", "key": { "algo": "rsa", "size": 2048 } }),
        json!({ "CN": "x", "key": { "algo": "rsa", "size": 3072 } }),
        json!({ "CN": "x", "key": { "algo": "rsa", "size": 4096 } }),
    ]);
    requests
}
