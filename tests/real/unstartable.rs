//! A restart that a pod does not survive is explained: the story of `tests::unstartable` on a real server, which asks the
//! kubelet for the pod's log.

use sandbox::world::Fault;

use crate::bench::{Bench, multi};

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn a_restart_that_a_pod_does_not_survive_says_why_in_the_pods_own_words() {
    multi(async {
        let bench = Bench::new(81).await;
        bench.world.set_fault(Fault::NoRestarts);
        let client = bench.world.client();
        let world = stdlib::World::system(Some(client.clone()), "/".into());
        tests::unstartable::story(client, &world).await;
    });
}
