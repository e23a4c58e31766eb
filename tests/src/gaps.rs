//! What the forecast is for: a rotation that does not wait until both CAs are loaded.

use std::time::Duration;

use journal::Event;
use runner::catalog::{Catalog, Workflow};
use runner::events::{EndState, Ending};
use runner::exit_code::ExitCode;
use sandbox::world::EndState as World;
use sandbox::world::kube::TIDB_CLUSTERS;
use tokio::time::sleep;

use crate::hands::Hands;
use crate::stage::Stage;

/// `cfssl-rotate` without the settle of its phase `trust-both`: nothing is loaded, and that it is loaded is not proved.
fn hasty(stage: &impl Stage) -> Workflow {
    without(stage, "trust_both", "    load(job, p, options, probe);\n")
}

/// The same without this line of a function of its module.
fn without(stage: &impl Stage, function: &str, line: &str) -> Workflow {
    let mut workflow = Catalog::default().load(&*stage.disk(), "tidb/cfssl-rotate").unwrap().unwrap();
    let text = workflow.sources.files.get_mut("lib/tidb.rhai").unwrap();
    let (before, rest) = text.split_once(&format!("fn {function}(")).unwrap();
    let (body, after) = rest.split_once("\n}\n").unwrap();
    let hasty = body.replace(line.trim_end(), "");
    assert_ne!(hasty, body, "`{line}` is not in {function}");
    *text = format!("{before}fn {function}({hasty}\n}}\n{after}");
    workflow
}

fn leaves(state: &World) -> Vec<Vec<String>> {
    state.pods.values().map(|served| served.chain.clone()).collect()
}

/// Whether the newest run has begun to write anything in a phase: every write is on record before it is made.
fn begun(stage: &impl Stage, phase: &str) -> bool {
    let id = stage.store().list().unwrap().pop().unwrap();
    let records = stage.store().load(&id).unwrap().records;
    let of = |event: &Event| matches!(event, Event::Effect(effect) if effect.step.contains(phase));
    records.iter().any(|record| of(&record.event))
}

/// The phase that would break a link is refused before anything of it is written, and the link is named.
pub async fn the_next_phase_is_refused(stage: &impl Stage) {
    let before = stage.world().end_state().await;
    let ending = patiently(stage, &hasty(stage)).await;
    let failure = ending.failure.unwrap();
    assert_eq!((ending.state, ending.exit), (EndState::Refused, ExitCode::ForecastRefused), "{failure}");
    let text = failure.to_string();
    assert!(text.contains("switch-leaves"), "{text}");
    assert!(text.contains("basic-") && text.contains("would refuse"), "no link is named: {text}");
    assert!(begun(stage, "trust-both"), "the phase before was made");
    assert!(!begun(stage, "switch-leaves"), "no byte of the refused phase was written");
    let after = stage.world().end_state().await;
    assert!(after.holds(), "{:?}", after.broken);
    assert_eq!(leaves(&after), leaves(&before));
    assert_eq!(stage.world().counters().refused, 0, "{:#?}", stage.world().counters().refusals);
}

/// Without the forecast the same workflow breaks real handshakes: the operator cannot reach PD any more, and after ten
/// minutes of that the run stops.
pub async fn with_the_forecast_off_handshakes_break(stage: &mut impl Stage) {
    stage.set_forecast(false);
    let workflow = hasty(stage);
    let ending = patiently(stage, &workflow).await;
    let counters = stage.world().counters();
    assert!(counters.refused > 0, "a handshake failed in the world");
    assert!(matches!(ending.exit, ExitCode::StepFailed | ExitCode::ProofFailed), "{:?}", ending.failure);
    assert_eq!(ending.state, EndState::Stopped, "{:?}", ending.failure);
    let failure = ending.failure.unwrap();
    assert!(failure.to_string().contains("the operator cannot reach PD"), "{failure}");
    let step = failure.step.unwrap();
    assert!(step.contains("switch-leaves"), "{step}");
    assert!(begun(stage, "switch-leaves"), "what the forecast would have refused was written");
}

/// Runs a workflow until it ends, through all the time that it waits for a cluster which is not well any more.
async fn patiently(stage: &impl Stage, workflow: &Workflow) -> Ending {
    let waits = async {
        loop {
            sleep(Duration::from_secs(2)).await;
            let cluster = stage.kube().get(TIDB_CLUSTERS, "tidb", "basic").await.unwrap().unwrap();
            let conditions = cluster["status"]["conditions"].as_array().unwrap();
            let ready = conditions.iter().find(|condition| condition["type"] == "Ready").unwrap();
            if ready["status"] != "True" {
                stage.pass(Duration::from_secs(60)).await;
            }
        }
    };
    tokio::select! {
        ending = stage.tries(workflow) => ending,
        () = waits => unreachable!("it waits for as long as the run does"),
    }
}

/// Where nothing was restarted, the proof that ends the phase finds it out before any forecast does.
pub async fn a_proof_catches_it_first(stage: &mut impl Stage) {
    stage.set_forecast(false);
    let workflow = without(stage, "load", "    restart(job, p, options);");
    let ending = patiently(stage, &workflow).await;
    let failure = ending.failure.unwrap();
    assert_eq!((ending.state, ending.exit), (EndState::Stopped, ExitCode::ProofFailed), "{failure}");
    assert!(failure.step.unwrap().contains("accepts the new CA"));
    assert!(stage.world().counters().outside_refused > 0, "the proof's own handshake was refused");
    assert_eq!(stage.world().counters().refused, 0, "{:#?}", stage.world().counters().refusals);
}
