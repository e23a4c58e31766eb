//! The kubelet of the sandbox's one node: an ordinary API client that mounts, starts, probes, restarts and stops pods.

pub(crate) mod inside;
mod logs;
pub(crate) mod mount;
mod run;
mod status;
pub(crate) mod streams;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::bell::Bell;
use super::cache::Cache;
use super::controllers::template::NODE;
use super::ctx::Ctx;
use super::json as js;
use super::kube::{Kube, PODS, SECRETS};

const RESYNC: Duration = Duration::from_secs(60);

struct Running {
    stop: watch::Sender<bool>,
    worker: AbortHandle,
}

/// Runs until it is dropped, and all pods with it.
pub async fn run(kube: Kube, ctx: Arc<Ctx>) {
    let mut tasks = JoinSet::new();
    let (bell, secrets_bell) = (Bell::default(), Bell::default());
    let mut heard = bell.listen();
    let pods = Cache::follow(&kube, PODS, &bell, &mut tasks);
    let secrets = Cache::follow(&kube, SECRETS, &secrets_bell, &mut tasks);
    let mut running: BTreeMap<String, Running> = BTreeMap::new();
    let mut workers = JoinSet::new();
    let mut incarnations: BTreeMap<String, u32> = BTreeMap::new();
    loop {
        heard.mark_heard();
        let mut present: BTreeSet<String> = BTreeSet::new();
        for pod in pods.all() {
            let uid = js::uid(&pod).to_owned();
            if js::text(&pod, "/spec/nodeName") == NODE {
                let entry = running.entry(uid.clone()).or_insert_with(|| {
                    let (stop, stopped) = watch::channel(false);
                    let count = incarnations.entry(js::name(&pod).to_owned()).or_default();
                    *count += 1;
                    let worker = run::Worker {
                        ctx: Arc::clone(&ctx),
                        kube: kube.clone(),
                        secrets: secrets.clone(),
                        bell: secrets_bell.clone(),
                        pod: Arc::clone(&pod),
                        incarnation: *count,
                        stop: stopped,
                    };
                    Running { stop, worker: workers.spawn(worker.run()) }
                });
                if js::terminating(&pod) {
                    entry.stop.send_if_modified(|stop| !std::mem::replace(stop, true));
                }
            }
            present.insert(uid);
        }
        // A pod that was deleted by force has lost its process too.
        running.retain(|uid, run| {
            let here = present.contains(uid);
            if !here {
                run.worker.abort();
            }
            here
        });
        while workers.try_join_next().is_some() {}
        let _ = tokio::time::timeout(RESYNC, heard.rings()).await;
    }
}
