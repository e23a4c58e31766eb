//! The hosts of a run: one connection each, and the holds that the run has on them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::inventory::{Connection, Entry};
use super::local::Local;
use super::port::{Fence, Host};
use super::posix::Posix;
use super::ssh::Ssh;
use crate::error::{Code, PrimError};

/// Makes a host of an entry.
pub type Connect = Box<dyn Fn(&Entry) -> Result<Arc<dyn Host>, PrimError> + Send + Sync>;

/// Where control sockets lie.
type Sockets = Arc<tempfile::TempDir>;

/// A host, and the entry that it was made of.
type Known = (Entry, Arc<dyn Host>);

/// Hosts by name.
pub struct Pool {
    connect: Connect,
    known: Mutex<HashMap<String, Known>>,
    fences: Mutex<HashMap<String, Fence>>,
}

impl Default for Pool {
    /// Over the operator's OpenSSH, and this machine for `ansible_connection: local`.
    fn default() -> Self {
        let folder: Mutex<Option<Sockets>> = Mutex::default();
        Self::new(Box::new(move |entry| {
            if entry.connection == Connection::Local {
                return Ok(Arc::new(Posix::new(&entry.name, &entry.state, entry.r#become.clone(), Local)));
            }
            let mut folder = folder.lock().unwrap_or_else(PoisonError::into_inner);
            let folder = match &*folder {
                Some(folder) => Arc::clone(folder),
                None => Arc::clone(folder.insert(Arc::new(sockets()?))),
            };
            let ssh = Ssh::new(entry.clone(), folder);
            Ok(Arc::new(Posix::new(&entry.name, &entry.state, entry.r#become.clone(), ssh)))
        }))
    }
}

/// A folder for control sockets, which only we may enter. It is removed when the last host is gone; connections that
/// outlive us end by themselves.
fn sockets() -> Result<tempfile::TempDir, PrimError> {
    #[expect(clippy::disallowed_methods, reason = "where OpenSSH's sockets may lie is the machine's to say")]
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(std::path::PathBuf::from);
    // The path of a socket has room for about a hundred bytes.
    let base = runtime.filter(|path| path.is_dir() && path.as_os_str().len() < 40);
    let base = base.as_deref().unwrap_or(Path::new("/tmp"));
    tempfile::Builder::new().prefix("rollover-ssh-").tempdir_in(base).map_err(|error| {
        PrimError::new(Code::Unavailable, format!("cannot make a folder for SSH's sockets: {error}"))
            .on(base.display().to_string())
    })
}

impl Pool {
    /// Hosts that this makes.
    pub fn new(connect: Connect) -> Self {
        Self { connect, known: Mutex::default(), fences: Mutex::default() }
    }

    /// The host of an entry: the same one as long as the entry is the same.
    ///
    /// # Errors
    /// It cannot be made. Whether it answers is found when it is asked something.
    pub fn host(&self, entry: &Entry) -> Result<Arc<dyn Host>, PrimError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((as_known, host)) = known.get(&entry.name)
            && as_known.reaches_as(entry)
        {
            return Ok(Arc::clone(host));
        }
        let host = (self.connect)(entry)?;
        known.insert(entry.name.clone(), (entry.clone(), Arc::clone(&host)));
        Ok(host)
    }

    /// The run's hold on a host, where it has one.
    pub fn fence(&self, name: &str) -> Option<Fence> {
        self.fences.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Takes note of a hold, or of its end.
    pub(super) fn hold(&self, name: &str, fence: Option<Fence>) {
        let mut fences = self.fences.lock().unwrap_or_else(PoisonError::into_inner);
        match fence {
            Some(fence) => fences.insert(name.to_owned(), fence),
            None => fences.remove(name),
        };
    }
}
