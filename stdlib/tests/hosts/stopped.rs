//! `host::stop`: it stops what is about to run too, waits until nothing does, and says what to do where it cannot.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use stdlib::error::Code;
use stdlib::host::{Local, Pool, Posix, Service};
use stdlib::registry::registry;
use stdlib::{PrimError, World};

use crate::changes::Noting;
use crate::contract;

/// This machine, in a folder: a service runs there while a file is there.
struct Desk {
    folder: tempfile::TempDir,
    world: World,
    gate: Noting,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state").to_str().unwrap().to_owned();
        let hosts = Pool::new(Box::new(move |_| Ok(Arc::new(Posix::new("m1", &state, None, Local)))));
        let world = World { hosts: Arc::new(hosts), ..World::system(None, "/".into()) };
        fs::create_dir(folder.path().join("state")).unwrap();
        fs::write(folder.path().join("runs"), "1").unwrap();
        Self { folder, world, gate: Noting::default() }
    }

    fn at(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// The service, and how it is stopped.
    fn service(&self, stop: &[&str]) -> Value {
        json!({ "name": "told", "restart": ["cp", "--", self.at("next"), self.at("runs")], "status": ["cat", self.at("runs")], "stop": stop })
    }

    async fn stops(&self, stop: &[&str]) -> Result<Value, PrimError> {
        let args = [json!({ "name": "m1", "address": "127.0.0.1" }), self.service(stop)];
        (registry().get("host::stop").unwrap().run)(&self.world, &args, &self.gate).await
    }
}

#[tokio::test]
async fn commands_that_say_how_it_is_stopped_hold_it_down() {
    let desk = Desk::new();
    fs::write(desk.folder.path().join("next"), "2").unwrap();
    let service = Service::of(&desk.service(&["rm", "-f", "--", &desk.at("runs")])).unwrap();
    let host = Posix::new("m1", &desk.at("state"), None, Local);
    contract::stops(&host, &service).await;
}

#[tokio::test]
async fn what_does_not_run_is_stopped_all_the_same_and_what_still_runs_is_waited_for() {
    let desk = Desk::new();
    let (runs, asked) = (desk.at("runs"), desk.at("asked"));
    // It returns before the service is down.
    let later = format!("(sleep 0.7; rm -f '{runs}') </dev/null >/dev/null 2>&1 & touch '{asked}'");
    let told = desk.stops(&["sh", "-c", &later]).await.unwrap();
    assert_eq!(told, json!({ "host": "m1", "service": "told", "stopped": true }));
    assert!(!Path::new(&runs).exists(), "it was not waited for");
    // Whoever keeps it may be about to start it again.
    fs::remove_file(&asked).unwrap();
    desk.stops(&["touch", &asked]).await.unwrap();
    assert!(Path::new(&asked).exists(), "it was not stopped, for it does not run now");
    let effects = desk.gate.0.lock().unwrap();
    assert!(effects.iter().all(|effect| effect.place.0 == "host:m1:service:told"));
    assert_eq!(effects.len(), 2, "each is announced");
}

#[tokio::test]
async fn a_command_that_fails_is_named_with_what_to_type() {
    let desk = Desk::new();
    let gone = desk.at("no-such-file");
    let error = desk.stops(&["rm", "--", &gone]).await.err().unwrap();
    assert_eq!(error.code, Code::Unavailable);
    assert!(error.message.starts_with("service `told` could not be stopped: rm: "), "{error}");
    assert_eq!(error.hint.unwrap(), format!("type `rm -- {gone}` there to see why"));
    let service = Service::of(&desk.service(&[])).unwrap();
    let host = Posix::new("m1", &desk.at("state"), None, Local);
    let error = service.restart(&host, Duration::from_secs(60), None).await.err().unwrap();
    let typed = format!("type `cp -- {} {}` there to see why", desk.at("next"), desk.at("runs"));
    assert_eq!(error.hint.unwrap(), typed);
}
