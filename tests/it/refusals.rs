//! Wrong starts: each is told in the operator's words, has its own exit code, and leaves everything as it was.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use journal::{Event, Moment, Tripwire, Why};
use runner::error::Failure;
use runner::events::EndState;
use runner::exit_code::ExitCode;
use stdlib::files::Fault;
use stdlib::world::Disk;
use time::Duration;

use crate::hands::Authority;
use crate::lab::{Lab, PKI, START, STATE, virtual_time};

const ROTATE: &str = "tidb/cfssl-rotate";

/// The failure of a rotation that must not begin, with proof that it changed nothing.
async fn refused(lab: &Lab, set: &[(&str, &str)]) -> Failure {
    let before = lab.all().await;
    let failure = match lab.forward(ROTATE, set).await {
        Err(failure) => failure,
        Ok(ending) => {
            assert_eq!(ending.state, EndState::Refused, "{:?}", ending.failure);
            ending.failure.unwrap()
        }
    };
    assert_eq!(lab.all().await, before, "a refusal changes nothing");
    assert_eq!(lab.world.counters().refused, 0);
    failure
}

fn tells(failure: &Failure, exit: ExitCode, number: u8, words: &[&str]) {
    let text = format!("{failure}\n{}", failure.hint.as_deref().unwrap_or_default());
    assert_eq!((failure.exit, failure.exit.number()), (exit, number), "{text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is not told: {text}");
    }
}

#[test]
fn a_wrong_name_of_the_cluster_is_named() {
    virtual_time(async {
        let lab = Lab::new(1).await;
        let failure = refused(&lab, &[("cluster", "basik")]).await;
        tells(&failure, ExitCode::TargetNotFound, 12, &["basik"]);
        let failure = refused(&lab, &[("namespace", "tibd")]).await;
        tells(&failure, ExitCode::TargetNotFound, 12, &["tibd"]);
    });
}

#[test]
fn a_secret_that_is_not_there_is_named() {
    virtual_time(async {
        let lab = Lab::new(1).await;
        lab.delete_secret("tikv").await;
        let failure = refused(&lab, &[]).await;
        tells(&failure, ExitCode::ObjectMissing, 13, &["basic-tikv-cluster-secret"]);
    });
}

#[test]
fn a_key_that_is_not_its_certificates_is_named() {
    virtual_time(async {
        let lab = Lab::new(1).await;
        let right = lab.pki_file("ca-key.pem");
        lab.write_pki("ca-key.pem", &lab.pki_file("pd-server-key.pem"));
        let failure = refused(&lab, &[]).await;
        tells(&failure, ExitCode::KeyMismatch, 14, &["/srv/pki/ca-key.pem", "ca.pem"]);

        lab.write_pki("ca-key.pem", &right);
        lab.patch("tidb", &[("tls.key", &lab.pki_file("client-key.pem"))]).await;
        let failure = refused(&lab, &[]).await;
        tells(&failure, ExitCode::KeyMismatch, 14, &["basic-tidb-cluster-secret"]);
    });
}

#[test]
fn a_ca_that_has_expired_is_named_with_its_day() {
    virtual_time(async {
        let lab = Lab::new(1).await;
        let expired = Authority::make(START - Duration::days(365 * 11));
        lab.write_pki("ca.pem", expired.cert.pem().as_bytes());
        lab.write_pki("ca-key.pem", &expired.key_pem());
        let failure = refused(&lab, &[]).await;
        tells(&failure, ExitCode::Expired, 15, &["/srv/pki/ca.pem", "2025"]);
    });
}

#[test]
fn a_folder_without_the_cas_key_is_named() {
    virtual_time(async {
        let lab = Lab::new(1).await;
        lab.disk.remove(&Path::new(PKI).join("ca-key.pem")).unwrap();
        let failure = refused(&lab, &[]).await;
        tells(&failure, ExitCode::KeyMissing, 16, &["/srv/pki/ca-key.pem"]);
    });
}

#[test]
fn a_state_folder_that_cannot_be_written_is_named() {
    virtual_time(async {
        let lab = Lab::new(1).await;
        lab.disk.inject(Fault::ReadOnly(PathBuf::from(STATE)));
        let failure = refused(&lab, &[]).await;
        tells(&failure, ExitCode::StateUnwritable, 33, &[STATE, "--state"]);
        // Also where the disk fills up just then.
        lab.disk.heal();
        lab.disk.inject(Fault::Write(1));
        tells(&refused(&lab, &[]).await, ExitCode::StateUnwritable, 33, &[STATE]);
        lab.disk.heal();
        assert_eq!(lab.forward(ROTATE, &[]).await.unwrap().state, EndState::Done);
    });
}

/// The process dies as soon as one Secret is about to be written.
struct AtSecret(&'static str);

impl Tripwire for AtSecret {
    fn stops(&self, _: u64, event: &Event, moment: Moment) -> bool {
        matches!(event, Event::Effect(effect) if moment == Moment::AfterSync && effect.step.contains(self.0))
    }
}

#[test]
fn a_second_run_on_the_same_cluster_is_told_of_the_first_and_of_its_step() {
    virtual_time(async {
        let lab = Lab::new(1).await;
        let ending = lab
            .run(&lab.workflow(ROTATE), &[], Arc::new(AtSecret("basic-tidb-cluster-secret")))
            .await
            .unwrap();
        assert_eq!(ending.state, EndState::Killed);
        lab.die();
        // Its Lease has ended long ago; its mark has not.
        tokio::time::sleep(std::time::Duration::from_secs(3600)).await;
        let failure = refused(&lab, &[]).await;
        tells(&failure, ExitCode::TargetLocked, 21, &[&ending.run, "trust-both", "resume", "rollback"]);

        let first = lab.store().find(&ending.run).unwrap();
        let ending = lab.open_run(first.as_str(), Why::Resume, None).unwrap().resume().await;
        assert_eq!(ending.state, EndState::Done, "the first goes on: {:?}", ending.failure);
    });
}
