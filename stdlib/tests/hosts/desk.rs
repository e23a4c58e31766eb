//! A person's desk: this machine as a host, a folder on it, and what a primitive is run with.

use std::sync::Arc;

use serde_json::{Value, json};
use stdlib::host::{Local, Pool, Posix};
use stdlib::registry::registry;
use stdlib::{PrimError, World};

use crate::changes::Noting;

pub(crate) struct Desk {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) world: World,
    pub(crate) gate: Noting,
}

/// The host, as scripts have it.
pub(crate) fn m1() -> Value {
    json!({ "name": "m1", "address": "127.0.0.1" })
}

impl Desk {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state").to_str().unwrap().to_owned();
        let hosts = Pool::new(Box::new(move |_| Ok(Arc::new(Posix::new("m1", &state, None, Local)))));
        let world = World { hosts: Arc::new(hosts), ..World::system(None, "/".into()) };
        Self { folder, world, gate: Noting::default() }
    }

    /// A path in the folder.
    pub(crate) fn at(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// Runs a primitive whose first argument is the host.
    pub(crate) async fn does(&self, name: &str, args: &[Value]) -> Result<Value, PrimError> {
        let args: Vec<Value> = [m1()].into_iter().chain(args.iter().cloned()).collect();
        (registry().get(name).unwrap().run)(&self.world, &args, &self.gate).await
    }
}
