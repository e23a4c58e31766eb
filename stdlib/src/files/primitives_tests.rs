#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::*;
use crate::error::Code;
use crate::files::{Fault, SimDisk};
use crate::gate::{Effect, Past, Permit, Progress, RecordedEffect};
use crate::secret::Secret;
use crate::world::Disk;

/// Remembers what was announced, and lets `meddle` happen between the announcement and the write.
#[derive(Default)]
struct Watcher {
    announced: Mutex<Vec<Effect>>,
    meddle: Option<SimDisk>,
}

impl Gate for Watcher {
    fn effect(&self, effect: Effect) -> BoxFuture<'_, Result<Permit, PrimError>> {
        if let Some(disk) = &self.meddle {
            disk.write_atomic(Path::new("/etc/ca.pem"), b"a third hand", 0o644).unwrap();
        }
        self.announced.lock().unwrap().push(effect);
        Box::pin(async { Ok(Permit::Apply) })
    }
    fn progress(&self, _: Progress) {}
    fn marker(&self) -> String {
        String::new()
    }
    fn history(&self) -> Vec<Past> {
        Vec::new()
    }
}

impl Watcher {
    fn recorded(&self) -> RecordedEffect {
        let effect = self.announced.lock().unwrap().last().unwrap().clone();
        RecordedEffect {
            place: effect.place,
            before: effect.before,
            after: effect.after,
            backup: effect.backup,
        }
    }
}

fn world(disk: &SimDisk) -> World {
    disk.make_dir(Path::new("/etc"), 0o755).unwrap();
    World { disk: Arc::new(disk.clone()), ..World::system(None, "/etc".into()) }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn call(world: &World, gate: &dyn Gate, args: &[Value]) -> Result<Value, PrimError> {
    run(write(world, args, gate))
}

fn back(world: &World, effect: &RecordedEffect, gate: &dyn Gate) -> Result<(), PrimError> {
    run(restore(world, effect, gate))
}

#[test]
fn a_folder_is_listed_and_what_is_none_is_no_empty_one() {
    let disk = SimDisk::new();
    let world = world(&disk);
    let named = |path: &str| list(&world, &[json!(path)]);
    assert_eq!(named("etcd-ca").unwrap(), json!([]), "nothing is there yet");
    for name in ["ca.pem", ".hidden", "ca-key.pem"] {
        disk.write_atomic(&Path::new("/etc").join(name), b"x", 0o600).unwrap();
    }
    assert_eq!(named("").err().unwrap().code, Code::Argument);
    assert_eq!(named("/etc").unwrap(), json!([".hidden", "ca-key.pem", "ca.pem"]));
    let error = named("ca.pem").err().unwrap();
    assert_eq!((error.code, error.object.as_str()), (Code::Invalid, "/etc/ca.pem"), "{error}");
}

#[test]
fn a_file_is_written_once_and_put_back_with_its_mode() {
    let disk = SimDisk::new();
    let world = world(&disk);
    disk.write_atomic(Path::new("/etc/ca.pem"), b"old", 0o640).unwrap();
    let gate = Watcher::default();
    let args = [json!("ca.pem"), json!("new")];
    assert_eq!(call(&world, &gate, &args).unwrap(), json!({ "path": "/etc/ca.pem", "changed": true }));
    assert_eq!(call(&world, &gate, &args).unwrap()["changed"], false);
    assert_eq!(gate.announced.lock().unwrap().len(), 1);
    let effect = gate.recorded();
    assert_eq!(effect.place.0, "file:/etc/ca.pem");
    assert_eq!(
        effect.before,
        format!("sha256:{}", hex::encode(<sha2::Sha256 as sha2::Digest>::digest(b"old")))
    );

    back(&world, &effect, &gate).unwrap();
    assert_eq!(disk.read(Path::new("/etc/ca.pem")).unwrap(), b"old");
    assert_eq!(disk.mode(Path::new("/etc/ca.pem")).unwrap(), 0o640);
    let undo = gate.recorded();
    assert_eq!((undo.before, undo.after), (effect.after.clone(), effect.before.clone()));
    back(&world, &effect, &gate).unwrap();
    assert_eq!(gate.announced.lock().unwrap().len(), 2, "restored already: nothing is announced");
}

#[test]
fn a_file_that_was_absent_is_removed_again() {
    let disk = SimDisk::new();
    let world = world(&disk);
    let gate = Watcher::default();
    call(&world, &gate, &[json!("/var/lib/pki/ca.pem"), json!("new")]).unwrap();
    assert_eq!(disk.mode(Path::new("/var/lib/pki")).unwrap(), 0o700);
    back(&world, &gate.recorded(), &gate).unwrap();
    assert!(!disk.exists(Path::new("/var/lib/pki/ca.pem")));
}

#[test]
fn a_mode_alone_is_a_change_when_it_was_asked_for() {
    let disk = SimDisk::new();
    let world = world(&disk);
    disk.write_atomic(Path::new("/etc/ca.pem"), b"same", 0o600).unwrap();
    let gate = Watcher::default();
    assert_eq!(call(&world, &gate, &[json!("ca.pem"), json!("same")]).unwrap()["changed"], false);
    assert_eq!(
        call(&world, &gate, &[json!("ca.pem"), json!("same"), json!("0644")]).unwrap()["changed"],
        true
    );
    assert_eq!(disk.mode(Path::new("/etc/ca.pem")).unwrap(), 0o644);
    back(&world, &gate.recorded(), &gate).unwrap();
    assert_eq!(disk.mode(Path::new("/etc/ca.pem")).unwrap(), 0o600);
}

#[test]
fn what_a_third_hand_wrote_is_not_overwritten() {
    let disk = SimDisk::new();
    let world = world(&disk);
    let gate = Watcher::default();
    call(&world, &gate, &[json!("ca.pem"), json!("new")]).unwrap();
    let effect = gate.recorded();
    disk.write_atomic(Path::new("/etc/ca.pem"), b"by hand", 0o644).unwrap();
    let error = back(&world, &effect, &gate).unwrap_err();
    assert_eq!((error.code, error.expected), (Code::Conflict, Some(effect.after)));
    assert_eq!(disk.read(Path::new("/etc/ca.pem")).unwrap(), b"by hand");

    let gate = Watcher { meddle: Some(disk.clone()), ..Watcher::default() };
    let error = call(&world, &gate, &[json!("ca.pem"), json!("new")]).unwrap_err();
    assert_eq!(error.code, Code::Conflict);
    assert_eq!(disk.read(Path::new("/etc/ca.pem")).unwrap(), b"a third hand");
}

#[test]
fn a_secret_reaches_the_file_and_nothing_else() {
    let disk = SimDisk::new();
    let world = world(&disk);
    let handle = world.secrets.put(&Secret::new("correct horse", "hmac:00")).unwrap();
    let gate = Watcher::default();
    call(&world, &gate, &[json!("password"), handle]).unwrap();
    assert_eq!(disk.read(Path::new("/etc/password")).unwrap(), b"correct horse");
    assert_eq!(disk.mode(Path::new("/etc/password")).unwrap(), 0o600);
    let announced = format!("{:?}", gate.announced.lock().unwrap());
    assert!(!announced.contains("correct"), "{announced}");
    let plain = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(b"correct horse"));
    assert!(
        !announced.contains(&format!("sha256:{plain}")),
        "a guess could be compared with it: {announced}"
    );
    back(&world, &gate.recorded(), &gate).unwrap();
    assert!(!disk.exists(Path::new("/etc/password")));
}

#[test]
fn private_keys_are_neither_read_nor_written_as_text() {
    let disk = SimDisk::new();
    let world = world(&disk);
    let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    disk.write_atomic(Path::new("/etc/key.pem"), key.as_bytes(), 0o600).unwrap();
    let error = read(&world, &[json!("key.pem")]).unwrap_err();
    assert!(error.code == Code::Invalid && !error.to_string().contains("AAAA"), "{error}");
    let error = call(&world, &Watcher::default(), &[json!("other.pem"), json!(key)]).unwrap_err();
    assert!(error.code == Code::Argument && !error.to_string().contains("AAAA"), "{error}");
}

#[test]
fn errors_name_the_file() {
    let disk = SimDisk::new();
    let world = world(&disk);
    let error = read(&world, &[json!("none")]).unwrap_err();
    assert_eq!(error.to_string(), "/etc/none: there is no such file");
    disk.inject(Fault::ReadOnly("/etc".into()));
    let error = call(&world, &Watcher::default(), &[json!("ca.pem"), json!("new")]).unwrap_err();
    assert_eq!((error.code, error.object.as_str()), (Code::Forbidden, "/etc/ca.pem"));
    for mode in ["rw", "9", "77777", ""] {
        let args = [json!("ca.pem"), json!("new"), json!(mode)];
        assert_eq!(call(&world, &Watcher::default(), &args).unwrap_err().code, Code::Argument, "{mode}");
    }
}
