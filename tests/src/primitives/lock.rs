//! One run a target: the Lease, the mark, and what a sleeper finds when it wakes.

use std::time::Duration;

use serde_json::{Value, json};
use stdlib::error::Code;
use stdlib::k8s::object::Ref;
use stdlib::lease::{self, Holder, LAST, Last, Leave, MARK, Target, acquire};

use super::scene::Scene;

fn cluster(scene: &Scene) -> Ref {
    Ref::new("pingcap.com/v1alpha1", "TidbCluster", &scene.ns, "basic")
}

fn lease_object(scene: &Scene) -> Ref {
    Ref::new("coordination.k8s.io/v1", "Lease", &scene.ns, "rollover-tidbcluster-basic")
}

fn holder(run: &str, host: &str) -> Holder {
    Holder { run: run.into(), host: host.into(), user: "ada".into() }
}

async fn target(scene: &Scene) -> Target {
    let made = scene
        .create(json!({"apiVersion": "pingcap.com/v1alpha1", "kind": "TidbCluster",
                       "metadata": {"name": "basic", "namespace": scene.ns}, "spec": {}}))
        .await;
    Target {
        object: cluster(scene),
        uid: made["metadata"]["uid"].as_str().unwrap().into(),
        namespace: scene.ns.clone(),
        lease: "rollover-tidbcluster-basic".into(),
    }
}

pub(super) async fn a_second_run_is_told_who_holds_it_since_when_at_which_step(scene: Scene) {
    let target = target(&scene).await;
    let since = scene.now();
    let held = acquire(&scene.world, &target, &holder("r1", "alpha")).await.unwrap();
    held.note("trust-both/settle/pd", &json!({"size": "7"})).await.unwrap();
    let error = acquire(&scene.world, &target, &holder("r2", "beta")).await.err().unwrap();
    assert_eq!(error.code, Code::Locked);
    let mark = lease::mark(&scene.world, &cluster(&scene)).await.unwrap().unwrap();
    assert!(since <= mark.since && mark.since <= scene.now(), "{since}: {}", mark.since);
    let since = mark.since;
    assert_eq!(
        error.message,
        format!("run `r1` of ada@alpha has it since {since}, at step `trust-both/settle/pd`")
    );
    assert!(error.hint.unwrap().contains("rollover resume r1"));
    let last = Last { run: "r1".into(), ended: "done".into(), head: "7:ab".into() };
    held.release(&Leave::Last(last)).await.unwrap();
    let annotations = scene.get(&cluster(&scene)).await["metadata"]["annotations"].clone();
    assert_eq!(annotations.get(MARK), None);
    assert_eq!(annotations[LAST], r#"{"run":"r1","ended":"done","head":"7:ab"}"#, "an auditor finds it here");
    acquire(&scene.world, &target, &holder("r2", "beta")).await.unwrap();
}

pub(super) async fn the_mark_outlives_the_lease_and_only_its_own_run_goes_on(scene: Scene) {
    let target = target(&scene).await;
    let begun = scene.now();
    let first = acquire(&scene.world, &target, &holder("r1", "alpha")).await.unwrap();
    first.note("switch-leaves/change/pd", &Value::Null).await.unwrap();
    let noted = scene.now();
    // Killed: nothing is released. On the same machine it goes on at once, elsewhere when the Lease has ended.
    let early = acquire(&scene.world, &target, &holder("r1", "beta")).await.err().unwrap();
    assert_eq!(early.code, Code::Locked);
    assert!(early.message.contains("r1@alpha"), "{early}");
    scene.pass(Duration::from_secs(60)).await;
    let other = acquire(&scene.world, &target, &holder("r2", "beta")).await.err().unwrap();
    assert!(other.message.contains("switch-leaves/change/pd"), "{other}");
    let resumed = acquire(&scene.world, &target, &holder("r1", "beta")).await.unwrap();
    let mark = lease::mark(&scene.world, &cluster(&scene)).await.unwrap().unwrap();
    assert_eq!((mark.host.as_str(), mark.step.as_str()), ("beta", "switch-leaves/change/pd"));
    assert!(begun <= mark.since && mark.since <= noted, "since the first: {}", mark.since);
    // The first wakes up.
    for lost in [first.renew().await, first.note("x", &Value::Null).await] {
        assert_eq!(lost.err().unwrap().code, Code::Locked);
    }
    first.release(&Leave::Mark).await.unwrap();
    resumed.renew().await.unwrap();
    let again = acquire(&scene.world, &target, &holder("r1", "beta")).await.unwrap();
    assert_eq!(resumed.renew().await.err().unwrap().code, Code::Locked);
    again.release(&Leave::Nothing).await.unwrap();
}

pub(super) async fn renewing_keeps_others_out_beyond_the_leases_own_time(scene: Scene) {
    let target = target(&scene).await;
    let held = acquire(&scene.world, &target, &holder("r1", "alpha")).await.unwrap();
    for _ in 0..10 {
        scene.pass(lease::INTERVAL).await;
        held.renew().await.unwrap();
    }
    assert!(acquire(&scene.world, &target, &holder("r1", "beta")).await.is_err());
    held.release(&Leave::Mark).await.unwrap();
    assert!(
        lease::mark(&scene.world, &cluster(&scene)).await.unwrap().is_some(),
        "an unfinished run stays marked"
    );
    assert_eq!(
        stdlib::k8s::client::Objects::of(&scene.world).unwrap().find(&lease_object(&scene)).await.unwrap(),
        None
    );
    lease::clear(&scene.world, &cluster(&scene), "r1").await.unwrap();
    acquire(&scene.world, &target, &holder("r2", "beta")).await.unwrap();
}

pub(super) async fn a_target_that_was_made_again_is_another_target(scene: Scene) {
    let mut target = target(&scene).await;
    target.uid = "the-one-before".into();
    let error = acquire(&scene.world, &target, &holder("r1", "alpha")).await.err().unwrap();
    assert_eq!(error.code, Code::NoTarget);
    assert!(error.message.contains("made again"), "{error}");
}
