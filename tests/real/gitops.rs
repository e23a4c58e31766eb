//! Objects that Argo CD or Flux keeps, on a real server: the stories of `tests::gitops`.

use sandbox::world::{Fault, Scenario};
use tests::gitops::{ROTATION, SQL, Tool, whole};

use crate::bench::{Bench, multi};
use crate::operator_v2::bench_of;

async fn bench(seed: u64) -> Bench {
    let bench = Bench::new(seed).await;
    bench.world.set_fault(Fault::NoRestarts);
    bench
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn argo_cd_is_paused_and_goes_on_when_git_has_what_was_written() {
    multi(async { tests::gitops::argo(&bench(71).await, Tool::Argo).await });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn argo_cd_that_knows_its_objects_by_a_label_is_paused_too() {
    multi(async { tests::gitops::argo(&bench(80).await, Tool::Labels).await });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn a_label_that_others_set_too_is_no_sign_of_argo_cd() {
    multi(async { tests::gitops::labelled(&bench(81).await).await });
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

fn rotated(seed: u64, tool: Tool) {
    multi(async { whole(&bench_of(seed, Scenario::default()).await, tool, ROTATION, true).await });
}

fn renewed(seed: u64, tool: Tool) {
    let scenario = Scenario { sql_tls: true, ..Scenario::default() };
    multi(async { whole(&bench_of(seed, scenario).await, tool, SQL, true).await });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn argo_cd_is_paused_for_a_whole_rotation() {
    rotated(74, Tool::Argo);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn a_kustomization_is_suspended_for_a_whole_rotation() {
    rotated(75, Tool::Flux);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn a_helm_release_is_suspended_for_a_whole_rotation() {
    rotated(76, Tool::Helm);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn argo_cd_is_paused_while_the_mysql_side_is_renewed() {
    renewed(77, Tool::Argo);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn a_kustomization_is_suspended_while_the_mysql_side_is_renewed() {
    renewed(78, Tool::Flux);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn a_helm_release_is_suspended_while_the_mysql_side_is_renewed() {
    renewed(79, Tool::Helm);
}
