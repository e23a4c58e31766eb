//! The main job: a TiDB cluster's CA is replaced, in this process, on virtual time.

use runner::events::EndState;

use crate::lab::{Lab, virtual_time};

#[test]
fn the_ca_is_replaced_and_no_handshake_is_refused() {
    virtual_time(async {
        let lab = Lab::new(1).await;
        let before = lab.world.end_state().await;
        let started = std::time::Instant::now();
        let ending = lab.forward("tidb/cfssl-rotate", &[("remove_old_ca", "true")]).await.unwrap();
        assert_eq!(ending.state, EndState::Done, "{:?}", ending.failure);
        let after = lab.world.end_state().await;
        assert!(after.holds(), "{:?}", after.broken);
        for (pod, served) in &after.pods {
            assert_ne!(
                served.chain,
                before.pods.get(pod).map(|b| b.chain.clone()).unwrap_or_default(),
                "{pod} presents a new certificate"
            );
            assert_eq!(served.anchors.len(), 1, "{pod} trusts the new CA alone");
        }
        let counters = lab.world.counters();
        assert_eq!(counters.refused, 0, "{:#?}", counters.refusals);
        assert!(counters.made > 100);
        eprintln!(
            "{} links dialled, {} real handshakes, {} records, {:.1?} of real time",
            counters.made,
            counters.handshakes,
            ending.head.size,
            started.elapsed()
        );
    });
}

#[test]
fn the_second_rotation_works_as_the_first() {
    virtual_time(async {
        let lab = Lab::new(2).await;
        for round in 0..2 {
            let before = lab.world.end_state().await;
            let ending = lab.forward("tidb/cfssl-rotate", &[]).await.unwrap();
            assert_eq!(ending.state, EndState::Done, "round {round}: {:?}", ending.failure);
            let after = lab.world.end_state().await;
            assert!(after.holds());
            for (pod, served) in &after.pods {
                assert_ne!(
                    served.chain,
                    before.pods.get(pod).map(|b| b.chain.clone()).unwrap_or_default(),
                    "round {round}: {pod}"
                );
            }
        }
        assert_eq!(lab.world.counters().refused, 0);
    });
}
