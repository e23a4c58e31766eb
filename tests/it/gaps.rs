//! What the forecast is for: a rotation that does not wait until both CAs are loaded.

use runner::catalog::Workflow;
use runner::events::{EndState, Ending, Event};
use runner::exit_code::ExitCode;
use sandbox::world::EndState as World;

use crate::lab::{Lab, virtual_time};

/// `cfssl-rotate` without the settle of its phase `trust-both`: nothing is loaded, and that it is loaded is not proved.
fn hasty(lab: &Lab) -> Workflow {
    without(lab, "trust_both", "    load(job, p, options, probe);\n")
}

/// The same without this line of a function of its module.
fn without(lab: &Lab, function: &str, line: &str) -> Workflow {
    let mut workflow = lab.workflow("tidb/cfssl-rotate");
    let text = workflow.sources.files.get_mut("lib/tidb.rhai").unwrap();
    let (before, rest) = text.split_once(&format!("fn {function}(")).unwrap();
    let (body, after) = rest.split_once("\n}\n").unwrap();
    let hasty = body.replace(line.trim_end(), "");
    assert_ne!(hasty, body, "`{line}` is not in {function}");
    *text = format!("{before}fn {function}({hasty}\n}}\n{after}");
    workflow
}

async fn run(lab: &Lab, workflow: &Workflow) -> Ending {
    lab.run(workflow, &[], std::sync::Arc::new(journal::NoTripwire)).await.unwrap()
}

fn leaves(state: &World) -> Vec<Vec<String>> {
    state.pods.values().map(|served| served.chain.clone()).collect()
}

fn begun(lab: &Lab, step: &str) -> bool {
    lab.reporter
        .events()
        .iter()
        .any(|event| matches!(event, Event::Changing { step: at, .. } if at.contains(step)))
}

#[test]
fn without_the_restart_of_trust_both_the_next_phase_is_refused_with_a_link() {
    virtual_time(async {
        let lab = Lab::new(1).await;
        let before = lab.world.end_state().await;
        let ending = run(&lab, &hasty(&lab)).await;
        let failure = ending.failure.unwrap();
        assert_eq!((ending.state, ending.exit), (EndState::Refused, ExitCode::ForecastRefused), "{failure}");
        let text = failure.to_string();
        assert!(text.contains("switch-leaves"), "{text}");
        assert!(text.contains("basic-") && text.contains("would refuse"), "no link is named: {text}");
        assert!(begun(&lab, "trust-both"), "the phase before was made");
        assert!(!begun(&lab, "switch-leaves"), "no byte of the refused phase was written");
        let after = lab.world.end_state().await;
        assert!(after.holds(), "{:?}", after.broken);
        assert_eq!(leaves(&after), leaves(&before));
        assert_eq!(lab.world.counters().refused, 0);
    });
}

#[test]
fn with_the_forecast_off_the_same_workflow_breaks_real_handshakes_and_stops() {
    virtual_time(async {
        let mut lab = Lab::new(1).await;
        lab.forecast = false;
        let ending = run(&lab, &hasty(&lab)).await;
        let counters = lab.world.counters();
        assert!(counters.refused > 0, "a handshake failed in the world");
        assert!(matches!(ending.exit, ExitCode::StepFailed | ExitCode::ProofFailed), "{:?}", ending.failure);
        assert_eq!(ending.state, EndState::Stopped, "{:?}", ending.failure);
        let failure = ending.failure.unwrap();
        assert!(failure.to_string().contains("the operator cannot reach PD"), "{failure}");
        let step = failure.step.unwrap();
        assert!(step.contains("switch-leaves"), "{step}");
        assert!(begun(&lab, "switch-leaves"), "what the forecast would have refused was written");
    });
}

#[test]
fn a_proof_catches_the_missing_restart_before_any_forecast_does() {
    virtual_time(async {
        let mut lab = Lab::new(1).await;
        lab.forecast = false;
        let ending = run(&lab, &without(&lab, "load", "    restart(job, p, options);")).await;
        let failure = ending.failure.unwrap();
        assert_eq!((ending.state, ending.exit), (EndState::Stopped, ExitCode::ProofFailed), "{failure}");
        assert!(failure.step.unwrap().contains("accepts the new CA"));
        assert!(lab.world.counters().outside_refused > 0, "the proof's own handshake was refused");
        assert_eq!(lab.world.counters().refused, 0);
    });
}
