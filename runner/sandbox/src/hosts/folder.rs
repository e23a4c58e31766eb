//! A folder in place of a host's root. Links lead nowhere but below it.
#![expect(clippy::disallowed_methods, reason = "the files of the sandbox's hosts enter here")]

use std::collections::VecDeque;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

/// As many links as Linux follows.
const LINKS: usize = 40;

/// The folder.
#[derive(Debug, Clone)]
pub(super) struct Root(PathBuf);

/// A place below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spot {
    /// As the host has it, links followed.
    pub path: String,
    /// As this machine has it.
    pub here: PathBuf,
}

/// A file that was read.
pub(super) struct File {
    pub bytes: Vec<u8>,
    pub mode: u32,
    pub spot: Spot,
}

/// What there is.
pub(super) enum Node {
    Nothing,
    File(File),
    /// A folder, or something else that has no bytes.
    Other,
}

impl Root {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// Where a path leads, links followed. Its end need not be there.
    pub(super) fn spot(&self, path: &str) -> io::Result<Spot> {
        let mut left: VecDeque<PathBuf> =
            Path::new(path).components().map(|part| PathBuf::from(part.as_os_str())).collect();
        let mut at: Vec<PathBuf> = Vec::new();
        let mut links = 0;
        while let Some(part) = left.pop_front() {
            match part.components().next() {
                Some(Component::RootDir) => at.clear(),
                Some(Component::ParentDir) => drop(at.pop()),
                Some(Component::Normal(name)) => {
                    at.push(PathBuf::from(name));
                    let Ok(target) = fs::read_link(self.join(&at)) else { continue };
                    links += 1;
                    if links > LINKS {
                        return Err(io::Error::other("too many levels of symbolic links"));
                    }
                    at.pop();
                    for part in target.components().rev() {
                        left.push_front(PathBuf::from(part.as_os_str()));
                    }
                }
                _ => {}
            }
        }
        let path: PathBuf = [PathBuf::from("/")].into_iter().chain(at.iter().cloned()).collect();
        Ok(Spot { path: path.to_string_lossy().into_owned(), here: self.join(&at) })
    }

    fn join(&self, at: &[PathBuf]) -> PathBuf {
        at.iter().fold(self.0.clone(), |path, part| path.join(part))
    }

    /// What lies at a path.
    pub(super) fn node(&self, path: &str) -> io::Result<Node> {
        let spot = self.spot(path)?;
        let nothing =
            |error: &io::Error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
        let facts = match fs::metadata(&spot.here) {
            Ok(facts) => facts,
            Err(error) if nothing(&error) => return Ok(Node::Nothing),
            Err(error) => return Err(error),
        };
        if !facts.is_file() {
            return Ok(Node::Other);
        }
        match fs::read(&spot.here) {
            Ok(bytes) => Ok(Node::File(File { bytes, mode: facts.permissions().mode() & 0o7777, spot })),
            Err(error) if nothing(&error) => Ok(Node::Nothing),
            Err(error) => Err(error),
        }
    }

    /// The bytes of a file.
    pub(super) fn bytes(&self, path: &str) -> io::Result<Vec<u8>> {
        match self.node(path)? {
            Node::File(file) => Ok(file.bytes),
            Node::Nothing => Err(ErrorKind::NotFound.into()),
            Node::Other => Err(ErrorKind::IsADirectory.into()),
        }
    }

    /// Whether it is a folder.
    pub(super) fn is_folder(&self, path: &str) -> bool {
        self.spot(path).is_ok_and(|spot| spot.here.is_dir())
    }

    /// Names in a folder, sorted; `None` where nothing is there.
    pub(super) fn list(&self, path: &str) -> io::Result<Option<Vec<String>>> {
        let spot = self.spot(path)?;
        if !spot.here.exists() {
            return Ok(None);
        }
        let names =
            fs::read_dir(&spot.here)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let mut names: Vec<String> = names.collect::<io::Result<_>>()?;
        names.sort();
        Ok(Some(names))
    }

    /// Writes a file beside a place, to be renamed to it; folders that are missing are made.
    pub(super) fn stage(spot: &Spot, number: usize, bytes: &[u8], mode: u32) -> io::Result<PathBuf> {
        let folder = spot.here.parent().ok_or(ErrorKind::InvalidInput)?;
        fs::create_dir_all(folder)?;
        let beside = folder.join(format!(".rollover.{number}"));
        fs::write(&beside, bytes)?;
        fs::set_permissions(&beside, fs::Permissions::from_mode(mode))?;
        Ok(beside)
    }

    /// A link to a folder, which is made.
    pub(super) fn link(&self, path: &str, folder: &str) -> io::Result<()> {
        let (from, to) = (self.spot(path)?, self.spot(folder)?);
        fs::create_dir_all(&to.here)?;
        fs::create_dir_all(from.here.parent().ok_or(ErrorKind::InvalidInput)?)?;
        std::os::unix::fs::symlink(folder, &from.here)
    }

    /// Puts what was staged in its place, as one act.
    pub(super) fn settle(staged: &Path, spot: &Spot) -> io::Result<()> {
        fs::rename(staged, &spot.here)
    }

    /// Removes a file; one that is not there is none.
    pub(super) fn remove(here: &Path) -> io::Result<()> {
        match fs::remove_file(here) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn no_path_and_no_link_leads_out_of_the_folder() {
        let folder = std::env::temp_dir().join(format!("rollover-root-{}", std::process::id()));
        let root = Root::new(folder.clone());
        fs::create_dir_all(folder.join("etc")).unwrap();
        for (name, target) in
            [("absolute", "/etc/passwd"), ("up", "../../../../etc/passwd"), ("loop", "loop")]
        {
            let _ = fs::remove_file(folder.join(name));
            std::os::unix::fs::symlink(target, folder.join(name)).unwrap();
        }
        for path in ["/absolute", "/up", "/../../etc/passwd", "/etc/../../etc/passwd"] {
            assert_eq!(root.spot(path).unwrap().here, folder.join("etc/passwd"), "{path}");
            assert_eq!(root.spot(path).unwrap().path, "/etc/passwd");
        }
        assert!(root.spot("/loop").is_err());
        fs::remove_dir_all(folder).unwrap();
    }
}
