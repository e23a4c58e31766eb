//! Files of a host changed by a step, and put back.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use serde_json::{Value, json};
use stdlib::gate::{Effect, Gate, Past, Permit, Progress, RecordedEffect};
use stdlib::host::{Host, Pool};
use stdlib::registry::registry;
use stdlib::{PrimError, World};

/// Takes note of effects, and lets each be made.
#[derive(Default)]
pub(crate) struct Noting(pub(crate) Mutex<Vec<RecordedEffect>>);

impl Gate for Noting {
    fn effect(&self, effect: Effect) -> BoxFuture<'_, Result<Permit, PrimError>> {
        let Effect { place, before, after, backup, .. } = effect;
        self.0.lock().unwrap().push(RecordedEffect { place, before, after, backup });
        Box::pin(async { Ok(Permit::Apply) })
    }
    fn progress(&self, _: Progress) {}
    fn marker(&self) -> String {
        "run/phase/f".into()
    }
    fn history(&self) -> Vec<Past> {
        Vec::new()
    }
}

struct Desk {
    world: World,
    gate: Noting,
    file: String,
}

impl Desk {
    async fn writes(&self, content: &str, options: Value) -> bool {
        let host = json!({ "name": "m1", "address": "127.0.0.1" });
        let args = [host, json!(self.file), json!(content), options];
        let write = registry().get("host::write").unwrap();
        let done = (write.run)(&self.world, &args, &self.gate).await.unwrap();
        done["changed"] == true
    }

    fn effects(&self) -> usize {
        self.gate.0.lock().unwrap().len()
    }

    /// Puts the last effect back.
    async fn puts_back(&self) {
        let last = self.gate.0.lock().unwrap().pop().unwrap();
        let restore = registry().get("host::write").unwrap().restore.unwrap();
        restore(&self.world, &last, &self.gate).await.unwrap();
        let after = self.effects();
        restore(&self.world, &last, &self.gate).await.unwrap();
        assert_eq!(self.effects(), after, "what is put back is put back once");
    }
}

/// An owner that was asked for is a change like any other; one that was not is none.
pub(crate) async fn owners_come_back(host: Arc<dyn Host>, folder: &Path) {
    if fs::metadata(folder).unwrap().uid() != 0 {
        crate::not_tested("owners that come back: only root gives files away");
        return;
    }
    let file = folder.join("theirs").to_str().unwrap().to_owned();
    let its = Arc::clone(&host);
    let hosts = Pool::new(Box::new(move |_| Ok(Arc::clone(&its))));
    let world = World { hosts: Arc::new(hosts), ..World::system(None, "/".into()) };
    let desk = Desk { world, gate: Noting::default(), file: file.clone() };
    let now = || async {
        let found = host.read(&file, 100).await.unwrap().unwrap();
        (String::from_utf8(found.bytes.to_vec()).unwrap(), found.owner_names, found.mode)
    };
    let is = |text: &str, owner: &str, mode| (text.to_owned(), owner.to_owned(), mode);

    assert!(desk.writes("one", json!({ "mode": "0640", "owner": "daemon:daemon" })).await);
    assert_eq!(now().await, is("one", "daemon:daemon", 0o640));
    // Nothing but the owner is another.
    assert!(desk.writes("one", json!({ "owner": "bin:bin" })).await);
    assert_eq!(now().await, is("one", "bin:bin", 0o640));
    let before = desk.effects();
    assert!(!desk.writes("one", json!({ "owner": "bin:bin" })).await);
    assert!(!desk.writes("one", json!({ "owner": "bin" })).await);
    assert_eq!(desk.effects(), before, "what is so already is announced by nobody");
    desk.puts_back().await;
    assert_eq!(now().await, is("one", "daemon:daemon", 0o640));

    // All of it at once, and back.
    assert!(desk.writes("two", json!({ "mode": "0600", "owner": "root:root" })).await);
    assert_eq!(now().await, is("two", "root:root", 0o600));
    desk.puts_back().await;
    assert_eq!(now().await, is("one", "daemon:daemon", 0o640));

    // Who was not asked about owners leaves them alone, on the way forth and back.
    assert!(desk.writes("three", Value::Null).await);
    assert_eq!(now().await, is("three", "daemon:daemon", 0o640));
    desk.puts_back().await;
    assert_eq!(now().await, is("one", "daemon:daemon", 0o640));
}
