//! Every request and profile of the procedures: TiDB's components, its MySQL side, and kubeadm's files.

use serde_json::{Value, json};
use stdlib::cert::KeyKind;

/// One certificate of a procedure.
pub(crate) struct Input {
    /// The file's name there.
    pub(crate) name: String,
    pub(crate) request: Value,
    pub(crate) profile: &'static str,
    /// Whether it serves; then every host of it can be dialled.
    pub(crate) server: bool,
    /// Whether it dials.
    pub(crate) client: bool,
}

impl Input {
    /// What a client dials to reach it, and the host of the request that stands for it: a wildcard for one label.
    pub(crate) fn dialled(&self) -> Vec<(String, String)> {
        let hosts = self.request["hosts"].as_array().map(Vec::as_slice).unwrap_or_default();
        let one = |host: &Value| host.as_str().map(|host| (host.replacen('*', "db-0", 1), host.to_owned()));
        hosts.iter().filter_map(one).collect()
    }

    /// The request, asking for this kind of key.
    pub(crate) fn with_key(&self, kind: KeyKind) -> stdlib::cfssl::Request {
        let mut request = self.request.clone();
        request["key"] = key_json(kind);
        stdlib::cfssl::Request::from_value(&request, &self.name).unwrap()
    }
}

/// The authorities' requests; the leaves of every input are issued by each.
pub(crate) fn authorities() -> [(&'static str, Value); 5] {
    let kubernetes = |cn: &str| json!({ "CN": cn, "hosts": [cn], "ca": { "expiry": "87600h" } });
    let names = json!([{ "C": "US", "L": "CA", "O": "PingCAP", "ST": "Beijing", "OU": "TiDB" }]);
    [
        ("TiDB", json!({ "CN": "TiDB", "CA": { "expiry": "87600h" }, "names": names })),
        ("TiDB Server", json!({ "CN": "TiDB Server", "CA": { "expiry": "87600h" }, "names": names })),
        ("kubernetes", kubernetes("kubernetes")),
        ("front-proxy-ca", kubernetes("front-proxy-ca")),
        ("etcd-ca", kubernetes("etcd-ca")),
    ]
}

/// `ca-config.json` of the cluster page, with `server` of the page about MySQL clients.
pub(crate) const CONFIG: &str = r#"{"signing":{"default":{"expiry":"8760h"},"profiles":{
  "internal":{"expiry":"8760h","usages":["signing","key encipherment","server auth","client auth"]},
  "server":{"expiry":"8760h","usages":["signing","key encipherment","server auth"]},
  "client":{"expiry":"8760h","usages":["signing","key encipherment","client auth"]}}}}"#;

/// How cfssl's requests name a kind of key.
pub(crate) fn key_json(kind: KeyKind) -> Value {
    match kind {
        KeyKind::Rsa(bits) => json!({ "algo": "rsa", "size": bits }),
        KeyKind::P256 => json!({ "algo": "ecdsa", "size": 256 }),
        KeyKind::P384 => json!({ "algo": "ecdsa", "size": 384 }),
        KeyKind::P521 => json!({ "algo": "ecdsa", "size": 521 }),
        KeyKind::Ed25519 => json!({ "algo": "ed25519" }),
    }
}

/// In the cluster `basic` of the namespace `tidb`: bare, with namespace, with `.svc`.
fn forms(names: &[&str]) -> Vec<String> {
    names
        .iter()
        .flat_map(|name| ["", ".tidb", ".tidb.svc"].map(|tail| format!("{name}{tail}")))
        .chain(["127.0.0.1".to_owned(), "::1".to_owned()])
        .collect()
}

/// What the procedures call `full(X)`, for several X.
fn full(components: &[&str]) -> Vec<String> {
    let names: Vec<String> = components
        .iter()
        .flat_map(|c| [format!("basic-{c}"), format!("basic-{c}-peer"), format!("*.basic-{c}-peer")])
        .collect();
    forms(&names.iter().map(String::as_str).collect::<Vec<_>>())
}

fn tidb(name: &str, hosts: Vec<String>, profile: &'static str) -> Input {
    let names = json!([{ "C": "US", "L": "San Francisco", "ST": "CA" }]);
    Input {
        name: name.into(),
        request: json!({ "CN": "TiDB", "hosts": hosts, "names": names }),
        profile,
        server: profile != "client",
        client: profile != "server",
    }
}

fn mysql(name: &str, cn: &str, hosts: Vec<String>, profile: &'static str) -> Input {
    let mut input = tidb(name, hosts, profile);
    input.request["CN"] = json!(cn);
    input
}

fn kubernetes(name: &str, cn: &str, organization: &str, hosts: &[&str], profile: &'static str) -> Input {
    let names = if organization.is_empty() { json!([]) } else { json!([{ "O": organization }]) };
    Input {
        name: name.into(),
        request: json!({ "CN": cn, "hosts": hosts, "names": names }),
        profile,
        server: profile != "client",
        client: profile != "server",
    }
}

/// All of them.
pub(crate) fn all() -> Vec<Input> {
    let mut all = vec![
        tidb("pd-server", full(&["pd"]), "internal"),
        tidb("pd-server with microservices", full(&["pd", "tso", "scheduling"]), "internal"),
    ];
    for component in ["tikv", "tidb", "ticdc", "tiproxy", "tiflash"] {
        all.push(tidb(&format!("{component}-server"), full(&[component]), "internal"));
    }
    all.extend([
        tidb("pump-server", forms(&["*.basic-pump"]), "internal"),
        tidb("drainer-server by name", forms(&["*.drainer"]), "internal"),
        tidb("drainer-server by release", forms(&["*.basic-release-drainer"]), "internal"),
        tidb("importer-server", forms(&["basic-importer", "*.basic-importer"]), "internal"),
        tidb("lightning-server", forms(&["basic-lightning"]), "internal"),
        tidb("client", Vec::new(), "client"),
        mysql(
            "server of the MySQL side",
            "TiDB Server",
            forms(&["basic-tidb", "*.basic-tidb", "*.basic-tidb-peer"]),
            "server",
        ),
        mysql("client of the MySQL side", "TiDB Client", Vec::new(), "client"),
    ]);
    let apiserver = [
        "cp-1",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "10.96.0.1",
        "192.0.2.11",
        "api.example.com",
    ];
    let etcd = ["cp-1", "localhost", "192.0.2.11", "127.0.0.1", "::1"];
    let masters = "system:masters";
    for (name, cn, organization, hosts, profile) in [
        ("apiserver", "kube-apiserver", "", &apiserver[..], "server"),
        ("apiserver-kubelet-client", "kube-apiserver-kubelet-client", "", &[], "client"),
        ("apiserver-kubelet-client (old)", "kube-apiserver-kubelet-client", masters, &[], "client"),
        ("front-proxy-client", "front-proxy-client", "", &[], "client"),
        ("apiserver-etcd-client", "kube-apiserver-etcd-client", "", &[], "client"),
        ("apiserver-etcd-client (old)", "kube-apiserver-etcd-client", masters, &[], "client"),
        ("etcd/healthcheck-client", "kube-etcd-healthcheck-client", "", &[], "client"),
        ("etcd/healthcheck-client (old)", "kube-etcd-healthcheck-client", masters, &[], "client"),
        ("etcd/server", "cp-1", "", &etcd[..], "internal"),
        ("etcd/peer", "cp-1", "", &etcd[..], "internal"),
        ("admin.conf", "kubernetes-admin", "kubeadm:cluster-admins", &[], "client"),
        ("admin.conf (old)", "kubernetes-admin", masters, &[], "client"),
        ("super-admin.conf", "kubernetes-super-admin", masters, &[], "client"),
        ("controller-manager.conf", "system:kube-controller-manager", "", &[], "client"),
        ("scheduler.conf", "system:kube-scheduler", "", &[], "client"),
        ("kubelet.conf", "system:node:cp-1", "system:nodes", &[], "client"),
    ] {
        all.push(kubernetes(name, cn, organization, hosts, profile));
    }
    all
}
