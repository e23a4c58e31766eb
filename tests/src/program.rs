//! The real program, in an environment of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

/// The program: what `ROLLOVER_PROGRAM` names, or what was built beside the test that runs.
pub fn under_test() -> PathBuf {
    let beside = || {
        let test = std::env::current_exe().unwrap();
        test.parent().and_then(Path::parent).unwrap().join("rollover-under-test")
    };
    std::env::var_os("ROLLOVER_PROGRAM").map_or_else(beside, PathBuf::from)
}

/// Somebody at a terminal: a home, a state folder, and the program.
pub struct Program {
    path: PathBuf,
    home: TempDir,
    env: Vec<(String, String)>,
}

impl Default for Program {
    fn default() -> Self {
        Self::new()
    }
}

impl Program {
    /// In a home of its own.
    pub fn new() -> Self {
        Self { path: under_test(), home: tempfile::tempdir().unwrap(), env: Vec::new() }
    }

    /// The same with one more variable.
    pub fn with_env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// The home.
    pub fn path(&self) -> &Path {
        self.home.path()
    }

    /// Where its runs lie.
    pub fn state(&self) -> PathBuf {
        self.path().join("state")
    }

    /// Types a command in the home folder. Nobody is there to answer questions.
    pub fn types(&self, args: &[&str]) -> Output {
        self.types_in("", args)
    }

    /// The same in a folder below.
    pub fn types_in(&self, folder: &str, args: &[&str]) -> Output {
        self.command(folder, args).output().unwrap()
    }

    /// Begins a command that may be killed before it ends. What it says is not kept.
    pub fn begins(&self, args: &[&str]) -> Child {
        self.command("", args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Begins a command whose words are read when it has ended.
    pub fn spawns(&self, args: &[&str]) -> Child {
        self.command("", args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn command(&self, folder: &str, args: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
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
    pub fn writes(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Ids of the recorded runs, oldest first.
    pub fn runs(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.state().join("runs")) else { return Vec::new() };
        let mut runs: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        runs.sort();
        runs
    }
}

/// Exit code and everything said, stdout first.
pub fn told(output: &Output) -> (i32, String) {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

/// That a command ended with this code and these words.
pub fn says(output: &Output, code: i32, words: &[&str]) -> String {
    let (found, text) = told(output);
    assert_eq!(found, code, "{text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is missing: {text}");
    }
    assert!(!text.contains('\u{1b}'), "no colours where nobody looks: {text}");
    text
}
