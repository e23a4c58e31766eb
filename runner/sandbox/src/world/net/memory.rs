//! Connections as pairs of in-memory streams, for worlds within the test process.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use tokio::sync::mpsc;

use super::{Connection, Listener, Network};

/// Larger than any TLS flight, so that a dead peer never blocks a writer for long.
const BUFFER: usize = 64 * 1024;

#[derive(Default)]
struct State {
    open: BTreeMap<SocketAddr, mpsc::UnboundedSender<Connection>>,
    taken: BTreeSet<u32>,
    next_port: u16,
}

/// A network that exists in this process only.
#[derive(Clone, Default)]
pub struct MemoryNet(Arc<Mutex<State>>);

impl MemoryNet {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const FIRST: u32 = 0x0a01_0001; // 10.1.0.1

impl Network for MemoryNet {
    fn allocate(&self) -> io::Result<IpAddr> {
        let mut state = self.state();
        let free = (FIRST..FIRST + 60_000).find(|n| !state.taken.contains(n));
        let free = free.ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))?;
        state.taken.insert(free);
        Ok(IpAddr::V4(Ipv4Addr::from_bits(free)))
    }

    fn release(&self, ip: IpAddr) {
        if let IpAddr::V4(v4) = ip {
            self.state().taken.remove(&v4.to_bits());
        }
    }

    fn bind(&self, at: SocketAddr) -> io::Result<Box<dyn Listener>> {
        let (sender, incoming) = mpsc::unbounded_channel();
        let mut state = self.state();
        if state.open.get(&at).is_some_and(|open| !open.is_closed()) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        state.open.insert(at, sender);
        Ok(Box::new(MemoryListener { incoming }))
    }

    fn connect(&self, from: Option<IpAddr>, to: SocketAddr) -> BoxFuture<'_, io::Result<Connection>> {
        let answer = {
            let mut state = self.state();
            state.next_port = state.next_port.checked_add(1).unwrap_or(32_768).max(32_768);
            let local = SocketAddr::new(from.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), state.next_port);
            let (ours, theirs) = tokio::io::duplex(BUFFER);
            let handed = Connection { stream: Box::new(theirs), local: to, peer: local };
            match state.open.get(&to).map(|open| open.send(handed)) {
                Some(Ok(())) => Ok(Connection { stream: Box::new(ours), local, peer: to }),
                _ => {
                    state.open.remove(&to);
                    Err(io::ErrorKind::ConnectionRefused.into())
                }
            }
        };
        Box::pin(async move { answer })
    }
}

struct MemoryListener {
    incoming: mpsc::UnboundedReceiver<Connection>,
}

impl Listener for MemoryListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Connection>> {
        Box::pin(async { self.incoming.recv().await.ok_or_else(|| io::ErrorKind::NotConnected.into()) })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_port_answers_while_it_is_open_and_refuses_when_closed() {
        let net = MemoryNet::default();
        let at = SocketAddr::new(net.allocate().unwrap(), 2379);
        assert_eq!(net.connect(None, at).await.err().unwrap().kind(), io::ErrorKind::ConnectionRefused);

        let mut port = net.bind(at).unwrap();
        assert_eq!(net.bind(at).err().unwrap().kind(), io::ErrorKind::AddrInUse);
        let mut dialled = net.connect(None, at).await.unwrap();
        let mut accepted = port.accept().await.unwrap();
        assert_eq!(accepted.peer, dialled.local);
        dialled.stream.write_all(b"hello").await.unwrap();
        let mut got = [0; 5];
        accepted.stream.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"hello");

        drop(port);
        assert_eq!(net.connect(None, at).await.err().unwrap().kind(), io::ErrorKind::ConnectionRefused);
        assert!(net.bind(at).is_ok(), "a restarted pod takes its port again");
    }

    #[tokio::test]
    async fn a_process_that_dies_ends_its_connections() {
        let net = MemoryNet::default();
        let at = SocketAddr::new(net.allocate().unwrap(), 2379);
        let mut port = net.bind(at).unwrap();
        let mut dialled = net.connect(None, at).await.unwrap();
        drop(port.accept().await.unwrap());
        let mut rest = Vec::new();
        assert_eq!(dialled.stream.read_to_end(&mut rest).await.unwrap(), 0);
    }
}
