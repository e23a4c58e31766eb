//! A person's desk: a PKI folder, the program, and the judges.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

pub(super) const CA_CSR: &str = r#"{"CN":"TiDB","CA":{"expiry":"87600h"},"key":{"algo":"ecdsa","size":256},
  "names":[{"C":"US","L":"CA","O":"PingCAP","ST":"Beijing","OU":"TiDB"}]}"#;
pub(super) const CONFIG: &str = r#"{"signing":{"default":{"expiry":"8760h","usages":["client auth"]},"profiles":{
  "internal":{"expiry":"8760h","usages":["signing","key encipherment","server auth","client auth"]},
  "client":{"expiry":"8760h","usages":["signing","key encipherment","client auth"]}}}}"#;
pub(super) const PD: &str = r#"{"CN":"TiDB","hosts":["127.0.0.1","::1","basic-pd","basic-pd.tidb.svc","*.basic-pd-peer"],
  "key":{"algo":"ecdsa","size":256},"names":[{"C":"US","L":"CA","ST":"San Francisco"}]}"#;

/// What a command answered.
pub(super) struct Answer {
    pub(super) code: i32,
    pub(super) out: String,
    pub(super) err: String,
}

impl Answer {
    /// It ended well; what it printed.
    pub(super) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self.out
    }

    /// It ended with this code, saying all of these words.
    pub(super) fn says(self, code: i32, words: &[&str]) -> String {
        let text = format!("{}{}", self.out, self.err);
        assert_eq!(self.code, code, "{text}");
        // Sentences are wrapped.
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for word in words {
            assert!(flat.contains(word), "`{word}` is missing: {text}");
        }
        text
    }
}

/// The desk.
pub(super) struct Desk {
    home: TempDir,
}

impl Desk {
    /// With the requests and the configuration of a PKI folder, and nothing else.
    pub(super) fn new() -> Self {
        let desk = Self { home: tempfile::tempdir().unwrap() };
        for (name, text) in [("ca-csr.json", CA_CSR), ("ca-config.json", CONFIG), ("pd-server.json", PD)] {
            desk.write(name, text);
        }
        desk
    }

    /// With a CA and a certificate of it, made by the program.
    pub(super) fn with_ca() -> Self {
        let desk = Self::new();
        desk.cert(&["ca", "ca-csr.json", "--out", "ca"]).ok();
        desk.cert(&["sign", "pd-server.json", "--profile", "internal"]).ok();
        desk
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(super) fn folder(&self) -> &Path {
        self.home.path()
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(super) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    pub(super) fn mode(&self, name: &str) -> u32 {
        std::fs::metadata(self.path(name)).unwrap().permissions().mode() & 0o777
    }

    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.folder())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// The program, in an environment of its own.
    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rollover-under-test"));
        command
            .args(args)
            .env_clear()
            .env("HOME", self.folder())
            .env("ROLLOVER_STATE", self.path(".state"))
            .current_dir(self.folder())
            .stdin(Stdio::null());
        command
    }

    /// `rollover cert ARGS`. Whatever it says, no private key is in it, and no colour.
    pub(super) fn cert(&self, args: &[&str]) -> Answer {
        let answer = self.cert_with_keys(args);
        let text = format!("{}{}", answer.out, answer.err);
        assert!(!text.contains("PRIVATE KEY-----\n") && !text.contains("PRIVATE KEY-----\\n"), "{text}");
        answer
    }

    /// The same, where a private key is asked for.
    pub(super) fn cert_with_keys(&self, args: &[&str]) -> Answer {
        let out = self.command(&[&["cert"], args].concat()).output().unwrap();
        let answer = Answer {
            code: out.status.code().unwrap(),
            out: String::from_utf8(out.stdout).unwrap(),
            err: String::from_utf8(out.stderr).unwrap(),
        };
        assert!(
            !answer.out.contains('\u{1b}') && !answer.err.contains('\u{1b}'),
            "no colours where nobody looks"
        );
        answer
    }

    /// `rollover cert ARGS --output json`, as a value.
    pub(super) fn json(&self, args: &[&str]) -> Value {
        let answer = self.cert(&[args, &["--output", "json"]].concat());
        serde_json::from_str(&answer.out)
            .unwrap_or_else(|error| panic!("{error}: {}{}", answer.out, answer.err))
    }

    /// Runs a judge; it must succeed or fail as expected. Returns both outputs.
    pub(super) fn judge(&self, program: &str, args: &[&str], succeeds: bool) -> String {
        let out = Command::new(program).args(args).current_dir(self.folder()).stdin(Stdio::null()).output();
        let out = out.unwrap_or_else(|error| {
            panic!("{program}: {error}; install it with `apt-get install golang-cfssl openssl`")
        });
        let text =
            format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert_eq!(out.status.success(), succeeds, "{program} {args:?}: {text}");
        text
    }

    pub(super) fn openssl(&self, args: &[&str]) -> String {
        self.judge("openssl", args, true)
    }
}

/// No line of what people read is wider than 80 columns.
pub(super) fn fits(text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
    }
}
