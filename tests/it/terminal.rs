//! Somebody at a real terminal: a question, and Ctrl-C in place of an answer.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};

use crate::program::{Program, says};

/// The program at a terminal of its own, by util-linux's `script`.
struct Terminal {
    script: Child,
    seen: String,
}

impl Terminal {
    fn types(person: &Program, command: &str) -> Self {
        let program = env!("CARGO_BIN_EXE_rollover-under-test");
        let script = Command::new("script")
            .args(["-qec", &format!("exec {program} {command}"), "/dev/null"])
            .env("HOME", person.path())
            .env("ROLLOVER_STATE", person.state())
            .env("TERM", "xterm")
            .current_dir(person.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self { script, seen: String::new() }
    }

    /// Reads until these words are on the screen.
    fn shows(&mut self, words: &str) {
        let screen = self.script.stdout.as_mut().unwrap();
        let mut bytes = [0; 4096];
        while !self.seen.contains(words) {
            let read = screen.read(&mut bytes).unwrap();
            assert!(read > 0, "it ended without `{words}`: {}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    }

    fn presses(&mut self, keys: &[u8]) {
        let keyboard = self.script.stdin.as_mut().unwrap();
        keyboard.write_all(keys).unwrap();
        keyboard.flush().unwrap();
    }

    /// The exit code, and all that was shown.
    fn ends(mut self) -> (i32, String) {
        let mut rest = Vec::new();
        self.script.stdout.as_mut().unwrap().read_to_end(&mut rest).unwrap();
        self.seen.push_str(&String::from_utf8_lossy(&rest));
        (self.script.wait().unwrap().code().unwrap(), self.seen)
    }
}

/// A workflow that needs no world, with a point of no return.
fn a_drill(person: &Program) {
    person.writes(
        "drill/workflow.yaml",
        "title: A drill\nsummary: Does nothing.\npoint_of_no_return: the phase drill\n",
    );
    let script = "let p = phase(\"drill\", \"Nothing is changed.\");\np.final();\np.change(\"nothing\", flow::nothing());\n";
    person.writes("drill/main.rhai", script);
}

#[test]
fn ctrl_c_at_a_question_is_no_answer_and_the_run_can_be_resumed() {
    let person = Program::new();
    a_drill(&person);
    let mut terminal = Terminal::types(&person, "run ./drill");
    terminal.shows("[y/N]");
    terminal.presses(b"\x03");
    let (code, text) = terminal.ends();
    assert_eq!(code, 130, "{text}");
    assert!(text.contains("the record stays whole"), "{text}");
    let run = person.runs().pop().unwrap();
    says(
        &person.types(&["audit", "verify", &run]),
        40,
        &["ok   integrity", "0 records after the last checkpoint are unsigned"],
    );

    // Agreed to beginning, the next question is about the point of no return.
    let mut terminal = Terminal::types(&person, &format!("resume {run} --yes"));
    terminal.shows("Go past the point of no return? [y/N]");
    terminal.presses(b"\x03");
    let (code, text) = terminal.ends();
    assert_eq!(code, 130, "{text}");
    let mut terminal = Terminal::types(&person, &format!("resume {run} --yes"));
    terminal.shows("[y/N]");
    terminal.presses(b"maybe\n");
    terminal.shows("please answer y or n");
    terminal.presses(b"y\n");
    let (code, text) = terminal.ends();
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("Done."), "{text}");
}

#[test]
fn the_number_of_a_dead_sandbox_may_be_another_programs_which_is_left_alone() {
    let person = Program::new();
    // It says that it is this process, which is no sandbox.
    let ready = format!(r#"{{"pid": {}, "kubeconfig": "/none"}}"#, std::process::id());
    person.writes("state/sandboxes/dead/ready.json", &ready);
    says(&person.types(&["sandbox", "list"]), 0, &["no sandbox runs"]);
    says(&person.types(&["sandbox", "stop", "state/sandboxes/dead"]), 19, &["no sandbox runs there"]);
    says(&person.types(&["sandbox", "stop"]), 0, &[]);
}
