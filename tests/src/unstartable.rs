//! A restart that a pod does not survive: one story on the sandbox's server and on a real one, which asks the kubelet for
//! the pod's log.

use std::time::Duration;

use futures::future::BoxFuture;
use sandbox::world::json as js;
use sandbox::world::kube::{Kube, PODS, SECRETS};
use serde_json::{Value, json};
use stdlib::error::{Code, PrimError};
use stdlib::gate::{Effect, Gate, Past, Permit, Progress};
use stdlib::{World, registry};

const NS: &str = "tidb";
const SECRET: &str = "basic-pd-cluster-secret";
/// Long enough for pods on a loaded machine, and for a lifelike rolling restart.
const PATIENCE: Duration = Duration::from_secs(3600);

/// A gate that lets everything pass.
struct Open;

impl Gate for Open {
    fn effect(&self, _: Effect) -> BoxFuture<'_, Result<Permit, PrimError>> {
        Box::pin(async { Ok(Permit::Apply) })
    }
    fn progress(&self, _: Progress) {}
    fn marker(&self) -> String {
        "unstartable/one/f".into()
    }
    fn history(&self) -> Vec<Past> {
        Vec::new()
    }
}

async fn restart(world: &World) -> Result<Value, PrimError> {
    let pd =
        json!({ "component": "pd", "kind": "tidb", "namespace": NS, "cluster": "basic", "name": "basic-pd" });
    let restart = registry().get("tidb::rolling_restart").unwrap().run;
    tokio::time::timeout(PATIENCE, restart(world, &[pd], &Open)).await.expect("it must end")
}

/// How often it has restarted by then is the machine's affair.
fn uncounted(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').collect();
    let count = |at: usize| words.get(at + 1).is_some_and(|next| next.starts_with("restarts"));
    let word = |(at, word): (usize, &&str)| if count(at) { "N".to_owned() } else { (*word).to_owned() };
    words.iter().enumerate().map(word).collect::<Vec<_>>().join(" ")
}

/// Tells the story.
pub async fn story(client: kube::Client, world: &World) {
    let kube = Kube::new(client);
    let sound = kube.get(SECRETS, NS, SECRET).await.unwrap().unwrap()["data"].clone();
    let broken = json!({ "data": { "ca.crt": "bm90aGluZwo=" } });
    kube.merge(SECRETS, (NS, SECRET), "", &broken).await.unwrap();
    let error = restart(world).await.unwrap_err();
    assert_eq!(error.code, Code::Unproved);
    assert_eq!(
        uncounted(&error.message),
        "basic-pd-2 does not start (CrashLoopBackOff); the others are left alone. Pod tidb/basic-pd-2: \
         container pd waits: CrashLoopBackOff: ca.crt: no certificate found; \
         it ended with code 1 (Error), N restarts; \
         BackOff: Back-off restarting failed container: ca.crt: no certificate found; \
         the last lines of pd were: starting | fatal: ca.crt: no certificate found"
    );
    // What it says was wrong is put right, and the same restart goes on.
    kube.merge(SECRETS, (NS, SECRET), "", &json!({ "data": sound })).await.unwrap();
    let begun = tokio::time::Instant::now();
    while !kube.get(PODS, NS, "basic-pd-2").await.unwrap().is_some_and(|pod| js::ready(&pod)) {
        assert!(begun.elapsed() < PATIENCE, "it does not start");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    restart(world).await.unwrap();
}
