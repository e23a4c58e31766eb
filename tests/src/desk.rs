//! What a person types with `kubectl`, and what is said: one transcript for any API server.
//!
//! Times, ages, addresses, uids, versions and made-up names are left out, and so are lines that depend on how far a
//! rollout has come when it is looked at.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

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
    spec: {automountServiceAccountToken: false, containers: [{name: main, image: \"web:1\"}]}
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
    spec: {automountServiceAccountToken: false, containers: [{name: main, image: \"db:1\"}]}
";

const AGENT: &str = "\
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent, labels: {app: agent}}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec: {automountServiceAccountToken: false, containers: [{name: main, image: \"agent:1\"}]}
";

/// Between a command that goes on and those that are typed meanwhile.
const MEANWHILE: &str = " && ";

/// What is typed: a line of words as a shell takes them, single quotes and all.
const TYPED: &[&str] = &[
    "create namespace desk",
    "apply -f app.yaml",
    "apply -f app.yaml",
    "rollout status deployment/web --timeout=120s",
    "rollout status statefulset/db --timeout=120s",
    "wait --for=condition=Available deployment/web --timeout=60s",
    "wait --for=condition=Ready pod -l app=db --timeout=60s",
    "wait --for=condition=Ready pod/db-0 pod/db-1 --timeout=60s",
    "apply -f agent.yaml",
    "rollout status daemonset/agent --timeout=120s",
    "get daemonset agent --no-headers",
    "rollout restart daemonset/agent",
    "rollout status daemonset/agent --timeout=120s",
    "wait --for=condition=Ready pod -l app=agent --timeout=60s",
    "describe pod db-0",
    "describe statefulset db",
    "describe deployment web",
    "describe daemonset agent",
    "delete daemonset agent",
    "wait --for=delete pod -l app=agent --timeout=60s",
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
    "wait --for=delete pod/db-1 --timeout=60s",
    "get pod db-1",
    "delete pod db-0",
    "rollout status statefulset/db --timeout=120s",
    "get configmap -l app=web -o name --watch --request-timeout=2s",
    "get configmap -o custom-columns=NAME:.metadata.name,COLOR:.data.color -l app=web --watch --request-timeout=20s \
     && patch configmap app --type merge -p {\"data\":{\"color\":\"green\"}} && label configmap app tier=back --overwrite \
     && label configmap app app- && label configmap app app=web && delete configmap app && apply -f app.yaml",
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
    for (name, text) in [("app.yaml", APP), ("agent.yaml", AGENT), ("one.yaml", ONE), ("other.yaml", OTHER)] {
        fs::write(home.join(name), text).unwrap();
    }
    let begin = |typed: &str| {
        let mut command = Command::new(kubectl);
        command.args(typed.split(' ')).arg("--namespace=desk").arg("--kubeconfig").arg(kubeconfig);
        command.env_clear().env("HOME", home).current_dir(home).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let mut said = String::new();
    let mut tell = |typed: &str, child: Child| {
        let output = child.wait_with_output().unwrap();
        let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
        let _ = writeln!(said, "$ kubectl {typed}");
        let _ = writeln!(said, "{}", without_what_differs(&String::from_utf8_lossy(&text)));
        let _ = writeln!(said, "=> {}", output.status.code().unwrap_or(-1));
    };
    for typed in TYPED {
        let mut commands = typed.split(MEANWHILE);
        let first = commands.next().unwrap_or_default();
        let goes_on = begin(first);
        for typed in commands {
            // It has begun, and has seen what was typed before.
            std::thread::sleep(Duration::from_millis(700));
            tell(typed, begin(typed));
        }
        tell(first, goes_on);
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
        (r"(?m)^(\s*(CreationTimestamp|Start Time|Started|Container ID|Image ID|IPs?|Node):).*$", "$1 X"),
        (r"\b(web|db|agent)-[0-9a-z]{5,10}\b", "$1-HASH"),
        (r"(?m)^(.*(pod-template-hash|controller-revision-hash|restartedAt)[=:]).*$", "$1X"),
        // The sandbox's controllers tell no events, and its server neither ranks pods nor numbers a Deployment's templates.
        (r"(?ms)^Events:.*\z", ""),
        (r"(?m)^(Priority|Tolerations|\s+node\.kubernetes\.io/\S+):.*\n", ""),
        (
            r"(?m)^Annotations:.*(deployment\.kubernetes\.io/revision|template\.generation).*$",
            "Annotations:  <none>",
        ),
        // Columns are as wide as their widest cell.
        (r" {2,}", "  "),
    ];
    let mut text = text.to_owned();
    for (rule, by) in rules {
        text = Regex::new(rule).unwrap().replace_all(&text, by).into_owned();
    }
    // How far a rollout is, and what newer servers add.
    let passes = ["Waiting for ", "Warning:", "selfLink:", "apps.kubernetes.io/pod-index="];
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
