//! Law 9 at the gate: what a step comes to only when it runs is held against the manifest too.

use std::path::Path;
use std::sync::Arc;

use journal::NoTripwire;
use runner::catalog::Catalog;
use runner::events::EndState;
use stdlib::world::Disk;

use crate::lab::{Lab, PKI, virtual_time};

const MANIFEST: &str = r#"
title: Write a leaf into folders that are known when the step runs
params:
  pki: { type: path }
touches:
  - files: { path: "{{pki}}", write: true }
"#;

/// The folder is the item of a list: no plan can know it.
const SCRIPT: &str = r#"
let pki = cfssl::folder(param("pki"));
let leaves = phase("leaves", "A leaf, written where the list says.");
let leaf = leaves.stage("leaf", cfssl::issue(pki.ca, pki.requests["client"], pki.profiles["client"]));
leaves.change("files", cfssl::write_leaf(item(), "client", leaf)).each(FOLDERS);
"#;

async fn run(lab: &Lab, folders: &str) -> runner::events::Ending {
    let files = [("workflow.yaml", MANIFEST.to_owned()), ("main.rhai", SCRIPT.replace("FOLDERS", folders))];
    for (name, text) in files {
        let path = Path::new("/site/leaves").join(name);
        lab.disk.make_dir(path.parent().unwrap(), 0o755).unwrap();
        lab.disk.write_atomic(&path, text.as_bytes(), 0o644).unwrap();
    }
    let workflow = Catalog::default().load(&*lab.disk, "/site/leaves").unwrap().unwrap();
    lab.run(&workflow, &[], Arc::new(NoTripwire)).await.unwrap()
}

#[test]
fn what_no_plan_could_know_is_refused_at_the_gate_by_the_manifest() {
    virtual_time(async {
        let lab = Lab::new(1).await;
        let ending = run(&lab, &format!(r#"["{PKI}", "{PKI}/../elsewhere"]"#)).await;
        assert_eq!(ending.state, EndState::Stopped, "the plan let it through, the gate does not");
        let failure = ending.failure.unwrap();
        let text = format!("{failure}\n{}", failure.hint.clone().unwrap_or_default());
        for word in ["leaves/change/files[1]", "elsewhere", "manifest does not name it", "- files: { path:"] {
            assert!(text.contains(word), "`{word}` is missing: {text}");
        }
        assert!(!lab.disk.exists(Path::new("/srv/elsewhere")), "nothing was written there");
        assert!(lab.disk.files().keys().all(|path| !path.to_string_lossy().contains("elsewhere")));
    });
}

#[test]
fn what_the_manifest_names_passes() {
    virtual_time(async {
        let lab = Lab::new(1).await;
        let ending = run(&lab, &format!(r#"["{PKI}", "{PKI}/copies"]"#)).await;
        assert_eq!(ending.state, EndState::Done, "{:?}", ending.failure);
        assert!(lab.disk.exists(Path::new("/srv/pki/copies/client.pem")));
    });
}
