//! The three parts of a rotation as runs of their own.

use std::collections::BTreeSet;

use runner::events::EndState;
use sandbox::world::EndState as EndOfWorld;
use stdlib::cert::Certificate;

use crate::lab::{Lab, virtual_time};
use tests::hands::{Hands, print};

async fn done(lab: &Lab, name: &str) {
    let ending = lab.forward(name, &[]).await.unwrap();
    assert_eq!(ending.state, EndState::Done, "{name}: {:?}", ending.failure);
    let end = lab.world.end_state().await;
    assert!(end.holds(), "{name}: {:?}", end.broken);
    assert_eq!(lab.world.counters().refused, 0, "{name}: {:?}", lab.world.counters().refusals);
}

async fn trusted(lab: &Lab) -> BTreeSet<String> {
    lab.world.end_state().await.pods.into_values().flat_map(|served| served.anchors).collect()
}

/// What is presented, by component; pods of a Deployment change their names.
fn chains(end: &EndOfWorld) -> BTreeSet<(String, Vec<String>)> {
    end.pods.values().map(|served| (served.component.clone(), served.chain.clone())).collect()
}

#[test]
fn one_after_the_other_they_make_a_rotation() {
    virtual_time(async {
        let lab = Lab::new(1).await;
        let before = lab.world.end_state().await;
        let old = print(&lab.world.pki().authority().0);

        done(&lab, "tidb/cfssl-ca").await;
        let made = Certificate::from_pem(&lab.pki_file("ca.new.pem"), "ca.new.pem").unwrap();
        let new = print(&made);
        assert_eq!(trusted(&lab).await, BTreeSet::from([old.clone(), new.clone()]));
        assert_eq!(
            chains(&lab.world.end_state().await),
            chains(&before),
            "everybody presents what they presented"
        );

        done(&lab, "tidb/cfssl-components").await;
        assert_eq!(trusted(&lab).await, BTreeSet::from([old, new.clone()]));
        for component in tests::hands::COMPONENTS {
            let stem = sandbox::world::genesis::stem(component);
            let leaf = Certificate::from_pem(&lab.pki_file(&format!("{stem}.pem")), &stem).unwrap();
            leaf.check_signed_by(&made).unwrap();
        }

        done(&lab, "tidb/cfssl-remove-old-ca").await;
        assert_eq!(trusted(&lab).await, BTreeSet::from([new.clone()]), "one new CA is trusted");
        let in_force = Certificate::from_pem(&lab.pki_file("ca.pem"), "ca.pem").unwrap();
        assert_eq!(print(&in_force), new);
        assert!(
            chains(&lab.world.end_state().await).is_disjoint(&chains(&before)),
            "nobody presents an old certificate"
        );
    });
}

#[test]
fn the_old_ca_is_not_removed_while_somebody_presents_its_certificates() {
    virtual_time(async {
        let lab = Lab::new(1).await;
        done(&lab, "tidb/cfssl-ca").await;
        let before = (lab.secrets().await, lab.files());
        let runs = lab.store().list().unwrap().len();
        let failure = lab.forward("tidb/cfssl-remove-old-ca", &[]).await.unwrap_err();
        let text = failure.to_string();
        assert!(text.contains("still presents one of another CA"), "no party is named: {text}");
        assert_eq!(lab.store().list().unwrap().len(), runs, "no run is begun");
        assert_eq!((lab.secrets().await, lab.files()), before, "nothing is changed");
        assert!(lab.world.end_state().await.holds());
        assert_eq!(lab.world.counters().refused, 0);
    });
}

#[test]
fn components_alone_renews_every_certificate_from_the_ca_in_force() {
    virtual_time(async {
        let lab = Lab::new(1).await;
        let before = lab.world.end_state().await;
        let anchors = trusted(&lab).await;
        done(&lab, "tidb/cfssl-components").await;
        assert!(
            chains(&lab.world.end_state().await).is_disjoint(&chains(&before)),
            "all have new certificates"
        );
        assert_eq!(trusted(&lab).await, anchors, "and trust what they trusted");
    });
}
