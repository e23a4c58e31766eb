//! The real program, in an environment of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

/// Somebody at a terminal: a home, a state folder, and the program.
pub(crate) struct Program {
    home: TempDir,
    env: Vec<(String, String)>,
}

impl Program {
    pub(crate) fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap(), env: Vec::new() }
    }

    /// The same with one more variable.
    pub(crate) fn with_env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    pub(crate) fn path(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path().join("state")
    }

    /// Types a command in the home folder. Nobody is there to answer questions.
    pub(crate) fn types(&self, args: &[&str]) -> Output {
        self.types_in("", args)
    }

    /// The same in a folder below.
    pub(crate) fn types_in(&self, folder: &str, args: &[&str]) -> Output {
        self.command(folder, args).output().unwrap()
    }

    /// Begins a command that may be killed before it ends. What it says is not kept.
    pub(crate) fn begins(&self, args: &[&str]) -> Child {
        self.command("", args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn command(&self, folder: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rollover-under-test"));
        command
            .args(args)
            .env_clear()
            .env("HOME", self.path())
            .env("ROLLOVER_STATE", self.state())
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(self.path().join(folder))
            .stdin(Stdio::null());
        command
    }

    /// Writes a file of this user's.
    pub(crate) fn writes(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Ids of the recorded runs, oldest first.
    pub(crate) fn runs(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.state().join("runs")) else { return Vec::new() };
        let mut runs: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        runs.sort();
        runs
    }
}

/// Exit code and everything said, stdout first.
pub(crate) fn told(output: &Output) -> (i32, String) {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

/// That a command ended with this code and these words.
pub(crate) fn says(output: &Output, code: i32, words: &[&str]) -> String {
    let (found, text) = told(output);
    assert_eq!(found, code, "{text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is missing: {text}");
    }
    assert!(!text.contains('\u{1b}'), "no colours where nobody looks: {text}");
    text
}
