//! Files of a host replaced: all are compared, then all staged, then all renamed; or renamed that were staged before.

use std::path::PathBuf;

use stdlib::PrimError;
use stdlib::error::Code;
use stdlib::host::{ABSENT, Move, Put, digest};

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
    let mut staged = Staged(Vec::new());
    for (number, put) in puts.iter().enumerate() {
        let fail = |error: std::io::Error| failed(name, &put.path, &error);
        let spot = root.spot(&put.path).map_err(fail)?;
        let (now, mode) = match root.node(&put.path).map_err(fail)? {
            Node::Nothing => (ABSENT.to_owned(), None),
            Node::File(file) => (digest(&file.bytes), Some(file.mode)),
            Node::Other => ("no file".to_owned(), None),
        };
        if now != put.before {
            return Err(changed(name, &spot));
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
    let mut replaced = Vec::new();
    for change in &mut staged.0 {
        let fail = |error: std::io::Error| failed(name, &change.spot.path, &error);
        match change.staged.take() {
            Some(beside) => Root::settle(&beside, &change.spot).map_err(fail)?,
            None => Root::remove(&change.spot.here).map_err(fail)?,
        }
        replaced.push(change.spot.clone());
    }
    Ok(replaced)
}

/// Renames files that lie beside their places. The caller holds the host's lock.
pub(super) fn install(root: &Root, name: &str, moves: &[Move]) -> Result<Vec<(Spot, Spot)>, PrimError> {
    let mut spots = Vec::new();
    for one in moves {
        let mut here = Vec::new();
        for (path, wanted) in [(&one.from, &one.staged), (&one.to, &one.before)] {
            let fail = |error: std::io::Error| failed(name, path, &error);
            let spot = root.spot(path).map_err(fail)?;
            let now = match root.node(path).map_err(fail)? {
                Node::Nothing => ABSENT.to_owned(),
                Node::File(file) => digest(&file.bytes),
                Node::Other => "no file".to_owned(),
            };
            if now != *wanted {
                return Err(changed(name, &spot));
            }
            here.push(spot);
        }
        if let [from, to] = here.as_slice() {
            spots.push((from.clone(), to.clone()));
        }
    }
    for (from, to) in &spots {
        Root::settle(&from.here, to).map_err(|error| failed(name, &to.path, &error))?;
    }
    Ok(spots)
}

fn failed(name: &str, path: &str, error: &std::io::Error) -> PrimError {
    PrimError::new(Code::Unavailable, format!("the host could not do it: {error}"))
        .on(format!("{name}:{path}"))
}

fn changed(name: &str, spot: &Spot) -> PrimError {
    PrimError::new(Code::Conflict, "somebody else has changed the file just now")
        .on(format!("{name}:{}", spot.path))
}
