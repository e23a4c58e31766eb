//! A real Kubernetes control plane for a test: etcd, kube-apiserver with RBAC and, where it is there, kube-controller-manager,
//! each a process on a free loopback port, with a PKI of its own. `tests/control-plane` makes the programs; a folder of
//! envtest's has no controllers. Everything ends on drop.

mod etcd;
mod pki;
mod program;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kube::config::{KubeConfigOptions, Kubeconfig};
use rustix::process::Signal;
use rustls::ServerConfig;
use sandbox::world::Clients;
use serde_json::{Value, json};
use stdlib::secret::Secret;
use stdlib::tls::config::{self as tls, Identity, Trust, always};
use stdlib::trust::{Certs, Verifier};
use stdlib::world::SystemClock;
use tempfile::TempDir;

use self::pki::Authority;
use self::program::{Program, free_port};

/// How long a part may take to answer on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(180);

const MANAGERS: &str = "kube-controller-manager";

/// Users whose requests are counted.
pub const COUNTED: [&str; 2] = ["the-shell", "the-program"];

/// Controllers that a rotation meets. Those that judge nodes are left out: the node is the sandbox's, and sends no
/// heartbeats.
const CONTROLLERS: &str = "statefulset,deployment,replicaset,daemonset,garbagecollector,namespace,serviceaccount,\
                           serviceaccount-token,root-ca-cert-publisher,disruption,endpoint";

/// The folder of the programs: `KUBEBUILDER_ASSETS`, or what `tests/control-plane` made.
pub fn assets() -> Option<PathBuf> {
    let cache = || {
        let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or(home)?;
        Some(cache.join("rollover-tests/kubernetes/bin"))
    };
    let folder = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from).or_else(cache)?;
    ["etcd", "kube-apiserver"].iter().all(|program| folder.join(program).exists()).then_some(folder)
}

fn has_managers(assets: &Path) -> bool {
    assets.join(MANAGERS).exists()
}

/// A running control plane.
pub struct ControlPlane {
    // In the order in which they end.
    managers: Option<Program>,
    server: Mutex<Program>,
    etcd: Program,
    assets: PathBuf,
    authority: Authority,
    port: u16,
    etcd_port: u16,
    dir: TempDir,
}

impl ControlPlane {
    /// Starts one and waits until it serves.
    ///
    /// # Errors
    /// A program cannot be started or does not answer; its last words are in the text.
    pub async fn start(assets: &Path) -> io::Result<Self> {
        Self::again_and_again(assets, has_managers(assets)).await
    }

    /// The same without controllers: a test plays them.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn without_controllers(assets: &Path) -> io::Result<Self> {
        Self::again_and_again(assets, false).await
    }

    async fn again_and_again(assets: &Path, managed: bool) -> io::Result<Self> {
        // A port that was free may be somebody else's a moment later.
        for _ in 0..3 {
            match Self::begin(assets, managed).await {
                Err(error) if error.to_string().contains("address already in use") => {}
                begun => return begun,
            }
        }
        Self::begin(assets, managed).await
    }

    async fn begin(assets: &Path, managed: bool) -> io::Result<Self> {
        let dir = tempfile::tempdir()?;
        let authority = Authority::new("kubernetes")?;
        let at = |name: &str| dir.path().join(name);
        fs::write(at("ca.pem"), authority.pem())?;
        authority.server("kube-apiserver")?.write(&at("apiserver"))?;
        authority.client("system:admin", Some("system:masters"))?.write(&at("admin"))?;
        authority
            .client("kube-apiserver-kubelet-client", Some("system:masters"))?
            .write(&at("kubelet-client"))?;
        pki::service_account_key(dir.path())?;
        fs::write(at("audit.json"), audit_policy().to_string())?;
        let (etcd_port, port) = (free_port()?, free_port()?);
        let etcd = start_etcd(assets, dir.path(), etcd_port)?;
        let server = start_server(assets, dir.path(), etcd_port, port)?;
        let plane = Self {
            managers: None,
            server: Mutex::new(server),
            etcd,
            assets: assets.to_owned(),
            authority,
            port,
            etcd_port,
            dir,
        };
        fs::write(plane.dir.path().join("admin.kubeconfig"), plane.kubeconfig("admin"))?;
        plane.ready().await?;
        let managers = managed.then(|| plane.start_managers()).transpose()?;
        Ok(Self { managers, ..plane })
    }

    /// Whether it has controllers; where not, somebody else has to bring them.
    pub fn has_controllers(&self) -> bool {
        self.managers.is_some()
    }

    /// How a webhook speaks TLS that this control plane's API server asks: its CA has signed it.
    ///
    /// # Errors
    /// No certificate can be made.
    pub fn webhook_tls(&self) -> io::Result<Arc<ServerConfig>> {
        self.tls("webhook", None)
    }

    /// How a kubelet's endpoint speaks TLS here: it lets in whom this control plane's CA has signed.
    ///
    /// # Errors
    /// No certificate can be made.
    pub fn kubelet_tls(&self) -> io::Result<Arc<ServerConfig>> {
        let anchors = Arc::new(certs(&self.authority.pem())?);
        self.tls("kubelet", Some(Trust { verifier: Verifier::Go, anchors, allowed_cn: Vec::new() }))
    }

    fn tls(&self, name: &str, trust: Option<Trust>) -> io::Result<Arc<ServerConfig>> {
        let (chain, key) = self.authority.server(name)?.parts();
        let identity =
            Identity::new(&certs(&chain)?, &Secret::new(key.into_bytes(), name)).map_err(failed)?;
        tls::server(always(identity), trust, Arc::new(SystemClock), &[b"http/1.1"]).map_err(failed)
    }

    /// Its folder: `ca.pem`, `admin.kubeconfig`, logs.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A kubeconfig of the administrator.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.dir.path().join("admin.kubeconfig")
    }

    /// Writes a kubeconfig of a user that may do what RBAC grants it, and gives its path.
    ///
    /// # Errors
    /// The disk says no.
    pub fn user_kubeconfig(&self, user: &str) -> io::Result<PathBuf> {
        self.kubeconfig_of(user, None)
    }

    /// Writes a kubeconfig of one who may do everything and whose requests are counted: one of [`COUNTED`].
    ///
    /// # Errors
    /// The disk says no.
    pub fn counted_kubeconfig(&self, user: &str) -> io::Result<PathBuf> {
        self.kubeconfig_of(user, Some("system:masters"))
    }

    /// What one of [`COUNTED`] has asked of the server so far: how often which verb of which resource.
    ///
    /// # Errors
    /// The server's log cannot be read.
    pub fn requests_of(&self, user: &str) -> io::Result<BTreeMap<String, u64>> {
        let mut counted = BTreeMap::new();
        for line in fs::read_to_string(self.dir.path().join("audit.log"))?.lines() {
            let event: Value = serde_json::from_str(line)?;
            if event["user"]["username"] == user {
                let resource = event["objectRef"]["resource"].as_str().unwrap_or("the API itself");
                let what = format!("{} {resource}", event["verb"].as_str().unwrap_or_default());
                *counted.entry(what).or_default() += 1;
            }
        }
        Ok(counted)
    }

    fn kubeconfig_of(&self, user: &str, group: Option<&str>) -> io::Result<PathBuf> {
        let stem: String = user.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        self.authority.client(user, group)?.write(&self.dir.path().join(&stem))?;
        let path = self.dir.path().join(format!("{stem}.kubeconfig"));
        fs::write(&path, self.kubeconfig(&stem))?;
        Ok(path)
    }

    /// Ends the API server and starts it again after a while on the same port, with the same data.
    ///
    /// # Errors
    /// It does not come back.
    pub async fn restart_server(&self, down: Duration) -> io::Result<()> {
        self.server().stop();
        tokio::time::sleep(down).await;
        *self.server() = start_server(&self.assets, self.dir.path(), self.etcd_port, self.port)?;
        self.ready().await
    }

    /// Stops the API server where it stands, for a while: it takes connections and answers nothing.
    ///
    /// # Errors
    /// It cannot be signalled.
    pub async fn hang_server(&self, hanging: Duration) -> io::Result<()> {
        self.server().signal(Signal::STOP)?;
        tokio::time::sleep(hanging).await;
        self.server().signal(Signal::CONT)?;
        self.ready().await
    }

    fn server(&self) -> MutexGuard<'_, Program> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether etcd, the API server and the controllers all run.
    pub fn runs(&mut self) -> bool {
        let managers = self.managers.as_mut().is_some_and(Program::runs);
        managers == self.has_controllers() && self.server().runs() && self.etcd.runs()
    }

    /// Clients that act as an administrator, for the parts of a sandbox world.
    ///
    /// # Errors
    /// The kubeconfig is not usable.
    pub async fn clients(&self) -> Result<Clients, kube::Error> {
        let client = client(&self.admin_kubeconfig()).await?;
        Ok(Arc::new(move |_: &str| client.clone()))
    }

    fn kubeconfig(&self, stem: &str) -> String {
        let at = |name: String| self.dir.path().join(name);
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{ "name": "test", "cluster": {
                "server": format!("https://127.0.0.1:{}", self.port), "certificate-authority": at("ca.pem".into()) } }],
            "users": [{ "name": stem, "user": {
                "client-certificate": at(format!("{stem}.pem")), "client-key": at(format!("{stem}-key.pem")) } }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": stem } }],
        });
        text.to_string()
    }

    fn start_managers(&self) -> io::Result<Program> {
        let dir = self.dir.path();
        let at = |name: &str| dir.join(name).display().to_string();
        let arguments = [
            format!("--kubeconfig={}", at("admin.kubeconfig")),
            format!("--controllers={CONTROLLERS}"),
            format!("--root-ca-file={}", at("ca.pem")),
            format!("--service-account-private-key-file={}", at("sa-key.pem")),
            "--leader-elect=false".into(),
            "--port=0".into(),
            format!("--secure-port={}", free_port()?),
            "--bind-address=127.0.0.1".into(),
            format!("--cert-dir={}", at("managers")),
            "--kube-api-qps=200".into(),
            "--kube-api-burst=400".into(),
        ];
        Program::start(&self.assets.join(MANAGERS), &arguments, dir)
    }

    async fn ready(&self) -> io::Result<()> {
        let client = client(&self.admin_kubeconfig()).await.map_err(io::Error::other)?;
        let begun = Instant::now();
        loop {
            let request = http::Request::get("/readyz").body(Vec::new()).map_err(io::Error::other)?;
            let why = match client.request_text(request).await {
                Ok(text) if text == "ok" => return Ok(()),
                Ok(text) => text,
                Err(error) => error.to_string(),
            };
            if begun.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.dir.path().join("kube-apiserver.log")).unwrap_or_default();
                let last: Vec<&str> = log.lines().rev().take(15).collect();
                return Err(io::Error::other(format!("kube-apiserver is not ready: {why}; {last:#?}")));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

fn failed(error: stdlib::PrimError) -> io::Error {
    io::Error::other(error.to_string())
}

fn certs(pem: &str) -> io::Result<Certs> {
    let list = stdlib::cert::parse_many(pem.as_bytes(), "the control plane").map_err(failed)?;
    Ok(Certs(list.iter().map(|cert| cert.der().clone()).collect()))
}

/// A client of a kubeconfig.
///
/// # Errors
/// The kubeconfig is not usable.
pub async fn client(kubeconfig: &Path) -> Result<kube::Client, kube::Error> {
    kube::Client::try_from(config(kubeconfig).await?)
}

/// How a client of a kubeconfig asks.
///
/// # Errors
/// The kubeconfig is not usable.
pub async fn config(kubeconfig: &Path) -> Result<kube::Config, kube::Error> {
    let unusable = |e: kube::config::KubeconfigError| kube::Error::Service(Box::new(e));
    let file = Kubeconfig::read_from(kubeconfig).map_err(unusable)?;
    let mut config =
        kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(unusable)?;
    // As the program has it.
    config.default_retry = false;
    Ok(config)
}

fn start_etcd(assets: &Path, dir: &Path, port: u16) -> io::Result<Program> {
    let (client, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{}", free_port()?));
    let arguments = [
        format!("--data-dir={}", dir.join("etcd").display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        // The machine's power is not what these tests cut.
        "--unsafe-no-fsync".into(),
    ];
    Program::start(&assets.join("etcd"), &arguments, dir)
}

/// Each request of those who are counted, once, as soon as it is answered; of others nothing.
fn audit_policy() -> Value {
    json!({
        "apiVersion": "audit.k8s.io/v1", "kind": "Policy",
        "omitStages": ["RequestReceived", "ResponseStarted"],
        "rules": [{ "level": "Metadata", "users": COUNTED }, { "level": "None" }],
    })
}

fn start_server(assets: &Path, dir: &Path, etcd: u16, port: u16) -> io::Result<Program> {
    let at = |name: &str| dir.join(name).display().to_string();
    let mut arguments = vec![
        format!("--etcd-servers=http://127.0.0.1:{etcd}"),
        "--bind-address=127.0.0.1".into(),
        "--advertise-address=127.0.0.1".into(),
        format!("--secure-port={port}"),
        format!("--cert-dir={}", at("server")),
        format!("--tls-cert-file={}", at("apiserver.pem")),
        format!("--tls-private-key-file={}", at("apiserver-key.pem")),
        format!("--client-ca-file={}", at("ca.pem")),
        "--authorization-mode=RBAC".into(),
        "--service-cluster-ip-range=10.96.0.0/24".into(),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        format!("--service-account-key-file={}", at("sa-pub.pem")),
        format!("--service-account-signing-key-file={}", at("sa-key.pem")),
        "--endpoint-reconciler-type=none".into(),
        format!("--kubelet-certificate-authority={}", at("ca.pem")),
        format!("--kubelet-client-certificate={}", at("kubelet-client.pem")),
        format!("--kubelet-client-key={}", at("kubelet-client-key.pem")),
        "--kubelet-preferred-address-types=InternalIP".into(),
        format!("--audit-policy-file={}", at("audit.json")),
        format!("--audit-log-path={}", at("audit.log")),
    ];
    if !has_managers(assets) {
        // Nobody makes the accounts without which it admits no pods.
        arguments.push("--disable-admission-plugins=ServiceAccount".into());
    }
    Program::start(&assets.join("kube-apiserver"), &arguments, dir)
}
