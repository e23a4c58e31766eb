//! What an application asks of real members, as the files in its folder have it be.

use std::path::Path;
use std::sync::Arc;

use etcd_client::StatusResponse;
use stdlib::etcd::{Access, Connection, Endpoint, connect};
use stdlib::tls::config::Identity;
use stdlib::trust::Certs;
use stdlib::{PrimError, Secret, World};

use super::members::Cluster;

/// Whom it is now: read anew for every connection, as programs do that watch their files. A pair that does not belong
/// together is one that is being swapped: read again.
pub(super) fn access(folder: &Path) -> Access {
    for _ in 0..1000 {
        let text = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
        let key = Secret::new(text("client-key.pem").into_bytes(), "key");
        if let Ok(identity) = Identity::new(&Certs::from_pem(&text("client.pem")).unwrap(), &key) {
            return Access { identity, anchors: Arc::new(Certs::from_pem(&text("ca.pem")).unwrap()) };
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("the application's pair never belongs together");
}

/// A write, on a connection of its own.
pub(super) async fn put(
    world: &World,
    endpoint: &Endpoint,
    access: &Access,
    key: &str,
    value: &str,
) -> Result<(), PrimError> {
    let member = connect(world, endpoint, access).await?;
    member.ask(member.client().put(key, value, None)).await.map(drop)
}

/// A read that must not be stale, on a connection of its own.
pub(super) async fn get(
    world: &World,
    endpoint: &Endpoint,
    access: &Access,
    key: &str,
) -> Result<Option<String>, PrimError> {
    let member = connect(world, endpoint, access).await?;
    let answer = member.ask(member.client().get(key, None)).await?;
    Ok(answer.kvs().first().map(|found| found.value_str().unwrap().to_owned()))
}

fn blocking<T>(
    cluster: &Cluster,
    member: usize,
    question: impl AsyncFnOnce(&World, &Endpoint, &Access) -> Result<T, PrimError>,
) -> Result<T, String> {
    let root = cluster.machines.root.path();
    let endpoint = Endpoint::of(&cluster.endpoints()[member]).unwrap();
    let world = World::system(None, root.to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime
        .block_on(question(&world, &endpoint, &access(&root.join("app"))))
        .map_err(|error| error.to_string())
}

/// Has the first member keep something.
pub(super) fn keeps(cluster: &Cluster, key: &str, value: &str) {
    blocking(cluster, 0, async |world, endpoint, access| put(world, endpoint, access, key, value).await)
        .unwrap();
}

/// What a member has under a key.
pub(super) fn kept(cluster: &Cluster, member: usize, key: &str) -> Result<Option<String>, String> {
    blocking(cluster, member, async |world, endpoint, access| get(world, endpoint, access, key).await)
}

/// What a member says of itself.
pub(super) fn status(cluster: &Cluster, member: usize) -> Result<StatusResponse, String> {
    blocking(cluster, member, async |world, endpoint, access| {
        let member: Connection = connect(world, endpoint, access).await?;
        member.ask(member.client().status()).await
    })
}
