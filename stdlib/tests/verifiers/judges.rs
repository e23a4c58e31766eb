//! The originals: `openssl verify`, Go's crypto/x509, and rustls' own webpki verifiers.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use stdlib::trust::{Certs, Usage};
use time::OffsetDateTime;

/// One question for all verifiers.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// What is in it, for whoever has to explain a disagreement.
    pub(crate) label: String,
    /// Leaf first.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) anchors: Vec<CertificateDer<'static>>,
    pub(crate) usage: Usage,
    /// Dialled; always there for a server.
    pub(crate) name: Option<String>,
    pub(crate) at: OffsetDateTime,
}

/// Accepted, or the original's own words.
pub(crate) type Verdict = Result<(), String>;

/// Names the package of a judge that is missing: a comparison without a judge would be no comparison.
fn run(program: &str, package: &str, command: &mut Command) -> std::process::Output {
    match command.output() {
        Ok(output) => output,
        Err(error) => panic!("`{program}` cannot be run ({error}); install it: apt-get install -y {package}"),
    }
}

/// One process for all leaves of which the same is asked, on two threads; with `-x509_strict`, which also asks for what
/// RFC 5280 does, where that is given.
pub(crate) fn openssl(cases: &[Case], flags: &[&str]) -> Vec<Verdict> {
    let folder = tempfile::tempdir().unwrap();
    let version = run("openssl", "openssl", Command::new("openssl").arg("version"));
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    assert!(version.starts_with("OpenSSL 3."), "the emulation is of OpenSSL 3, this is {version}");
    let mut alike: HashMap<_, Vec<usize>> = HashMap::new();
    for (index, case) in cases.iter().enumerate() {
        let question = (&case.chain[1..], &case.anchors, case.usage, &case.name, case.at);
        alike.entry(question).or_default().push(index);
    }
    let groups: Vec<Vec<usize>> = alike.into_values().collect();
    let half = groups.len().div_ceil(2).max(1);
    let mut verdicts: Vec<(usize, Verdict)> = std::thread::scope(|scope| {
        let workers: Vec<_> = groups
            .chunks(half)
            .enumerate()
            .map(|(worker, some)| {
                let folder = folder.path().join(worker.to_string());
                scope.spawn(move || {
                    std::fs::create_dir(&folder).unwrap();
                    let judge = |group: &Vec<usize>| openssl_group(&folder, cases, group, flags);
                    some.iter().flat_map(judge).collect::<Vec<_>>()
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    verdicts.sort_by_key(|(index, _)| *index);
    verdicts.into_iter().map(|(_, verdict)| verdict).collect()
}

/// The cases of these numbers, of which only the leaves differ.
fn openssl_group(folder: &Path, cases: &[Case], group: &[usize], flags: &[&str]) -> Vec<(usize, Verdict)> {
    let write = |name: &str, certs: &[CertificateDer<'static>]| {
        let path = folder.join(name);
        std::fs::write(&path, Certs(certs.to_vec()).pem()).unwrap();
        path
    };
    let case = &cases[group[0]];
    let mut command = Command::new("openssl");
    command.arg("verify").args(flags).args(["-no-CApath", "-no-CAstore", "-CAfile"]);
    command.arg(write("anchors.pem", &case.anchors));
    if case.chain.len() > 1 {
        command.arg("-untrusted").arg(write("untrusted.pem", &case.chain[1..]));
    }
    command.args(["-attime", &case.at.unix_timestamp().to_string(), "-purpose"]);
    command.arg(match case.usage {
        Usage::Server => "sslserver",
        Usage::Client => "sslclient",
    });
    if let Some(name) = &case.name {
        let ip = name.parse::<std::net::IpAddr>().is_ok();
        command.args([if ip { "-verify_ip" } else { "-verify_hostname" }, name]);
    }
    let leaves: Vec<PathBuf> =
        group.iter().map(|index| write(&format!("{index}.pem"), &cases[*index].chain[..1])).collect();
    let output = run("openssl", "openssl", command.args(&leaves));
    let (told, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let verdict = |leaf: &PathBuf| {
        if told.lines().any(|line| line == format!("{}: OK", leaf.display())) {
            return Ok(());
        }
        // What stands before the line that names this leaf, and behind the one that names another.
        let end = format!("error {}: verification failed", leaf.display());
        let (before, _) = wrong.split_once(&end).unwrap_or_else(|| panic!("{}: {wrong}", leaf.display()));
        Err(before.rsplit(": verification failed\n").next().unwrap_or_default().to_owned())
    };
    group.iter().copied().zip(leaves.iter().map(verdict)).collect()
}

/// Builds the Go program. Its packages are compiled once for all test programs and runs: they are what takes time.
fn go_program() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/verifiers/judge.go");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go");
    std::fs::create_dir_all(&folder).unwrap();
    let lock = std::fs::File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let program = folder.join("judge");
    let built = run(
        "go",
        "golang-go",
        Command::new("go")
            .env("GO111MODULE", "off")
            .env("GOFLAGS", "-mod=mod")
            .env("GOCACHE", folder.join("cache"))
            .args(["build", "-o"])
            .arg(folder.join("judge.new"))
            .arg(source),
    );
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    std::fs::rename(folder.join("judge.new"), &program).unwrap();
    program
}

/// Puts questions to the Go program, one a line, and returns its answers.
pub(crate) fn ask_go(questions: String) -> Vec<String> {
    let mut child = Command::new(go_program())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let count = questions.lines().count();
    let writer = std::thread::spawn(move || stdin.write_all(questions.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answers: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(answers.len(), count);
    answers
}

/// All cases in one process.
pub(crate) fn go(cases: &[Case]) -> Vec<Verdict> {
    let hex = |certs: &[CertificateDer<'static>]| {
        if certs.is_empty() {
            "-".to_owned()
        } else {
            certs.iter().map(hex::encode).collect::<Vec<_>>().join(",")
        }
    };
    let mut input = String::new();
    for case in cases {
        let usage = match case.usage {
            Usage::Server => "server",
            Usage::Client => "client",
        };
        let name = case.name.as_deref().unwrap_or("-");
        let (chain, anchors) = (hex(&case.chain), hex(&case.anchors));
        writeln!(input, "{usage} {name} {} {chain} {anchors}", case.at.unix_timestamp()).unwrap();
    }
    ask_go(input).into_iter().map(|line| if line == "ok" { Ok(()) } else { Err(line) }).collect()
}

/// rustls' own verifiers, configured as an application would.
pub(crate) fn webpki(cases: &[Case]) -> Vec<Verdict> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    cases
        .iter()
        .map(|case| {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(case.anchors.iter().cloned());
            let roots = Arc::new(roots);
            let now = UnixTime::since_unix_epoch(Duration::from_secs(
                u64::try_from(case.at.unix_timestamp()).unwrap(),
            ));
            let (leaf, rest) = case.chain.split_first().unwrap();
            match (case.usage, &case.name) {
                (Usage::Server, Some(name)) => {
                    let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
                        .build()
                        .map_err(|error| error.to_string())?;
                    let name = ServerName::try_from(name.clone()).map_err(|error| error.to_string())?;
                    verifier
                        .verify_server_cert(leaf, rest, &name, &[], now)
                        .map(|_| ())
                        .map_err(|e| e.to_string())
                }
                _ => {
                    let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
                        .build()
                        .map_err(|error| error.to_string())?;
                    verifier.verify_client_cert(leaf, rest, now).map(|_| ()).map_err(|e| e.to_string())
                }
            }
        })
        .collect()
}
