//! A run goes by its own copy of its workflow, whatever becomes of the files.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use journal::{Moment, Why};
use runner::events::{EndState, Event};
use runner::exit_code::ExitCode;
use stdlib::world::Disk;

use crate::lab::{Lab, STATE, StopAt, virtual_time};
use crate::program::{Program, says, told};
use tests::hands::Hands;

const ROTATE: &str = "tidb/cfssl-rotate";

/// A lab whose rotation has died in its first phase of changes, and the id of that run.
async fn died(seed: u64) -> (Lab, String) {
    let lab = Lab::new(seed).await;
    let ending = lab.run(&lab.workflow(ROTATE), &[], Arc::new(StopAt(60, Moment::AfterSync))).await.unwrap();
    assert_eq!(ending.state, EndState::Killed);
    lab.die();
    (lab, ending.run)
}

#[test]
fn a_workflow_edited_meanwhile_is_told_and_does_not_change_the_run() {
    virtual_time(async {
        let (lab, run) = died(1).await;
        let mut edited = lab.workflow(ROTATE).pinned();
        edited.insert("lib/tidb.rhai".into(), b"throw \"edited\";".to_vec());
        let run = lab.open_run(&run, Why::Resume, Some(edited)).unwrap();
        let ending = run.resume().await;
        assert_eq!(ending.state, EndState::Done, "{:?}", ending.failure);
        let notes: Vec<String> = lab
            .reporter
            .events()
            .into_iter()
            .filter_map(|event| match event {
                Event::Note { text } if text.contains("changed since the run began") => Some(text),
                _ => None,
            })
            .collect();
        assert_eq!(notes.len(), 1, "one file was edited: {notes:?}");
        assert!(notes[0].contains("lib/tidb.rhai") && notes[0].contains("its own copy"), "{notes:?}");
        assert!(lab.world.end_state().await.holds());
        assert_eq!(lab.world.counters().refused, 0);
    });
}

#[test]
fn a_workflow_that_is_as_it_was_is_not_worth_a_word() {
    virtual_time(async {
        let (lab, run) = died(2).await;
        let run = lab.open_run(&run, Why::Resume, Some(lab.workflow(ROTATE).pinned())).unwrap();
        assert_eq!(run.resume().await.state, EndState::Done);
        let told = serde_json::to_string(&lab.reporter.events()).unwrap();
        assert!(!told.contains("changed since the run began"));
    });
}

#[test]
fn a_byte_altered_in_a_recorded_copy_is_refused() {
    virtual_time(async {
        let (lab, run) = died(3).await;
        let before = lab.all().await;
        let sources: Vec<String> =
            lab.workflow(ROTATE).pinned().into_values().map(|t| String::from_utf8(t).unwrap()).collect();
        let folder = PathBuf::from(STATE).join("runs").join(&run).join("bodies");
        let bodies: BTreeMap<PathBuf, Vec<u8>> =
            lab.disk.files().into_iter().filter(|(path, _)| path.starts_with(&folder)).collect();
        let copies =
            bodies.values().filter(|body| sources.iter().any(|text| text.as_bytes() == body.as_slice()));
        assert_eq!(copies.count(), sources.len(), "every file of the workflow is in the record");
        for (path, body) in &bodies {
            let mut altered = body.clone();
            let middle = altered.len() / 2;
            altered[middle] ^= 1;
            lab.disk.write_atomic(path, &altered, 0o600).unwrap();
            let pinned = sources.iter().any(|text| text.as_bytes() == body.as_slice());
            let failure = match lab.open_run(&run, Why::Resume, None) {
                Err(failure) => failure,
                Ok(_) if pinned => panic!("{} was altered and the run opened", path.display()),
                // What nothing is done by is there for readers, and an audit tells them.
                Ok(_) => {
                    let audit = journal::verify(&*lab.disk, folder.parent().unwrap(), &[], None).unwrap();
                    assert!(!audit.integrity.holds, "{} was altered: {audit:?}", path.display());
                    lab.disk.write_atomic(path, body, 0o600).unwrap();
                    continue;
                }
            };
            assert_eq!(failure.exit, ExitCode::PinnedAltered, "{failure}");
            assert_eq!(failure.exit.number(), 35);
            let name = path.file_name().unwrap().to_string_lossy();
            assert!(failure.to_string().contains(&*name), "{failure}");
            lab.disk.write_atomic(path, body, 0o600).unwrap();
        }
        assert_eq!(lab.all().await, before);
        let ending = lab.open_run(&run, Why::Resume, None).unwrap().resume().await;
        assert_eq!(ending.state, EndState::Done, "with the copies as they were: {:?}", ending.failure);
    });
}

#[test]
fn a_workflow_that_was_run_from_its_folder_is_found_there_again() {
    let program = Program::new();
    let script =
        "let p = phase(\"one\", \"Why.\");\np.change(\"a note\", files::write(\"notes/b/c\", \"two\"));\n";
    program.writes(
        "site/notes/workflow.yaml",
        "title: A note\ntouches:\n  - files: { path: notes, write: true }\n",
    );
    program.writes("site/notes/main.rhai", script);
    // A file lies where a folder has to be.
    program.writes("site/notes/notes/b", "in the way");
    let failed = program.types_in("site/notes", &["run", ".", "--yes"]);
    assert_ne!(told(&failed).0, 0, "{}", told(&failed).1);
    program.writes("site/notes/main.rhai", &script.replace("two", "three"));
    std::fs::remove_file(program.path().join("site/notes/notes/b")).unwrap();
    let run = program.runs().pop().unwrap();
    says(
        &program.types(&["resume", &run, "--yes"]),
        0,
        &["`main.rhai` has changed since the run began; the run goes by its own copy", "Done."],
    );
}
