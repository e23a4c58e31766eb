//! `hosts/verify` on real hosts: what is in order, and what was planted.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use stdlib::cert::{Certificate, Key};
use stdlib::cfssl::Request;
use stdlib::world::{Clock as _, SystemClock};
use time::OffsetDateTime;

use super::hosts::{Machine, Machines, leashed};
use super::members::issue;
use super::rotation::person;
use crate::program::{Program, says};

const PORT: u16 = 2379;

fn authority(at: OffsetDateTime) -> (Certificate, Key) {
    let request = br#"{"CN": "etcd", "key": {"algo": "ecdsa", "size": 256}}"#;
    stdlib::ca::create(&Request::from_json(request, "ca").unwrap(), at).unwrap()
}

/// Serves a pair, as it lies there now, until the test ends.
fn listen(machine: &mut Machine) {
    let pki = machine.path("pki");
    let mut server = leashed("openssl");
    server.args(["s_server", "-quiet", "-accept", &format!("{}:{PORT}", machine.address), "-cert"]);
    server.arg(pki.join("server.pem")).arg("-key").arg(pki.join("server-key.pem"));
    server.stderr(std::process::Stdio::null());
    machine.adopt(server.spawn().unwrap());
    machine.listens(PORT, &machine.path("sshd.log"));
}

fn inventory(machines: &Machines) -> String {
    let mut text = format!("all:\n  vars:\n{}  hosts:\n", machines.ssh_vars());
    for machine in &machines.all {
        text += &format!(
            "    {}:\n      ansible_host: {}\n      rollover_state: {}/state\n",
            machine.name,
            machine.address,
            machine.folder.display()
        );
    }
    let path = machines.root.path().join("hosts.yaml");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn verifies(program: &Program, inventory: &str, machine: &Machine, more: &[&str]) -> std::process::Output {
    let set = [
        format!("inventory={inventory}"),
        format!("group={}", machine.name),
        format!("folders={}", machine.path("pki").display()),
        format!("ports={PORT}"),
    ];
    let words: Vec<&str> = ["run", "hosts/verify", "--yes"]
        .into_iter()
        .chain(set.iter().flat_map(|set| ["--set", set.as_str()]))
        .chain(more.iter().copied())
        .collect();
    program.types(&words)
}

#[test]
fn every_certificate_of_hosts_is_shown_and_what_was_planted_is_found() {
    let mut machines = Machines::new(2);
    let inventory = inventory(&machines);
    let (ca, ca_key) = authority(SystemClock.now());
    for machine in &mut machines.all {
        let (pki, address) = (machine.path("pki"), machine.address.clone());
        fs::write(pki.join("ca.pem"), ca.pem()).unwrap();
        issue(&ca, &ca_key, "server", &[&address], &pki, "server");
        issue(&ca, &ca_key, "health", &[], &pki, "client");
        listen(machine);
    }
    let program = person();

    // In order: a table of what is there, and nothing is left on the host or locked.
    let (well, ill) = (&machines.all[0], &machines.all[1]);
    let output = verifies(&program, &inventory, well, &[]);
    let text = says(&output, 0, &["UNTIL", "ca.pem", "port 2379"]);
    assert!(text.contains("server and client") && text.contains("server.pem"), "{text}");
    assert_eq!(fs::read_dir(well.path("state")).unwrap().count(), 0);

    // Renewed on disk and not restarted; swapped by halves; expired; cut off; everybody's to read.
    let pki = ill.path("pki");
    issue(&ca, &ca_key, "server", &[&ill.address], &pki, "server");
    fs::set_permissions(pki.join("server-key.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    issue(&ca, &ca_key, "health", &[], &pki, "other");
    fs::copy(pki.join("other-key.pem"), pki.join("client-key.pem")).unwrap();
    let old = authority(SystemClock.now() - time::Duration::weeks(520)).0;
    fs::write(pki.join("old-ca.crt"), old.pem()).unwrap();
    fs::write(pki.join("cut.pem"), &ca.pem()[..150]).unwrap();
    let output = verifies(&program, &inventory, ill, &[]);
    let text = says(&output, 36, &["FINDING", "5 findings"]);
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for (place, finding) in [
        ("port 2379", "is stale"),
        ("pki/client.pem", "does not belong to it"),
        ("pki/server.pem", "everybody on the host may read or write its key"),
        ("pki/old-ca.crt", "expired on"),
        ("pki/cut.pem", "is opened and never closed"),
    ] {
        let told = line.split(&format!("{place}: ")).last().unwrap();
        let told = told.split("; m2:").next().unwrap();
        assert!(
            line.contains(&format!("{place}: ")) && told.contains(finding),
            "{place}: {finding} in {text}"
        );
    }

    // The same for programs.
    let output = verifies(&program, &inventory, ill, &["--output", "json"]);
    let lines = String::from_utf8(output.stdout).unwrap();
    let table = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let table = table.into_iter().find(|line| line["event"] == "table").expect(&lines);
    assert_eq!(table["heading"][6], "finding");
    let stale = table["rows"].as_array().unwrap().iter().find(|row| row[1] == "port 2379").unwrap();
    assert!(stale[6].as_str().unwrap().starts_with("is stale: "), "{stale}");
}
