//! The three parts of a rotation as runs of their own.

use std::collections::BTreeSet;

use runner::events::EndState;
use sandbox::world::EndState as EndOfWorld;
use stdlib::cert::Certificate;

use crate::hands::{COMPONENTS, Hands, print};
use crate::stage::Stage;

async fn sound(stage: &impl Stage) -> EndOfWorld {
    stage.world().steady(stage.patience()).await.unwrap();
    let end = stage.world().end_state().await;
    assert!(end.holds(), "{:?}", end.broken);
    assert_eq!(stage.world().counters().refused, 0, "{:?}", stage.world().counters().refusals);
    end
}

async fn done(stage: &impl Stage, name: &str) -> EndOfWorld {
    let ending = stage.forward(name, &[]).await.unwrap();
    assert_eq!(ending.state, EndState::Done, "{name}: {:?}", ending.failure);
    sound(stage).await
}

fn trusted(end: &EndOfWorld) -> BTreeSet<String> {
    end.pods.values().flat_map(|served| served.anchors.clone()).collect()
}

/// What is presented, by component; pods of a Deployment change their names.
fn chains(end: &EndOfWorld) -> BTreeSet<(String, Vec<String>)> {
    end.pods.values().map(|served| (served.component.clone(), served.chain.clone())).collect()
}

/// One after the other they make a rotation.
pub async fn one_after_the_other(stage: &impl Stage) {
    let before = stage.world().end_state().await;
    let old = print(&stage.world().pki().authority().0);

    let end = done(stage, "tidb/cfssl-ca").await;
    let made = Certificate::from_pem(&stage.pki("ca.new.pem"), "ca.new.pem").unwrap();
    let new = print(&made);
    assert_eq!(trusted(&end), BTreeSet::from([old.clone(), new.clone()]));
    assert_eq!(chains(&end), chains(&before), "everybody presents what they presented");

    let end = done(stage, "tidb/cfssl-components").await;
    assert_eq!(trusted(&end), BTreeSet::from([old, new.clone()]));
    for component in COMPONENTS {
        let stem = sandbox::world::genesis::stem(component);
        let leaf = Certificate::from_pem(&stage.pki(&format!("{stem}.pem")), &stem).unwrap();
        leaf.check_signed_by(&made).unwrap();
    }

    let end = done(stage, "tidb/cfssl-remove-old-ca").await;
    assert_eq!(trusted(&end), BTreeSet::from([new.clone()]), "one new CA is trusted");
    let in_force = Certificate::from_pem(&stage.pki("ca.pem"), "ca.pem").unwrap();
    assert_eq!(print(&in_force), new);
    assert!(chains(&end).is_disjoint(&chains(&before)), "nobody presents an old certificate");
}

/// The old CA is not removed while somebody presents its certificates.
pub async fn too_early(stage: &impl Stage) {
    done(stage, "tidb/cfssl-ca").await;
    let before = stage.all().await;
    let runs = stage.store().list().unwrap().len();
    let failure = stage.forward("tidb/cfssl-remove-old-ca", &[]).await.unwrap_err();
    let text = failure.to_string();
    assert!(text.contains("still presents one of another CA"), "no party is named: {text}");
    assert_eq!(stage.store().list().unwrap().len(), runs, "no run is begun");
    assert!(stage.all().await == before, "nothing is changed");
    sound(stage).await;
}

/// Alone, the second renews every certificate from the CA in force.
pub async fn components_alone(stage: &impl Stage) {
    let before = stage.world().end_state().await;
    let end = done(stage, "tidb/cfssl-components").await;
    assert!(chains(&end).is_disjoint(&chains(&before)), "all have new certificates");
    assert_eq!(trusted(&end), trusted(&before), "and trust what they trusted");
}
