//! Somebody writes a workflow of their own, with the real program.

use std::fs;

use crate::program::{Program, says, told};

#[test]
fn a_new_workflow_is_well_and_a_typo_in_it_is_found_with_the_right_name() {
    let author = Program::new();
    let dir = author.path().join("workflows");
    let dir = dir.to_str().unwrap();
    says(
        &author.types(&["new", "my-site/look", "--dir", dir]),
        0,
        &["workflow.yaml", "main.rhai", "README.md"],
    );
    let folder = format!("{dir}/my-site/look");
    says(&author.types(&["check", &folder]), 0, &["ok", "look"]);
    says(&author.types(&["check", "my-site/look", "--workflows", dir]), 0, &["ok"]);
    says(&author.types(&["list", "--workflows", dir]), 0, &["my-site/look", "tidb/cfssl-rotate"]);
    says(&author.types(&["describe", &folder]), 0, &["note-the-owner", "owner"]);

    let script = format!("{folder}/main.rhai");
    let text = fs::read_to_string(&script).unwrap();
    assert!(text.contains("tidb::healthy("));
    fs::write(&script, text.replacen("tidb::healthy(", "tidb::helthy(", 1)).unwrap();
    let line = text.lines().position(|line| line.contains("tidb::healthy(")).unwrap() + 1;
    let place = format!("main.rhai:{line}");
    says(&author.types(&["check", &folder]), 10, &["tidb::helthy", "tidb::healthy", &place, "FAIL"]);
    assert!(!author.state().join("runs").exists(), "nothing ran");

    fs::write(&script, text.replacen("tidb::healthy(id)", "tidb::healthy()", 1)).unwrap();
    says(&author.types(&["check", &folder]), 10, &["tidb::healthy", &place]);
    says(&author.types(&["new", "my-site/look", "--dir", dir]), 2, &["exists already"]);
    for name in ["a/b/c", "../x/y", "Upper/x", "x/"] {
        says(&author.types(&["new", name, "--dir", dir]), 2, &["is no name for a workflow", "GROUP/NAME"]);
    }
    says(&author.types(&["list", "--workflows", "/nope"]), 2, &["`--workflows /nope`", "No such file"]);
}

/// Every workflow of the repository: folders with a manifest.
fn shipped() -> Vec<String> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../workflows");
    let names = |path: &str| -> Vec<String> {
        let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
        let folders = entries.filter(|entry| entry.path().is_dir());
        folders.map(|entry| entry.file_name().into_string().unwrap()).collect()
    };
    let below = |group: &String| -> Vec<String> {
        names(&format!("{root}/{group}")).iter().map(|name| format!("{group}/{name}")).collect()
    };
    let all = names(root).iter().flat_map(below).collect::<Vec<_>>();
    all.into_iter().filter(|name| fs::exists(format!("{root}/{name}/workflow.yaml")).unwrap()).collect()
}

#[test]
fn every_shipped_workflow_is_listed_described_and_well() {
    let author = Program::new();
    let shipped = shipped();
    let shipped: Vec<&str> = shipped.iter().map(String::as_str).collect();
    assert!(shipped.len() >= 15 && shipped.contains(&"hosts/verify"), "{shipped:?}");
    says(&author.types(&["list"]), 0, &shipped);
    says(&author.types(&["check"]), 0, &shipped);
    let words = ["trust-both", "switch-leaves", "distrust-old", "remove_old_ca", "secrets", "no way back"];
    says(&author.types(&["describe", "tidb/cfssl-rotate"]), 0, &words);
    let output = author.types(&["describe", "tidb/cfsl-rotate"]);
    let (code, text) = told(&output);
    assert!(code != 0 && text.contains("did you mean `tidb/cfssl-rotate`"), "{code}: {text}");
}

#[test]
fn the_exit_codes_that_scripts_rely_on_are_told() {
    let author = Program::new();
    let (code, text) = told(&author.types(&["help-exit-codes"]));
    assert_eq!(code, 0, "{text}");
    for row in runner::exit_code::ExitCode::ALL {
        let number = row.code.number().to_string();
        let shown = |line: &str| line.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == number);
        assert!(text.lines().any(shown), "{number} is missing: {text}");
    }
    let (code, text) = told(&author.types(&["--version"]));
    assert_eq!((code, text.trim()), (0, concat!("rollover ", env!("CARGO_PKG_VERSION"))));
    says(&author.types(&["rotate"]), 2, &["rotate"]);
}
