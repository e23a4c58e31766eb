//! A large namespace: 200 Secrets of components among 5,000 others. What is asked of the server is no more than the work
//! needs, and what lies beside it is neither read nor written. Prints times, requests and memory, beside a `kubectl` loop.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use kube::Client;
use serde_json::{Value, json};
use tests::control_plane::{ControlPlane, assets, client};
use tests::desk::kubectl;
use tests::program::under_test;

use crate::bench::multi;

const COMPONENTS: usize = 200;
const OTHERS: usize = 5_000;
/// How many times the loop of `kubectl` goes round; more would tell nothing new.
const ROUNDS: u32 = 20;
const NS: &str = "large";

const MANIFEST: &str = "\
title: Many Secrets
touches:
  - kube: { resource: secrets, namespace: large, names: [\"component-*\"], write: true }
params:
  text: { default: one }
";
const SCRIPT: &str = "\
let p = phase(\"write\", \"Every component's Secret.\");
for n in 0..200 {
    p.change(`${n}`, k8s::patch_secret(#{ namespace: \"large\", name: `component-${n}` }, #{ note: param(\"text\") })).parallel(16);
}
";

async fn send(client: &Client, method: &str, path: &str, body: Value) -> Value {
    let request =
        http::Request::builder().method(method).uri(path).header("content-type", "application/json");
    client.request(request.body(body.to_string().into_bytes()).unwrap()).await.unwrap()
}

async fn fill(client: &Client) {
    send(client, "POST", "/api/v1/namespaces", json!({"metadata": {"name": NS}})).await;
    let names = (0..COMPONENTS).map(|n| format!("component-{n}"));
    let names: Vec<String> = names.chain((0..OTHERS).map(|n| format!("other-{n}"))).collect();
    // About what a certificate, its key and its CA take.
    let data = "QUJD".repeat(700);
    let make = |name: String| {
        let secret = json!({"metadata": {"name": name}, "data": {"tls.crt": data, "ca.crt": data}});
        async move { send(client, "POST", &format!("/api/v1/namespaces/{NS}/secrets"), secret).await }
    };
    futures::stream::iter(names).map(make).buffer_unordered(32).for_each(|_| async {}).await;
}

/// The versions of all Secrets.
async fn versions(client: &Client) -> BTreeMap<String, String> {
    let path = format!("/api/v1/namespaces/{NS}/secrets");
    let all: Value = client.request(http::Request::get(path).body(Vec::new()).unwrap()).await.unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let entry =
        |secret: &Value| (text(&secret["metadata"]["name"]), text(&secret["metadata"]["resourceVersion"]));
    all["items"].as_array().unwrap().iter().map(entry).collect()
}

/// How many requests for Secrets of this namespace's kind the server has answered, by verb.
async fn requests(client: &Client) -> BTreeMap<String, u64> {
    let metrics =
        client.request_text(http::Request::get("/metrics").body(Vec::new()).unwrap()).await.unwrap();
    let mut counted = BTreeMap::new();
    for line in metrics.lines().filter(|line| line.starts_with("apiserver_request_total{")) {
        if !line.contains("resource=\"secrets\"") || line.contains("verb=\"WATCH\"") {
            continue;
        }
        let verb = line.split("verb=\"").nth(1).unwrap().split('"').next().unwrap();
        let count: u64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        *counted.entry(verb.to_owned()).or_default() += count;
    }
    counted
}

/// Runs the program: how long it took, and the most memory that it held, in kilobytes.
fn run(home: &Path, kubeconfig: &Path, text: &str) -> (Duration, u64) {
    let begun = Instant::now();
    let mut child = Command::new(under_test())
        .args(["run", "site/many", "--yes", "--set", &format!("text={text}"), "--kubeconfig"])
        .arg(kubeconfig)
        .env_clear()
        .env("HOME", home)
        .env("ROLLOVER_STATE", home.join("state"))
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut most = 0;
    loop {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let held = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        most = held.and_then(|held| held.trim().split(' ').next()?.parse().ok()).unwrap_or(0).max(most);
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            return (begun.elapsed(), most);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn difference(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let more = |(verb, count): (&String, &u64)| (verb.clone(), count - before.get(verb).unwrap_or(&0));
    after.iter().map(more).filter(|(_, count)| *count > 0).collect()
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn two_hundred_secrets_among_five_thousand_are_written_with_two_requests_each() {
    let assets = assets().expect("tests/control-plane makes the programs");
    let kubectl = kubectl(&assets).expect("tests/control-plane makes kubectl too");
    multi(async {
        let plane = ControlPlane::start(&assets).await.unwrap();
        let client = client(&plane.admin_kubeconfig()).await.unwrap();
        let home = tempfile::tempdir().unwrap();
        let workflow = home.path().join("site/many");
        fs::create_dir_all(&workflow).unwrap();
        fs::write(workflow.join("workflow.yaml"), MANIFEST).unwrap();
        fs::write(workflow.join("main.rhai"), SCRIPT).unwrap();
        fill(&client).await;

        let (before, asked) = (versions(&client).await, requests(&client).await);
        let (took, held) = run(home.path(), &plane.admin_kubeconfig(), "two");
        let asked = difference(&asked, &requests(&client).await);
        let after = versions(&client).await;
        let changed: Vec<&String> = after.keys().filter(|name| before[*name] != after[*name]).collect();
        assert_eq!(changed.len(), COMPONENTS);
        assert!(changed.iter().all(|name| name.starts_with("component-")), "{changed:?}");
        let most = 2 * u64::try_from(COMPONENTS).unwrap();
        // Ours looked once at all of them, before and after.
        let lists = asked.get("LIST").copied().unwrap_or(0);
        let ours: u64 = asked.iter().filter(|(verb, _)| *verb != "LIST").map(|(_, count)| count).sum();
        assert!(ours <= most && lists <= 2, "{asked:?}");

        let begun = Instant::now();
        for n in 0..ROUNDS {
            let patch = format!("{{\"data\":{{\"note\":\"{}\"}}}}", ["dGhyZWU=", "Zm91cg=="][n as usize % 2]);
            let status = Command::new(&kubectl)
                .args(["patch", "secret", &format!("component-{n}"), "--namespace", NS, "-p", &patch])
                .arg("--kubeconfig")
                .arg(plane.admin_kubeconfig())
                .stdout(Stdio::null())
                .status()
                .unwrap();
            assert!(status.success());
        }
        let one = begun.elapsed() / ROUNDS;
        let all = one * u32::try_from(COMPONENTS).unwrap();
        println!("{COMPONENTS} Secrets among {OTHERS}: {took:.2?}, {held} kB at most, requests {asked:?}");
        println!(
            "`kubectl patch`, one by one: {one:.0?} each, {all:.2?} for all: {:.1} times as long",
            all.as_secs_f64() / took.as_secs_f64()
        );
    });
}
