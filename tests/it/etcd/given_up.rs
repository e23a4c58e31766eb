//! A run of an expired cluster that is given up while its members are down: a new run finds what the first has left, and
//! brings the cluster back with its data.

use std::fs;
use std::sync::Arc;

use journal::{NoTripwire, Why};
use runner::events::EndState;
use sandbox::hosts::{Etcd, Layout};
use sandbox::world::Expired;

use super::lab::Lab;
use super::stopped::{keys_of_cas, of_kubernetes_alone};
use super::together::{NEW, StopWhen, running};
use crate::lab::virtual_time;

/// How far the first run came. All members are down.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Came {
    /// All is laid.
    Laid,
    /// One host has its files in place: the others trust another CA.
    Half,
    /// All hosts have: nothing has expired any more.
    Installed,
    /// One member has been started, and waits for the others.
    Started,
}

/// Puts in place what lies beside its place on a host, as the run was about to.
fn installs(lab: &Lab, host: &str) {
    let laid =
        lab.files().into_keys().filter_map(|path| path.strip_prefix(&format!("{host}/")).map(str::to_owned));
    for path in laid.filter(|path| path.ends_with(NEW)) {
        fs::rename(lab.path(host, &path), lab.path(host, path.strip_suffix(NEW).unwrap())).unwrap();
    }
}

/// Starts a member as its operator would.
async fn starts(lab: &Lab, host: &str, layout: Layout) {
    if layout == Layout::Kubeadm {
        let parked = lab.path(host, "etc/kubernetes/.etcd.yaml.parked");
        fs::rename(parked, lab.path(host, "etc/kubernetes/manifests/etcd.yaml")).unwrap();
    } else {
        lab.world.machine(host).unwrap().unit("etcd").unwrap().start().await.unwrap();
    }
}

async fn comes_back((layout, workflow): (Layout, &str), came: Came) {
    let context = format!("{layout:?} {came:?}");
    let lab = Lab::of(1, &Etcd { expired: Expired::Everything, layout, ..Etcd::default() }).await;
    let before = lab.files();
    let about = if matches!(came, Came::Laid | Came::Half) { "change/install m" } else { "settle/m" };
    let workflow = lab.workflow(workflow);
    let first = lab.run(&workflow, Arc::new(StopWhen(about))).await.unwrap();
    assert_eq!(first.state, EndState::Killed, "{context}");
    assert!(running(&lab).is_empty(), "{context}: all are down");
    match came {
        Came::Half => installs(&lab, "m1"),
        Came::Started => starts(&lab, "m1", layout).await,
        _ => {}
    }
    let ending = lab.open(Why::Abort).unwrap().abort(true).await;
    assert_eq!(ending.state, EndState::Aborted, "{context}: {:?}", ending.failure);

    // A folder here that holds the CA of the run that was given up is another's.
    let elsewhere: &[&str] = if layout == Layout::Systemd { &["ca_out=/srv/pki/another"] } else { &[] };
    let ending = lab.run_with(&workflow, Arc::new(NoTripwire), elsewhere).await;
    let ending = ending.unwrap_or_else(|refused| panic!("{context}: {refused}"));
    assert_eq!(ending.state, EndState::Done, "{context}: {:?}", ending.failure);
    assert_ne!(ending.run, first.run);
    let kept = |path: &str| match layout {
        Layout::Kubeadm => of_kubernetes_alone(path),
        Layout::Ack => keys_of_cas(path),
        _ => false,
    };
    let mut wrong = lab.renewed(&before, kept);
    // What Kubernetes has beside etcd's has expired too, and is not etcd's.
    wrong.retain(|what| {
        !(layout == Layout::Kubeadm && what.ends_with(" has expired") && of_kubernetes_alone(what))
    });
    assert_eq!(wrong, Vec::<String>::new(), "{context}");
    assert_eq!(lab.left_behind(&ending.run), Vec::<String>::new(), "{context}");
    assert_eq!(lab.ailing().await, Vec::<String>::new(), "{context}");
}

const COME: [Came; 4] = [Came::Laid, Came::Half, Came::Installed, Came::Started];

#[test]
fn members_that_a_run_has_stopped_are_brought_back_by_the_next() {
    for came in COME {
        virtual_time(comes_back((Layout::Systemd, "etcd/renew-expired"), came));
    }
}

#[test]
fn static_pods_whose_manifests_a_run_has_parked_are_brought_back_by_the_next() {
    for came in COME {
        virtual_time(comes_back((Layout::Kubeadm, "etcd/renew-expired"), came));
    }
}

#[test]
fn masters_that_a_run_has_stopped_are_brought_back_by_the_next() {
    for came in COME {
        virtual_time(comes_back((Layout::Ack, "ack/etcd-renew-expired"), came));
    }
}
