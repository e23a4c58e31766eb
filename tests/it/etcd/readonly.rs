//! One file that cannot be replaced, on a disk that can be written otherwise: the run stops at it, says what it is, and is
//! taken back.

use std::collections::BTreeMap;
use std::fs;

use super::apart;
use super::hosts::Machine;
use super::members::Cluster;
use super::rotation::{all_tier, no_marks, parameters, person, types};
use crate::program::{says, told};

fn inside(machine: &Machine) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(machine.seen("/etc/etcd/pki")).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

#[test]
fn a_file_that_is_mounted_read_only_stops_a_run_that_can_be_taken_back() {
    if !all_tier() || !apart::possible() {
        return;
    }
    let cluster = Cluster::apart(3);
    let m3 = &cluster.machines.all[2];
    let (before, held) = (cluster.files(), inside(m3));
    let program = person();
    for name in ["ca.pem", "peer-key.pem"] {
        let path = format!("/etc/etcd/pki/{name}");
        m3.does(&format!("mount --bind {path} {path}; mount -o remount,bind,ro {path}"));
        let (code, text) = told(&types(&program, &["run", "etcd/rotate-ca", "--yes"], &parameters(&cluster)));
        assert_ne!(code, 0, "{text}");
        let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for word in ["m3:", &format!("{path}: Device or resource busy"), "`findmnt` there shows the mount"] {
            assert!(line.contains(word), "`{word}` is missing: {text}");
        }
        let pair =
            |files: &BTreeMap<String, Vec<u8>>| ["peer.pem", "peer-key.pem"].map(|name| files[name].clone());
        assert_eq!(pair(&inside(m3)), pair(&held), "no pair is swapped by halves");
        assert_eq!(inside(m3)[name], held[name], "what lies there is whole");
        assert!(inside(m3).keys().eq(held.keys()), "nothing is left beside it");
        assert_ne!(cluster.files(), before, "the others were written before");
        // Back with the fault still there: that file was not changed.
        let run = program.runs().pop().unwrap();
        says(&program.types(&["rollback", &run, "--yes"]), 0, &[]);
        assert_eq!((cluster.files(), inside(m3)), (before.clone(), held.clone()));
        no_marks(&cluster, &run);
        m3.does(&format!("umount {path}"));
    }
}
