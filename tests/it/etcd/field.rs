//! What goes wrong in the field, on hosts with a network and a disk of their own: it is stopped in time, it is said, and
//! there is a way on or back.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use stdlib::cert::Key;

use super::apart;
use super::confirmed::comes;
use super::hosts::Machine;
use super::members::{Cluster, issue};
use super::rotation::{all_tier, no_marks, parameters, person, types};
use super::writer::Writer;
use crate::program::{Program, says, told};

const ROTATE: [&str; 3] = ["run", "etcd/rotate-ca", "--yes"];

fn no_mark(cluster: &Cluster) -> bool {
    cluster.machines.all.iter().all(|machine| !machine.path("state/mark.json").exists())
}

/// Rotates, which is stopped with these words before anything is changed, and leaves no mark.
fn refused(cluster: &Cluster, program: &Program, words: &[&str]) {
    let before = cluster.files();
    let (code, text) = told(&types(program, &ROTATE, &parameters(cluster)));
    assert_ne!(code, 0, "{text}");
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for word in words {
        assert!(line.contains(word), "`{word}` is missing: {text}");
    }
    assert_eq!(cluster.files(), before, "{text}");
    assert!(no_mark(cluster), "{text}");
    println!(
        "{}",
        text.lines().filter(|l| l.contains("error:") || l.contains("hint:")).collect::<Vec<_>>().join("\n")
    );
}

/// A program of the host's own, before all others.
fn own_program(machine: &Machine, name: &str, text: &str) {
    let path = machine.path("bin").join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn what_is_wrong_before_a_rotation_is_found_before_anything_is_changed() {
    if !all_tier() || !apart::possible() {
        return;
    }
    let cluster = Cluster::apart(3);
    let machines = &cluster.machines;
    let (m2, m3) = (&machines.all[1], &machines.all[2]);
    let program = person();

    // A clock ten minutes ahead.
    own_program(
        m2,
        "date",
        "#!/bin/sh\ncase $1 in +%s%N) echo $(($(/bin/date +%s%N) + 600000000000));; *) exec /bin/date \"$@\";; esac\n",
    );
    refused(
        &cluster,
        &program,
        &["m2", "its clock is", "s ahead of ours", "set one of the two clocks right"],
    );
    fs::remove_file(m2.path("bin/date")).unwrap();

    // Another host key than the one that is known.
    let known = machines.root.path().join("known_hosts");
    let right = fs::read_to_string(&known).unwrap();
    let key = |path: &Path| fs::read_to_string(path).unwrap().split(' ').nth(1).unwrap().to_owned();
    let (own, other) = (key(&m2.path("host_key.pub")), key(&machines.root.path().join("user_key.pub")));
    fs::write(&known, right.replace(&own, &other)).unwrap();
    refused(
        &cluster,
        &program,
        &["m2", "its host key is another than the one that is known", "find out why"],
    );
    fs::write(&known, right).unwrap();

    // A certificate for another address than the one that is dialled.
    let pair = ["server.pem", "server-key.pem"].map(|name| m3.path("pki").join(name));
    let held = pair.clone().map(|path| fs::read(path).unwrap());
    let ca_key = fs::read(machines.root.path().join("ca-key.pem")).unwrap();
    issue(
        &cluster.ca,
        &Key::from_pem(&ca_key, "ca").unwrap(),
        "m3",
        &["198.18.255.1"],
        &m3.path("pki"),
        "server",
    );
    refused(&cluster, &program, &[&m3.address, "198.18.255.1"]);
    for (path, bytes) in pair.iter().zip(held) {
        fs::write(path, bytes).unwrap();
    }

    // Off the network.
    machines.switch.as_ref().unwrap().cut(2);
    refused(&cluster, &program, &["m2", "cannot be reached"]);
    machines.switch.as_ref().unwrap().mend(2);

    // A user who may not become root.
    if !Path::new("/usr/bin/sudo").exists() {
        println!("NOT TESTED: a wrong sudo needs Debian's sudo");
        return;
    }
    machines.all[0].does(
        "echo 'ops:x:4711:4711::/tmp:/bin/sh' >>/etc/passwd; echo 'ops:*:19000:0:99999:7:::' >>/etc/shadow",
    );
    let inventory = fs::read_to_string(cluster.inventory()).unwrap();
    let other =
        inventory.replace("    m1:\n", "    m1:\n      ansible_user: ops\n      ansible_become: true\n");
    fs::write(cluster.inventory(), other).unwrap();
    refused(&cluster, &program, &["m1", "may not become `root`", "sudo -n -u root true"]);
}

#[test]
fn a_member_that_does_not_come_back_is_restored_by_its_own_host() {
    if !all_tier() || !apart::possible() {
        return;
    }
    let cluster = Cluster::apart(3);
    let before = cluster.files();
    let program = person();
    // Whichever comes first does not start with what is written.
    for machine in &cluster.machines.all {
        fs::write(machine.path("picky"), "").unwrap();
    }
    let mut more = parameters(&cluster);
    more.extend(["--set".to_owned(), "confirm_within=10s".to_owned()]);
    let (code, text) = told(&types(&program, &ROTATE, &more));
    assert_ne!(code, 0, "{text}");
    assert!(text.contains("by itself"), "{text}");
    let fired = |machine: &&Machine| machine.path("state/timers/etcd").exists();
    let touched: Vec<&Machine> = cluster.machines.all.iter().filter(fired).collect();
    assert_eq!(touched.len(), 1, "no other was stopped: {text}");
    let first = touched[0];
    comes("its host takes the change back", || first.path("state/timers/etcd/fired").exists());
    assert_eq!(fs::read(first.path("pki/ca.pem")).unwrap(), cluster.ca.pem().into_bytes());
    first.listens(2379, &first.path("service.log"));

    let run = program.runs().pop().unwrap();
    says(&program.types(&["rollback", &run, "--yes"]), 0, &[]);
    assert_eq!(cluster.files(), before);
    no_marks(&cluster, &run);
    assert!(!fired(&first));
}

/// What rotates on a host, as its own processes see it.
fn inside(machine: &Machine) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(machine.seen("/etc/etcd/pki")).unwrap().map(|entry| entry.unwrap());
    let file = |entry: fs::DirEntry| {
        (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap_or_default())
    };
    entries.map(file).filter(|(name, _)| name != "full").collect()
}

#[test]
fn a_full_disk_and_a_disk_that_cannot_be_written_stop_a_run_that_can_be_taken_back() {
    if !all_tier() || !apart::possible() {
        return;
    }
    let cluster = Cluster::apart(3);
    let m3 = &cluster.machines.all[2];
    let before = cluster.files();
    let held = inside(m3);
    let program = person();
    // A file system of its own below the folder whose room was looked at.
    let small = "cp -a /etc/etcd/pki /tmp/pki.$$; mount -t tmpfs -o size=96k none /etc/etcd/pki; \
                 cp -a /tmp/pki.$$/. /etc/etcd/pki; rm -r /tmp/pki.$$";
    let mut more = parameters(&cluster);
    let folders = format!("folders=/etc/etcd,{}", cluster.machines.root.path().join("app").display());
    more.extend(["--set".to_owned(), folders]);
    for (fault, words, mended) in [
        (
            format!("{small}; head -c 1M /dev/zero >/etc/etcd/pki/full || true"),
            ["No space left", "make room there, then resume"],
            "umount /etc/etcd/pki",
        ),
        (
            format!("{small}; mount -o remount,ro /etc/etcd/pki"),
            ["Read-only file system", "mount the file system for writing"],
            "umount /etc/etcd/pki",
        ),
    ] {
        m3.does(&fault);
        let (code, text) = told(&types(&program, &ROTATE, &more));
        assert_ne!(code, 0, "{text}");
        let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for word in words {
            assert!(line.contains(word) && line.contains("m3"), "`{word}` is missing: {text}");
        }
        assert_eq!(inside(m3), held, "what lies there is whole");
        assert_ne!(cluster.files(), before, "the others were written before");
        // Back with the fault still there: nothing was changed on that host.
        let run = program.runs().pop().unwrap();
        says(&program.types(&["rollback", &run, "--yes"]), 0, &[]);
        assert_eq!((cluster.files(), inside(m3)), (before.clone(), held.clone()));
        no_marks(&cluster, &run);
        m3.does(mended);
    }
}

#[test]
fn a_host_that_drops_off_during_and_after_its_change_takes_it_back_and_the_run_goes_on() {
    if !all_tier() || !apart::possible() {
        return;
    }
    let cluster = Cluster::apart(3);
    let all = &cluster.machines.all;
    let switch = cluster.machines.switch.as_ref().unwrap();
    let program = person();
    let writer = Writer::begin(&cluster);
    let mut more = parameters(&cluster);
    more.extend(["--set".to_owned(), "confirm_within=30s".to_owned()]);
    let words: Vec<&str> = ROTATE.into_iter().chain(more.iter().map(String::as_str)).collect();
    let old = cluster.ca.pem().into_bytes();
    let ca = |machine: &Machine| fs::read(machine.path("pki/ca.pem")).unwrap();

    // During: it is off the network while its member restarts.
    let starts: Vec<_> = all.iter().map(|machine| fs::read(machine.path("main")).unwrap()).collect();
    for machine in all {
        fs::write(machine.path("hold"), "").unwrap();
    }
    let run = program.spawns(&words);
    let mut first = None;
    comes("a member is restarted", || {
        first = (0..3).find(|n| fs::read(all[*n].path("main")).is_ok_and(|now| now != starts[*n]));
        first.is_some()
    });
    let first = first.unwrap();
    switch.cut(first + 1);
    let (code, text) = told(&run.wait_with_output().unwrap());
    println!("{text}");
    assert_ne!(code, 0, "{text}");
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let owed =
        format!("unless a resume confirms it, {} puts /etc/etcd/pki/ca.pem back by itself", all[first].name);
    assert!(line.contains(&owed) && line.contains("cannot be reached"), "{text}");
    comes("its host takes the change back", || all[first].path("state/timers/etcd/fired").exists());
    assert_eq!(ca(&all[first]), old);
    for machine in all {
        fs::remove_file(machine.path("hold")).unwrap();
    }
    switch.mend(first + 1);
    all[first].listens(2379, &all[first].path("service.log"));
    writer.goes_on(20);

    // After: the next one is confirmed, and gone before the one after it.
    let id = program.runs().pop().unwrap();
    let run = program.spawns(&["resume", &id, "--yes"]);
    comes("it is confirmed", || {
        let machine = &all[first];
        let marker = fs::read_to_string(machine.path("state/restarts/etcd")).unwrap_or_default();
        marker.contains(&id) && !machine.path("state/timers/etcd").exists()
    });
    switch.cut(first + 1);
    let (code, text) = told(&run.wait_with_output().unwrap());
    println!("{text}");
    assert_ne!(code, 0, "{text}");
    assert!(text.contains("nobody confirmed the restart in time"), "{text}");
    let untouched = |n: &usize| *n != first && fs::read(all[*n].path("main")).unwrap() == starts[*n];
    assert!((0..3).filter(untouched).count() >= 1, "it was stopped in time: {text}");
    assert_ne!(ca(&all[first]), old, "what was confirmed stays");
    switch.mend(first + 1);
    all[first].listens(2379, &all[first].path("service.log"));
    says(&program.types(&["resume", &id, "--yes"]), 0, &[]);
    assert!(all.iter().all(|machine| ca(machine) == ca(&all[0]) && ca(machine) != old));
    no_marks(&cluster, &id);
    let report = writer.ends("a host that drops off during and after its change");
    assert!(report.most_down <= 1, "{report:?}");
}
