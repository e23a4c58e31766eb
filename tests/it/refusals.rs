//! Wrong starts: the stories of `tests::refusals` in the sandbox, and one of the disk.

use std::path::PathBuf;

use runner::events::EndState;
use runner::exit_code::ExitCode;
use stdlib::files::Fault;
use tests::refusals::{self, refused, tells};

use crate::lab::{Lab, STATE, virtual_time};

#[test]
fn a_wrong_name_of_the_cluster_is_named() {
    virtual_time(async { refusals::a_wrong_name(&Lab::new(1).await).await });
}

#[test]
fn a_secret_that_is_not_there_is_named() {
    virtual_time(async { refusals::a_missing_secret(&Lab::new(1).await).await });
}

#[test]
fn a_key_that_is_not_its_certificates_is_named() {
    virtual_time(async { refusals::a_wrong_key(&Lab::new(1).await).await });
}

#[test]
fn a_ca_that_has_expired_is_named_with_its_day() {
    virtual_time(async { refusals::an_expired_ca(&Lab::new(1).await).await });
}

#[test]
fn a_folder_without_the_cas_key_is_named() {
    virtual_time(async { refusals::a_missing_key(&Lab::new(1).await).await });
}

#[test]
fn a_second_run_on_the_same_cluster_is_told_of_the_first_and_of_its_step() {
    virtual_time(async { refusals::a_second_run(&Lab::new(1).await).await });
}

#[test]
fn a_state_folder_that_cannot_be_written_is_named() {
    virtual_time(async {
        let lab = Lab::new(1).await;
        lab.disk.inject(Fault::ReadOnly(PathBuf::from(STATE)));
        let failure = refused(&lab, &[]).await;
        tells(&failure, (ExitCode::StateUnwritable, 33), &[STATE], &["--state"]);
        // Also where the disk fills up just then.
        lab.disk.heal();
        lab.disk.inject(Fault::Write(1));
        tells(&refused(&lab, &[]).await, (ExitCode::StateUnwritable, 33), &[STATE], &["--state"]);
        lab.disk.heal();
        assert_eq!(lab.forward("tidb/cfssl-rotate", &[]).await.unwrap().state, EndState::Done);
    });
}
