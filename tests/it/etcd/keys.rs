//! The key of a new CA: whoever signs next finds it where the old one's was, and going back puts the old one there again.

use std::path::Path;
use std::sync::Arc;

use journal::{NoTripwire, Why};
use runner::events::EndState;
use sandbox::hosts::{Etcd, Layout};
use stdlib::cert::{Certificate, Key, parse_many};
use stdlib::world::Disk as _;

use super::lab::{Files, Lab};
use crate::lab::virtual_time;

const FOLDERS: &str = "folders=/etc/kubernetes/pki/etcd,/etc/kubernetes/pki";

async fn done(lab: &Lab, workflow: &str, more: &[&str]) {
    let ending = lab.run_with(&lab.workflow(workflow), Arc::new(NoTripwire), more).await.unwrap();
    assert_eq!(ending.state, EndState::Done, "{workflow}: {:?}", ending.failure);
}

async fn taken_back(lab: &Lab) {
    let ending = lab.open(Why::Rollback).unwrap().back("test").await;
    assert_eq!(ending.state, EndState::RolledBack, "{:?}", ending.failure);
}

/// The certificates of a file, and whether its key belongs to the first.
fn pair(files: &Files, cert: &str, key: &str) -> (Vec<Certificate>, bool) {
    let certs = parse_many(&files[cert].0, cert).unwrap();
    let fits = Key::from_pem(&files[key].0, key).unwrap().matches(&certs[0]);
    (certs, fits)
}

fn starts(lab: &Lab) -> Vec<u64> {
    let unit = |host: &str, name: &str| lab.world.machine(host).unwrap().unit(name).unwrap().starts();
    ["m1", "m2", "m3"].iter().flat_map(|host| [unit(host, "etcd"), unit(host, "kube-apiserver")]).collect()
}

#[test]
fn whoever_signs_after_a_rotation_finds_the_new_key_on_the_hosts_that_had_the_old_one() {
    virtual_time(async {
        let lab = Lab::of(1, &Etcd { layout: Layout::Kubeadm, ..Etcd::default() }).await;
        let before = lab.files();
        done(&lab, "etcd/rotate-ca", &[]).await;
        let rotated = lab.files();
        for host in ["m1", "m2", "m3"] {
            let at = |name: &str| format!("{host}/etc/kubernetes/pki/etcd/{name}");
            let (certs, fits) = pair(&rotated, &at("ca.crt"), &at("ca.key"));
            assert!(certs.len() == 1 && fits, "{host}: the key is not the new CA's");
            assert_ne!(rotated[&at("ca.key")].0, before[&at("ca.key")].0);
            assert_eq!(rotated[&at("ca.key")].1, 0o600);
        }
        assert!(!lab.disk.exists(Path::new("/etcd-ca")), "a key that hosts have is not copied");

        // Signed with what lies there now; nothing is restarted for it.
        let begun = starts(&lab);
        let markers = |lab: &Lab| ["m1", "m2", "m3"].map(|host| lab.restarts(host));
        let carried = markers(&lab);
        done(&lab, "etcd/renew-leaves", &[]).await;
        assert_eq!(starts(&lab), begun, "something was restarted for pairs that are read at each handshake");
        assert_eq!(markers(&lab), carried);
        let renewed = lab.files();
        let leaf = "m2/etc/kubernetes/pki/apiserver-etcd-client.crt";
        assert_ne!(renewed[leaf].0, rotated[leaf].0);
        done(&lab, "hosts/verify", &[FOLDERS]).await;
        assert_eq!(lab.ailing().await, Vec::<String>::new());
    });
}

#[test]
fn clients_are_restarted_for_new_pairs_where_somebody_asks_for_it() {
    virtual_time(async {
        let lab = Lab::of(1, &Etcd { layout: Layout::Kubeadm, ..Etcd::default() }).await;
        let begun = starts(&lab);
        done(&lab, "etcd/renew-leaves", &["restart_clients=true"]).await;
        let now = starts(&lab);
        for (n, (before, now)) in begun.iter().zip(&now).enumerate() {
            // Members and API servers take turns.
            assert_eq!(before == now, n % 2 == 0, "{begun:?} {now:?}");
        }
    });
}

#[test]
fn a_rotation_that_is_taken_back_puts_the_old_keys_back_on_hosts_and_here() {
    virtual_time(async {
        for (layout, here) in [(Layout::Kubeadm, false), (Layout::Ack, false), (Layout::Systemd, true)] {
            let lab = Lab::of(1, &Etcd { layout, ..Etcd::default() }).await;
            let (before, key) = (lab.files(), lab.own_key());
            let new = || lab.disk.exists(Path::new("/srv/pki/new/ca-key.pem"));
            let workflow = if layout == Layout::Ack { "ack/etcd-renew" } else { "etcd/rotate-ca" };
            done(&lab, workflow, &[]).await;
            assert_eq!(new(), here, "{layout:?}");
            assert!(lab.files() != before);
            taken_back(&lab).await;
            assert!(!new(), "{layout:?}: a key of a CA that is nobody's");
            assert_eq!(lab.own_key(), key);
            assert!(lab.files() == before, "{layout:?}: a file is not as it was");
        }
    });
}

#[test]
fn where_no_host_has_the_key_it_lies_here_and_renews_the_leaves() {
    virtual_time(async {
        let lab = Lab::new(1).await;
        done(&lab, "etcd/rotate-ca", &["ca_out=/srv/new"]).await;
        let read = |name: &str| lab.disk.read(Path::new(name)).unwrap();
        let ca = Certificate::from_pem(&read("/srv/new/ca.pem"), "ca").unwrap();
        assert!(Key::from_pem(&read("/srv/new/ca-key.pem"), "key").unwrap().matches(&ca));
        assert_eq!(lab.disk.mode(Path::new("/srv/new/ca-key.pem")).unwrap(), 0o600);
        assert_eq!(lab.files()["m1/etc/etcd/pki/ca.pem"].0, read("/srv/new/ca.pem"));
        done(&lab, "etcd/renew-leaves", &["ca_key=/srv/new/ca-key.pem"]).await;
        assert_eq!(lab.ailing().await, Vec::<String>::new());
    });
}

#[test]
fn each_side_is_signed_with_its_own_key_where_hosts_have_both() {
    virtual_time(async {
        let lab = Lab::of(1, &Etcd { peer_ca: true, ..Etcd::default() }).await;
        for name in ["ca-key.pem", "peer-ca-key.pem"] {
            let key = lab.disk.read(&Path::new("/srv/pki").join(name)).unwrap();
            std::fs::write(lab.path("m1", &format!("etc/etcd/pki/{name}")), key).unwrap();
        }
        let before = lab.files();
        done(&lab, "etcd/renew-leaves", &["ca_key=", "peer_ca_key="]).await;
        let kept = |path: &str| path.ends_with("ca.pem") || path.ends_with("ca-key.pem");
        assert_eq!(lab.renewed(&before, kept), Vec::<String>::new());
        assert_eq!(lab.ailing().await, Vec::<String>::new());
    });
}

#[test]
fn a_folder_that_holds_a_ca_is_refused_before_anything_is_changed() {
    virtual_time(async {
        let lab = Lab::new(1).await;
        // It holds the key of the CA in force, and no other copy of it is anywhere.
        let (before, key) = (lab.files(), lab.own_key());
        let workflow = lab.workflow("etcd/rotate-ca");
        let failure = lab.run_with(&workflow, Arc::new(NoTripwire), &["ca_out=/srv/pki"]).await.unwrap_err();
        let text = failure.to_string();
        assert!(text.contains("/srv/pki holds a CA already (ca-key.pem)"), "{text}");
        assert!(lab.files() == before && lab.own_key() == key && lab.store().list().unwrap().is_empty());

        // An empty one is taken, and a run that is taken back leaves the folder free for the next.
        for _ in 0..2 {
            done(&lab, "etcd/rotate-ca", &["ca_out=/srv/pki-new"]).await;
            taken_back(&lab).await;
        }
        // Its own folder is none that a run comes upon when it goes on: the new CA is there, the last phase is not done.
        let stop = Arc::new(super::together::StopWhen("old CA refused from"));
        let first = lab.run_with(&workflow, stop, &["ca_out=/srv/pki-new"]).await.unwrap();
        assert_eq!(first.state, EndState::Killed);
        assert!(lab.disk.exists(Path::new("/srv/pki-new/ca-key.pem")), "it was stopped too early");
        let ending = lab.open(Why::Resume).unwrap().resume().await;
        assert_eq!(ending.state, EndState::Done, "{:?}", ending.failure);
    });
}

#[test]
fn while_both_cas_are_trusted_the_key_is_that_of_the_first_in_the_file() {
    virtual_time(async {
        let lab = Lab::of(1, &Etcd { layout: Layout::Kubeadm, ..Etcd::default() }).await;
        let at = |name: &str| format!("m1/etc/kubernetes/pki/etcd/{name}");
        let old = pair(&lab.files(), &at("ca.crt"), &at("ca.key")).0.remove(0);

        // Stopped before the last phase: the old CA comes first, and signs.
        let mut workflow = lab.workflow("etcd/rotate-ca");
        let script = workflow.sources.files.get_mut("main.rhai").unwrap();
        let (head, _) = script.split_once("if param(\"remove_old_ca\")").unwrap();
        *script = head.to_owned();
        let ending = lab.run_with(&workflow, Arc::new(NoTripwire), &[]).await.unwrap();
        assert_eq!(ending.state, EndState::Done, "{:?}", ending.failure);
        let (certs, fits) = pair(&lab.files(), &at("ca.crt"), &at("ca.key"));
        assert!(certs.len() == 2 && certs[0].fingerprint() == old.fingerprint() && fits);
        taken_back(&lab).await;

        // Where both stay trusted the new one is first in the end, and signs.
        done(&lab, "etcd/rotate-ca", &["remove_old_ca=false"]).await;
        let (certs, fits) = pair(&lab.files(), &at("ca.crt"), &at("ca.key"));
        assert!(certs.len() == 2 && certs[1].fingerprint() == old.fingerprint() && fits);
        assert_eq!(lab.ailing().await, Vec::<String>::new());
    });
}
