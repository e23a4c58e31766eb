//! Objects that Argo CD or Flux keeps, in the sandbox: the stories of `tests::gitops`.

use sandbox::world::Scenario;
use tests::gitops::{ROTATION, SQL, Tool, whole};

use crate::lab::{Lab, virtual_time};
use crate::operator_v2::{all, lab_of};

#[test]
fn argo_cd_is_paused_and_goes_on_when_git_has_what_was_written() {
    virtual_time(async { tests::gitops::argo(&Lab::new(21).await).await });
}

#[test]
fn flux_is_suspended_and_goes_on_when_it_was_told_to_leave_things_alone_or_by_hand() {
    virtual_time(async { tests::gitops::flux(&Lab::new(22).await).await });
}

fn rotated(seed: u64, tool: Tool) {
    virtual_time(async { whole(&lab_of(seed, Scenario::default()).await, tool, ROTATION, all()).await });
}

fn renewed(seed: u64, tool: Tool) {
    let scenario = Scenario { sql_tls: true, ..Scenario::default() };
    virtual_time(async { whole(&lab_of(seed, scenario).await, tool, SQL, all()).await });
}

#[test]
fn argo_cd_is_paused_for_a_whole_rotation() {
    rotated(23, Tool::Argo);
}

#[test]
fn a_helm_release_of_flux_is_suspended_while_the_mysql_side_is_renewed() {
    renewed(24, Tool::Helm);
}

#[test]
fn every_tool_is_paused_for_both_jobs() {
    if !all() {
        println!("only with ROLLOVER_TEST_TIER=all");
        return;
    }
    rotated(25, Tool::Flux);
    rotated(26, Tool::Helm);
    renewed(27, Tool::Argo);
    renewed(28, Tool::Flux);
}
