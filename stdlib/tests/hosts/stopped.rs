//! `host::stop`: it stops what is about to run too, waits until nothing does, and says what to do where it cannot.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use stdlib::PrimError;
use stdlib::error::Code;
use stdlib::host::{Local, Posix, Service};

use crate::contract;
use crate::desk::Desk;

/// A desk where a service runs while a file is there.
fn serving() -> Desk {
    let desk = Desk::new();
    fs::create_dir(desk.folder.path().join("state")).unwrap();
    fs::write(desk.folder.path().join("runs"), "1").unwrap();
    desk
}

impl Desk {
    /// The service, and how it is stopped.
    fn service(&self, stop: &[&str]) -> Value {
        json!({ "name": "told", "restart": ["cp", "--", self.at("next"), self.at("runs")], "status": ["cat", self.at("runs")], "stop": stop })
    }

    async fn stops(&self, stop: &[&str]) -> Result<Value, PrimError> {
        self.does("host::stop", &[self.service(stop)]).await
    }
}

#[tokio::test]
async fn commands_that_say_how_it_is_stopped_hold_it_down() {
    let desk = serving();
    fs::write(desk.folder.path().join("next"), "2").unwrap();
    let service = Service::of(&desk.service(&["rm", "-f", "--", &desk.at("runs")])).unwrap();
    let host = Posix::new("m1", &desk.at("state"), None, Local);
    contract::stops(&host, &service).await;
}

#[tokio::test]
async fn what_does_not_run_is_stopped_all_the_same_and_what_still_runs_is_waited_for() {
    let desk = serving();
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
    let desk = serving();
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
