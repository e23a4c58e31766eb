//! What a rotation leaves in the folder, stopped at every effect and taken back.

use std::path::Path;

use serde_json::{Value, json};
use stdlib::World;
use stdlib::cert::{Certificate, Key};
use stdlib::error::Code;
use stdlib::gate::ReadOnly;

use crate::support::*;

fn fact(world: &World, folder: &Path) -> Value {
    call(world, &ReadOnly, "cfssl::folder", &[folder.display().to_string().into()]).unwrap()
}

fn page_state(folder: &Path) {
    for (from, to) in [("ca.pem", "ca.old.pem"), ("ca-key.pem", "ca-key.old.pem")] {
        std::fs::rename(folder.join(from), folder.join(to)).unwrap();
    }
    let (new, key) = new_ca();
    write_pair(folder, "ca.new.pem", "ca-key.new.pem", &new, &key);
    let old = std::fs::read_to_string(folder.join("ca.old.pem")).unwrap();
    write(folder, &[("ca.pem", &(new.pem() + &old))]);
}

/// A folder, what it says, and the CA that follows.
struct Begun {
    folder: tempfile::TempDir,
    world: World,
    before: Value,
    new: Value,
}

impl Begun {
    fn untouched() -> Self {
        Self::of(pki())
    }
    fn by_the_page() -> Self {
        let folder = pki();
        page_state(folder.path());
        Self::of(folder)
    }
    fn of(folder: tempfile::TempDir) -> Self {
        let world = world(folder.path(), now());
        let before = fact(&world, folder.path());
        let new = call(&world, &ReadOnly, "cfssl::successor", std::slice::from_ref(&before)).unwrap();
        Self { folder, world, before, new }
    }
}

#[test]
fn a_finished_rotation_has_the_new_ca_and_keeps_the_old_one_apart() {
    let Begun { folder, world, before, new } = Begun::by_the_page();
    let path = folder.path();
    let gate = Recorder::default();
    let done = call(&world, &gate, "cfssl::install", &[before.clone(), new.clone()]).unwrap();
    let after = fact(&world, path);
    assert_eq!((&after["found"], &after["ca"]["fingerprint"]), (&"untouched".into(), &new["fingerprint"]));
    let id = &before["ca"]["fingerprint"].as_str().unwrap()["sha256:".len()..][..16];
    let retired: Vec<String> = names(path).into_iter().filter(|n| n.starts_with("retired")).collect();
    assert_eq!(
        retired,
        ["ca-key.pem", "ca.pem"].map(|name| format!("retired/{id}/{name}")),
        "what the page left lying about is the old CA, the new one and their keys"
    );
    for (name, mode, _) in files(path) {
        if name.contains("-key") {
            assert_eq!(mode, 0o600, "{name}");
        }
    }
    assert_eq!(done["changed"].as_array().unwrap().len(), gate.recorded().len());
    // Once more changes nothing.
    let again = Recorder::default();
    call(&world, &again, "cfssl::install", &[before, new]).unwrap();
    assert!(again.recorded().is_empty());
}

/// Stopped before each effect in turn: the folder is understood, going on ends the same, going back ends as before.
#[test]
fn stopped_anywhere_it_goes_on_or_back() {
    for from_the_page in [false, true] {
        for stop in 0.. {
            let begun = if from_the_page { Begun::by_the_page() } else { Begun::untouched() };
            let Begun { folder, world, before, new } = begun;
            let path = folder.path();
            let original = files(path);
            let args = [before.clone(), new.clone()];
            let gate = Recorder { refuse_at: Some(stop), ..Recorder::default() };
            let result = call(&world, &gate, "cfssl::install", &args);

            let between = fact(&world, path);
            let in_force = between["ca"]["fingerprint"].clone();
            assert!(
                [&before["ca"]["fingerprint"], &new["fingerprint"]].contains(&&in_force),
                "stopped at {stop}"
            );

            let rest = Recorder::default();
            call(&world, &rest, "cfssl::install", &args).unwrap();
            assert_eq!(fact(&world, path)["ca"]["fingerprint"], new["fingerprint"]);

            for effect in rest.recorded().iter().rev().chain(gate.recorded().iter().rev()) {
                let back = Recorder::default();
                restore(&world, &back, "cfssl::install", effect).unwrap();
                assert_eq!(back.recorded().len(), 1, "going back is announced");
                restore(&world, &back, "cfssl::install", effect).unwrap();
                assert_eq!(back.recorded().len(), 1, "and not done twice");
            }
            assert_eq!(files(path), original, "stopped at {stop}");
            if result.is_ok() {
                assert!(stop >= 4, "each file is an effect of its own");
                break;
            }
        }
    }
}

/// A leftover that is neither the old CA nor the new one is not thrown away.
#[test]
fn a_foreign_leftover_is_kept() {
    let Begun { folder, world, before, new } = Begun::untouched();
    let path = folder.path();
    let (older, older_key) = new_ca();
    write_pair(path, "ca.old.pem", "ca-key.old.pem", &older, &older_key);
    call(&world, &Recorder::default(), "cfssl::install", &[before.clone(), new]).unwrap();
    let id = &before["ca"]["fingerprint"].as_str().unwrap()["sha256:".len()..][..16];
    assert_eq!(read_certificate(&path.join(format!("retired/{id}/ca.old.pem"))), older);
    assert!(!path.join("ca.old.pem").exists());
}

#[test]
fn a_person_can_go_on_by_hand_from_staged_files() {
    let Begun { folder, world, before, new } = Begun::untouched();
    let path = folder.path();
    let both = call(&world, &ReadOnly, "bundle::of", &[json!([new.clone(), before["ca"].clone()])]).unwrap();
    for stop in 0..7 {
        let gate = Recorder { refuse_at: Some(stop), ..Recorder::default() };
        let _ = call(&world, &gate, "cfssl::stage_files", &[before.clone(), new.clone(), both.clone()]);
        assert_eq!(fact(&world, path)["ca"]["fingerprint"], before["ca"]["fingerprint"], "stopped at {stop}");
        for effect in gate.recorded().iter().rev() {
            restore(&world, &Recorder::default(), "cfssl::stage_files", effect).unwrap();
        }
    }
    call(&world, &Recorder::default(), "cfssl::stage_files", &[before.clone(), new.clone(), both]).unwrap();
    let after = fact(&world, path);
    assert_eq!(
        (&after["found"], &after["successor"]["fingerprint"]),
        (&"bundled".into(), &new["fingerprint"])
    );
    // The page's next command works on it.
    cfssl(
        path,
        &[
            "gencert",
            "-ca=ca.new.pem",
            "-ca-key=ca-key.new.pem",
            "-config=ca-config.json",
            "-profile=internal",
            "pd-server.json",
        ],
        "pd-server",
    );
    run(path, "openssl", &["verify", "-x509_strict", "-CAfile", "ca.pem", "pd-server.pem"], true);
}

#[test]
fn a_leaf_is_written_as_cfssljson_names_it() {
    let folder = pki();
    let path = folder.path();
    let world = world(path, now());
    let pki = fact(&world, path);
    let args = [pki["ca"].clone(), pki["requests"]["pd-server"].clone(), pki["profiles"]["internal"].clone()];
    let leaf = call(&world, &ReadOnly, "cfssl::issue", &args).unwrap();
    let gate = Recorder::default();
    call(&world, &gate, "cfssl::write_leaf", &[pki.clone(), "pd-server".into(), leaf.clone()]).unwrap();
    let written = read_certificate(&path.join("pd-server.pem"));
    assert_eq!(leaf["fingerprint"], written.fingerprint());
    let key = Key::from_pem(&std::fs::read(path.join("pd-server-key.pem")).unwrap(), "key").unwrap();
    assert!(key.matches(&written));
    let places: Vec<String> = gate.recorded().iter().map(|e| e.after.clone()).collect();
    assert_eq!(places[0], key.fingerprint(), "a key's effect is known by its public half");
    for bad in ["", "../x", "ca", ".hidden", "a/b"] {
        let error =
            call(&world, &gate, "cfssl::write_leaf", &[pki.clone(), bad.into(), leaf.clone()]).unwrap_err();
        assert_eq!(error.code, Code::Argument, "{bad}");
    }
}

#[test]
fn somebody_elses_change_is_not_overwritten() {
    let Begun { folder, world, before, new } = Begun::untouched();
    let path = folder.path();
    let (other, other_key): (Certificate, Key) = new_ca();
    write_pair(path, "ca.pem", "ca-key.pem", &other, &other_key);
    let gate = Recorder::default();
    let error = call(&world, &gate, "cfssl::install", &[before.clone(), new.clone()]).unwrap_err();
    assert_eq!(error.code, Code::Conflict);
    assert!(gate.recorded().is_empty());

    let Begun { folder, world, before, new } = Begun::untouched();
    let path = folder.path();
    call(&world, &gate, "cfssl::install", &[before, new]).unwrap();
    write(path, &[("ca.pem", "edited by hand")]);
    let effect =
        gate.recorded().into_iter().find(|e| e.place.0.ends_with("/ca.pem") && e.backup.is_some()).unwrap();
    let error = restore(&world, &Recorder::default(), "cfssl::install", &effect).unwrap_err();
    assert_eq!(error.code, Code::Conflict);
    assert_eq!(std::fs::read_to_string(path.join("ca.pem")).unwrap(), "edited by hand");
}

/// What passes the gate may be written into a record: no key may be in it.
#[test]
fn no_key_is_in_what_the_gate_is_told() {
    let Begun { folder, world, before, new } = Begun::by_the_page();
    let path = folder.path();
    let gate = Recorder::default();
    call(&world, &gate, "cfssl::install", &[before, new]).unwrap();
    let shown = format!("{:?}", gate.effects.lock().unwrap());
    assert!(!shown.contains("PRIVATE KEY"));
    for (name, _, bytes) in files(path).iter().filter(|(name, _, _)| name.contains("-key")) {
        let text = String::from_utf8_lossy(bytes);
        let body = text.lines().nth(1).unwrap();
        assert!(!shown.contains(body), "{name}");
    }
}
