//! A run that cannot begin leaves no host marked, or says which it may have left so.

use std::fs;

use serde_json::json;
use stdlib::World;
use stdlib::error::Code;
use stdlib::host::lock::{Holder, acquire};

use crate::sshd::Sshd;

#[tokio::test]
async fn a_mark_that_could_not_be_taken_off_again_is_told_with_what_takes_it_off() {
    let (Some(first), Some(second)) = (Sshd::start(), Sshd::start()) else { return };
    let other = json!({
        "run": "other-run", "since": "2026-06-01T00:00:00Z", "step": "", "head": null, "host": "desk", "user": "op", "token": "t",
    });
    fs::create_dir_all(second.folder().join("state")).unwrap();
    fs::write(second.folder().join("state/mark.json"), other.to_string()).unwrap();
    let entries = [first.entry("m1"), second.entry("m2")];
    let holder = Holder { run: "this-run".into(), host: "desk".into(), user: "op".into() };
    let mark = first.folder().join("state/mark.json");
    let world = World::system(None, "/".into());
    let error = acquire(&world, &entries, &holder).await.err().unwrap();
    assert_eq!(error.code, Code::Locked, "{error}");
    assert!(!mark.exists() && !error.hint.unwrap().contains("this-run"), "nothing is left, nothing is told");

    // The first host's disk fails when the second one is looked at.
    let broken = first.folder().join("broken");
    first.has("rm", "#!/bin/sh\n[ ! -e @FOLDER@/broken ] || { echo 'rm: Input/output error' >&2; exit 1; }\nexec /bin/rm \"$@\"\n");
    second.has("stat", &format!("#!/bin/sh\ntouch {}\nexec /usr/bin/stat \"$@\"\n", broken.display()));
    let error = acquire(&world, &entries, &holder).await.err().unwrap();
    assert_eq!(error.code, Code::Locked, "{error}");
    let hint = error.hint.unwrap();
    assert!(hint.contains("other-run"), "what is in the way comes first: {hint}");
    assert!(hint.contains("may be left on m1") && hint.contains("Input/output error"), "{hint}");
    assert!(hint.contains("`rollover abort this-run`") && mark.exists(), "{hint}");
}
