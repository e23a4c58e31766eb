//! What a script sees of a host without changing it: commands, digests, and as whom it acts there.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use stdlib::error::Code;
use stdlib::gate::ReadOnly;
use stdlib::host::{Host, Pool};
use stdlib::registry::registry;
use stdlib::{PrimError, Secret, World};

use crate::sshd::Sshd;

fn world(host: &Arc<dyn Host>) -> World {
    let its = Arc::clone(host);
    let hosts = Pool::new(Box::new(move |_| Ok(Arc::clone(&its))));
    World { hosts: Arc::new(hosts), ..World::system(None, "/".into()) }
}

async fn asks(world: &World, name: &str, args: &[Value]) -> Result<Value, PrimError> {
    (registry().get(name).unwrap().run)(world, args, &ReadOnly).await
}

fn m1() -> Value {
    json!({ "name": "m1", "address": "127.0.0.1" })
}

#[tokio::test]
async fn a_command_proves_what_it_shows_and_what_it_prints_is_no_secret() {
    let Some(server) = Sshd::start() else { return };
    let world = world(&Pool::default().host(&server.entry("m1")).unwrap());
    let run = async |command: &[&str], options: Value| {
        asks(&world, "host::run", &[m1(), json!(command), options]).await
    };
    let told = run(&["printf", "%s|", "a b", "$HOME", "*"], json!({ "stdout": "$HOME" })).await.unwrap();
    assert_eq!(
        told,
        json!({ "host": "m1", "exit": 0, "stdout": "a b|$HOME|*|", "stderr": "", "cut": false })
    );
    let told = run(&["cat"], json!({ "stdin": "some\ntext" })).await.unwrap();
    assert_eq!(told["stdout"], "some\ntext");
    let told = run(&["ls", "/has/no/such"], json!({ "exit": 2 })).await.unwrap();
    assert!(told["stderr"].as_str().unwrap().contains("/has/no/such"));
    let told = run(&["head", "-c", "300000", "/dev/zero"], Value::Null).await.unwrap();
    assert_eq!((told["stdout"].as_str().unwrap().len(), &told["cut"]), (8192, &json!(true)));

    for (command, options, code, words) in [
        (&["false"][..], Value::Null, Code::Unproved, "ended with another exit code"),
        (
            &["echo", "stopped"],
            json!({ "stdout": "running" }),
            Code::Unproved,
            "does not print what it should",
        ),
        (&["sleep", "600.5"], json!({ "within": "1s" }), Code::Timeout, "took longer than 1s"),
        (&["no-such-program"], Value::Null, Code::Unproved, "another exit code"),
        (&[][..], Value::Null, Code::Argument, "no list of texts"),
        (&["cat"], json!({ "input": "x" }), Code::Argument, "unknown field `input`"),
        (&["echo", "-----BEGIN PRIVATE KEY-----"], Value::Null, Code::Argument, "key"),
    ] {
        let error = run(command, options).await.err().unwrap();
        assert!(error.code == code && error.message.contains(words), "{command:?}: {error}");
    }

    // A secret goes in, and nothing comes out that has it.
    let secret = world.secrets.put(&Secret::new(b"hunter2-hunter2\n".to_vec(), "a password")).unwrap();
    let told = run(&["wc", "-c"], json!({ "stdin": secret })).await.unwrap();
    assert_eq!(told["stdout"].as_str().unwrap().trim(), "16");
    let key = server.folder().join("host_key");
    for (command, options) in [
        (&["cat"][..], json!({ "stdin": secret })),
        (&["sh", "-c", "cat >&2"], json!({ "stdin": secret })),
        (&["cat", key.to_str().unwrap()], Value::Null),
    ] {
        let error = run(command, options).await.err().unwrap();
        assert!(error.message.contains("printed a secret"), "{error}");
        assert!(!error.to_string().contains("hunter2") && !error.to_string().contains("OPENSSH"), "{error}");
    }
}

#[tokio::test]
async fn files_are_compared_by_the_digests_that_were_told() {
    let Some(server) = Sshd::start() else { return };
    let world = world(&Pool::default().host(&server.entry("m1")).unwrap());
    let at = |name: &str| server.folder().join(name).to_str().unwrap().to_owned();
    for (name, text) in [("one", "1"), ("two", "2")] {
        fs::write(at(name), text).unwrap();
        set_mode(Path::new(&at(name)), 0o640);
    }
    let paths = json!([at("one"), at("two"), at("none")]);
    let told = asks(&world, "host::digest", &[m1(), paths]).await.unwrap();
    assert_eq!(told[0]["digest"], format!("sha256:{}", stdlib::host::digest(b"1")));
    assert_eq!(
        (&told[0]["mode"], &told[0]["size"], &told[2]["digest"]),
        (&json!("0640"), &json!("1"), &json!("absent"))
    );
    let compare = async || asks(&world, "host::compare", &[m1(), told.clone()]).await;
    compare().await.unwrap();

    fs::write(at("one"), "other").unwrap();
    fs::write(at("none"), "").unwrap();
    let error = compare().await.err().unwrap();
    assert_eq!((error.code, error.object.as_str()), (Code::Unproved, format!("m1:{}", at("one")).as_str()));
    assert!(error.message.contains("by its digest") && error.message.contains(&at("none")), "{error}");
    fs::write(at("one"), "1").unwrap();
    fs::remove_file(at("none")).unwrap();
    compare().await.unwrap();
    set_mode(Path::new(&at("two")), 0o644);
    let error = compare().await.err().unwrap();
    assert!(error.message.contains("by its mode"), "{error}");
    assert_eq!((error.expected.as_deref(), error.found.as_deref()), (Some("0640"), Some("0644")));
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn who_is_not_root_on_a_host_is_told_what_to_type() {
    let Some(server) = Sshd::start() else { return };
    let world = World::system(None, "/".into());
    let entry = |name: &str, more: Value| {
        let mut entry = serde_json::to_value(server.entry(name)).unwrap();
        entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        entry
    };
    server.has("id", "#!/bin/sh\n[ \"$*\" = -u ] && cat @FOLDER@/uid\n");
    fs::write(server.folder().join("uid"), "0\n").unwrap();
    let hosts = json!([entry("m1", json!({})), entry("m2", json!({}))]);
    let told = asks(&world, "host::root", std::slice::from_ref(&hosts)).await.unwrap();
    assert_eq!(told, json!([{ "host": "m1", "uid": "0" }, { "host": "m2", "uid": "0" }]));

    fs::write(server.folder().join("uid"), "1000\n").unwrap();
    let error = asks(&world, "host::root", &[hosts]).await.err().unwrap();
    assert_eq!((error.code, error.found.as_deref()), (Code::Forbidden, Some("user 1000")));
    assert!(error.object.starts_with("m1") && error.message.contains("m2"), "each of them is named: {error}");
    assert!(error.hint.unwrap().contains("`ansible_become: true`"));

    server.has("sudo", "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done; shift; exec \"$@\"\n");
    let other = json!([entry("m3", json!({ "become": "etcd" }))]);
    let error = asks(&world, "host::root", &[other]).await.err().unwrap();
    assert!(error.hint.unwrap().contains("`ansible_become_user: etcd`"));
    server.has("sudo", "#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n");
    let asked = json!([entry("m4", json!({ "become": "root" }))]);
    let error = asks(&world, "host::root", &[asked]).await.err().unwrap();
    assert_eq!(error.code, Code::Forbidden);
    assert!(error.hint.unwrap().contains("NOPASSWD"));
}

#[tokio::test]
async fn variables_beside_an_inventory_are_refused_by_name_where_they_are_of_its_hosts() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("hosts.yaml"), "etcd:\n  hosts: { m1: , m2: }\napps:\n  hosts: { app: }\n").unwrap();
    let world = World::system(None, folder.path().to_owned());
    let read = async || asks(&world, "host::inventory", &[json!("hosts.yaml"), json!("etcd")]).await;
    fs::create_dir_all(at("group_vars")).unwrap();
    fs::create_dir_all(at("host_vars/app")).unwrap();
    fs::write(at("group_vars/apps.yml"), "ansible_port: 1\n").unwrap();
    assert_eq!(read().await.unwrap().as_array().unwrap().len(), 2, "those of other hosts are none of ours");
    for beside in ["group_vars/all.yml", "group_vars/etcd", "group_vars/etcd.json", "host_vars/m2.yaml"] {
        fs::write(at(beside), "ansible_port: 1\n").unwrap();
        let error = read().await.err().unwrap();
        assert!(error.message.starts_with(&format!("`{beside}` lies beside it")), "{error}");
        assert!(error.hint.unwrap().contains("ansible-inventory"));
        fs::remove_file(at(beside)).unwrap();
    }
    read().await.unwrap();
}

#[tokio::test]
async fn a_certificate_with_its_key_in_one_file_is_looked_at_as_both() {
    let Some(server) = Sshd::start() else { return };
    let world = world(&Pool::default().host(&server.entry("m1")).unwrap());
    let request = br#"{"CN": "system:node:m1", "key": {"algo": "ecdsa", "size": 256}}"#;
    let request = stdlib::cfssl::Request::from_json(request, "ca").unwrap();
    let now = time::OffsetDateTime::now_utc();
    let (ca, key) = stdlib::ca::create(&request, now).unwrap();
    let (_, other) = stdlib::ca::create(&request, now).unwrap();
    let pki = server.folder().join("pki");
    fs::create_dir(&pki).unwrap();
    let file = pki.join("kubelet-client-current.pem");
    let write = |key: &stdlib::cert::Key, mode: u32| {
        fs::write(&file, ca.pem() + key.to_pem().unwrap().as_str()).unwrap();
        set_mode(&file, mode);
    };
    let options = json!({ "folders": [pki.to_str().unwrap()] });
    let verified = async || asks(&world, "host::verified", &[json!([m1()]), options.clone()]).await;
    write(&key, 0o600);
    let told = verified().await.unwrap();
    assert_eq!(told["certificates"][0]["name"], "system:node:m1");
    let listed = asks(&world, "host::certificates", &[m1(), json!([pki.to_str().unwrap()])]).await.unwrap();
    assert_eq!(listed[0]["fingerprint"], ca.fingerprint());
    assert!(!listed.to_string().contains("PRIVATE KEY"));
    write(&other, 0o600);
    let error = verified().await.err().unwrap();
    assert!(error.message.contains("does not belong to it"), "{error}");
    write(&key, 0o644);
    let error = verified().await.err().unwrap();
    assert!(error.message.contains("everybody on the host may read"), "{error}");
    // A key alone under a certificate's name is still none of this table's business.
    fs::write(pki.join("lone.pem"), other.to_pem().unwrap().as_bytes()).unwrap();
    write(&key, 0o600);
    assert_eq!(verified().await.unwrap()["certificates"].as_array().unwrap().len(), 1);
}
