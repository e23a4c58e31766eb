//! The PKI folder at every point of the page.

use std::path::Path;

use serde_json::Value;
use stdlib::error::{Code, PrimError};
use stdlib::gate::ReadOnly;

use crate::support::*;

fn read(folder: &Path) -> Result<Value, PrimError> {
    call(&world(folder, now()), &ReadOnly, "cfssl::folder", &[folder.display().to_string().into()])
}

fn rename(folder: &Path, from: &str, to: &str) {
    std::fs::rename(folder.join(from), folder.join(to)).unwrap();
}

fn fingerprint(folder: &Path, name: &str) -> String {
    read_certificate(&folder.join(name)).fingerprint()
}

#[test]
fn an_untouched_folder() {
    let folder = pki();
    let fact = read(folder.path()).unwrap();
    assert_eq!(fact["found"], "untouched");
    assert_eq!(fact["ca"]["fingerprint"], fingerprint(folder.path(), "ca.pem"));
    assert_eq!(fact["successor"], null());
    assert!(fact["ca"]["key"]["$secret"].is_string());
    assert_eq!(fact["profiles"].as_object().unwrap().keys().collect::<Vec<_>>(), ["client", "internal"]);
    assert_eq!(fact["requests"].as_object().unwrap().keys().collect::<Vec<_>>(), ["client", "pd-server"]);
    assert_eq!(fact["notes"], serde_json::json!([]));
    assert!(!fact.to_string().contains("PRIVATE KEY"));
}

/// A person follows the page and stops after any single command, also between the two of a line.
#[test]
fn every_prefix_of_the_page_is_understood() {
    let folder = pki();
    let folder = folder.path();
    let old = fingerprint(folder, "ca.pem");
    let expect = |found: &str, successor: Option<String>| {
        let fact = read(folder).unwrap_or_else(|e| panic!("{found}: {e}"));
        assert_eq!(
            (fact["found"].as_str().unwrap(), fact["ca"]["fingerprint"].as_str().unwrap()),
            (found, old.as_str())
        );
        assert_eq!(fact["successor"]["fingerprint"].as_str().map(str::to_owned), successor, "{found}");
    };
    rename(folder, "ca.pem", "ca.old.pem");
    expect("ca-moved", None);
    rename(folder, "ca-key.pem", "ca-key.old.pem");
    expect("ca-moved", None);
    cfssl(folder, &["gencert", "-initca", "ca-csr.json"], "ca");
    let new = fingerprint(folder, "ca.pem");
    expect("ca-made", Some(new.clone()));
    rename(folder, "ca.pem", "ca.new.pem");
    expect("ca-made", Some(new.clone()));
    rename(folder, "ca-key.pem", "ca-key.new.pem");
    expect("ca-made", Some(new.clone()));
    let text = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    write(folder, &[("ca.pem", &(text("ca.new.pem") + &text("ca.old.pem")))]);
    expect("bundled", Some(new.clone()));
    // The old key is not needed any more.
    std::fs::remove_file(folder.join("ca-key.old.pem")).unwrap();
    expect("bundled", Some(new.clone()));
    // The page's `cat`, with the newline missing.
    write(folder, &[("ca.pem", &(text("ca.new.pem").trim_end().to_owned() + &text("ca.old.pem")))]);
    expect("bundled", Some(new));
    assert!(read(folder).unwrap()["notes"][0].as_str().unwrap().contains("a newline is missing"));
}

#[test]
fn no_second_ca_is_made_where_there_is_one() {
    let folder = pki();
    let path = folder.path();
    let world = world(path, now());
    let folder_fact =
        |world| call(world, &ReadOnly, "cfssl::folder", &[path.display().to_string().into()]).unwrap();
    let made = call(&world, &ReadOnly, "cfssl::successor", &[folder_fact(&world)]).unwrap();
    assert_eq!(made["adopted"], false);
    assert_ne!(made["fingerprint"], folder_fact(&world)["ca"]["fingerprint"]);

    rename(path, "ca.pem", "ca.old.pem");
    rename(path, "ca-key.pem", "ca-key.old.pem");
    cfssl(path, &["gencert", "-initca", "ca-csr.json"], "ca");
    let adopted = call(&world, &ReadOnly, "cfssl::successor", &[folder_fact(&world)]).unwrap();
    assert_eq!(adopted["adopted"], true);
    assert_eq!(adopted["fingerprint"], fingerprint(path, "ca.pem"));
    let again = call(&world, &ReadOnly, "cfssl::successor", &[folder_fact(&world)]).unwrap();
    assert_eq!(again, adopted);
}

/// The page never tells to tidy up: the old CA of a rotation of long ago may lie about, expired.
#[test]
fn an_expired_old_ca_beside_a_valid_one_is_a_leftover() {
    let folder = pki();
    let path = folder.path();
    let long_ago = now() - time::Duration::days(4000);
    let (old, key) = stdlib::ca::create(&request(CA_CSR), long_ago).unwrap();
    write_pair(path, "ca.old.pem", "ca-key.old.pem", &old, &key);
    let fact = read(path).unwrap();
    assert_eq!(fact["ca"]["fingerprint"], fingerprint(path, "ca.pem"));
    assert_eq!((&fact["found"], &fact["successor"]), (&"untouched".into(), &null()));
    assert!(fact["notes"][0].as_str().unwrap().contains("is taken for a leftover"), "{}", fact["notes"]);
}

#[test]
fn what_is_wrong_with_a_folder_is_told_by_kind() {
    let code = |change: &dyn Fn(&Path)| {
        let folder = pki();
        change(folder.path());
        read(folder.path()).unwrap_err().code
    };
    let remove = |name: &'static str| move |f: &Path| std::fs::remove_file(f.join(name)).unwrap();
    assert_eq!(read(Path::new("/nowhere/pki")).unwrap_err().code, Code::NotFound);
    assert_eq!(code(&remove("ca-config.json")), Code::NotFound);
    assert_eq!(code(&remove("ca.pem")), Code::NotFound);
    assert_eq!(code(&remove("ca-key.pem")), Code::NoKey);
    assert_eq!(
        code(&|f| std::fs::write(f.join("ca-key.pem"), new_ca().1.to_pem().unwrap().as_bytes()).unwrap()),
        Code::KeyMismatch
    );
    let long_ago = now() - time::Duration::days(4000);
    assert_eq!(
        code(&|f| {
            let (ca, key) = stdlib::ca::create(&request(CA_CSR), long_ago).unwrap();
            write_pair(f, "ca.pem", "ca-key.pem", &ca, &key);
        }),
        Code::Expired
    );
    assert_eq!(
        code(&|f| write(f, &[("pd-server.json", "{\"CN\": \"TiDB\"\n \"hosts\": []}")])),
        Code::Invalid
    );
}

#[test]
fn a_key_that_others_may_read_is_noted() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = pki();
    let key = folder.path().join("ca-key.pem");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let fact = read(folder.path()).unwrap();
    assert!(fact["notes"][0].as_str().unwrap().starts_with("ca-key.pem may be read by others (mode 0644)"));
}

/// `auth_keys` of a configuration are secrets: no fact may hold them.
#[test]
fn authentication_keys_of_the_configuration_stay_out_of_the_fact() {
    let folder = pki();
    let with_keys =
        CA_CONFIG.replacen('{', r#"{"auth_keys":{"k":{"type":"standard","key":"0123456789ABCDEF"}},"#, 1);
    write(folder.path(), &[("ca-config.json", &with_keys)]);
    assert!(!read(folder.path()).unwrap().to_string().contains("0123456789ABCDEF"));
}
