//! A network of hosts on one machine: a bridge in a network namespace of its own, and for each host a network and a mount
//! namespace, held by a process. What they are made of goes with these processes, and they go with the test.

use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use super::hosts::leashed;

/// The bridge.
pub(crate) struct Switch {
    holder: Child,
}

impl Drop for Switch {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Whether hosts can be set apart here; what is missing is said, so that nobody takes silence for a test.
pub(crate) fn possible() -> bool {
    let works = |program: &str, args: &[&str]| {
        Command::new(program).args(args).output().is_ok_and(|o| o.status.success())
    };
    let missing = if !works("ip", &["-V"]) {
        "the program `ip` (Debian's iproute2)"
    } else if !works(
        "unshare",
        &["--net", "--mount", "--propagation", "private", "ip", "link", "set", "lo", "up"],
    ) {
        "the right to make network namespaces: run as root"
    } else {
        return true;
    };
    println!("NOT TESTED: hosts with a network and a disk of their own need {missing}");
    false
}

fn does(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A process that holds new namespaces, once they are there.
fn held(kinds: &[&str]) -> Child {
    let mut holder = leashed("unshare");
    let child = holder.args(kinds).args(["sleep", "infinity"]).spawn().unwrap();
    let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let begun = Instant::now();
    // The program is `sleep` once all namespaces are made.
    let name = || std::fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap_or_default();
    while of(&child.id().to_string()) == of("self") || name().trim() != "sleep" {
        assert!(begun.elapsed() < Duration::from_secs(60), "no namespaces");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

/// The first three numbers of the addresses; no network of anybody's (RFC 2544).
pub(crate) fn prefix() -> String {
    let pid = std::process::id();
    format!("198.{}.{}", 18 + pid / 250 % 2, pid % 250)
}

impl Switch {
    /// With this machine on it.
    pub(crate) fn new() -> Self {
        let switch = Self { holder: held(&["--net"]) };
        let (pid, link) =
            (switch.holder.id().to_string(), format!("rollover{}", std::process::id() % 1_000_000));
        switch.inside(&["ip", "link", "add", "name", "sw0", "type", "bridge"]);
        does("ip", &["link", "add", "name", &link, "type", "veth", "peer", "name", "up0", "netns", &pid]);
        does("ip", &["addr", "add", &format!("{}.254/24", prefix()), "dev", &link]);
        does("ip", &["link", "set", &link, "up"]);
        switch.inside(&["ip", "link", "set", "up0", "master", "sw0"]);
        for up in ["sw0", "up0"] {
            switch.inside(&["ip", "link", "set", up, "up"]);
        }
        switch
    }

    fn inside(&self, args: &[&str]) {
        let pid = self.holder.id().to_string();
        does("nsenter", &[&["-t", &pid, "-n"], args].concat());
    }

    /// A host with this number in its address, and in place of `/etc` and two folders below `/var/lib` what lies in its
    /// own folder.
    pub(crate) fn plug(&self, n: usize, folder: &Path) -> Child {
        let holder = held(&["--net", "--mount", "--propagation", "private"]);
        let (pid, link) = (holder.id().to_string(), format!("h{n}"));
        self.inside(&[
            "ip", "link", "add", "name", &link, "type", "veth", "peer", "name", "eth0", "netns", &pid,
        ]);
        self.inside(&["ip", "link", "set", &link, "master", "sw0"]);
        let inside = |args: &[&str]| does("nsenter", &[&["-t", &pid, "-n", "-m"], args].concat());
        inside(&["ip", "addr", "add", &format!("{}.{n}/24", prefix()), "dev", "eth0"]);
        for up in ["lo", "eth0"] {
            inside(&["ip", "link", "set", up, "up"]);
        }
        does("cp", &["-a", "/etc/.", folder.join("etc").to_str().unwrap()]);
        std::fs::create_dir_all(folder.join("etc/etcd/pki")).unwrap();
        inside(&["mount", "--bind", folder.join("etc").to_str().unwrap(), "/etc"]);
        inside(&["mount", "-t", "tmpfs", "none", "/var/lib"]);
        for (own, place) in
            [("pki", "/etc/etcd/pki"), ("data", "/var/lib/etcd"), ("state", "/var/lib/rollover")]
        {
            inside(&["mkdir", "-p", place]);
            inside(&["mount", "--bind", folder.join(own).to_str().unwrap(), place]);
        }
        self.mend(n);
        holder
    }

    /// The host is off the network.
    pub(crate) fn cut(&self, n: usize) {
        self.inside(&["ip", "link", "set", &format!("h{n}"), "down"]);
    }

    /// It is on it (again).
    pub(crate) fn mend(&self, n: usize) {
        self.inside(&["ip", "link", "set", &format!("h{n}"), "up"]);
    }
}
