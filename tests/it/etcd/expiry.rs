//! How long new certificates are valid: as `expiry` says, fifty years where nobody says otherwise for ACK, and never longer
//! than the CA that signed them.

use std::collections::BTreeMap;
use std::sync::Arc;

use journal::NoTripwire;
use runner::events::EndState;
use sandbox::hosts::{Etcd, Layout};
use sandbox::world::Expired;
use stdlib::cert::parse_many;

use super::lab::Lab;
use crate::lab::virtual_time;

/// For how many hours each certificate on the hosts is valid from now on, by its path. Of a backdated one a few minutes
/// have passed.
fn hours(lab: &Lab) -> BTreeMap<String, i64> {
    let now = lab.world.clock().now();
    let mut found = BTreeMap::new();
    for (path, (bytes, _)) in lab.files() {
        if bytes.starts_with(b"-----BEGIN CERTIFICATE") {
            let first = parse_many(&bytes, &path).unwrap().remove(0);
            // Up to an hour for the run itself, on the sandbox's clock.
            let minutes = (first.not_after() - now).whole_minutes();
            found.insert(path, (minutes + 60) / 60);
        }
    }
    found
}

async fn done(lab: &Lab, workflow: &str, more: &[&str]) {
    let ending = lab.run_with(&lab.workflow(workflow), Arc::new(NoTripwire), more).await.unwrap();
    assert_eq!(ending.state, EndState::Done, "{workflow} {more:?}: {:?}", ending.failure);
}

#[test]
fn everything_new_on_masters_lives_for_fifty_years_or_as_long_as_is_said() {
    virtual_time(async {
        let expired = Etcd { layout: Layout::Ack, expired: Expired::Everything, ..Etcd::default() };
        let broken = Etcd { layout: Layout::Ack, broken: true, ..Etcd::default() };
        let usual = Etcd { layout: Layout::Ack, ..Etcd::default() };
        for (workflow, etcd, more, wanted) in [
            ("ack/etcd-renew", &usual, &[][..], 438_000),
            ("ack/etcd-renew", &usual, &["expiry=1440h"][..], 1440),
            ("ack/etcd-renew-expired", &expired, &["expiry=720h"][..], 720),
            ("ack/etcd-rollback", &broken, &["expiry=87600h"][..], 87_600),
        ] {
            let lab = Lab::of(1, etcd).await;
            done(&lab, workflow, more).await;
            let all = hours(&lab);
            assert!(all.len() > 20, "{all:?}");
            let other: Vec<_> = all.iter().filter(|(_, hours)| **hours != wanted).collect();
            assert!(other.is_empty(), "{workflow} {more:?}: {other:?}");
        }
    });
}

#[test]
fn no_leaf_outlives_the_ca_that_signed_it() {
    virtual_time(async {
        // Leaves live for a year, as the old ones did; their CA is to live for six weeks.
        let lab = Lab::new(1).await;
        let before = hours(&lab);
        let lived = |path: &str| before[&format!("m1/{path}")];
        assert!(lived("etc/etcd/pki/server.pem") > 8000);
        done(&lab, "etcd/rotate-ca", &["ca_expiry=1008h"]).await;
        for (path, hours) in hours(&lab) {
            assert_eq!(hours, 1008, "{path}");
        }
    });
}

#[test]
fn less_than_a_day_is_refused_with_what_is_the_least() {
    virtual_time(async {
        let lab = Lab::of(1, &Etcd { layout: Layout::Ack, ..Etcd::default() }).await;
        let workflow = lab.workflow("ack/etcd-renew");
        let mut given = runner::manifest::Given::default();
        given.set.push(("expiry".to_owned(), "23h".to_owned()));
        given.set.push(("inventory".to_owned(), "/srv/hosts.yaml".to_owned()));
        let secrets = stdlib::secret::MemorySecrets::default();
        let text = format!("{:?}", workflow.manifest.resolve(&given, &secrets).expect_err("it was taken"));
        assert!(text.contains("expiry") && text.contains("24h"), "{text}");
    });
}
