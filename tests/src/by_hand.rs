//! Begun after a person has done part of the page by hand: the run finds what is done, goes on, and makes no second CA.

use std::collections::BTreeSet;
use std::time::Instant;

use runner::events::EndState;

use crate::hands::{Authority, COMPONENTS, Hands, print};
use crate::stage::Stage;

/// How far the person has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Until {
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
async fn by_hand(stage: &impl Stage, until: Until) -> Option<Authority> {
    let now = stage.world().clock().now();
    stage.move_pki("ca.pem", "ca.old.pem");
    if until >= Until::CaMoved {
        stage.move_pki("ca-key.pem", "ca-key.old.pem");
    }
    if until < Until::CaMade {
        return None;
    }
    let ca = Authority::make(now);
    stage.write_pki("ca.pem", ca.cert.pem().as_bytes());
    stage.write_pki("ca-key.pem", &ca.key_pem());
    if until >= Until::Bundled {
        stage.move_pki("ca.pem", "ca.new.pem");
        stage.move_pki("ca-key.pem", "ca-key.new.pem");
        let bundle = [stage.pki_file("ca.new.pem"), stage.pki_file("ca.old.pem")].concat();
        stage.write_pki("ca.pem", &bundle);
        let patched = match until {
            Until::Bundled => 0,
            Until::SomeTrust => 2,
            _ => 4,
        };
        for component in COMPONENTS.iter().take(patched) {
            stage.patch(component, &[("ca.crt", &bundle)]).await;
        }
    }
    if until >= Until::Restarted {
        stage.restart("by-hand").await;
        let both = BTreeSet::from([ca.print(), print(&stage.world().pki().authority().0)]);
        for (pod, served) in stage.world().end_state().await.pods {
            assert_eq!(served.anchors.into_iter().collect::<BTreeSet<_>>(), both, "{pod} has loaded both");
        }
    }
    let switched = match until {
        Until::SomeSwitched => 2,
        Until::AllSwitched => 4,
        _ => 0,
    };
    for component in COMPONENTS.iter().take(switched) {
        let (cert, key) = ca.issue(component, stage.world().clock().now());
        let stem = sandbox::world::genesis::stem(component);
        stage.write_pki(&format!("{stem}.pem"), &cert);
        stage.write_pki(&format!("{stem}-key.pem"), &key);
        stage.patch(component, &[("tls.crt", &cert), ("tls.key", &key)]).await;
    }
    Some(ca)
}

/// A person begins, the run ends.
pub async fn goes_on_from(stage: &impl Stage, until: Until) {
    let begun = Instant::now();
    let old = print(&stage.world().pki().authority().0);
    let theirs = by_hand(stage, until).await;
    assert_eq!(stage.world().counters().refused, 0, "{until:?}: the person has broken nothing");
    let ending = stage.forward("tidb/cfssl-rotate", &[("remove_old_ca", "true")]).await.unwrap();
    assert_eq!(ending.state, EndState::Done, "{until:?}: {:?}", ending.failure);

    stage.world().steady(stage.patience()).await.unwrap();
    let end = stage.world().end_state().await;
    assert!(end.holds(), "{until:?}: {:?}", end.broken);
    let anchors: BTreeSet<&str> =
        end.pods.values().flat_map(|served| &served.anchors).map(String::as_str).collect();
    assert_eq!(anchors.len(), 1, "{until:?}: one CA is trusted");
    let trusted = (*anchors.first().unwrap()).to_owned();
    let in_force = stdlib::cert::Certificate::from_pem(&stage.pki_file("ca.pem"), "ca.pem").unwrap();
    assert_eq!(print(&in_force), trusted, "{until:?}: and it is the folder's");
    match &theirs {
        Some(ca) => assert_eq!(ca.print(), trusted, "{until:?}: the person's CA, no second one"),
        None => assert_ne!(old, trusted),
    }
    let counters = stage.world().counters();
    assert_eq!(counters.refused, 0, "{until:?}: {:#?}", counters.refusals);
    // No third CA was ever trusted by anybody.
    assert_eq!(stage.cas_ever_in_the_folder(), BTreeSet::from([old, trusted]), "{until:?}");
    eprintln!("{until:?}: {:.1?} of real time", begun.elapsed());
}
