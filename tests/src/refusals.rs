//! Wrong starts: each is told in the operator's words, has its own exit code, and leaves everything as it was.

use std::collections::BTreeMap;
use std::sync::Arc;

use journal::{Event, Moment, Tripwire};
use runner::error::Failure;
use runner::events::EndState;
use runner::exit_code::ExitCode;
use time::Duration;

use crate::hands::{Authority, Hands};
use crate::stage::Stage;
use crate::state::difference;

const ROTATE: &str = "tidb/cfssl-rotate";

/// The failure of a rotation that must not begin, with proof that it changed nothing.
pub async fn refused(stage: &impl Stage, set: &[(&str, &str)]) -> Failure {
    let before = (stage.all().await, stage.versions().await);
    let failure = match stage.forward(ROTATE, set).await {
        Err(failure) => failure,
        Ok(ending) => {
            assert_eq!(ending.state, EndState::Refused, "{:?}", ending.failure);
            ending.failure.unwrap()
        }
    };
    assert!(stage.all().await == before.0, "a refusal changes nothing");
    assert_eq!(difference(&before.1, &stage.versions().await), BTreeMap::new(), "and writes nothing");
    assert_eq!(stage.world().counters().refused, 0);
    failure
}

/// That a failure has this exit code, says these words, and what to do about it.
pub fn tells(failure: &Failure, (exit, number): (ExitCode, u8), words: &[&str], hints: &[&str]) {
    assert_eq!((failure.exit, failure.exit.number()), (exit, number), "{failure}");
    let (text, hint) = (failure.to_string(), failure.hint.as_deref().unwrap_or_default());
    for (word, told) in words.iter().map(|word| (word, &*text)).chain(hints.iter().map(|word| (word, hint))) {
        assert!(told.contains(word), "`{word}` is not told: {text}\n{hint}");
    }
}

fn path(stage: &impl Stage, name: &str) -> String {
    stage.folder().join(name).display().to_string()
}

/// A wrong name of the cluster, or of its namespace, is named.
pub async fn a_wrong_name(stage: &impl Stage) {
    let failure = refused(stage, &[("cluster", "basik")]).await;
    tells(&failure, (ExitCode::TargetNotFound, 12), &["basik"], &["tidb/basic", "--set cluster="]);
    let failure = refused(stage, &[("namespace", "tibd")]).await;
    tells(&failure, (ExitCode::TargetNotFound, 12), &["tibd"], &["tidb/basic", "--set namespace="]);
}

/// A Secret that is not there is named.
pub async fn a_missing_secret(stage: &impl Stage) {
    stage.delete_secret("tikv").await;
    let failure = refused(stage, &[]).await;
    let hints = ["create it", "kubectl --namespace tidb get secrets"];
    tells(&failure, (ExitCode::ObjectMissing, 13), &["basic-tikv-cluster-secret"], &hints);
}

/// A key that is not its certificate's is named, in the folder and in a Secret.
pub async fn a_wrong_key(stage: &impl Stage) {
    let right = stage.pki_file("ca-key.pem");
    stage.write_pki("ca-key.pem", &stage.pki_file("pd-server-key.pem"));
    let failure = refused(stage, &[]).await;
    let hints = ["put the key that belongs to ca.pem there"];
    tells(&failure, (ExitCode::KeyMismatch, 14), &[&path(stage, "ca-key.pem"), "ca.pem"], &hints);

    stage.write_pki("ca-key.pem", &right);
    stage.patch("tidb", &[("tls.key", &stage.pki_file("client-key.pem"))]).await;
    let failure = refused(stage, &[]).await;
    let hints = ["into the Secret, in one write"];
    tells(&failure, (ExitCode::KeyMismatch, 14), &["basic-tidb-cluster-secret"], &hints);
}

/// A CA that has expired is named with its day.
pub async fn an_expired_ca(stage: &impl Stage) {
    let now = stage.world().clock().now();
    let expired = Authority::make(now - Duration::days(365 * 11));
    stage.write_pki("ca.pem", expired.cert.pem().as_bytes());
    stage.write_pki("ca-key.pem", &expired.key_pem());
    let failure = refused(stage, &[]).await;
    let day = expired.cert.not_after().date().to_string();
    tells(&failure, (ExitCode::Expired, 15), &[&path(stage, "ca.pem"), &day], &["without an outage"]);
}

/// A folder without the CA's key is named.
pub async fn a_missing_key(stage: &impl Stage) {
    stage.remove_pki("ca-key.pem");
    let failure = refused(stage, &[]).await;
    tells(&failure, (ExitCode::KeyMissing, 16), &[&path(stage, "ca-key.pem")], &["bring the key", "0600"]);
}

/// The process dies as soon as one Secret is about to be written.
struct AtSecret(&'static str);

impl Tripwire for AtSecret {
    fn stops(&self, _: u64, event: &Event, moment: Moment) -> bool {
        matches!(event, Event::Effect(effect) if moment == Moment::AfterSync && effect.step.contains(self.0))
    }
}

/// A second run on the same cluster is told of the first and of its step.
pub async fn a_second_run(stage: &impl Stage) {
    let ending = stage.dies(ROTATE, &[], Arc::new(AtSecret("basic-tidb-cluster-secret"))).await;
    assert_eq!(ending.state, EndState::Killed);
    // Its Lease has ended; its mark has not.
    tokio::time::sleep(stdlib::lease::DURATION * 2).await;
    let failure = refused(stage, &[]).await;
    let hints = ["resume", "rollback", "abort"].map(|how| format!("rollover {how} {}", ending.run));
    let hints = hints.each_ref().map(String::as_str);
    tells(&failure, (ExitCode::TargetLocked, 21), &[&ending.run, "trust-both"], &hints);

    let ending = stage.resumes(&ending.run).await;
    assert_eq!(ending.state, EndState::Done, "the first goes on: {:?}", ending.failure);
}
