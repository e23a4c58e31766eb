//! Two processes of the program on one cluster: the second is refused, and takes over when the first is stopped for longer
//! than its Lease lasts. One story, told on the sandbox's API server and on a real one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const WORKFLOW: &str = "tidb/cfssl-components";
/// Longer than a Lease lasts, with what clocks may differ.
const LEASE_ENDS: Duration = Duration::from_secs(37);
/// How long a part of the story may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// Where the story takes place.
#[derive(Debug)]
pub struct Stage {
    /// The program.
    pub program: PathBuf,
    /// A folder of its own.
    pub home: PathBuf,
    /// How the cluster is reached.
    pub kubeconfig: PathBuf,
    /// The PKI folder of its certificates.
    pub pki: PathBuf,
}

/// How the second takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakesOver {
    /// To the end.
    Resume,
    /// To where the run began.
    Rollback,
}

/// One person's state folder.
struct Person<'a> {
    stage: &'a Stage,
    state: PathBuf,
}

/// A command that was typed and goes on.
struct Typed {
    child: Child,
    log: PathBuf,
}

impl Drop for Typed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Typed {
    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for its end: exit code and what it said.
    fn ends(mut self) -> (i32, String) {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status.code().unwrap_or(-1), fs::read_to_string(&self.log).unwrap());
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "it does not end: {}",
                fs::read_to_string(&self.log).unwrap()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Person<'_> {
    fn types(&self, args: &[&str]) -> Typed {
        let log = self.stage.home.join(format!("{}.log", fs::read_dir(&self.stage.home).unwrap().count()));
        let out = File::create(&log).unwrap();
        let child = Command::new(&self.stage.program)
            .args(args)
            .arg("--kubeconfig")
            .arg(&self.stage.kubeconfig)
            .arg("--yes")
            .env_clear()
            .env("HOME", &self.stage.home)
            .env("ROLLOVER_STATE", &self.state)
            .current_dir(&self.stage.home)
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        Typed { child, log }
    }

    fn begins(&self) -> Typed {
        let pki = format!("pki={}", self.stage.pki.display());
        self.types(&["run", WORKFLOW, "--set", &pki])
    }

    fn run(&self) -> Option<String> {
        let mut runs = fs::read_dir(self.state.join("runs")).ok()?;
        runs.next().map(|entry| entry.unwrap().file_name().into_string().unwrap())
    }

    /// How many changes its record announces.
    fn effects(&self) -> usize {
        let Some(run) = self.run() else { return 0 };
        let record = fs::read_to_string(self.state.join("runs").join(run).join("journal.jsonl"));
        record.unwrap_or_default().lines().filter(|line| line.contains("\"type\":\"effect\"")).count()
    }
}

fn says((code, text): (i32, String), expected: i32, words: &[&str]) -> String {
    assert_eq!(code, expected, "{text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is missing: {text}");
    }
    text
}

/// A copy of a folder, modes and all.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// What a run may write: the Secrets with their versions, what is wanted of the cluster, the files.
#[derive(Debug, PartialEq)]
struct World {
    secrets: BTreeMap<String, (String, Value)>,
    cluster: Value,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl World {
    async fn look(stage: &Stage) -> Self {
        let client = crate::control_plane::client(&stage.kubeconfig).await.unwrap();
        let get = async |path: &str| -> Value {
            client.request(http::Request::get(path).body(Vec::new()).unwrap()).await.unwrap()
        };
        let secrets = get("/api/v1/namespaces/tidb/secrets").await;
        let named = |secret: &Value| {
            let version = secret["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
            (secret["metadata"]["name"].as_str().unwrap().to_owned(), (version, secret["data"].clone()))
        };
        let path = "/apis/pingcap.com/v1alpha1/namespaces/tidb/tidbclusters/basic";
        let mut cluster = get(path).await;
        let files = fs::read_dir(&stage.pki).unwrap().map(|entry| entry.unwrap().path());
        Self {
            secrets: secrets["items"].as_array().unwrap().iter().map(named).collect(),
            cluster: serde_json::json!([cluster["spec"].take(), cluster["metadata"]["annotations"].take()]),
            files: files.filter(|path| path.is_file()).map(|p| (p.clone(), fs::read(p).unwrap())).collect(),
        }
    }
}

/// Tells the story.
pub async fn story(stage: &Stage, takes_over: TakesOver) {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let first = Person { stage, state: stage.home.join("first") };
    let running = first.begins();
    let begun = Instant::now();
    while first.effects() < 3 {
        assert!(begun.elapsed() < PATIENCE, "{}", fs::read_to_string(&running.log).unwrap());
        std::thread::sleep(Duration::from_millis(10));
    }
    let run = first.run().unwrap();
    let person = format!("@{host}");

    // It works: whoever else begins is told who, where, and at which step.
    let second = Person { stage, state: stage.home.join("second") };
    says(second.begins().ends(), 21, &[&run, &person, "since", "at step `", "rollover resume"]);

    running.signal(Signal::STOP);
    let stopped = Instant::now();
    copy(&first.state, &second.state);
    let how = match takes_over {
        TakesOver::Resume => "resume",
        TakesOver::Rollback => "rollback",
    };
    let process = format!("process {}", running.child.id());
    // Its folder is in use, and its Lease has not ended.
    says(first.types(&[how, &run]).ends(), 25, &[&running.child.id().to_string()]);
    says(second.types(&[how, &run]).ends(), 21, &["holds the Lease", &process]);

    while stopped.elapsed() < LEASE_ENDS {
        std::thread::sleep(Duration::from_millis(200));
    }
    let stranger = Person { stage, state: stage.home.join("stranger") };
    says(stranger.begins().ends(), 21, &[&run, &person, "at step `"]);
    says(second.types(&[how, &run]).ends(), 0, &["the lock was taken from", &process]);

    let before = World::look(stage).await;
    running.signal(Signal::CONT);
    says(running.ends(), 21, &["lost its lock"]);
    assert_eq!(World::look(stage).await, before, "the first, thawed, wrote something");
    says(stranger.begins().ends(), 0, &["Done."]);
}
