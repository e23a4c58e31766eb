//! A policy that says no, by a real webhook that a real server asks: the story of `tests::admission`.

use sandbox::world::Fault;
use sandbox::world::kube::Kube;
use tests::admission::{Webhook, story};

use crate::bench::{Bench, multi};

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn what_a_webhook_denies_is_explained_and_nothing_is_lost() {
    multi(async {
        let bench = Bench::new(91).await;
        bench.world.set_fault(Fault::NoRestarts);
        let ca = bench.read(&bench.plane.dir().join("ca.pem"));
        let kube = Kube::new(bench.world.client());
        let webhook = Webhook::serve(&kube, bench.plane.webhook_tls().unwrap(), &ca).await.unwrap();
        story(&bench, &webhook).await;
    });
}
