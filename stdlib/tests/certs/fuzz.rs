//! The targets of `tests/fuzz`, on stable and for a while: damaged copies of the seeds, drawn from a fixed number.
//!
//! `FUZZ_SEED=N` draws others, `FUZZ_ROUNDS=N` more; a failure prints the input and both.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::peers::all_tiers;
use crate::targets::TARGETS;

/// The files of a target: name and content.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/seeds").join(target);
    let mut all: Vec<(String, Vec<u8>)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(path).unwrap())
        })
        .collect();
    all.sort();
    all
}

/// Words that the readers look for.
fn dictionary(target: &str) -> &'static [&'static str] {
    match target {
        "pem" => &["-----BEGIN ", "-----END ", "-----", "CERTIFICATE", "PRIVATE KEY", "\n", "\r\n", ":", "="],
        "request" => &[
            "\"CN\"",
            "\"cn\":",
            "\"hosts\"",
            "\"key\"",
            "\"ca\"",
            "\"names\"",
            "\"OID\"",
            "null",
            "{",
            "}",
            "[",
            "]",
            ",",
            "\\u0000",
            "\\ud800",
            "-1",
            "1e999",
            "rsa",
            "8192",
            "h",
        ],
        "config" => &[
            "\"signing\"",
            "\"profiles\"",
            "\"default\"",
            "\"usages\"",
            "\"expiry\"",
            "\"ca_constraint\"",
            "null",
            "{",
            "}",
            "[",
            "]",
            ",",
            "9223372036854775807ns",
            "-",
            "any",
            "\"not_after\":\"9999-12-31T23:59:59Z\"",
        ],
        _ => &[
            "-----BEGIN ",
            "-----END ",
            "CERTIFICATE REQUEST",
            "\u{30}\u{80}",
            "\u{30}\u{0}",
            "\u{6}\u{3}\u{55}\u{1d}\u{11}",
            "\u{1}\u{1}",
        ],
    }
}

/// One change of an input, or up to eight.
fn damage(input: &mut Vec<u8>, others: &[(String, Vec<u8>)], words: &[&str], random: &mut StdRng) {
    let changes = if random.random() { 1 } else { random.random_range(1..=8) };
    for _ in 0..changes {
        let at = random.random_range(0..=input.len());
        let most = random.random_range(1..=64);
        let until = random.random_range(at..=input.len().min(at + most));
        match random.random_range(0..9) {
            0 | 1 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
            2 if at < input.len() => input[at] = random.random(),
            3 => drop(input.drain(at..until)),
            4 => input.insert(at, random.random()),
            5 => {
                let copy = input[at..until].to_vec();
                let times = random.random_range(1..=3);
                drop(input.splice(at..at, copy.repeat(times)));
            }
            6 => drop(input.splice(at..at, words.choose(random).unwrap().bytes())),
            7 => {
                let (_, other) = others.choose(random).unwrap();
                let from = random.random_range(0..=other.len());
                input.truncate(at);
                input.extend(&other[from..]);
            }
            _ => input.truncate(at),
        }
    }
}

/// Every valid seed is read, every malformed one refused; there are both for every reader.
#[test]
fn seeds_are_read_or_refused_as_their_names_say() {
    for (target, run) in TARGETS {
        let seeds = seeds(target);
        for (name, bytes) in &seeds {
            let read = run(bytes);
            assert!(
                read != name.starts_with("bad-") && read == name.starts_with("valid-"),
                "{target}/{name}: {read}"
            );
        }
        let valid = seeds.iter().filter(|(name, _)| name.starts_with("valid-")).count();
        assert!(valid >= 5 && seeds.len() - valid >= 12, "{target} has {valid} of {}", seeds.len());
        let distinct: BTreeSet<_> = seeds.iter().map(|(_, bytes)| bytes).collect();
        assert_eq!(distinct.len(), seeds.len(), "{target} has twins");
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn run(wanted: &str) {
    let (_, target) = TARGETS.into_iter().find(|(name, _)| *name == wanted).unwrap();
    let seed = number("FUZZ_SEED", 2026);
    let rounds = number("FUZZ_ROUNDS", if all_tiers() { 100_000 } else { 2_000 });
    let mut random = StdRng::seed_from_u64(seed);
    let seeds = seeds(wanted);
    let mut read = 0u64;
    for round in 0..rounds {
        let mut input = seeds.choose(&mut random).unwrap().1.clone();
        damage(&mut input, &seeds, dictionary(wanted), &mut random);
        let accepted = catch_unwind(AssertUnwindSafe(|| target(&input))).unwrap_or_else(|_| {
            panic!(
                "round {round} with FUZZ_SEED={seed}: {}\n{}",
                hex::encode(&input),
                String::from_utf8_lossy(&input)
            )
        });
        read += u64::from(accepted);
    }
    // Damage that breaks everything, or nothing, would test one half of the reader.
    assert!(read * 100 > rounds && read * 10 < rounds * 9, "{read} of {rounds} were read");
}

#[test]
fn damaged_pem_files() {
    run("pem");
}

#[test]
fn damaged_requests() {
    run("request");
}

#[test]
fn damaged_configurations() {
    run("config");
}

#[test]
fn damaged_signing_requests() {
    run("csr");
}
