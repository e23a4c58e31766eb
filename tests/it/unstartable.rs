//! A restart that a pod does not survive is explained: the story of `tests::unstartable` in the sandbox.

use sandbox::world::Fault;

use crate::lab::{Lab, virtual_time};

#[test]
fn a_restart_that_a_pod_does_not_survive_says_why_in_the_pods_own_words() {
    virtual_time(async {
        let lab = Lab::new(31).await;
        lab.world.set_fault(Fault::NoRestarts);
        tests::unstartable::story(lab.world.client(), &lab.eyes()).await;
    });
}
