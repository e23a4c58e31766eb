//! The network of the sandbox: pod addresses that listen and are dialled, in memory or on the loopback interface.

mod loopback;
mod memory;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::future::BoxFuture;
use stdlib::world::Stream;

pub use loopback::LoopbackNet;
pub use memory::MemoryNet;

/// One end of a connection.
pub struct Connection {
    /// The bytes.
    pub stream: Box<dyn Stream>,
    /// Our address.
    pub local: SocketAddr,
    /// The other's address: tells a server which pod dials.
    pub peer: SocketAddr,
}

/// Something that accepts connections; dropping it closes the port.
pub trait Listener: Send {
    /// The next connection.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Connection>>;
}

/// Addresses, ports and connections.
pub trait Network: Send + Sync {
    /// A pod address that nobody has.
    ///
    /// # Errors
    /// All are taken.
    fn allocate(&self) -> io::Result<IpAddr>;

    /// Gives an address back.
    fn release(&self, ip: IpAddr);

    /// Opens a port.
    ///
    /// # Errors
    /// As binding a socket.
    fn bind(&self, at: SocketAddr) -> io::Result<Box<dyn Listener>>;

    /// Dials, from an address of ours where one is given.
    fn connect(&self, from: Option<IpAddr>, to: SocketAddr) -> BoxFuture<'_, io::Result<Connection>>;
}

/// How long a dial may take before it counts as unanswered.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(3);
