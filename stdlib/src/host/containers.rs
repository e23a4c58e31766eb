//! Services that a container runtime or the kubelet keeps: what runs on the host to ask for them and to restart them.
//!
//! POSIX shell with GNU coreutils, texts that never change, arguments as parameters, as all that runs there. They need
//! neither the runner nor a connection: a host's own timer runs the same.

use std::time::Duration;

use super::service::{Runtime, Service};

/// What each text begins with: `name runtime`, and then `running`, which prints what runs under that name, another after
/// each start, and nothing where nothing does, and `waits`, which pauses while so many seconds since the begin have not passed.
macro_rules! with_runtime {
    ($rest:literal) => {
        concat!(
            r#"
LC_ALL=C; export LC_ALL
name=$1; runtime=$2
now() { read -r up rest </proc/uptime; echo "${up%%.*}"; }
begun=$(now)
waits() { [ $(($(now) - begun)) -lt "$1" ] && sleep 0.2; }
if [ "$runtime" = any ]; then
  if command -v crictl >/dev/null 2>&1; then runtime=crictl
  elif command -v docker >/dev/null 2>&1; then runtime=docker
  else echo 'neither crictl nor docker is there to ask what runs' >&2; exit 1; fi
fi
running() {
  if [ "$runtime" = crictl ]; then crictl ps -q --state Running --name "^$name\$"; return; fi
  ids=$(docker ps -q --no-trunc --filter "name=^/?$name\$") || return 1
  [ -n "$ids" ] || ids=$(docker ps -q --no-trunc --filter "label=io.kubernetes.container.name=$name") || return 1
  [ -z "$ids" ] || docker inspect --format '{{.Id}} {{.State.StartedAt}}' $ids
}
"#,
            $rest
        )
    };
}

const STATUS: &str = with_runtime!(
    r#"
runs=$(running) || exit 1
[ -n "$runs" ] || { echo 'does not run' >&2; exit 3; }
printf '%s\n' "$runs"
"#
);

/// `name runtime seconds`: a container of docker's own is restarted; what the kubelet keeps is stopped, and the kubelet starts another.
const RESTART: &str = with_runtime!(
    r#"
if [ "$runtime" = docker ]; then
  own=$(docker ps -aq --filter "name=^/?$name\$") || exit 1
  [ -z "$own" ] || { docker restart "$name" >/dev/null; exit; }
fi
before=$(running) || exit 1
if [ -n "$before" ]; then
  if [ "$runtime" = crictl ]; then crictl stop $before >/dev/null || exit 1
  else docker stop ${before%% *} >/dev/null || exit 1; fi
fi
while :; do
  runs=$(running) || exit 1
  [ -n "$runs" ] && [ "$runs" != "$before" ] && exit 0
  waits "$3" || { echo "the kubelet has not started $name again within $3 seconds" >&2; exit 1; }
done
"#
);

/// `name runtime seconds manifest`: the manifest is moved out of its folder until nothing runs, and back. Whatever ends this early,
/// it goes back; where even that could not be (a power cut), the next restart finds it beside the folder.
const RESTART_POD: &str = with_runtime!(
    r#"
manifest=$4; folder=${manifest%/*}
parked=${folder%/*}/.${manifest##*/}.parked
back() { [ -e "$manifest" ] || [ ! -e "$parked" ] || mv -- "$parked" "$manifest"; }
trap back EXIT
trap 'exit 1' HUP INT TERM
if [ -e "$manifest" ]; then
  [ ! -e "$parked" ] || { echo "$parked is there beside $manifest: remove the one that is not wanted" >&2; exit 1; }
  running >/dev/null || exit 1
  mv -- "$manifest" "$parked" || exit 1
elif [ ! -e "$parked" ]; then
  echo "there is no manifest $manifest" >&2; exit 1
fi
while runs=$(running) || exit 1; [ -n "$runs" ]; do
  waits "$3" || { echo "the kubelet has not stopped $name within $3 seconds" >&2; exit 1; }
done
mv -- "$parked" "$manifest" || exit 1
while runs=$(running) || exit 1; [ -z "$runs" ]; do
  waits "$3" || { echo "the kubelet has not started $name again within $3 seconds" >&2; exit 1; }
done
"#
);

/// With this exit code a container says that whoever keeps it would start it again.
pub(super) const KEPT: i32 = 78;

/// `name runtime`: a container of docker's own is stopped, and stays so. What the kubelet keeps it would start again.
const STOP: &str = with_runtime!(
    r#"
if [ "$runtime" = docker ]; then
  own=$(docker ps -aq --filter "name=^/?$name\$") || exit 1
  [ -z "$own" ] || { docker stop "$name" >/dev/null; exit; }
fi
exit 78
"#
);

/// `name runtime seconds manifest`: the manifest is moved out of its folder, where a restart finds it, until nothing runs.
const STOP_POD: &str = with_runtime!(
    r#"
manifest=$4; folder=${manifest%/*}
parked=${folder%/*}/.${manifest##*/}.parked
if [ -e "$manifest" ]; then
  [ ! -e "$parked" ] || { echo "$parked is there beside $manifest: remove the one that is not wanted" >&2; exit 1; }
  running >/dev/null || exit 1
  mv -- "$manifest" "$parked" || exit 1
elif [ ! -e "$parked" ]; then
  echo "there is no manifest $manifest" >&2; exit 1
fi
while runs=$(running) || exit 1; [ -n "$runs" ]; do
  waits "$3" || { echo "the kubelet has not stopped $name within $3 seconds" >&2; exit 1; }
done
"#
);

fn shell(text: &str, args: &[&str]) -> Vec<String> {
    ["sh", "-c", text, "rollover"].iter().chain(args).map(|&word| word.to_owned()).collect()
}

/// Ends with 0 while a container of this name runs, and prints what is another after each start.
pub(super) fn status(name: &str, runtime: Option<Runtime>) -> Vec<String> {
    shell(STATUS, &[name, word(runtime)])
}

/// Restarts a container, and returns when another runs, or when that has taken too long.
pub(super) fn restart(name: &str, runtime: Option<Runtime>, patience: Duration) -> Vec<String> {
    shell(RESTART, &[name, word(runtime), &patience.as_secs().to_string()])
}

/// The same for what a manifest of the kubelet's says.
pub(super) fn restart_pod(name: &str, manifest: &str, patience: Duration) -> Vec<String> {
    shell(RESTART_POD, &[name, word(None), &patience.as_secs().to_string(), manifest])
}

/// Stops a container where nobody starts it again by himself; ends with [`KEPT`] where somebody does.
pub(super) fn stop(name: &str, runtime: Option<Runtime>) -> Vec<String> {
    shell(STOP, &[name, word(runtime)])
}

/// Moves a manifest out of the kubelet's folder, and returns when nothing runs, or when that has taken too long.
pub(super) fn stop_pod(name: &str, manifest: &str, patience: Duration) -> Vec<String> {
    shell(STOP_POD, &[name, word(None), &patience.as_secs().to_string(), manifest])
}

fn word(runtime: Option<Runtime>) -> &'static str {
    match runtime {
        None => "any",
        Some(Runtime::Docker) => "docker",
        Some(Runtime::Crictl) => "crictl",
    }
}

/// What one of these commands is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Whether it runs, and since which start.
    Status,
    /// That it be restarted.
    Restart,
    /// That it be stopped, and stay so.
    Stop,
}

/// Reads a command that this module has made: for a host that has containers, and no shell to run it.
pub fn asked(argv: &[String]) -> Option<(Asked, Service)> {
    let words: Vec<&str> = argv.iter().map(String::as_str).collect();
    let ["sh", "-c", text, "rollover", name, runtime, rest @ ..] = words.as_slice() else { return None };
    let runtime = match *runtime {
        "docker" => Some(Runtime::Docker),
        "crictl" => Some(Runtime::Crictl),
        _ => None,
    };
    let container = || Service::Container { container: (*name).to_owned(), runtime };
    match rest {
        [] if *text == STATUS => Some((Asked::Status, container())),
        [] if *text == STOP => Some((Asked::Stop, container())),
        [_] if *text == RESTART => Some((Asked::Restart, container())),
        [_, manifest] if *text == RESTART_POD || *text == STOP_POD => {
            let (manifest, container) = ((*manifest).to_owned(), (*name).to_owned());
            let asked = if *text == STOP_POD { Asked::Stop } else { Asked::Restart };
            Some((asked, Service::StaticPod { manifest, container }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_read_back_as_what_it_was_made_for() {
        let of = |argv: Vec<String>| asked(&argv);
        let container = |runtime| Service::Container { container: "etcd".into(), runtime };
        let docker = Some(Runtime::Docker);
        assert_eq!(of(status("etcd", docker)), Some((Asked::Status, container(docker))));
        let minute = Duration::from_secs(60);
        assert_eq!(of(restart("etcd", None, minute)), Some((Asked::Restart, container(None))));
        let pod = Service::StaticPod { manifest: "/m/etcd.yaml".into(), container: "etcd".into() };
        assert_eq!(of(restart_pod("etcd", "/m/etcd.yaml", minute)), Some((Asked::Restart, pod.clone())));
        assert_eq!(of(stop("etcd", docker)), Some((Asked::Stop, container(docker))));
        assert_eq!(of(stop_pod("etcd", "/m/etcd.yaml", minute)), Some((Asked::Stop, pod)));
        assert_eq!(of(["sh", "-c", "true", "rollover", "etcd", "any"].map(str::to_owned).to_vec()), None);
    }
}
