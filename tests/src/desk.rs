//! What a person types with `kubectl`, and what is said: one transcript for any API server.
//!
//! Times, ages, addresses, uids, versions and made-up names are left out, and so are lines that depend on how far a
//! rollout has come when it is looked at.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;

const APP: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: app, labels: {app: web}}
data: {color: blue, size: \"1\"}
---
apiVersion: v1
kind: Secret
metadata: {name: app-tls, labels: {app: web}}
type: Opaque
data: {password: aHVudGVyMg==}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, image: \"web:1\"}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, labels: {app: db}}
spec:
  replicas: 2
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: main, image: \"db:1\"}]}
";

/// What is typed: a line of words as a shell takes them, single quotes and all.
const TYPED: &[&str] = &[
    "create namespace desk",
    "apply -f app.yaml",
    "apply -f app.yaml",
    "rollout status deployment/web --timeout=120s",
    "rollout status statefulset/db --timeout=120s",
    "wait --for=condition=Available deployment/web --timeout=60s",
    "wait --for=condition=Ready pod -l app=db --timeout=60s",
    "get configmap,secret,deployment,statefulset -l app=web",
    "get pods -l app=db",
    "get pods -l app=web --no-headers -o custom-columns=READY:.status.containerStatuses[0].ready,IMAGE:.spec.containers[0].image",
    "get configmap app -o jsonpath={.data}",
    "get configmap app -o yaml",
    "get statefulset db -o jsonpath={.spec.updateStrategy}",
    "describe secret app-tls",
    "patch configmap app --type merge -p {\"data\":{\"color\":\"red\"}}",
    "patch configmap app --type merge -p {\"data\":{\"color\":\"red\"}}",
    "patch configmap app --type json -p [{\"op\":\"remove\",\"path\":\"/data/size\"}]",
    "describe configmap app",
    "patch deployment web -p {\"spec\":{\"template\":{\"metadata\":{\"labels\":{\"new\":\"yes\"}}}}}",
    "get configmap app -o jsonpath={.data}",
    "annotate secret app-tls note=one",
    "annotate secret app-tls note=two",
    "annotate --overwrite secret app-tls note=two",
    "get secret app-tls -o jsonpath={.metadata.annotations.note}",
    "annotate secret app-tls note-",
    "label configmap app tier=front",
    "get configmap -l tier=front -o name",
    "rollout restart deployment/web",
    "rollout restart statefulset/db",
    "rollout status deployment/web --timeout=120s",
    "rollout status statefulset/db --timeout=120s",
    "scale statefulset db --replicas=1",
    "delete pod db-0",
    "rollout status statefulset/db --timeout=120s",
    "get configmap -l app=web -o name --watch --request-timeout=2s",
    "apply --server-side -f one.yaml",
    "apply --server-side --field-manager=other -f other.yaml",
    "apply --server-side --field-manager=other --force-conflicts -f other.yaml",
    "create -f one.yaml",
    "replace -f other.yaml",
    "get configmap one -o jsonpath={.data}",
    "patch configmap one --type merge -p {\"metadata\":{\"finalizers\":[\"example.com/hold\"]}}",
    "delete configmap one --wait=false",
    "wait --for=delete configmap/one --timeout=2s",
    "patch configmap one --type merge -p {\"metadata\":{\"finalizers\":null}}",
    "get configmap one",
    "auth can-i delete secrets",
    "delete configmap app",
    "get configmap app",
    "delete configmap app --ignore-not-found",
    "delete -f app.yaml --ignore-not-found --wait",
    "get deployment,statefulset",
    "delete namespace desk --timeout=120s",
    "get namespace desk",
];

const ONE: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: one}\ndata: {a: \"1\"}\n";
const OTHER: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: one}\ndata: {a: \"2\"}\n";

/// Types everything, and gives what was said.
pub fn transcript(kubectl: &Path, kubeconfig: &Path, home: &Path) -> String {
    for (name, text) in [("app.yaml", APP), ("one.yaml", ONE), ("other.yaml", OTHER)] {
        fs::write(home.join(name), text).unwrap();
    }
    let mut said = String::new();
    for typed in TYPED {
        let output = Command::new(kubectl)
            .args(typed.split(' '))
            .arg("--namespace=desk")
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .env_clear()
            .env("HOME", home)
            .current_dir(home)
            .output()
            .unwrap();
        let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
        let _ = writeln!(said, "$ kubectl {typed}");
        let _ = writeln!(said, "{}", without_what_differs(&String::from_utf8_lossy(&text)));
        let _ = writeln!(said, "=> {}", output.status.code().unwrap_or(-1));
    }
    said
}

/// What two servers say alike.
fn without_what_differs(text: &str) -> String {
    let rules = [
        // Times and ages.
        (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME"),
        (r"(?m)\s+(\d+[smhd])+\s*$", " AGE"),
        // Names and versions that a server makes up.
        (r"(?m)^(\s*(uid|resourceVersion|selfLink|creationTimestamp):).*$", "$1 X"),
        (r"web-[a-z0-9]+-[a-z0-9]+", "web-POD"),
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UID"),
        // Columns are as wide as their widest cell.
        (r" {2,}", "  "),
    ];
    let mut text = text.to_owned();
    for (rule, by) in rules {
        text = Regex::new(rule).unwrap().replace_all(&text, by).into_owned();
    }
    // How far a rollout is, and what newer servers add.
    let passes = ["Waiting for ", "Warning:", "selfLink:"];
    let passing = |line: &&str| {
        !passes.iter().any(|passes| line.trim_start().starts_with(passes))
            && !line.contains("waiting for statefulset rolling update")
    };
    text.lines().filter(passing).map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Lines in which two transcripts differ, with what was typed.
pub fn differences(ours: &str, theirs: &str) -> String {
    let parts = |text: &str| -> Vec<String> { text.split("$ kubectl ").map(str::to_owned).collect() };
    let (ours, theirs) = (parts(ours), parts(theirs));
    let differ = ours.iter().zip(&theirs).filter(|(ours, theirs)| ours != theirs);
    differ.map(|(ours, theirs)| format!("sandbox: {ours}\nreal: {theirs}")).collect::<Vec<_>>().join("\n")
}

/// The program, beside the control plane's.
pub fn kubectl(assets: &Path) -> Option<PathBuf> {
    Some(assets.join("kubectl")).filter(|path| path.exists())
}
