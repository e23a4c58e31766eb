//! Mounted Secrets: folders that follow the API, some time later.

use std::time::Duration;

use serde_json::Value;

use crate::world::bell::Bell;
use crate::world::cache::Cache;
use crate::world::ctx::Ctx;
use crate::world::faults::Fault;
use crate::world::json as js;
use crate::world::kube::{Kube, SECRETS};
use crate::world::timing::Dice;
use crate::world::volume::{Volume, secret_files};

/// One Secret volume of a pod.
#[derive(Clone)]
pub(crate) struct Mount {
    /// The Secret's name.
    pub secret: String,
    /// Where it is mounted in the container.
    pub path: String,
    /// Its files.
    pub volume: Volume,
}

/// The Secret volumes that a pod's specification names.
pub(crate) fn mounts(pod: &Value) -> Vec<Mount> {
    js::items(pod, "/spec/volumes")
        .iter()
        .filter_map(|volume| {
            let secret = volume.pointer("/secret/secretName")?.as_str()?.to_owned();
            let name = js::text(volume, "/name");
            let mounted =
                js::items(pod, "/spec/containers").iter().flat_map(|c| js::items(c, "/volumeMounts"));
            let path =
                mounted.filter(|m| js::text(m, "/name") == name).map(|m| js::text(m, "/mountPath")).next()?;
            Some(Mount { secret, path: path.to_owned(), volume: Volume::default() })
        })
        .collect()
}

/// Fetches a Secret as it is in the API now: a pod that starts sees the newest.
pub(crate) async fn fetch(kube: &Kube, namespace: &str, mount: &Mount) -> Result<(), String> {
    match kube.get(SECRETS, namespace, &mount.secret).await {
        Ok(Some(secret)) => {
            mount.volume.put(secret_files(&secret));
            Ok(())
        }
        Ok(None) => Err(format!("secret \"{}\" not found", mount.secret)),
        Err(e) => Err(e.to_string()),
    }
}

/// Keeps a mounted folder up to date: what changes in the API arrives after the drawn lag, the newest state then.
pub(crate) async fn follow(
    ctx: &Ctx,
    secrets: &Cache,
    bell: &Bell,
    (namespace, pod): (&str, &str),
    mount: &Mount,
) {
    let dice: Dice = ctx.dice(&format!("mount/{pod}/{}", mount.secret));
    let mut heard = bell.listen();
    let differs = || {
        let files = secrets.get(namespace, &mount.secret).map(|s| secret_files(&s));
        files.is_some_and(|files| *mount.volume.files() != files)
    };
    let stuck = Fault::PropagationStuck { pod: pod.to_owned() };
    loop {
        heard.mark_heard();
        if differs() && !ctx.faults.has(&stuck) {
            ctx.pause(&dice, ctx.timing.propagation).await;
            let newest = secrets.get(namespace, &mount.secret).map(|s| secret_files(&s));
            if let Some(files) = newest.filter(|_| !ctx.faults.has(&stuck))
                && mount.volume.put(files)
            {
                tracing::debug!("{namespace}/{pod}: {} has other files now", mount.path);
                ctx.bell.ring();
            }
            continue;
        }
        let _ = tokio::time::timeout(Duration::from_secs(60), heard.rings()).await;
    }
}
