//! The forecast on hosts: phases in a wrong order are refused before a byte of them is written.

use std::sync::Arc;

use journal::NoTripwire;
use runner::catalog::Workflow;
use runner::events::{EndState, Event};
use runner::exit_code::ExitCode;

use super::lab::Lab;
use crate::lab::virtual_time;

/// The shipped rotation with this text of its files replaced.
fn with(lab: &Lab, file: &str, text: &str, other: &str) -> Workflow {
    let mut workflow = lab.workflow("etcd/rotate-ca");
    let script = workflow.sources.files.get_mut(file).unwrap();
    assert_eq!(script.matches(text).count(), 1, "`{text}` is not in {file} once");
    *script = script.replace(text, other);
    workflow
}

fn begun(lab: &Lab, phase: &str) -> bool {
    let changing = |event: &Event| matches!(event, Event::Changing { step, .. } if step.contains(phase));
    lab.reporter.events().iter().any(changing)
}

/// Runs it until it is refused at this phase; nothing of that phase was written, and everybody still talks.
async fn is_refused(lab: &Lab, workflow: &Workflow, phase: &str, written: &str) {
    let before = lab.files();
    let ending = lab.run(workflow, Arc::new(NoTripwire)).await.unwrap();
    let failure = ending.failure.unwrap();
    assert_eq!((ending.state, ending.exit), (EndState::Refused, ExitCode::ForecastRefused), "{failure}");
    let text = failure.to_string();
    assert!(text.contains(phase) && text.contains("would refuse"), "{text}");
    assert!(text.contains("host/m") || text.contains("host/app1"), "no link is named: {text}");
    assert!(!begun(lab, phase), "{phase} was begun");
    let after = lab.files();
    let changed: Vec<_> = before.keys().filter(|name| before[*name] != after[*name]).collect();
    assert!(!changed.is_empty() && changed.iter().all(|name| name.ends_with(written)), "{changed:?}");
    assert_eq!(lab.ailing().await, Vec::<String>::new());
}

#[test]
fn to_distrust_the_old_ca_before_its_certificates_are_gone_is_refused() {
    virtual_time(async {
        let lab = Lab::new(1).await;
        let switched = "let ours = rotation::switch_leaves(job, made.ca, made.both, options);\n";
        let early = "let ours = job.identity;\n";
        is_refused(&lab, &with(&lab, "main.rhai", switched, early), "distrust-old", "/ca.pem").await;
    });
}

#[test]
fn to_switch_before_everybody_has_loaded_the_new_ca_is_refused() {
    virtual_time(async {
        let lab = Lab::new(1).await;
        // The files are written; nobody is restarted, and nothing proves that they were loaded.
        let mut workflow = with(
            &lab,
            "lib/etcd.rhai",
            "    load(job, p, job.identity.clients, both.clients, options);\n",
            "",
        );
        let script = workflow.sources.files.get_mut("lib/etcd.rhai").unwrap();
        let (head, rest) =
            script.split_once("    // A certificate of the new CA that nobody is to use").unwrap();
        let (_, tail) = rest.split_once("    #{ ca: ca, both: both }").unwrap();
        *script = format!("{head}    #{{ ca: ca, both: both }}{tail}");
        is_refused(&lab, &workflow, "switch-leaves", "/ca.pem").await;
    });
}
