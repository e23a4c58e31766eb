//! Nothing that a person could feed us takes unbounded memory or time: a clear error, in a process of its own whose
//! memory and processor time the kernel has counted.

use std::path::Path;
use std::process::Command;

use serde_json::json;
use stdlib::bundle;
use stdlib::cert::{self, SigningRequest, pem};
use stdlib::cfssl::{Config, Request};
use stdlib::error::PrimError;
use stdlib::gate::ReadOnly;

use crate::support::*;

const INPUT: &str = "LIMITS_INPUT";

/// What a child process did with an input.
struct Cost {
    /// The error that it ended in, or nothing.
    error: String,
    /// Its largest resident memory, in MiB.
    memory: u64,
    /// Its processor time in milliseconds.
    time: u64,
}

fn kinds(kind: &str, path: &Path) -> Result<(), PrimError> {
    let folder = path.parent().unwrap_or(path).display().to_string();
    let world = world(Path::new("/"), now());
    match kind {
        "nothing" => Ok(()),
        // As the program reads it: from the PKI folder.
        "folder" => call(&world, &ReadOnly, "cfssl::folder", &[json!(folder)]).map(drop),
        "bundle" => cert::parse(&std::fs::read(path).unwrap(), "ca.pem")
            .and_then(|parsed| bundle::encode(&parsed.certificates))
            .map(drop),
        "request" => Request::from_json(&std::fs::read(path).unwrap(), "request.json")
            .and_then(|r| r.subject())
            .map(drop),
        "config" => Config::from_json(&std::fs::read(path).unwrap(), "ca-config.json").map(drop),
        "csr" => SigningRequest::from_pem(&std::fs::read(path).unwrap(), "a.csr").map(drop),
        "certificate" => cert::parse_any(&std::fs::read(path).unwrap(), "a.der").map(drop),
        other => panic!("{other}"),
    }
}

/// Reads an input in a process of its own: this same test program, of which it runs one test again.
fn cost(kind: &str, path: &Path) -> Cost {
    let out = Command::new(std::env::current_exe().unwrap())
        .args(["limits::a_child_reads_its_input", "--exact", "--nocapture"])
        .env(INPUT, format!("{kind} {}", path.display()))
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.split_once(name)).unwrap_or_else(|| panic!("{text}"));
        line.1.to_owned()
    };
    Cost {
        error: field("error: "),
        memory: field("memory: ").parse().unwrap(),
        time: field("time: ").parse().unwrap(),
    }
}

/// Milliseconds of a processor that this thread has had.
fn used() -> u64 {
    let used = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    used.split(' ').next().unwrap().parse::<u64>().unwrap() / 1_000_000
}

/// What the children do. Without an input it is no test.
#[test]
fn a_child_reads_its_input() {
    let Ok(input) = std::env::var(INPUT) else { return };
    let (kind, path) = input.split_once(' ').unwrap();
    let before = used();
    let result = kinds(kind, Path::new(path));
    let time = used() - before;
    let error = result.err().map(|error| {
        assert!(error.hint.is_some(), "{error}");
        error.to_string()
    });
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let memory: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    #[expect(clippy::print_stdout, reason = "its parent reads it")]
    {
        println!("\nerror: {}\nmemory: {}\ntime: {time}", error.unwrap_or_default(), memory / 1024);
    }
}

fn file(folder: &Path, name: &str, content: &[u8]) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

/// What is beyond the limits ends in an error that names the limit, and costs hardly more than an empty process; beyond
/// the text itself, where that was read.
#[test]
fn what_is_too_large_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let base = cost("nothing", folder);
    let check = |kind: &str, path: &Path, read: u64, words: &str| {
        let cost = cost(kind, path);
        assert!(cost.error.contains(words), "{kind}: {}", cost.error);
        assert!(
            cost.memory <= base.memory + read + 40,
            "{kind}: {} MiB, {} for nothing",
            cost.memory,
            base.memory
        );
    };
    let one = new_ca().0.pem();
    let huge = one.repeat(100 * 1024 * 1024 / one.len());
    let path = file(folder, "huge.pem", huge.as_bytes());
    check("bundle", &path, 100, "is too large");
    let flat = huge.replace('\n', "");
    check("bundle", &file(folder, "flat.pem", flat.as_bytes()), 100, "is too large");
    let million = vec![r#""a.b""#; 1_000_000].join(",");
    let request = format!(r#"{{"CN":"x","hosts":[{million}]}}"#);
    check("request", &file(folder, "million.json", request.as_bytes()), 10, "is too large");
    let many = format!(r#"{{"CN":"x","hosts":[{}]}}"#, vec![r#""a.b""#; 100_000].join(","));
    check("request", &file(folder, "many.json", many.as_bytes()), 10, "too many names");
    for (kind, open) in
        [("request", "["), ("request", "{\"names\":"), ("config", "{\"signing\":"), ("config", "[")]
    {
        let nested = open.repeat(10_000);
        check(
            kind,
            &file(folder, "nested.json", nested.as_bytes()),
            1,
            "too many lists and objects in each other",
        );
    }
    // A million names, in DER: of a certificate, and of a request.
    let names = [0x82, 3, b'a', b'.', b'b'].repeat(1_000_000);
    let block = |label: &str| pem::encode(label, &names);
    check("csr", &file(folder, "million.csr", block("CERTIFICATE REQUEST").as_bytes()), 15, "is too large");
    check("bundle", &file(folder, "million.pem", block("CERTIFICATE").as_bytes()), 15, "is too large");
    let der = [&[0x30, 0x84, 0, 0x4c, 0x4b, 0x40][..], &names].concat();
    check("certificate", &file(folder, "million.der", &der), 15, "is too large");
}

/// A file of the PKI folder is not even read where it is too large.
#[test]
fn files_of_the_folder_that_are_too_large_are_not_read() {
    let base = cost("nothing", Path::new("/"));
    for name in ["ca.pem", "ca-key.pem", "ca-config.json", "ca-csr.json", "pd-server.json"] {
        let folder = pki();
        let path = folder.path().join(name);
        // Without a block on the disk: it is the length that counts.
        std::fs::File::create(&path).unwrap().set_len(1 << 30).unwrap();
        let cost = cost("folder", &path);
        assert!(cost.error.contains(name) && cost.error.contains("is too large"), "{name}: {}", cost.error);
        assert!(cost.memory <= base.memory + 40, "{name}: {} MiB, {} for nothing", cost.memory, base.memory);
    }
}

/// What is within the limits takes time and memory in proportion: eight times as much at most sixteen times.
#[test]
fn what_is_within_the_limits_takes_its_share() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let one = new_ca().0.pem();
    let text = |unit: &str, eighths: usize| unit.repeat(eighths * (1 << 17) / unit.len());
    let flat = one.replace('\n', "");
    let hosts = |count: usize| {
        let hosts: Vec<String> = (0..count).map(|n| format!("\"a{n}.example\"")).collect();
        format!(r#"{{"CN":"x","hosts":[{}]}}"#, hosts.join(","))
    };
    let names = |count: usize| {
        let names: Vec<String> =
            (0..count).map(|n| format!(r#"{{"O":"{n}","OID":{{"1.2.{n}":"v"}}}}"#)).collect();
        format!(r#"{{"CN":"x","names":[{}]}}"#, names.join(","))
    };
    let profiles = |count: usize| {
        let profiles: Vec<String> =
            (0..count).map(|n| format!(r#""p{n}":{{"expiry":"1h","usages":["any"]}}"#)).collect();
        format!(r#"{{"signing":{{"profiles":{{{}}}}}}}"#, profiles.join(","))
    };
    let base = cost("nothing", folder);
    for (kind, what, small, large) in [
        ("bundle", "certificates", text(&one, 1), text(&one, 8)),
        ("bundle", "certificates on one line", text(&flat, 1), text(&flat, 8)),
        ("bundle", "BEGIN lines", text("-----BEGIN A-----\n", 1), text("-----BEGIN A-----\n", 8)),
        ("bundle", "dashes", text("-", 1), text("-", 8)),
        ("bundle", "other blocks", text(&pem::encode("X", b"x"), 1), text(&pem::encode("X", b"x"), 8)),
        ("request", "hosts", hosts(1_000), hosts(8_000)),
        ("request", "names", names(1_000), names(8_000)),
        ("config", "profiles", profiles(1_000), profiles(8_000)),
    ] {
        let (small, large) =
            (file(folder, "small", small.as_bytes()), file(folder, "large", large.as_bytes()));
        let [small_cost, large_cost] = [&small, &large].map(|path| cost(kind, path));
        let memory = small_cost.memory.saturating_sub(base.memory).max(5);
        let more_memory = large_cost.memory.saturating_sub(base.memory).max(5);
        // Another program that shares the caches may be in the way, of either: what grows too fast does so each time.
        let (mut time, mut more_time) = (small_cost.time.max(5), large_cost.time);
        for _ in 0..4 {
            if more_time <= 16 * time {
                break;
            }
            time = time.max(cost(kind, &small).time);
            more_time = more_time.min(cost(kind, &large).time);
        }
        assert!(more_time <= 16 * time, "{what}: {time} ms, and {more_time} ms for eight times as much");
        assert!(
            more_memory <= 16 * memory,
            "{what}: {memory} MiB, and {more_memory} for eight times as much"
        );
    }
}
