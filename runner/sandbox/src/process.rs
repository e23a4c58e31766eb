//! A sandbox as a process of its own: the world on the loopback interface, its API over HTTPS, and a folder that says
//! how to reach it. It outlives whoever uses it and ends by itself.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;
use stdlib::PrimError;
use stdlib::cert::Key;
use stdlib::cfssl::{Config, Request};
use stdlib::files::SystemDisk;
use stdlib::world::{Clock as _, Disk as _};
use thiserror::Error;

use crate::api;
use crate::world::counters::Snapshot;
use crate::world::{IssuedBy, Options as WorldOptions, Scenario, StartError, World};

/// How often the counters are written to `counters.json`.
pub(crate) const COUNTED: Duration = Duration::from_millis(200);

/// How a sandbox process behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// From which everything random comes.
    pub seed: u64,
    /// What it begins with.
    pub scenario: Scenario,
    /// It ends after this long without a request from outside.
    pub idle: Duration,
    /// It ends after this long whatever happens.
    pub life: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            scenario: Scenario::default(),
            idle: Duration::from_secs(1800),
            life: Duration::from_secs(12 * 3600),
        }
    }
}

/// Why a sandbox process ended early.
#[derive(Debug, Error)]
pub enum ProcessError {
    /// There is no world.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A file of its folder cannot be written, or its port cannot be had.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No certificate for its API.
    #[error("no certificate for the API: {0}")]
    Certificate(PrimError),
    /// Its API cannot speak TLS.
    #[error("the API cannot speak TLS: {0}")]
    Tls(#[from] rustls::Error),
}

pub(crate) fn doing(what: impl Into<String>) -> impl FnOnce(io::Error) -> ProcessError {
    let what = what.into();
    move |source| ProcessError::Io { what, source }
}

/// Runs a sandbox until it is told to stop (SIGTERM, SIGINT), is idle for too long, or too old. In its folder:
/// `kubeconfig` (0600), `pki/` (where certificates are cfssl's), `counters.json`, and `ready.json` as soon as it is steady and as long as it lives.
///
/// # Errors
/// See [`ProcessError`].
pub async fn serve(dir: &Path, options: Options) -> Result<(), ProcessError> {
    let disk = SystemDisk;
    disk.make_dir(dir, 0o700).map_err(doing(format!("cannot make {}", dir.display())))?;
    if let Some(etcd) = &options.scenario.etcd {
        return crate::hosts::serve_process(dir, etcd, &options).await;
    }
    let world = World::start(WorldOptions {
        scenario: options.scenario.clone(),
        ..WorldOptions::process(options.seed)
    })
    .await?;
    let mut params = json!({
        "namespace": world.scenario().namespace, "cluster": world.scenario().cluster,
    });
    // What cert-manager issues lies in Secrets alone.
    if let (Some(params), IssuedBy::Cfssl) = (params.as_object_mut(), world.scenario().issued_by) {
        world.pki().write(&disk, &dir.join("pki")).map_err(doing("cannot write the PKI folder"))?;
        params.insert("pki".into(), json!(dir.join("pki")));
        if let Some(sql) = world.pki().sql() {
            sql.write(&disk, &dir.join("sql-pki")).map_err(doing("cannot write the PKI folder"))?;
            params.insert("sql_pki".into(), json!(dir.join("sql-pki")));
            params.insert("login_secret".into(), json!(format!("{}-tidb-root", world.scenario().cluster)));
        }
    }

    let (certificate, tls) = tls()?;
    let listener =
        tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(doing("cannot listen"))?;
    let address = listener.local_addr().map_err(doing("cannot listen"))?;
    let token = hex::encode(rand::random::<[u8; 24]>());
    let no_api = || doing("cannot serve")(io::Error::other("this world has no API of its own"));
    let server = world.server().map(Arc::clone).ok_or_else(no_api)?;
    server.add_token(&token, "sandbox-admin");
    write_kubeconfig(dir, address, &certificate, &token, &world)?;

    // Requests of the world's own controllers do not keep it alive.
    let last = Arc::new(AtomicU64::new(0));
    let begun = tokio::time::Instant::now();
    let touched = Arc::clone(&last);
    server.on_request(Arc::new(move |request| {
        if request.user == "sandbox-admin" {
            touched.store(begun.elapsed().as_secs(), Ordering::Relaxed);
        }
    }));

    let ready = dir.join("ready.json");
    let text = json!({
        "pid": std::process::id(),
        "server": format!("https://{address}"),
        "kubeconfig": dir.join("kubeconfig"),
        "params": params,
    });
    write_counters(dir, &world.counters())?;
    disk.write_atomic(&ready, text.to_string().as_bytes(), 0o600)
        .map_err(doing("cannot write ready.json"))?;

    let served = server.serve(listener, tls);
    let result = tokio::select! {
        ended = served => ended.map_err(doing("the API ended")),
        () = stopped() => Ok(()),
        () = idle(begun, &last, &options) => Ok(()),
        failed = counting(dir, &world) => failed,
    };
    let _ = disk.remove(&ready);
    world.shutdown().await;
    result
}

fn write_kubeconfig(
    dir: &Path,
    address: SocketAddr,
    certificate: &str,
    token: &str,
    world: &World,
) -> Result<(), ProcessError> {
    let text = api::kubeconfig(address, certificate, token, &world.scenario().namespace);
    SystemDisk
        .write_atomic(&dir.join("kubeconfig"), text.as_bytes(), 0o600)
        .map_err(doing("cannot write the kubeconfig"))
}

pub(crate) fn write_counters(dir: &Path, counted: &Snapshot) -> Result<(), ProcessError> {
    let text = serde_json::to_vec(counted).unwrap_or_default();
    // Counters are for looking at; they need not survive a power cut, only never be seen half written.
    let new = dir.join("counters.json.new");
    #[expect(
        clippy::disallowed_methods,
        reason = "the disk's write is durable, and this one is made several times a second"
    )]
    let written = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, dir.join("counters.json")));
    written.map_err(doing("cannot write counters.json"))
}

async fn counting(dir: &Path, world: &World) -> Result<(), ProcessError> {
    loop {
        tokio::time::sleep(COUNTED).await;
        write_counters(dir, &world.counters())?;
    }
}

pub(crate) async fn idle(begun: tokio::time::Instant, last: &AtomicU64, options: &Options) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let age = begun.elapsed();
        let quiet = age.saturating_sub(Duration::from_secs(last.load(Ordering::Relaxed)));
        if quiet >= options.idle || age >= options.life {
            return;
        }
    }
}

pub(crate) async fn stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// A certificate for the loopback address, by an authority that nobody else has; the authority as PEM.
fn tls() -> Result<(String, Arc<rustls::ServerConfig>), ProcessError> {
    let now = stdlib::world::SystemClock.now();
    let issued = || -> Result<_, PrimError> {
        let authority = br#"{"CN": "Rollover sandbox", "key": {"algo": "ecdsa", "size": 256}}"#;
        let (ca, ca_key) = stdlib::ca::create(&Request::from_json(authority, "sandbox")?, now)?;
        let leaf = br#"{"CN": "kube-apiserver", "hosts": ["127.0.0.1", "localhost"], "key": {"algo": "ecdsa", "size": 256}}"#;
        let profiles = br#"{"signing": {"default": {"expiry": "48h", "usages": ["signing", "key encipherment", "server auth"]}}}"#;
        let config = Config::from_json(profiles, "sandbox")?;
        let (cert, key): (_, Key) = stdlib::cfssl::issue(
            &ca,
            &ca_key,
            &Request::from_json(leaf, "sandbox")?,
            config.profile("default")?,
            now,
        )?;
        Ok((ca, cert, key.to_pkcs8()?))
    };
    let (ca, cert, key) = issued().map_err(ProcessError::Certificate)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from(cert.der().to_vec())],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_vec())),
        )?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((ca.pem(), Arc::new(config)))
}
