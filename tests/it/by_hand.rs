//! Begun after a person has done part of the page by hand: the run finds what is done, goes on, and makes no second CA.

use std::collections::BTreeSet;
use std::time::Instant;

use runner::events::EndState;

use crate::hands::{Authority, COMPONENTS, print};
use crate::lab::{Lab, virtual_time};

/// How far the person has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Until {
    /// Step 1: `mv ca.pem ca.old.pem` …
    CertificateMoved,
    /// … `&& mv ca-key.pem ca-key.old.pem`.
    CaMoved,
    /// Step 2: `cfssl gencert -initca ca-csr.json | cfssljson -bare ca -`.
    CaMade,
    /// Step 3: `mv ca.pem ca.new.pem`, the same for the key, `cat ca.new.pem ca.old.pem > ca.pem`.
    Bundled,
    /// Step 4 for two Secrets of four.
    SomeTrust,
    /// Step 4.
    AllTrust,
    /// Step 5: the rolling restart.
    Restarted,
    /// The next section's steps 1 and 2 for PD and TiKV.
    SomeSwitched,
    /// The same for all.
    AllSwitched,
}

/// Does the page by hand; gives the CA that was made.
async fn by_hand(lab: &Lab, until: Until) -> Option<Authority> {
    let now = lab.world.clock().now();
    lab.move_pki("ca.pem", "ca.old.pem");
    if until >= Until::CaMoved {
        lab.move_pki("ca-key.pem", "ca-key.old.pem");
    }
    if until < Until::CaMade {
        return None;
    }
    let ca = Authority::make(now);
    lab.write_pki("ca.pem", ca.cert.pem().as_bytes());
    lab.write_pki("ca-key.pem", &ca.key_pem());
    if until >= Until::Bundled {
        lab.move_pki("ca.pem", "ca.new.pem");
        lab.move_pki("ca-key.pem", "ca-key.new.pem");
        let bundle = [lab.pki_file("ca.new.pem"), lab.pki_file("ca.old.pem")].concat();
        lab.write_pki("ca.pem", &bundle);
        let patched = match until {
            Until::Bundled => 0,
            Until::SomeTrust => 2,
            _ => 4,
        };
        for component in COMPONENTS.iter().take(patched) {
            lab.patch(component, &[("ca.crt", &bundle)]).await;
        }
    }
    if until >= Until::Restarted {
        lab.restart("by-hand").await;
    }
    let switched = match until {
        Until::SomeSwitched => 2,
        Until::AllSwitched => 4,
        _ => 0,
    };
    for component in COMPONENTS.iter().take(switched) {
        let (cert, key) = ca.issue(component, lab.world.clock().now());
        let stem = sandbox::world::genesis::stem(component);
        lab.write_pki(&format!("{stem}.pem"), &cert);
        lab.write_pki(&format!("{stem}-key.pem"), &key);
        lab.patch(component, &[("tls.crt", &cert), ("tls.key", &key)]).await;
    }
    Some(ca)
}

/// A person begins, the run ends.
fn goes_on_from(until: Until) {
    virtual_time(async {
        let lab = Lab::new(1).await;
        let begun = Instant::now();
        let old = print(&lab.world.pki().authority().0);
        let theirs = by_hand(&lab, until).await;
        assert_eq!(lab.world.counters().refused, 0, "{until:?}: the person has broken nothing");
        let ending = lab.forward("tidb/cfssl-rotate", &[("remove_old_ca", "true")]).await.unwrap();
        assert_eq!(ending.state, EndState::Done, "{until:?}: {:?}", ending.failure);

        let end = lab.world.end_state().await;
        assert!(end.holds(), "{until:?}: {:?}", end.broken);
        let anchors: BTreeSet<&str> =
            end.pods.values().flat_map(|served| &served.anchors).map(String::as_str).collect();
        assert_eq!(anchors.len(), 1, "{until:?}: one CA is trusted");
        let trusted = (*anchors.first().unwrap()).to_owned();
        let in_force = stdlib::cert::Certificate::from_pem(&lab.pki_file("ca.pem"), "ca.pem").unwrap();
        assert_eq!(print(&in_force), trusted, "{until:?}: and it is the folder's");
        match &theirs {
            Some(ca) => assert_eq!(ca.print(), trusted, "{until:?}: the person's CA, no second one"),
            None => assert_ne!(old, trusted),
        }
        let counters = lab.world.counters();
        assert_eq!(counters.refused, 0, "{until:?}: {:#?}", counters.refusals);
        // No third CA was ever trusted by anybody.
        let cas = cas_ever_in_the_folder(&lab);
        assert_eq!(cas, BTreeSet::from([old, trusted]), "{until:?}");
        eprintln!("{until:?}: {:.1?} of real time", begun.elapsed());
    });
}

/// The CAs whose certificates lie in the PKI folder, those retired included.
fn cas_ever_in_the_folder(lab: &Lab) -> BTreeSet<String> {
    let files = lab.folder();
    let certs = files.iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "pem"));
    let certs = certs.filter(|(path, _)| !path.to_string_lossy().contains("-key"));
    let parsed =
        certs.flat_map(|(path, bytes)| stdlib::cert::parse_many(bytes, &path.display().to_string()).unwrap());
    parsed.filter(stdlib::cert::Certificate::is_ca).map(|cert| print(&cert)).collect()
}

#[test]
fn after_the_first_of_two_moves() {
    goes_on_from(Until::CertificateMoved);
}

#[test]
fn after_the_old_ca_was_moved() {
    goes_on_from(Until::CaMoved);
}

#[test]
fn after_a_new_ca_was_made() {
    goes_on_from(Until::CaMade);
}

#[test]
fn after_the_bundle_was_made() {
    goes_on_from(Until::Bundled);
}

#[test]
fn after_some_secrets_got_the_bundle() {
    goes_on_from(Until::SomeTrust);
}

#[test]
fn after_all_secrets_got_the_bundle() {
    goes_on_from(Until::AllTrust);
}

#[test]
fn after_the_rolling_restart() {
    goes_on_from(Until::Restarted);
}

#[test]
fn after_some_certificates_were_switched() {
    goes_on_from(Until::SomeSwitched);
}

#[test]
fn after_all_certificates_were_switched() {
    goes_on_from(Until::AllSwitched);
}
