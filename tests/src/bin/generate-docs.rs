//! Writes the generated pages of the book, or checks that they are up to date: `generate-docs [write|check]`.

use std::path::Path;
use std::process::ExitCode;

#[allow(clippy::print_stderr, clippy::disallowed_methods)]
fn main() -> ExitCode {
    let write = std::env::args().nth(1).as_deref() == Some("write");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference");
    let mut stale = 0;
    for (name, text) in tests::reference::pages() {
        let path = root.join(name);
        if std::fs::read_to_string(&path).is_ok_and(|now| now == text) {
            continue;
        }
        stale += 1;
        if write {
            if let Err(error) = std::fs::write(&path, text) {
                eprintln!("{}: {error}", path.display());
                return ExitCode::FAILURE;
            }
        } else {
            eprintln!("{} is out of date; `just docs` writes it", path.display());
        }
    }
    if write || stale == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
