//! Pods that speak TLS, each with what it has loaded.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use serde_json::Value;
use stdlib::Secret;
use stdlib::tls::config::{Identity, Trust, always, server as tls_server};
use stdlib::tls::handshake_server;
use stdlib::trust::{Certs, Verifier};
use stdlib::world::{Clock, Net, Stream};

use super::scene::Scene;

/// What a pod has loaded.
#[derive(Clone)]
pub(super) struct Loaded {
    pub(super) identity: Identity,
    pub(super) anchors: Certs,
}

/// Pods by address, each a TLS server of what it has loaded.
pub(super) struct Pods {
    clock: Arc<dyn Clock>,
    loaded: Mutex<HashMap<String, Loaded>>,
}

impl Pods {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, loaded: Mutex::default() }
    }

    pub(super) fn load(&self, host: &str, scene: &Scene, leaf: &Value, anchors: &str) {
        let key: Secret = scene.world.secrets.get(&leaf["key"]).unwrap();
        let chain = Certs::from_pem(leaf["cert"].as_str().unwrap()).unwrap();
        let loaded = Loaded {
            identity: Identity::new(&chain, &key).unwrap(),
            anchors: Certs::from_pem(anchors).unwrap(),
        };
        self.loaded.lock().unwrap().insert(host.into(), loaded);
    }
}

impl Net for Pods {
    fn dial(&self, host: &str, _port: u16) -> BoxFuture<'_, std::io::Result<Box<dyn Stream>>> {
        let found = self.loaded.lock().unwrap().get(host).cloned();
        let clock = Arc::clone(&self.clock);
        Box::pin(async move {
            let Loaded { identity, anchors } = found.ok_or(std::io::ErrorKind::ConnectionRefused)?;
            let trust = Trust { verifier: Verifier::Go, anchors: Arc::new(anchors), allowed_cn: Vec::new() };
            let config = tls_server(always(identity), Some(trust), clock.clone(), &[]).unwrap();
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            tokio::spawn(async move {
                let within = std::time::Duration::from_secs(5);
                let _ = handshake_server(Box::new(theirs), config, within, clock.as_ref()).await;
            });
            Ok(Box::new(ours) as Box<dyn Stream>)
        })
    }
}

/// Labels of a component's pods.
pub(super) fn labels(component: &str) -> BTreeMap<String, String> {
    let label = |key: &str, value: &str| (format!("app.kubernetes.io/{key}"), value.to_owned());
    [
        label("name", "tidb-cluster"),
        label("managed-by", "tidb-operator"),
        label("instance", "basic"),
        label("component", component),
    ]
    .into()
}
