//! Hosts as a process of their own, which outlives whoever uses them.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use stdlib::files::SystemDisk;
use stdlib::world::Disk as _;
use tokio::net::TcpListener;

use super::genesis::Etcd;
use super::rpc;
use super::world::{Options, World};
use crate::process::{self, ProcessError, doing};

/// The largest question: a file of some MiB.
const MOST: usize = 32 << 20;

/// Runs hosts until they are told to stop, are idle for too long, or too old. In the folder: `hosts/` with the files of each
/// host, `hosts.yaml`, `pki/` with the keys of the CAs, `counters.json`, and `ready.json` as long as they live.
pub(crate) async fn serve(dir: &Path, etcd: &Etcd, options: &process::Options) -> Result<(), ProcessError> {
    let disk = SystemDisk;
    let world = Options { etcd: etcd.clone(), ..Options::process(dir.join("hosts"), options.seed) };
    let world = Arc::new(World::start(world).await?);
    let write = |name: &str, bytes: &[u8]| {
        disk.write_atomic(&dir.join(name), bytes, 0o600).map_err(doing(format!("cannot write {name}")))
    };
    let pki = dir.join("pki");
    disk.make_dir(&pki, 0o700).map_err(doing("cannot make the PKI folder"))?;
    for (name, key) in world.authorities() {
        write(&format!("pki/{name}"), key)?;
    }
    write("hosts.yaml", world.inventory().as_bytes())?;

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(doing("cannot listen"))?;
    let address = listener.local_addr().map_err(doing("cannot listen"))?;
    let token = hex::encode(rand::random::<[u8; 24]>());
    let begun = tokio::time::Instant::now();
    let last = Arc::new(AtomicU64::new(0));
    let params: BTreeMap<_, _> = etcd.params(dir).into_iter().collect();
    let ready = json!({
        "pid": std::process::id(),
        "hosts": { "address": address.to_string(), "token": token, "names": world.machines().keys().collect::<Vec<_>>() },
        "folder": dir.join("hosts"),
        "endpoints": world.endpoints(),
        "params": params,
    });
    count(dir, &world)?;
    write("ready.json", ready.to_string().as_bytes())?;
    let touched = Arc::clone(&last);
    let heard = move || touched.store(begun.elapsed().as_secs(), Ordering::Relaxed);
    let result = tokio::select! {
        () = listen(listener, Arc::clone(&world), token, Arc::new(heard)) => Ok(()),
        () = process::stopped() => Ok(()),
        () = process::idle(begun, &last, options) => Ok(()),
        failed = counting(dir, &world) => failed,
    };
    let _ = disk.remove(&dir.join("ready.json"));
    result
}

fn count(dir: &Path, world: &World) -> Result<(), ProcessError> {
    let mut counted = world.counters();
    counted.history = Some(world.history());
    process::write_counters(dir, &counted)
}

async fn counting(dir: &Path, world: &World) -> Result<(), ProcessError> {
    loop {
        tokio::time::sleep(process::COUNTED).await;
        count(dir, world)?;
    }
}

async fn listen(listener: TcpListener, world: Arc<World>, token: String, heard: Arc<dyn Fn() + Send + Sync>) {
    let token: Arc<str> = token.into();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (world, token, heard) = (Arc::clone(&world), Arc::clone(&token), Arc::clone(&heard));
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                heard();
                answer(Arc::clone(&world), Arc::clone(&token), request)
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    world: Arc<World>,
    token: Arc<str>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let refused = |status: StatusCode| {
        let mut response = Response::new(Full::default());
        *response.status_mut() = status;
        Ok(response)
    };
    let path = request.uri().path().to_owned();
    let machine =
        path.strip_prefix('/').and_then(|path| path.split_once('/')).filter(|(given, _)| **given == *token);
    let Some(machine) = machine.and_then(|(_, name)| world.machine(name)) else {
        return refused(StatusCode::FORBIDDEN);
    };
    let Ok(body) = Limited::new(request.into_body(), MOST).collect().await else {
        return refused(StatusCode::PAYLOAD_TOO_LARGE);
    };
    let Ok(question) = serde_json::from_slice(&body.to_bytes()) else {
        return refused(StatusCode::BAD_REQUEST);
    };
    // Whoever asked may be killed meanwhile: a host goes on with what it was told.
    let answered = tokio::spawn(async move { rpc::answer(machine, question).await }).await;
    let Ok(Ok(text)) = answered.map(|answer| serde_json::to_vec(&answer)) else {
        return refused(StatusCode::INTERNAL_SERVER_ERROR);
    };
    Ok(Response::new(Full::new(text.into())))
}
