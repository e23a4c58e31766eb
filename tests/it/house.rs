//! The house keeps its own rules: arrows between crates, sizes of files, words, pages up to date, no forgotten test.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Tracked and new files below a folder, without what git ignores.
pub(crate) fn files(ending: &str) -> Vec<PathBuf> {
    let out = Command::new("git")
        .args(["ls-files", "-co", "--exclude-standard"])
        .current_dir(root())
        .output()
        .unwrap();
    let mut list: Vec<PathBuf> = String::from_utf8(out.stdout)
        .unwrap()
        .lines()
        .filter(|f| f.ends_with(ending))
        .map(|f| root().join(f))
        .filter(|f| f.exists())
        .collect();
    list.sort();
    list
}

#[test]
fn arrows_between_crates_point_one_way() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("stdlib", &[][..]),
        // In the place of a crate that others depend on.
        ("tonic-prost-build", &[][..]),
        ("journal", &["stdlib"][..]),
        ("sandbox", &["stdlib"][..]),
        ("runner", &["journal", "sandbox", "stdlib"][..]),
        ("tests", &["journal", "runner", "sandbox", "stdlib"][..]),
    ]);
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let mut seen = 0;
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        for dependency in package["dependencies"].as_array().unwrap() {
            let to = dependency["name"].as_str().unwrap();
            if allowed.contains_key(to) {
                seen += 1;
                assert!(allowed[name].contains(&to), "`{name}` must not depend on `{to}`");
            }
        }
    }
    assert!(seen >= 5, "the metadata names the crates that this test is about");
}

#[test]
fn no_file_is_larger_than_one_job() {
    let large: Vec<String> = files(".rs")
        .iter()
        .map(|path| (path, std::fs::read_to_string(path).unwrap().lines().count()))
        .filter(|(_, lines)| *lines > 800)
        .map(|(path, lines)| format!("{} has {lines} lines", path.display()))
        .collect();
    assert!(large.is_empty(), "{large:#?}");
}

#[test]
fn no_leftovers() {
    let forbidden = [
        ["to", "do!("].concat(),
        ["unimple", "mented!("].concat(),
        ["db", "g!("].concat(),
        ["FIX", "ME"].concat(),
        ["XX", "X"].concat(),
    ];
    for path in files(".rs").into_iter().chain(files(".rhai")) {
        let text = std::fs::read_to_string(&path).unwrap();
        for word in &forbidden {
            assert!(!text.contains(word), "{} contains `{word}`", path.display());
        }
    }
}

#[test]
fn generated_pages_are_up_to_date() {
    for (name, text) in tests::reference::pages() {
        let path = root().join("docs/reference").join(name);
        let now = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(now == text, "{} is out of date; `just docs` writes it", path.display());
    }
}

#[test]
fn every_page_of_the_book_is_there() {
    let summary = std::fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    let mut pages = 0;
    for link in summary.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        assert!(root().join("docs").join(link).exists(), "docs/SUMMARY.md names {link}, which is not there");
        pages += 1;
    }
    assert!(pages > 5);
}

#[test]
fn no_test_file_is_forgotten() {
    let main = std::fs::read_to_string(root().join("tests/it/main.rs")).unwrap();
    for entry in std::fs::read_dir(root().join("tests/it")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(module) = name.strip_suffix(".rs").filter(|module| *module != "main") {
            assert!(main.contains(&format!("mod {module};")), "tests/it/{name} is not named in main.rs");
        }
    }
}
