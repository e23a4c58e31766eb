#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use std::collections::BTreeSet;

use super::*;

const ACK: &str = r#"
all:
  vars:
    ansible_user: ops
    ansible_ssh_common_args: -o ProxyJump=bastion.example -o "UserKnownHostsFile=/home/ops/known hosts"
  children:
    masters:
      hosts:
        m[1:3]:
          ansible_become: true
        m2:
          ansible_host: 10.0.0.12
          ansible_port: 2222
          ansible_user: root
      vars:
        cert_dir: /var/lib/etcd/cert
        ansible_python_interpreter: /usr/bin/python3
    outside:
      hosts:
        laptop: { ansible_connection: local }
"#;

#[test]
fn groups_ranges_and_the_nearer_word() {
    let found = parse(ACK, "hosts.yaml").unwrap();
    assert_eq!(found.groups["masters"], ["m1", "m2", "m3"]);
    assert_eq!(found.groups["all"], ["m1", "m2", "m3", "laptop"]);
    let m1 = &found.hosts["m1"];
    assert_eq!((m1.address.as_str(), m1.port, m1.user.as_deref()), ("m1", None, Some("ops")));
    assert_eq!(m1.r#become.as_deref(), Some("root"));
    assert_eq!(m1.vars["cert_dir"], "/var/lib/etcd/cert");
    assert_eq!(
        m1.args,
        ["-o", "ProxyJump=bastion.example", "-o", "UserKnownHostsFile=/home/ops/known hosts"]
    );
    assert_eq!(m1.state, "/var/lib/rollover");
    let m2 = &found.hosts["m2"];
    assert_eq!((m2.address.as_str(), m2.port, m2.user.as_deref()), ("10.0.0.12", Some(2222), Some("root")));
    assert!(m2.r#become.is_some(), "what two lines say of a host adds up");
    assert_eq!(found.hosts["laptop"].connection, Connection::Local);
    assert!(found.hosts.values().all(|host| host.vars.keys().all(|key| !key.starts_with("ansible_"))));
}

#[test]
fn a_child_is_nearer_than_its_parent_whatever_they_are_called() {
    let text = |parent: &str, child: &str| {
        format!(
            "{child}: {{ vars: {{ x: near }} }}\n{parent}:\n  vars: {{ x: far }}\n  children: {{ {child}: {{ hosts: {{ h: }} }} }}\n"
        )
    };
    // The same group twice at one level is one key twice.
    for (parent, child) in [("a", "z"), ("z", "a")] {
        let text = text(parent, child);
        assert_eq!(parse(&text, "i").unwrap().hosts["h"].vars["x"], "near", "{text}");
    }
}

fn told(text: &str) -> String {
    let error = parse(text, "hosts.yaml").unwrap_err();
    format!("{error}\n  {}", error.hint.as_deref().unwrap_or_default())
}

#[test]
fn what_would_be_read_otherwise_is_refused_by_name() {
    let host = |line: &str| format!("all:\n  hosts:\n    m1:\n      {line}\n");
    let texts = [
        "- a list".to_owned(),
        "all: { hosts: { m1: , m1: } }".to_owned(),
        "all: { host: { m1: } }".to_owned(),
        "all: { masters: { hosts: { m1: } } }".to_owned(),
        "a: { children: { b: { children: { a: } } } }".to_owned(),
        "all: { hosts: { 'm[3:1]': } }".to_owned(),
        host("ansible_password: hunter2"),
        host("ansible_host: '{{ inventory_hostname }}.example'"),
        host("ansible_port: 70000"),
        host("ansible_connection: docker"),
        host("ansible_become: perhaps"),
        host("ansible_become: true\n      ansible_become_method: su"),
        host("ansible_host: -oProxyCommand=evil"),
        host("ansible_ssh_common_args: -o 'ProxyJump=b"),
        host("secret: !vault 3132"),
        host("ansible_shell_executable: /bin/fish"),
    ];
    let told: Vec<String> = texts.iter().map(|text| told(text)).collect();
    assert!(told.iter().all(|text| !text.contains("hunter2")));
    insta::assert_snapshot!(told.join("\n\n"));
}

#[test]
fn a_name_that_is_not_there_is_answered_with_the_nearest() {
    let found = parse(ACK, "hosts.yaml").unwrap();
    assert_eq!(found.named("masters").unwrap().len(), 3);
    assert_eq!(found.named("m2").unwrap().len(), 1);
    assert!(found.named("mastres").unwrap_err().hint.unwrap().contains("`masters`"));
}

fn plain() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9-]{0,8}"
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever is generated is found again: nothing is lost, added or renamed.
    #[test]
    fn every_host_of_every_group_is_found(
        groups in proptest::collection::btree_map(plain(), proptest::collection::btree_set(plain(), 0..5), 1..5)
    ) {
        let groups: BTreeMap<_, _> = groups.into_iter().map(|(name, hosts)| (format!("g-{name}"), hosts)).collect();
        let mut text = String::new();
        for (group, hosts) in &groups {
            text += &format!("{group}:\n  hosts:\n");
            for host in hosts {
                text += &format!("    {host}:\n      ansible_port: {}\n", 1000 + host.len());
            }
        }
        let found = parse(&text, "i").unwrap();
        for (group, hosts) in &groups {
            let names: BTreeSet<String> = found.groups[group].iter().cloned().collect();
            prop_assert_eq!(&names, hosts);
        }
        let all: BTreeSet<String> = groups.values().flatten().cloned().collect();
        prop_assert_eq!(found.hosts.keys().cloned().collect::<BTreeSet<_>>(), all);
        for host in found.hosts.values() {
            prop_assert_eq!(host.port, u16::try_from(1000 + host.name.len()).ok());
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "[ \\[\\]a-z0-9:{}\\-!'\"\n*&]{0,80}") {
        let _ = parse(&text, "i");
    }

    #[test]
    fn a_range_counts_from_its_first_to_its_last(first in 0_u64..200, count in 0_u64..50, step in 1_usize..7) {
        let last = first + count;
        let found = range::expand(&format!("m[{first}:{last}:{step}].lan")).unwrap();
        let expected: Vec<_> = (first..=last).step_by(step).map(|n| format!("m{n}.lan")).collect();
        prop_assert_eq!(found, expected);
    }
}
