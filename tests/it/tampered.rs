//! Somebody tampers with the record of a run: `audit verify`, the real program, says which record and which verdict.

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use insta::assert_snapshot;

use crate::program::{Program, says, told};

const MANIFEST: &str = "title: Write two notes\ntouches:\n  - files: { path: notes, write: true }\n";
const SCRIPT: &str = r#"
let first = phase("first", "The first note.");
first.change("a note", files::write("notes/a", "one"));
let second = phase("second", "The second note.");
second.change("another note", files::write("notes/b", "two"));
"#;

/// A recorded run, and copies of its record to tamper with.
struct Case {
    program: Program,
    run: String,
    lines: Vec<Vec<u8>>,
}

impl Case {
    /// A run of two phases that has ended.
    fn new() -> Self {
        let program = Program::new();
        program.writes("site/notes/workflow.yaml", MANIFEST);
        program.writes("site/notes/main.rhai", SCRIPT);
        says(&program.types(&["run", "site/notes", "--yes"]), 0, &["Done."]);
        let run = program.runs().pop().unwrap();
        let lines = lines(&program.state().join("runs").join(&run).join("journal.jsonl"));
        Self { program, run, lines }
    }

    /// A copy of the run's folder with these bytes as its journal, verified.
    fn verify_bytes(&self, journal: &[u8], args: &[&str]) -> Output {
        let copy = self.program.path().join("copy");
        let _ = fs::remove_dir_all(&copy);
        let from = self.program.state().join("runs").join(&self.run);
        fs::create_dir_all(copy.join("bodies")).unwrap();
        for body in fs::read_dir(from.join("bodies")).unwrap() {
            let body = body.unwrap();
            fs::copy(body.path(), copy.join("bodies").join(body.file_name())).unwrap();
        }
        fs::write(copy.join("journal.jsonl"), journal).unwrap();
        self.program.types(&[&["audit", "verify", "copy"], args].concat())
    }

    fn verify(&self, lines: &[Vec<u8>], args: &[&str]) -> Output {
        self.verify_bytes(&whole(lines), args)
    }

    /// Number of the first record of this kind.
    fn record(&self, kind: &str) -> usize {
        let event = |line: &Vec<u8>| serde_json::from_slice::<serde_json::Value>(line).unwrap().to_string();
        1 + self.lines.iter().position(|line| event(line).contains(&format!("\"{kind}\""))).unwrap()
    }
}

fn lines(journal: &PathBuf) -> Vec<Vec<u8>> {
    let bytes = fs::read(journal).unwrap();
    bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect()
}

fn whole(lines: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = lines.join(&b'\n');
    bytes.push(b'\n');
    bytes
}

/// What a reader sees, without what differs from run to run.
fn shown(output: &Output) -> String {
    let (code, text) = told(output);
    format!("{text}[exit code {code}]")
}

/// That integrity is denied and this record blamed; a signature that was altered leaves the records as they were.
fn names(text: &str, number: usize) {
    let verdict = |name: &str| text.lines().find(|line| line.contains(name));
    let blame = verdict("FAIL integrity").or_else(|| verdict("FAIL authenticity")).unwrap();
    let named = [format!("record {number} "), format!("record {number}:")];
    assert!(named.iter().any(|name| blame.contains(name)), "record {number} was tampered with: {text}");
}

/// Hashes, keys and names of machines are other ones in each run.
macro_rules! assert_shown {
    ($output:expr) => {
        insta::with_settings!({filters => vec![
            (r"[0-9a-f]{64}", "HASH"),
            (r"rollover-\S+\+[0-9a-f]{8}\+[A-Za-z0-9+/=]+", "KEY"),
            (r"`rollover-[^`]+`", "`NAME`"),
            (r"\(\d+ bytes\)", "(N bytes)"),
        ]}, { assert_snapshot!(shown(&$output)); });
    };
}

/// The head as `audit verify` tells it.
fn head(case: &Case) -> String {
    let output = case.program.types(&["audit", "verify", &case.run, "--output", "json"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    value["head"].as_str().unwrap().to_owned()
}

#[test]
fn a_record_as_it_was_written_passes_and_its_limits_are_told() {
    let case = Case::new();
    assert_shown!(case.verify(&case.lines, &[]));
    let head = head(&case);
    let output = case.verify(&case.lines, &["--expect-head", &head]);
    let text = says(&output, 0, &["a head kept outside confirms"]);
    assert!(!text.contains("may have had more"), "{text}");
}

#[test]
fn a_record_is_told_for_a_person() {
    let case = Case::new();
    let words =
        ["begun by", "approved: begin plan", "==> first", "The first note.", "notes/a", "absent -> one"];
    let text = says(&case.program.types(&["audit", "show", &case.run]), 0, &words);
    assert!(text.contains(&format!("head {}", head(&case))), "{text}");
    let output = case.program.types(&["audit", "show", &case.run, "--output", "json"]);
    let text = says(&output, 0, &[]);
    assert_eq!(text.lines().count(), case.lines.len(), "one record a line, as they are: {text}");
    assert_eq!(text.lines().next().unwrap().as_bytes(), case.lines[0].as_slice());
}

#[test]
fn a_changed_byte_is_found_wherever_it_is_and_its_record_named() {
    let case = Case::new();
    for number in 1..=case.lines.len() {
        let mut lines = case.lines.clone();
        let line = &mut lines[number - 1];
        // Within the event, not in the hash of the line before.
        let at = line.len() / 2;
        line[at] ^= 1;
        names(&says(&case.verify(&lines, &[]), 40, &["FAIL"]), number);
    }
    let mut lines = case.lines.clone();
    let effect = case.record("effect");
    let text = String::from_utf8(lines[effect - 1].clone()).unwrap();
    lines[effect - 1] = text.replacen("notes/a", "notes/z", 1).into_bytes();
    assert_shown!(case.verify(&lines, &[]));
}

#[test]
fn a_dropped_record_is_missed_where_it_was() {
    let case = Case::new();
    for number in 1..case.lines.len() {
        let mut lines = case.lines.clone();
        lines.remove(number - 1);
        names(&says(&case.verify(&lines, &[]), 40, &["FAIL integrity"]), number);
    }
    let mut lines = case.lines.clone();
    lines.remove(case.record("effect") - 1);
    assert_shown!(case.verify(&lines, &[]));
}

#[test]
fn an_end_that_was_cut_off_is_incomplete() {
    let case = Case::new();
    for kept in 1..case.lines.len() {
        let output = case.verify(&case.lines[..kept], &[]);
        let text = says(&output, 40, &["ok   integrity", "FAIL completeness", "may have had more"]);
        assert!(text.contains(&format!("{kept} record")), "{text}");
    }
    // In the middle of a line, as a power cut leaves it.
    let bytes = whole(&case.lines);
    assert_shown!(case.verify_bytes(&bytes[..bytes.len() - 20], &[]));
    // At a checkpoint in the middle of the run.
    assert_shown!(case.verify(&case.lines[..case.record("checkpoint")], &[]));
}

#[test]
fn a_cut_at_the_last_checkpoint_but_one_is_found_by_the_expected_head_alone() {
    let case = Case::new();
    let early = head(&case);
    says(&case.program.types(&["rollback", &case.run, "--yes"]), 0, &["Rolled back."]);
    let late = head(&case);
    assert_ne!(early, late);
    // The record of the whole run, cut back to where it once ended: nothing in it betrays the cut.
    let output = case.verify(&case.lines, &[]);
    says(&output, 0, &["ok   completeness", "may have had more", "--expect-head SIZE:HASH"]);
    let output = case.verify(&case.lines, &["--expect-head", &early]);
    says(&output, 0, &["ok   completeness"]);
    assert_shown!(case.verify(&case.lines, &["--expect-head", &late]));
    // Other records under the same number.
    let size = early.split_once(':').unwrap().0;
    let other = format!("{size}:{}", "0".repeat(64));
    says(&case.verify(&case.lines, &["--expect-head", &other]), 40, &["FAIL integrity"]);
}

#[test]
fn whose_record_it_is_depends_on_the_keys_that_are_named() {
    let case = Case::new();
    let stranger = Program::new();
    let record = case.program.state().join("runs").join(&case.run);
    let record = record.to_str().unwrap();
    // On a machine that has never signed anything.
    let words = ["ok   integrity", "FAIL authenticity", "no public key was given", "--key"];
    says(&stranger.types(&["audit", "verify", record]), 40, &words);
    assert!(!stranger.state().exists(), "to verify makes no key and writes nothing");
    // With the right key, as text and as a file.
    let file = case.program.state().join("keys/signing.vkey");
    let key = fs::read_to_string(&file).unwrap();
    says(&stranger.types(&["audit", "verify", record, "--key", key.trim()]), 0, &["ok   authenticity"]);
    let file = file.to_str().unwrap();
    says(&stranger.types(&["audit", "verify", record, "--key", file]), 0, &["ok   authenticity"]);
    // With another's.
    let other = journal::Signer::from_seed("rollover-elsewhere", &[9; 32]).unwrap().public().to_string();
    let words = ["FAIL authenticity", "none of the given keys"];
    says(&stranger.types(&["audit", "verify", record, "--key", &other]), 40, &words);
    says(&stranger.types(&["audit", "verify", record, "--key", "nonsense"]), 11, &["no public key"]);
    says(&stranger.types(&["audit", "verify", record, "--expect-head", "12"]), 2, &["SIZE:HASH"]);
}
