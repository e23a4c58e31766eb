//! Services that a container runtime keeps, with small programs in place of `docker`, `crictl` and the kubelet, which say
//! and do what those do of what they are asked.

use std::fs;
use std::time::Duration;

use serde_json::json;
use stdlib::host::{Pool, Runtime, Service};

use crate::contract;
use crate::sshd::Sshd;

/// What runs is a file by its name, that holds how often it was started. A container of the kubelet's that was stopped is
/// started again after a while, as another.
const DOCKER: &str = r#"#!/bin/sh
cd @FOLDER@/docker || exit 1
again() { echo $(($(cat "$1") + 1)) >"$1.new" && mv "$1.new" "$1"; }
case "$1 $2 $3 $4" in
  'ps -q --no-trunc --filter'|'ps -aq --filter '*)
    for filter; do :; done
    case $filter in
      name=^/\?*\$) name=${filter#name=^/?}; name=${name%\$}; [ ! -e "own.$name" ] || echo "own.$name"
        case $1,$2 in ps,-aq) [ ! -e "down.$name" ] || echo "down.$name";; esac;;
      label=io.kubernetes.container.name=*) name=${filter##*=}; [ ! -e "kube.$name" ] || echo "kube.$name";;
      *) echo "unknown filter $filter" >&2; exit 1;;
    esac;;
  'inspect --format {{.Id}} {{.State.StartedAt}} '*) shift 3; for id; do echo "$id $(cat "$id")" || exit 1; done;;
  restart\ *) [ ! -e "down.$2" ] || mv "down.$2" "own.$2"; [ -e "own.$2" ] || { echo "Error: No such container: $2" >&2; exit 1; }; again "own.$2"; echo "$2";;
  stop\ *)
    # One of docker's own is named, and stays down.
    [ ! -e "own.$2" ] || { mv "own.$2" "down.$2"; exit; }
    [ ! -e "down.$2" ] || exit 0
    [ -e "$2" ] || { echo "Error: No such container: $2" >&2; exit 1; }
    mv "$2" "$2.stopped"
    (sleep 0.5; again "$2.stopped"; mv "$2.stopped" "$2") </dev/null >/dev/null 2>&1 &;;
  *) echo "docker: unknown: $*" >&2; exit 1;;
esac
"#;

/// The same of the kubelet's containers alone; those of a manifest run while it lies there, each time as another.
const CRICTL: &str = r#"#!/bin/sh
cd @FOLDER@/crictl || exit 1
look() {
  [ -e "$1.pod" ] || return
  if [ -e "@FOLDER@/etc/manifests/$1.yaml" ]; then [ -e "$1" ] || { echo x >>"$1.pod"; wc -l <"$1.pod" >"$1"; }
  else rm -f "$1"; fi
}
case "$1 $2 $3 $4 $5" in
  'ps -q --state Running --name') name=${6#^}; name=${name%\$}; look "$name"; [ ! -e "$name" ] || echo "$name.$(cat "$name")";;
  stop\ *)
    name=${2%.*}
    [ "$(cat "$name")" = "${2##*.}" ] || { echo "no such container $2" >&2; exit 1; }
    mv "$name" "$name.stopped"
    (sleep 0.5; echo $(($(cat "$name.stopped") + 1)) >"$name.new"; rm "$name.stopped"; mv "$name.new" "$name") </dev/null >/dev/null 2>&1 &;;
  *) echo "crictl: unknown: $*" >&2; exit 1;;
esac
"#;

#[tokio::test]
async fn containers_of_docker_and_of_the_kubelet_are_restarted_and_told_apart() {
    let Some(server) = Sshd::start() else { return };
    let pool = Pool::default();
    let host = pool.host(&server.entry("m1")).unwrap();
    let folder = server.folder();
    fs::create_dir(folder.join("state")).unwrap();

    // With docker below the kubelet, as it was: by the label that the kubelet gives.
    fs::create_dir(folder.join("docker")).unwrap();
    fs::write(folder.join("docker/own.etcd"), "1").unwrap();
    fs::write(folder.join("docker/kube.kube-apiserver"), "1").unwrap();
    server.has("docker", DOCKER);
    for name in ["etcd", "kube-apiserver"] {
        contract::serves_container(host.as_ref(), name, Runtime::Docker).await;
    }
    // Docker's own is held down; what the kubelet keeps runs on, for it would start it again.
    let docker = |name: &str| Service::of(&json!({ "container": name, "runtime": "docker" })).unwrap();
    contract::stops(host.as_ref(), &docker("etcd")).await;
    let kept = docker("kube-apiserver");
    assert!(!kept.stop(host.as_ref(), Duration::from_secs(60), None).await.unwrap());
    assert!(kept.status(host.as_ref()).await.unwrap().active);

    fs::create_dir(folder.join("crictl")).unwrap();
    fs::create_dir_all(folder.join("etc/manifests")).unwrap();
    fs::write(folder.join("crictl/kube-scheduler"), "1").unwrap();
    fs::write(folder.join("crictl/kube-proxy.pod"), "").unwrap();
    let manifest = folder.join("etc/manifests/kube-proxy.yaml");
    fs::write(&manifest, "kind: Pod").unwrap();
    server.has("crictl", CRICTL);
    contract::serves_container(host.as_ref(), "kube-scheduler", Runtime::Crictl).await;
    // Docker's own is still docker's, where it is asked for.
    let own = Service::of(&json!({ "container": "etcd", "runtime": "docker" })).unwrap();
    contract::serves(host.as_ref(), &own).await;
    let pod = Service::of(&json!({ "manifest": manifest.to_str().unwrap() })).unwrap();
    contract::serves(host.as_ref(), &pod).await;
    contract::stops(host.as_ref(), &pod).await;
    let kept = Service::of(&json!({ "container": "kube-scheduler", "runtime": "crictl" })).unwrap();
    assert!(!kept.stop(host.as_ref(), Duration::from_secs(60), None).await.unwrap());
    assert!(kept.status(host.as_ref()).await.unwrap().active);
    assert_eq!(fs::read_to_string(&manifest).unwrap(), "kind: Pod");
}

/// Takes note of what is synced.
const SYNC: &str = "#!/bin/sh\nprintf '%s\\n' \"$@\" >>@FOLDER@/synced\nexec /bin/sync \"$@\"\n";

#[tokio::test]
async fn what_is_written_and_what_is_renamed_survives_a_power_cut_with_its_folders() {
    let Some(server) = Sshd::start() else { return };
    server.has("sync", SYNC);
    let pool = Pool::default();
    let host = pool.host(&server.entry("m1")).unwrap();
    let at = |name: &str| server.folder().join(name).to_str().unwrap().to_owned();
    let put = stdlib::host::Put {
        path: at("new/deep/file"),
        before: stdlib::host::ABSENT.into(),
        bytes: Some(b"made".to_vec().into()),
        mode: None,
        owner: None,
    };
    host.replace(&[put], None).await.unwrap();
    let synced = fs::read_to_string(at("synced")).unwrap();
    for folder in [at("new/deep"), at("new"), server.folder().to_str().unwrap().to_owned()] {
        assert!(synced.lines().any(|line| line == folder), "{folder} in {synced}");
    }
    // A file that lay beside its place is on disk, its new name is not.
    fs::remove_file(at("synced")).unwrap();
    fs::write(at("new/file"), "made").unwrap();
    let one = stdlib::host::Move {
        from: at("new/file"),
        staged: stdlib::host::digest(b"made"),
        to: at("new/deep/other"),
        before: stdlib::host::ABSENT.into(),
    };
    host.install(&[one], None).await.unwrap();
    let synced = fs::read_to_string(at("synced")).unwrap();
    assert!(synced.lines().any(|line| line == at("new/deep")), "{synced}");
}
