//! The program in a pod: it has no kubeconfig, but the account that a kubelet has put there.
//!
//! The pod is a mount namespace of its own, which takes root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tests::program::under_test;

use crate::program::{Program, says, told};

/// Puts the account where a kubelet would, in sight of this process alone, and becomes the program.
const INSIDE: &str = "set -e
mount -t tmpfs none \"$(readlink -f /var/run)\"
mkdir -p /var/run/secrets/kubernetes.io/serviceaccount
cp \"$0\"/* /var/run/secrets/kubernetes.io/serviceaccount/ 2>/dev/null || true
exec \"$@\"";

/// Whether a pod can be had here; what is missing is said, so that nobody takes silence for a test.
fn possible() -> bool {
    let made = Command::new("unshare").args(["--mount", "--propagation", "private", "true"]).output();
    let made = made.is_ok_and(|output| output.status.success());
    if !made {
        println!("NOT TESTED: the account of a pod needs the right to make mount namespaces: run as root");
    }
    made
}

/// A sandbox in a process of its own, and somebody in a pod of that cluster.
struct Pod {
    program: Program,
    sandbox: PathBuf,
    account: PathBuf,
    server: (String, String),
}

impl Drop for Pod {
    fn drop(&mut self) {
        let dir = self.sandbox.display().to_string();
        let _ = self.program.types(&["sandbox", "stop", &dir]);
    }
}

impl Pod {
    fn new() -> Self {
        let program = Program::new();
        let said = program.types(&["sandbox", "start", "--seed", "13", "--output", "json"]);
        says(&said, 0, &[]);
        let said: Value = serde_json::from_slice(&said.stdout).unwrap();
        let sandbox = PathBuf::from(said["dir"].as_str().unwrap());
        let known = fs::read_to_string(sandbox.join("kubeconfig")).unwrap();
        let known: Value = serde_yaml::from_str(&known).unwrap();
        let text = |pointer: &str| known.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
        let account = program.path().join("account");
        fs::create_dir_all(&account).unwrap();
        fs::write(account.join("token"), text("/users/0/user/token")).unwrap();
        let ca = STANDARD.decode(text("/clusters/0/cluster/certificate-authority-data")).unwrap();
        fs::write(account.join("ca.crt"), ca).unwrap();
        fs::write(account.join("namespace"), "ops").unwrap();
        let server = text("/clusters/0/cluster/server");
        let (host, port) = server.trim_start_matches("https://").rsplit_once(':').unwrap();
        let server = (host.to_owned(), port.trim_end_matches('/').to_owned());
        Self { program, sandbox, account, server }
    }

    /// Types a command in the pod, with this account, and with the server's address as a kubelet tells it or without.
    fn types(&self, account: &Path, told: bool, args: &[&str]) -> Output {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-c", INSIDE])
            .arg(account)
            .arg(under_test())
            .args(args)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.program.path())
            .env("ROLLOVER_STATE", self.program.state())
            .current_dir(self.program.path());
        if told {
            command
                .env("KUBERNETES_SERVICE_HOST", &self.server.0)
                .env("KUBERNETES_SERVICE_PORT", &self.server.1);
        }
        command.output().unwrap()
    }
}

/// That there is no cluster, with these words, however they are broken into lines.
fn refuses(output: &Output, words: &[&str]) {
    let (code, said) = told(output);
    let flat = |text: &str| text.replace(|c: char| c.is_whitespace() || c == '│', "");
    assert_eq!(code, 19, "{said}");
    for words in [&["no cluster is configured"], words].concat() {
        assert!(flat(&said).contains(&flat(words)), "`{words}` is missing: {said}");
    }
}

#[test]
fn in_a_pod_the_account_of_the_pod_is_used_there_and_back() {
    if !possible() {
        return;
    }
    let pod = Pod::new();
    let pki = format!("pki={}", pod.sandbox.join("pki").display());
    let begins = ["run", "tidb/cfssl-components", "--yes", "--set", "components=tidb", "--set", &pki];

    // Nothing is there: what was looked for is said, and what to do.
    let nothing = pod.types(&pod.account, false, &begins);
    refuses(
        &nothing,
        &["this is no pod: KUBERNETES_SERVICE_HOST", "set KUBECONFIG", "--kubeconfig FILE", "--sandbox"],
    );
    let empty = pod.program.path().join("empty");
    fs::create_dir_all(&empty).unwrap();
    let no_account = pod.types(&empty, true, &begins);
    refuses(
        &no_account,
        &["the account of the pod in /var/run/secrets/kubernetes.io/serviceaccount cannot be used"],
    );
    assert_eq!(pod.program.runs(), Vec::<String>::new());

    says(&pod.types(&pod.account, true, &begins), 0, &["Done."]);
    let run = pod.program.runs().pop().unwrap();
    // The record names no kubeconfig, and outside of the pod there is no way to its cluster.
    refuses(&pod.program.types(&["rollback", &run, "--yes"]), &["this is no pod"]);
    says(&pod.types(&pod.account, true, &["rollback", &run, "--yes"]), 0, &[]);
    says(&pod.program.types(&["status", &run]), 0, &["rolled back"]);
}
