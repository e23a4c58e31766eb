//! The ports to the world: clock, network, disk, cluster. Real ones, or the sandbox's.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::PrimError;
use crate::secret::{MemorySecrets, SecretStore};

/// Wall-clock time and waiting. Under the tests' virtual clock both follow tokio's paused time.
pub trait Clock: Send + Sync {
    /// The time now, UTC.
    fn now(&self) -> time::OffsetDateTime;
    /// Waits. The default uses tokio's timer, which a paused runtime advances by itself.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// The machine's clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the machine's clock enters here")]
    fn now(&self) -> time::OffsetDateTime {
        time::OffsetDateTime::now_utc()
    }
}

/// A clock that starts at a given moment and follows tokio's (possibly paused) time.
#[derive(Debug, Clone, Copy)]
pub struct TokioClock {
    base: time::OffsetDateTime,
    started: tokio::time::Instant,
}

impl TokioClock {
    /// A clock that shows `base` now. Must be called within a tokio runtime.
    pub fn starting_at(base: time::OffsetDateTime) -> Self {
        Self { base, started: tokio::time::Instant::now() }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> time::OffsetDateTime {
        self.base + self.started.elapsed()
    }
}

/// A byte stream to a server.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Dials addresses. `host` is an IP address or a DNS name.
pub trait Net: Send + Sync {
    /// Opens a new connection; the caller sets the deadline.
    ///
    /// # Errors
    /// `std::io::ErrorKind::ConnectionRefused` and the like, as the operating system gives them.
    fn dial(&self, host: &str, port: u16) -> BoxFuture<'_, std::io::Result<Box<dyn Stream>>>;

    /// What to do where somebody cannot be reached, a pod or a process on a host.
    fn unreached(&self) -> &'static str {
        "see whether it is up and listens there, and what lies between; where it is a pod whose address cannot be reached from here, as from a laptop, `--pods forward` dials pods through the API server"
    }
}

/// The machine's network.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemNet;

impl Net for SystemNet {
    fn dial(&self, host: &str, port: u16) -> BoxFuture<'_, std::io::Result<Box<dyn Stream>>> {
        let host = host.to_owned();
        Box::pin(async move {
            let stream = tokio::net::TcpStream::connect((host.as_str(), port)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

/// Files, with durability as an explicit act: [`crate::files`] has the real one, tests have one that loses what was
/// not synced. Calls are short and synchronous.
pub trait Disk: Send + Sync {
    /// The whole file.
    ///
    /// # Errors
    /// As `std::fs::read`.
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>>;
    /// The file as a stream, for what must not be held in memory as a whole.
    ///
    /// # Errors
    /// As `std::fs::File::open`.
    fn open(&self, path: &Path) -> std::io::Result<Box<dyn std::io::Read + Send>> {
        Ok(Box::new(std::io::Cursor::new(self.read(path)?)))
    }
    /// Names of the entries of a folder, sorted.
    ///
    /// # Errors
    /// As `std::fs::read_dir`.
    fn list(&self, dir: &Path) -> std::io::Result<Vec<String>>;
    /// Whether the path exists.
    fn exists(&self, path: &Path) -> bool;
    /// The permission bits (`0o600`).
    ///
    /// # Errors
    /// The path does not exist.
    fn mode(&self, path: &Path) -> std::io::Result<u32>;
    /// Makes a folder and its parents with this mode, durably.
    ///
    /// # Errors
    /// As `std::fs::create_dir_all`.
    fn make_dir(&self, dir: &Path, mode: u32) -> std::io::Result<()>;
    /// Replaces a file as one act: temporary file in the same folder, fsync, rename, fsync of the folder.
    ///
    /// # Errors
    /// The old file is then still whole.
    fn write_atomic(&self, path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()>;
    /// As [`Self::write_atomic`], for a file that must not be there yet.
    ///
    /// # Errors
    /// `AlreadyExists` where it is; it is then as it was.
    fn write_new(&self, path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
        if self.exists(path) {
            return Err(std::io::ErrorKind::AlreadyExists.into());
        }
        self.write_atomic(path, bytes, mode)
    }
    /// Removes a file, durably (fsync of the folder). A file that is not there is no error.
    ///
    /// # Errors
    /// As `std::fs::remove_file`.
    fn remove(&self, path: &Path) -> std::io::Result<()>;
    /// Opens a file for appending, making it with this mode where it is not there (durably), cut to `len` bytes.
    ///
    /// # Errors
    /// As opening and truncating.
    fn append(&self, path: &Path, len: u64, mode: u32) -> std::io::Result<Box<dyn AppendFile>>;
    /// Takes an exclusive lock on the file (made where missing); released on drop or death of the process.
    ///
    /// # Errors
    /// `WouldBlock` when another process holds it.
    fn lock(&self, path: &Path) -> std::io::Result<Box<dyn Send + Sync>>;
}

/// An open file that only grows.
pub trait AppendFile: Send + Sync {
    /// One write of all the bytes at the end.
    ///
    /// # Errors
    /// The file may then end with a torn line.
    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()>;
    /// fdatasync.
    ///
    /// # Errors
    /// What was written may be lost; the caller must not go on.
    fn sync(&mut self) -> std::io::Result<()>;
}

/// Everything that a primitive may need of the world. Cheap to clone.
#[derive(Clone)]
pub struct World {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Dialling.
    pub net: Arc<dyn Net>,
    /// Files of this machine.
    pub disk: Arc<dyn Disk>,
    /// The cluster in whose context the run works, where there is one.
    pub cluster: Option<kube::Client>,
    /// What that cluster has said of its kinds.
    pub kinds: Arc<crate::k8s::kinds::Kinds>,
    /// Hosts below any cluster, and the run's holds on them.
    pub hosts: Arc<crate::host::Pool>,
    /// Where secrets lie.
    pub secrets: Arc<dyn SecretStore>,
    /// What to say when a primitive needs a cluster and there is none.
    pub no_cluster: String,
    /// The field manager and author name of our writes, e.g. `rollover`.
    pub manager: String,
    /// The folder that relative paths start from.
    pub folder: PathBuf,
}

impl World {
    /// This machine, with the given cluster.
    pub fn system(cluster: Option<kube::Client>, folder: PathBuf) -> Self {
        Self {
            clock: Arc::new(SystemClock),
            net: Arc::new(SystemNet),
            disk: Arc::new(crate::files::SystemDisk),
            cluster,
            kinds: Arc::default(),
            hosts: Arc::default(),
            secrets: Arc::new(MemorySecrets::default()),
            no_cluster: "no cluster is configured; set `KUBECONFIG` or pass `--kubeconfig`".into(),
            manager: "rollover".into(),
            folder,
        }
    }

    /// The cluster, or an error that says how to name one.
    ///
    /// # Errors
    /// No cluster is configured.
    pub fn cluster(&self) -> Result<kube::Client, PrimError> {
        self.cluster
            .clone()
            .ok_or_else(|| PrimError::new(crate::error::Code::Unavailable, self.no_cluster.clone()))
    }
}
