//! Manifests, parameters and allowances.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::Path;

use insta::assert_snapshot;
use serde_json::{Value, json};
use stdlib::registry::Touch;
use stdlib::secret::{MemorySecrets, SecretStore, handle_id};

use super::*;
use crate::diagnostic::{Paint, render_all};

fn wrong(text: &str) -> String {
    render_all(&Manifest::parse(text).expect_err(text), Paint::Plain)
}

const GOOD: &str = r#"
title: Replace it
params:
  cluster: { help: the cluster's name }
  parts: { type: list, default: [] }
  count: { type: int, default: 3, min: 1, max: 100 }
  fast: { type: bool, default: false }
  limit: { type: duration, default: 45m, min: 1m }
  why: { type: choice, choices: [routine, compromise], default: routine }
  word: { pattern: "[a-z]+", default: abc }
  token: { secret: true, required: false, env: OUR_TOKEN }
"#;

fn given(set: &[(&str, &str)]) -> Given {
    let set = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Given { set, ..Given::default() }
}

fn resolve(given: &Given) -> Result<BTreeMap<String, Value>, Vec<ParamError>> {
    Manifest::parse(GOOD).unwrap().resolve(given, &MemorySecrets::default())
}

fn complaint(given: &Given) -> String {
    let errors = resolve(given).unwrap_err();
    errors
        .iter()
        .map(|error| format!("{error} | {}", error.hint.clone().unwrap_or_default()))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn duplicate_keys_unknown_fields_and_wrong_types_are_refused_with_their_line() {
    assert_snapshot!(wrong("title: a\nsummary: b\ntitle: c\n"));
    assert_snapshot!(wrong("title: a\nparams:\n  ns: { defualt: x }\n"));
    assert_snapshot!(wrong("title: a\nparams:\n  ns: { default: x }\n  ns: { default: y }\n"));
    assert_snapshot!(wrong("title: a\nparams:\n  ns: { type: nmber }\n"));
    assert_snapshot!(wrong("title: [a\n"));
    assert_snapshot!(wrong("title: a\ntouches:\n  - kubes: { resource: secrets }\n"));
}

#[test]
fn contradictions_are_refused_at_the_parameter() {
    assert_snapshot!(wrong("title: a\nparams:\n  ok: {}\n  n: { type: int, default: three }\n"));
    for (param, says) in [
        ("Name: {}", "names are lower-case"),
        ("n: { choices: [a] }", "`choices` belong to `type: choice`"),
        ("n: { type: choice }", "must not be empty"),
        ("n: { pattern: '(' }", "no regular expression"),
        ("n: { type: int, pattern: a }", "belongs to `type: text`"),
        ("n: { type: bool, min: 1 }", "`min` is a number with `type: int`"),
        ("n: { type: int, max: 1m }", "`max` is a number with `type: int`"),
        ("n: { type: int, min: 2, default: 1 }", "its default: expected at least 2, found `1`"),
        ("n: { secret: true, default: x }", "a secret is of type text and has no default"),
        ("n: { required: true, default: x }", "what has a default is not required"),
    ] {
        let found = wrong(&format!("title: a\nparams:\n  {param}\n"));
        assert!(found.contains(says), "{param}: {found}");
    }
    assert_snapshot!(wrong(
        "title: a\nparams:\n  cluster: {}\ntouches:\n  - files: { path: '/x/{{clster}}' }\n"
    ));
}

#[test]
fn values_are_typed_and_the_flag_wins_over_file_environment_and_default() {
    let mut given = given(&[("count", "7"), ("parts", "pd, tikv"), ("cluster", "flag")]);
    given.file = Some(("p.yaml".into(), "cluster: file\nfast: true\nword: file\n".into()));
    given.env = BTreeMap::from([
        ("ROLLOVER_PARAM_WORD".into(), "env".into()),
        ("ROLLOVER_PARAM_LIMIT".into(), "1h".into()),
        ("PATH".into(), "/bin".into()),
    ]);
    let values = resolve(&given).unwrap();
    assert_eq!(
        Value::Object(values.into_iter().collect()),
        json!({"cluster": "flag", "parts": ["pd", "tikv"], "count": 7, "fast": true, "limit": "1h",
            "why": "routine", "word": "file", "token": null})
    );
}

#[test]
fn what_is_out_of_range_is_refused_with_the_range() {
    let said = complaint(&given(&[("cluster", "x"), ("count", "0"), ("limit", "59s")]));
    assert!(said.contains("parameter `count`: expected 1 to 100, found `0`"), "{said}");
    assert!(said.contains("parameter `limit`: expected at least 1m, found `59s`"), "{said}");
    assert!(resolve(&given(&[("cluster", "x"), ("count", "100"), ("limit", "1m")])).is_ok());
}

#[test]
fn unknown_and_ill_typed_parameters_are_named_with_the_valid_ones() {
    assert_snapshot!(complaint(&given(&[("clutser", "x"), ("cluster", "y")])));
    assert_snapshot!(complaint(&given(&[])));
    assert_snapshot!(complaint(&given(&[
        ("cluster", "x"),
        ("count", "many"),
        ("fast", "yes"),
        ("limit", "soon"),
        ("why", "compromised"),
        ("word", "ABC"),
    ])));
    let mut env = given(&[("cluster", "x")]);
    env.env.insert("ROLLOVER_PARAM_CUONT".into(), "1".into());
    env.file = Some(("p.yaml".into(), "cluster: 5\nothr: 1".into()));
    assert_snapshot!(complaint(&env));
    env.file = Some(("p.yaml".into(), "count: 1\ncount: 2".into()));
    assert!(complaint(&env).contains("p.yaml:2: `count` is given twice"), "{}", complaint(&env));
}

#[test]
fn a_secret_becomes_a_handle_and_is_never_repeated() {
    let store = MemorySecrets::default();
    let mut given = given(&[("cluster", "x")]);
    given.env.insert("OUR_TOKEN".into(), "hunter2".into());
    let values = Manifest::parse(GOOD).unwrap().resolve(&given, &store).unwrap();
    let token = values.get("token").unwrap();
    assert!(handle_id(token).is_some() && !token.to_string().contains("hunter2"));
    assert_eq!(store.get(token).unwrap().expose(), b"hunter2");

    let mut wrong = given.clone();
    wrong.env.clear();
    wrong.file = Some(("p.yaml".into(), "token: { value: hunter2 }".into()));
    let errors = Manifest::parse(GOOD).unwrap().resolve(&wrong, &store).unwrap_err();
    assert!(!format!("{errors:?}").contains("hunter2"));
}

fn kube(namespace: &str, name: &str, verb: &str) -> Touch {
    Touch::Kube {
        group: String::new(),
        resource: "secrets".into(),
        namespace: namespace.into(),
        name: name.into(),
        verbs: vec!["get".into(), verb.into()],
    }
}

fn allowance(touches: &str, params: &Value) -> Allowance {
    let names: String = params.as_object().unwrap().keys().flat_map(|name| ["  ", name, ": {}\n"]).collect();
    let manifest = Manifest::parse(&format!("title: t\nparams:\n{names}touches:\n{touches}\n")).unwrap();
    manifest.allowance(&params.as_object().unwrap().clone().into_iter().collect(), Path::new("/work"))
}

#[test]
fn only_objects_that_the_manifest_names_may_be_touched() {
    let allowed = allowance(
        "  - kube: { resource: secrets, namespace: '{{ns}}', names: ['{{cluster}}-*-secret'], write: true }\n  - kube: { resource: secrets, namespace: other }",
        &json!({"ns": "tidb", "cluster": "basic"}),
    );
    assert!(allowed.allows(&kube("tidb", "basic-pd-secret", "patch")));
    assert!(!allowed.allows(&kube("tidb", "other-pd-secret", "patch")));
    assert!(!allowed.allows(&kube("tidb", "", "patch")), "all objects of a kind are more than some");
    assert!(!allowed.allows(&kube("prod", "basic-pd-secret", "patch")));
    assert!(allowed.allows(&kube("other", "any", "list")), "reading needs no `write`");
    assert!(!allowed.allows(&kube("other", "any", "patch")));
}

#[test]
fn a_parameter_cannot_widen_what_the_manifest_names() {
    let line = "  - kube: { resource: secrets, namespace: '{{ns}}', names: ['{{cluster}}'], write: true }";
    let allowed = allowance(line, &json!({"ns": "*", "cluster": "*"}));
    assert!(!allowed.allows(&kube("tidb", "x", "patch")));
    let listed = allowance(line, &json!({"ns": "tidb", "cluster": ["a", "b"]}));
    assert!(listed.allows(&kube("tidb", "b", "patch")) && !listed.allows(&kube("tidb", "c", "patch")));
}

#[test]
fn a_path_allows_what_lies_below_and_nothing_beside() {
    let allowed = allowance(
        "  - files: { path: '{{pki}}', write: true }\n  - files: { path: /etc/ssl }",
        &json!({"pki": "./pki"}),
    );
    let file = |path: &str, write: bool| Touch::File { path: path.into(), write };
    assert!(allowed.allows(&file("./pki/ca.pem", true)) && allowed.allows(&file("pki", true)));
    assert!(!allowed.allows(&file("pki/../secrets", true)) && !allowed.allows(&file("pki2/x", true)));
    assert!(
        allowed.allows(&file("/etc/ssl/certs/a", false)) && !allowed.allows(&file("/etc/ssl/certs/a", true))
    );
    assert!(!allowed.allows(&file("/etc/ssl/../shadow", false)));
    assert!(allowed.allows(&file("/work/pki/ca.pem", true)), "wherever the name is written out in full");
    assert!(!allowed.allows(&file("/srv/pki/ca.pem", true)) && !allowed.allows(&file("", false)));
    let nothing = allowance("  - files: { path: '{{pki}}', write: true }", &json!({"pki": ""}));
    assert!(!nothing.allows(&file("/etc/passwd", true)), "an empty parameter allows nothing");
    let net = allowance("  - net: { host: '*.svc', ports: [2379] }", &json!({}));
    assert!(net.allows(&Touch::Net { host: "pd.svc".into(), port: 2379 }));
    assert!(!net.allows(&Touch::Net { host: "pd.svc".into(), port: 80 }));
}

#[test]
fn commands_on_hosts_are_named_whole_and_nothing_else_of_a_host_comes_with_them() {
    let told = "- hosts: { name: \"m*\", commands: [\"openssl version\", \"kubeadm certs *\"] }";
    let allowance = allowance(told, &json!({}));
    let on = |host: &str, what: &str, write| Touch::Host { host: host.into(), what: what.into(), write };
    let may = |touch: &Touch| allowance.allows(touch);
    assert!(may(&on("m1", "command:openssl version", false)));
    assert!(may(&on("m1", "command:kubeadm certs check-expiration", false)));
    for other in [
        on("n1", "command:openssl version", false),
        on("m1", "command:openssl version -a", false),
        on("m1", "command:sh -c 'openssl version'", false),
        on("m1", "command:'openssl version'", false),
        on("m1", "command:kubeadm reset", false),
        on("m1", "command:", false),
        on("m1", "service:openssl version", true),
        on("m1", "/openssl version", false),
    ] {
        assert!(!may(&other), "{other:?}");
    }
    let line = Allowance::line_for(&on("m1", "command:grep '\"a\"' /etc/x", false));
    assert_eq!(line, "- hosts: { name: \"m1\", commands: [\"grep '\\\"a\\\"' /etc/x\"] }");
    let paths = self::allowance(
        "- hosts: { name: \"*\", paths: [\"/\"], services: [\"*\"], write: true }",
        &json!({}),
    );
    assert!(!paths.allows(&on("m1", "command:true", false)), "whoever may write may not run");
}

#[test]
fn pods_are_looked_for_in_the_namespaces_that_are_named() {
    let allowed = allowance(
        "  - kube: { resource: pods, namespace: '{{ns}}' }\n  - kube: { resource: pods, namespace: '{{ns}}', write: true }\n  - kube: { resource: pods, namespace: '*' }\n  - kube: { resource: secrets, namespace: vault }\n  - kube: { group: apps, resource: '*', namespace: apps }",
        &json!({"ns": ["tidb", "other"]}),
    );
    assert_eq!(allowed.pod_namespaces(), ["other", "tidb"]);
}
