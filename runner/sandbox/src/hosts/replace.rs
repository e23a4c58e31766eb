//! Files of a host replaced: all are compared, then all staged, then all renamed.

use std::path::PathBuf;

use stdlib::PrimError;
use stdlib::error::Code;
use stdlib::host::{ABSENT, Put, digest};

use super::folder::{Node, Root, Spot};

/// What was found at a place, and what shall be there.
struct Change {
    spot: Spot,
    staged: Option<PathBuf>,
}

/// Removes what was staged and not put in its place.
struct Staged(Vec<Change>);

impl Drop for Staged {
    fn drop(&mut self) {
        for staged in self.0.iter().filter_map(|change| change.staged.as_ref()) {
            let _ = Root::remove(staged);
        }
    }
}

/// Replaces them. The caller holds the host's lock.
pub(super) fn replace(root: &Root, name: &str, puts: &[Put]) -> Result<Vec<Spot>, PrimError> {
    let failed = |path: &str, error: &std::io::Error| {
        PrimError::new(Code::Unavailable, format!("the host could not do it: {error}"))
            .on(format!("{name}:{path}"))
    };
    let mut staged = Staged(Vec::new());
    for (number, put) in puts.iter().enumerate() {
        let fail = |error: std::io::Error| failed(&put.path, &error);
        let spot = root.spot(&put.path).map_err(fail)?;
        let (now, mode) = match root.node(&put.path).map_err(fail)? {
            Node::Nothing => (ABSENT.to_owned(), None),
            Node::File(file) => (digest(&file.bytes), Some(file.mode)),
            Node::Other => ("no file".to_owned(), None),
        };
        if now != put.before {
            return Err(PrimError::new(Code::Conflict, "somebody else has changed the file just now")
                .on(format!("{name}:{}", spot.path)));
        }
        let beside = match &put.bytes {
            Some(bytes) => {
                let mode = put.mode.or(mode).unwrap_or(0o600);
                Some(Root::stage(&spot, number, bytes, mode).map_err(fail)?)
            }
            None => None,
        };
        staged.0.push(Change { spot, staged: beside });
    }
    let mut changed = Vec::new();
    for change in &mut staged.0 {
        let fail = |error: std::io::Error| failed(&change.spot.path, &error);
        match change.staged.take() {
            Some(beside) => Root::settle(&beside, &change.spot).map_err(fail)?,
            None => Root::remove(&change.spot.here).map_err(fail)?,
        }
        changed.push(change.spot.clone());
    }
    Ok(changed)
}
