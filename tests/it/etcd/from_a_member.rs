//! A rotation that is run from the host of one of the members, which the inventory calls `local`.

use std::fs;

use super::members::Cluster;
use super::rotation::{no_marks, parameters, types};
use super::writer::Writer;
use crate::program::{Program, says};

#[test]
fn from_the_host_of_a_member_that_one_needs_no_login_and_everything_is_as_from_elsewhere() {
    let cluster = Cluster::start(3);
    let first = &cluster.machines.all[0];
    let text = fs::read_to_string(cluster.inventory()).unwrap();
    let reached = format!("      ansible_host: {}\n", first.address);
    assert!(text.contains(&reached));
    let local = format!("{reached}      ansible_connection: local\n");
    fs::write(cluster.inventory(), text.replace(&reached, &local)).unwrap();
    let logins = || fs::read_to_string(first.path("sshd.log")).unwrap().matches("Accepted publickey").count();

    let before = cluster.files();
    // Its programs are those of the person who is there.
    let path = format!("{}:{}", first.path("bin").display(), std::env::var("PATH").unwrap());
    let program = Program::new().with_env("PATH", &path);
    let writer = Writer::begin(&cluster);
    let output = types(&program, &["run", "etcd/rotate-ca", "--yes"], &parameters(&cluster));
    says(&output, 0, &["distrust-old"]);
    writer.goes_on(20);
    let after = cluster.files();
    assert!(before.iter().all(|(path, file)| after[path] != *file));
    let run = program.runs().pop().unwrap();
    no_marks(&cluster, &run);

    says(&program.types(&["rollback", &run, "--yes"]), 0, &[]);
    writer.goes_on(20);
    assert_eq!(cluster.files(), before);
    assert_eq!(logins(), 0, "nobody logged in where we are");
    let report = writer.ends("rotation from the host of a member");
    assert_eq!(report.most_down, 1, "{report:?}");
}
