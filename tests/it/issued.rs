//! Clusters whose certificates cert-manager keeps: a new CA with and without an outage, new leaves, and the way back, which
//! cert-manager must leave alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::program::{Program, says};
use journal::{Direction, Event, Moment, Tripwire, Why};
use runner::events::EndState;
use runner::rbac;
use sandbox::world::kube::{CERTIFICATES, PODS, SECRETS};
use sandbox::world::{Fault, IssuedBy, Options as WorldOptions, RotationPolicy, Scenario, json as js};
use serde_json::{Value, json};
use stdlib::cert::{Certificate, parse_many};

use crate::lab::{Lab, START, StopAt, virtual_time};
use tests::hands::{COMPONENTS, Hands, secret_name};

const FORCED: &str = "tidb/cert-manager-ca";
const GAPLESS: &str = "tidb/cert-manager-ca-gapless";
const LEAVES: &str = "tidb/cert-manager-components";
const CA: &str = "basic-ca-secret";
/// How long cert-manager is watched for issuing away what was put back: it would within seconds.
const WATCHED: Duration = Duration::from_secs(120);

fn all() -> bool {
    std::env::var("ROLLOVER_TEST_TIER").is_ok_and(|tier| tier == "all")
}

async fn lab(seed: u64, rotation_policy: RotationPolicy) -> Lab {
    let scenario = Scenario { issued_by: IssuedBy::CertManager, rotation_policy, ..Scenario::default() };
    let options = WorldOptions { scenario, start: Some(START), ..WorldOptions::in_process(seed) };
    let mut lab = Lab::with(options).await;
    lab.outage = true;
    lab
}

/// Dies at the end of a phase.
struct AtEndOf(&'static str);

impl Tripwire for AtEndOf {
    fn stops(&self, _: u64, event: &Event, moment: Moment) -> bool {
        let over = matches!(event, Event::PhaseEnd(end) if end.phase == self.0 && end.direction == Direction::Forward);
        over && moment == Moment::AfterSync
    }
}

/// What every Secret holds, and which Secret each Certificate is kept in.
async fn kept(lab: &Lab) -> (BTreeMap<String, Value>, BTreeMap<String, String>) {
    let secrets = lab.kube().list(SECRETS, "tidb").await.unwrap().0;
    let secrets = secrets.into_iter().map(|s| (js::name(&s).to_owned(), s["data"].clone())).collect();
    let certificates = lab.kube().list(CERTIFICATES, "tidb").await.unwrap().0;
    let names =
        certificates.iter().map(|c| (js::name(c).to_owned(), js::text(c, "/spec/secretName").to_owned()));
    (secrets, names.collect())
}

async fn ca(lab: &Lab) -> Certificate {
    parse_many(&lab.secrets().await[CA]["tls.crt"], CA).unwrap().remove(0)
}

fn bare(certificate: &Certificate) -> String {
    certificate.fingerprint().trim_start_matches("sha256:").to_owned()
}

/// Everybody presents and trusts what the Secrets say, which `ca` has signed and names alone; nobody is refused.
async fn is_well(lab: &Lab, ca: &Certificate) {
    lab.world.steady(Duration::from_secs(600)).await.unwrap();
    // The kubelet brings what was issued last into the pods.
    tokio::time::sleep(Duration::from_secs(95)).await;
    let end = lab.world.end_state().await;
    assert!(end.holds(), "{:?}", end.broken);
    let secrets = lab.secrets().await;
    for component in COMPONENTS {
        let secret = &secrets[&secret_name(component)];
        let trusted = parse_many(&secret["ca.crt"], component).unwrap();
        assert_eq!((trusted.len(), &trusted[0]), (1, ca), "{component}");
        let leaf = &parse_many(&secret["tls.crt"], component).unwrap()[0];
        leaf.check_signed_by(ca).unwrap();
        for (pod, served) in end.pods.iter().filter(|(_, served)| served.component == component) {
            assert_eq!(served.chain, [bare(leaf)], "{pod}");
            assert_eq!(served.anchors, [bare(ca)], "{pod}");
        }
    }
}

fn refused(lab: &Lab) -> u64 {
    lab.world.counters().refused
}

async fn done(lab: &Lab, workflow: &str, set: &[(&str, &str)]) -> u64 {
    let ending = lab.forward(workflow, set).await.unwrap();
    assert_eq!(ending.state, EndState::Done, "{workflow}: {:?}", ending.failure);
    ending.head.size
}

async fn taken_back(lab: &Lab, what: &str) {
    let back = lab.open(Why::Rollback).unwrap().back("test").await;
    assert_eq!(back.state, EndState::RolledBack, "{what}: {:?}", back.failure);
}

/// What cert-manager does by itself when a certificate is due: here for all of them, at once.
async fn renew_all(lab: &Lab) {
    for certificate in lab.kube().list(CERTIFICATES, "tidb").await.unwrap().0 {
        if js::name(&certificate) == "basic-ca" {
            continue;
        }
        let mut conditions = js::items(&certificate, "/status/conditions").to_vec();
        conditions.push(json!({"type": "Issuing", "status": "True", "reason": "Renewing", "message": "due",
            "lastTransitionTime": "2026-06-01T12:00:00Z"}));
        let patch = json!({"status": {"conditions": conditions}});
        lab.kube().merge(CERTIFICATES, ("tidb", js::name(&certificate)), "/status", &patch).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
}

#[test]
fn the_ca_is_replaced_without_a_gap_and_cert_manager_renews_what_it_got_back() {
    virtual_time(async {
        let lab = lab(71, RotationPolicy::Always).await;
        let (old, before) = (ca(&lab).await, kept(&lab).await);
        done(&lab, GAPLESS, &[]).await;
        let new = ca(&lab).await;
        assert_ne!(new.spki(), old.spki());
        is_well(&lab, &new).await;
        let after = kept(&lab).await;
        assert_eq!(after.1, before.1, "every Certificate is kept where it was");
        assert!(after.0.keys().eq(before.0.keys()), "nothing is left beside");
        // The next renewal comes by itself, and is served.
        renew_all(&lab).await;
        is_well(&lab, &new).await;
        assert_ne!(kept(&lab).await.0[&secret_name("pd")], after.0[&secret_name("pd")]);
        assert_eq!(refused(&lab), 0, "{:#?}", lab.world.counters().refusals);
    });
}

#[test]
fn what_was_replaced_without_a_gap_is_taken_back_without_one_and_stays() {
    virtual_time(async {
        let lab = lab(72, RotationPolicy::Always).await;
        let (old, before) = (ca(&lab).await, kept(&lab).await);
        if all() {
            done(&lab, GAPLESS, &[]).await;
        } else {
            let half =
                lab.run(&lab.workflow(GAPLESS), &[], Arc::new(AtEndOf("switch-leaves"))).await.unwrap();
            assert_eq!(half.state, EndState::Killed, "{:?}", half.failure);
            lab.die();
        }
        taken_back(&lab, GAPLESS).await;
        is_well(&lab, &old).await;
        tokio::time::sleep(WATCHED).await;
        assert_eq!(kept(&lab).await, before, "cert-manager issues nothing of it away");
        assert_eq!(refused(&lab), 0, "{:#?}", lab.world.counters().refusals);
    });
}

#[test]
fn a_ca_that_keeps_its_key_is_renewed_with_one_restart() {
    virtual_time(async {
        let lab = lab(73, RotationPolicy::Never).await;
        let (old, before) = (ca(&lab).await, kept(&lab).await);
        done(&lab, GAPLESS, &[]).await;
        let renewed = ca(&lab).await;
        assert!(renewed != old && renewed.spki() == old.spki());
        is_well(&lab, &renewed).await;
        if all() {
            taken_back(&lab, GAPLESS).await;
            is_well(&lab, &old).await;
            assert_eq!(kept(&lab).await, before);
        }
        assert_eq!(refused(&lab), 0, "{:#?}", lab.world.counters().refusals);
    });
}

#[test]
fn leaves_are_renewed_without_a_restart_and_taken_back() {
    virtual_time(async {
        let lab = lab(74, RotationPolicy::Always).await;
        lab.world.set_fault(Fault::NoRestarts);
        let pods = async || -> Vec<String> {
            lab.kube().list(PODS, "tidb").await.unwrap().0.iter().map(|pod| js::uid(pod).to_owned()).collect()
        };
        let (ca, before, uids) = (ca(&lab).await, kept(&lab).await, pods().await);
        done(&lab, LEAVES, &[]).await;
        is_well(&lab, &ca).await;
        let after = kept(&lab).await;
        for component in COMPONENTS {
            assert_ne!(after.0[&secret_name(component)], before.0[&secret_name(component)], "{component}");
        }
        assert_eq!(pods().await, uids, "no pod was started anew");
        taken_back(&lab, LEAVES).await;
        is_well(&lab, &ca).await;
        tokio::time::sleep(WATCHED).await;
        assert_eq!(kept(&lab).await, before);
        assert_eq!(refused(&lab), 0, "{:#?}", lab.world.counters().refusals);
    });
}

#[test]
fn the_documented_way_refuses_within_its_outage_alone_and_goes_back() {
    virtual_time(async {
        let lab = lab(75, RotationPolicy::Always).await;
        lab.world.set_fault(Fault::NoRestarts);
        let (old, before) = (ca(&lab).await, kept(&lab).await);
        let stopped = lab.run(&lab.workflow(FORCED), &[], Arc::new(AtEndOf("new-ca"))).await.unwrap();
        assert_eq!(stopped.state, EndState::Killed, "{:?}", stopped.failure);
        lab.die();
        let new = ca(&lab).await;
        assert_ne!(new.spki(), old.spki());
        tokio::time::sleep(WATCHED).await;
        assert_eq!(refused(&lab), 0, "a new CA alone breaks nothing");
        let resumed = lab.open(Why::Resume).unwrap().resume().await;
        assert_eq!(resumed.state, EndState::Done, "{:?}", resumed.failure);
        is_well(&lab, &new).await;
        let within = refused(&lab);
        assert!(within > 0, "old and new pods refuse each other: it is an outage");
        tokio::time::sleep(WATCHED).await;
        assert_eq!(refused(&lab), within, "and it is over");
        let loaded = lab.store().load(&lab.store().list().unwrap().pop().unwrap()).unwrap();
        let told =
            loaded.state.notes().iter().any(|note| note.contains("the outage of phase `replace` lasted"));
        assert!(told, "{:?}", loaded.state.notes());

        taken_back(&lab, FORCED).await;
        is_well(&lab, &old).await;
        tokio::time::sleep(WATCHED).await;
        assert_eq!(kept(&lab).await, before);
    });
}

#[test]
fn what_cert_managers_definitions_do_not_allow_is_refused() {
    virtual_time(async { tests::definitions::issued(&lab(85, RotationPolicy::Always).await.kube()).await });
}

#[test]
fn what_was_deleted_and_not_made_again_is_put_back_as_it_was() {
    virtual_time(async { tests::issued::issuer_away(&lab(79, RotationPolicy::Always).await).await });
}

#[test]
fn what_cert_manager_has_renewed_by_itself_since_is_taken_back_with_the_run() {
    virtual_time(async {
        tests::issued::renewed_since(&lab(80, RotationPolicy::Always).await, LEAVES).await;
        if all() {
            for policy in [RotationPolicy::Always, RotationPolicy::Never] {
                let lab = lab(81, policy).await;
                tests::issued::renewed_since(&lab, GAPLESS).await;
                assert_eq!(refused(&lab), 0, "{:#?}", lab.world.counters().refusals);
            }
            tests::issued::renewed_since(&lab(82, RotationPolicy::Always).await, FORCED).await;
        }
    });
}

#[test]
fn what_a_renewed_ca_has_signed_since_refuses_the_way_back() {
    virtual_time(async {
        tests::issued::authority_renewed_since(&lab(83, RotationPolicy::Always).await, LEAVES).await;
    });
}

#[test]
fn only_an_order_to_renew_asks_for_the_right_to_write_a_certificates_status() {
    virtual_time(async {
        let lab = lab(84, RotationPolicy::Always).await;
        for (ca, asked) in [("delete", false), ("renew", true)] {
            let plan = lab.plan_with(&lab.workflow(FORCED), &[("ca", ca)], &lab.eyes()).await.unwrap();
            let rules = rbac::rules(&rbac::touches(&plan, stdlib::registry()));
            let status = |rule: &rbac::Rule| rule.resources.contains(&"certificates/status".to_owned());
            assert_eq!(rules["tidb"].iter().any(status), asked, "{ca}: {rules:#?}");
        }
    });
}

/// The trap: cert-manager renews its CA by itself, and whatever it signs next is refused.
#[test]
fn where_cert_manager_has_renewed_its_ca_by_itself_only_the_documented_way_is_left() {
    virtual_time(async {
        let lab = lab(76, RotationPolicy::Always).await;
        // Whoever keeps the Certificates in Git would turn them back in the middle.
        let argo =
            |value: Value| json!({"metadata": {"annotations": {"argocd.argoproj.io/tracking-id": value}}});
        let pd = secret_name("pd");
        lab.kube().merge(CERTIFICATES, ("tidb", &pd), "", &argo(json!("shop"))).await.unwrap();
        let told = lab.forward(GAPLESS, &[]).await.unwrap_err().to_string();
        assert!(told.contains(&pd) && told.contains("managed by Argo CD"), "{told}");
        lab.kube().merge(CERTIFICATES, ("tidb", &pd), "", &argo(Value::Null)).await.unwrap();

        let secret = lab.kube().get(SECRETS, "tidb", CA).await.unwrap().unwrap();
        let kept = lab.forward(FORCED, &[("ca", "keep")]).await.unwrap_err();
        assert!(kept.to_string().contains("it has renewed none"), "{kept}");
        lab.kube().delete(SECRETS, ("tidb", CA), js::uid(&secret), None).await.unwrap();
        tokio::time::sleep(Duration::from_secs(30)).await;
        for workflow in [LEAVES, GAPLESS] {
            let told = lab.forward(workflow, &[]).await.unwrap_err().to_string();
            assert!(told.contains("that cert-manager signs with"), "{told}");
        }
        done(&lab, FORCED, &[("ca", "keep")]).await;
        is_well(&lab, &ca(&lab).await).await;
    });
}

/// Killed between any two records and begun again, or taken back from there.
#[test]
fn stopped_anywhere_they_go_on_or_back_and_cert_manager_leaves_what_was_put_back() {
    let cases = [
        (GAPLESS, RotationPolicy::Always),
        (FORCED, RotationPolicy::Always),
        (LEAVES, RotationPolicy::Never),
    ];
    let (cases, parts) = if all() { (&cases[..], 40) } else { (&cases[..1], 2) };
    for &(workflow, policy) in cases {
        let records = virtual_time(async {
            let lab = lab(77, policy).await;
            done(&lab, workflow, &[]).await
        });
        for part in 1..=parts {
            let stop = 6 + part * (records - 12) / (parts + 1);
            virtual_time(async {
                let lab = lab(77, policy).await;
                let (old, before) = (ca(&lab).await, kept(&lab).await);
                let what = format!("{workflow} at {stop} of {records}");
                let stopped = lab
                    .run(&lab.workflow(workflow), &[], Arc::new(StopAt(stop, Moment::AfterSync)))
                    .await
                    .unwrap();
                assert_eq!(stopped.state, EndState::Killed, "{what}: {:?}", stopped.failure);
                lab.die();
                if part % 2 == 0 {
                    let resumed = lab.open(Why::Resume).unwrap().resume().await;
                    assert_eq!(resumed.state, EndState::Done, "{what}: {:?}", resumed.failure);
                    is_well(&lab, &ca(&lab).await).await;
                } else {
                    taken_back(&lab, &what).await;
                    is_well(&lab, &old).await;
                    tokio::time::sleep(WATCHED).await;
                    assert_eq!(kept(&lab).await, before, "{what}");
                }
                assert!(
                    workflow == FORCED || refused(&lab) == 0,
                    "{what}: {:#?}",
                    lab.world.counters().refusals
                );
            });
        }
    }
}

#[test]
fn one_command_shows_each() {
    let person = Program::new();
    let workflows = if all() { [LEAVES, GAPLESS].as_slice() } else { &[LEAVES] };
    for workflow in workflows {
        says(&person.types(&["run", workflow, "--sandbox", "--yes"]), 0, &["Done."]);
        says(&person.types(&["sandbox", "stop"]), 0, &[]);
    }
    let said = person.types(&["run", FORCED, "--sandbox", "--yes", "--accept-outage"]);
    says(&said, 0, &["the outage of phase `replace` lasted", "Done."]);
    says(&person.types(&["sandbox", "stop"]), 0, &[]);
}

#[test]
fn where_cert_manager_could_not_write_is_said_before_it_is_asked_to() {
    virtual_time(async {
        for (workflow, secret) in [
            (LEAVES, "basic-pd-cluster-secret"),
            (FORCED, "basic-pd-cluster-secret"),
            (FORCED, CA),
            (GAPLESS, CA),
        ] {
            let lab = self::lab(1, RotationPolicy::Always).await;
            let frozen = json!({"immutable": true});
            lab.kube().merge(SECRETS, ("tidb", secret), "", &frozen).await.unwrap();
            let set: &[(&str, &str)] = if workflow == FORCED { &[("ca", "renew")] } else { &[] };
            let refused = lab.refused(workflow, set).await;
            assert!(refused.contains(&format!("Secret tidb/{secret} is immutable")), "{workflow}: {refused}");
            assert!(refused.contains("| kubectl replace --force --filename -`"), "{workflow}: {refused}");
            assert!(lab.store().list().unwrap().is_empty(), "no run was begun");
        }
    });
}
