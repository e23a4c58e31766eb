//! Objects that Argo CD or Flux keeps, on a real server: the stories of `tests::gitops`.

use sandbox::world::Fault;

use crate::bench::{Bench, multi};

async fn bench(seed: u64) -> Bench {
    let bench = Bench::new(seed).await;
    bench.world.set_fault(Fault::NoRestarts);
    bench
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn argo_cd_is_paused_and_goes_on_when_git_has_what_was_written() {
    multi(async { tests::gitops::argo(&bench(71).await).await });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn flux_is_suspended_and_goes_on_when_it_was_told_to_leave_things_alone_or_by_hand() {
    multi(async { tests::gitops::flux(&bench(72).await).await });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn a_partition_is_refused_or_lowered_and_put_back() {
    multi(async { tests::partitions::story(&bench(73).await).await });
}
