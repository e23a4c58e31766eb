//! The ways into a cluster that a kubeconfig can name: a program that hands out credentials, another user's name, a
//! context that is not there.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use serde_json::{Value, json};

use crate::bench::{Bench, multi};

/// Somebody with a kubeconfig of their own.
struct Person {
    home: tempfile::TempDir,
    pki: PathBuf,
}

impl Person {
    /// Writes the administrator's kubeconfig with another user in it.
    fn with_user(&self, admin: &Path, user: &Value) -> PathBuf {
        let mut config: Value = serde_json::from_slice(&fs::read(admin).unwrap()).unwrap();
        config["users"][0]["user"] = user.clone();
        let path = self.home.path().join("kubeconfig");
        fs::write(&path, config.to_string()).unwrap();
        path
    }

    /// Plans a rotation: exit code and what was said.
    fn plans(&self, kubeconfig: &Path, more: &[&str]) -> (i32, String) {
        let pki = format!("pki={}", self.pki.display());
        let output = Command::new(env!("CARGO_BIN_EXE_rollover-under-test"))
            .args(["plan", "tidb/cfssl-rotate", "--set", &pki, "--kubeconfig"])
            .arg(kubeconfig)
            .args(more)
            .env_clear()
            .env("HOME", self.home.path())
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(text).unwrap())
    }
}

fn says((code, text): (i32, String), expected: i32, words: &[&str]) {
    assert_eq!(code, expected, "{text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is missing: {text}");
    }
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn credentials_come_from_a_program_and_another_users_name_is_taken_as_kubectl_takes_it() {
    multi(async {
        let bench = Bench::new(6).await;
        let admin = bench.plane.admin_kubeconfig();
        let person = Person { home: tempfile::tempdir().unwrap(), pki: bench.pki("") };
        let at = |name: &str| bench.plane.dir().join(name);
        let text = |name: &str| fs::read_to_string(at(name)).unwrap();

        // As clouds do it: `exec` names a program that prints credentials.
        let credential = json!({
            "apiVersion": "client.authentication.k8s.io/v1beta1", "kind": "ExecCredential",
            "status": { "clientCertificateData": text("admin.pem"), "clientKeyData": text("admin-key.pem") },
        });
        let said = person.home.path().join("credential.json");
        fs::write(&said, credential.to_string()).unwrap();
        let plugin = person.home.path().join("get-credentials");
        fs::write(
            &plugin,
            format!("#!/bin/sh\n[ \"$WHO\" = admin ] || exit 3\nexec cat {}\n", said.display()),
        )
        .unwrap();
        fs::set_permissions(&plugin, fs::Permissions::from_mode(0o700)).unwrap();
        let exec = |who: &str| {
            json!({ "exec": {
            "apiVersion": "client.authentication.k8s.io/v1beta1", "command": plugin, "args": [],
            "env": [{ "name": "WHO", "value": who }], "interactiveMode": "Never",
        } })
        };
        let plan = ["trust-both", "switch-leaves"];
        says(person.plans(&person.with_user(&admin, &exec("admin")), &[]), 0, &plan);
        // One that fails is told of, and no key of a working one is in what was said.
        says(person.plans(&person.with_user(&admin, &exec("nobody")), &[]), 19, &["get-credentials"]);

        // Credentials in the file itself, and another user's name: who may not read is told what to add.
        let base64 = |name: &str| base64::engine::general_purpose::STANDARD.encode(text(name));
        let mut user = json!({
            "client-certificate-data": base64("admin.pem"), "client-key-data": base64("admin-key.pem"),
        });
        says(person.plans(&person.with_user(&admin, &user), &[]), 0, &plan);
        user["as"] = json!("ada");
        let refused =
            ["User \"ada\" cannot", "add this rule to a Role in namespace `tidb`", "verbs: [\"get\"]"];
        says(person.plans(&person.with_user(&admin, &user), &[]), 18, &refused);

        // A context that is not there, a file that is none.
        let missing = ["--context", "production"];
        says(person.plans(&admin, &missing), 19, &["production", "kubectl config get-contexts"]);
        fs::write(person.home.path().join("kubeconfig"), "not: [yaml").unwrap();
        says(person.plans(&person.home.path().join("kubeconfig"), &[]), 19, &["cannot use the kubeconfig"]);
    });
}
