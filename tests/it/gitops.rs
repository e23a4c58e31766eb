//! Objects that Argo CD or Flux keeps, in the sandbox: the stories of `tests::gitops`.

use crate::lab::{Lab, virtual_time};

#[test]
fn argo_cd_is_paused_and_goes_on_when_git_has_what_was_written() {
    virtual_time(async { tests::gitops::argo(&Lab::new(21).await).await });
}

#[test]
fn flux_is_suspended_and_goes_on_when_it_was_told_to_leave_things_alone_or_by_hand() {
    virtual_time(async { tests::gitops::flux(&Lab::new(22).await).await });
}
