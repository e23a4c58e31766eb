//! Connections on the machine's loopback interface: every pod has an address `127.x.y.z` and its component's real ports,
//! so that other processes can dial pods as they would in a cluster.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{Connection, Listener, Network};

struct State {
    taken: BTreeSet<u8>,
    last: u8,
}

/// A `127.x.y.0/24` of this sandbox alone.
#[derive(Clone)]
pub struct LoopbackNet {
    subnet: (u8, u8),
    state: Arc<Mutex<State>>,
    /// Held open for as long as the sandbox lives: another sandbox that tries this subnet finds the port taken.
    _claim: Arc<StdListener>,
}

/// The port by which a sandbox claims its subnet.
const CLAIM_PORT: u16 = 20_179;

impl LoopbackNet {
    /// Claims a subnet that no other sandbox has.
    ///
    /// # Errors
    /// None of those tried is free.
    pub fn claim() -> io::Result<Self> {
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for _ in 0..64 {
            let subnet = (rand::random_range(2..=250u8), rand::random_range(1..=250u8));
            match StdListener::bind((Ipv4Addr::new(127, subnet.0, subnet.1, 1), CLAIM_PORT)) {
                Ok(claim) => {
                    let state = State { taken: BTreeSet::new(), last: 9 };
                    return Ok(Self { subnet, state: Arc::new(Mutex::new(state)), _claim: Arc::new(claim) });
                }
                Err(e) => last = e,
            }
        }
        Err(last)
    }

    fn address(&self, host: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(127, self.subnet.0, self.subnet.1, host))
    }
}

impl Network for LoopbackNet {
    fn allocate(&self) -> io::Result<IpAddr> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Round and round: an address that was just given back is used last, as a cluster's pod network does.
        let start = state.last;
        let free = (1..=240u8)
            .map(|step| 10 + (start.saturating_sub(10) + step) % 240)
            .find(|host| !state.taken.contains(host))
            .ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))?;
        state.taken.insert(free);
        state.last = free;
        Ok(self.address(free))
    }

    fn release(&self, ip: IpAddr) {
        if let IpAddr::V4(v4) = ip {
            let [_, _, _, host] = v4.octets();
            self.state.lock().unwrap_or_else(PoisonError::into_inner).taken.remove(&host);
        }
    }

    fn bind(&self, at: SocketAddr) -> io::Result<Box<dyn Listener>> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(at)?;
        Ok(Box::new(LoopbackListener(socket.listen(256)?)))
    }

    fn connect(&self, from: Option<IpAddr>, to: SocketAddr) -> BoxFuture<'_, io::Result<Connection>> {
        Box::pin(async move {
            let socket = TcpSocket::new_v4()?;
            if let Some(from) = from {
                socket.bind(SocketAddr::new(from, 0))?;
            }
            let stream = socket.connect(to).await?;
            connection(stream)
        })
    }
}

fn connection(stream: TcpStream) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    let (local, peer) = (stream.local_addr()?, stream.peer_addr()?);
    Ok(Connection { stream: Box::new(stream), local, peer })
}

struct LoopbackListener(TcpListener);

impl Listener for LoopbackListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Connection>> {
        Box::pin(async { connection(self.0.accept().await?.0) })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pods_have_addresses_of_their_own_on_the_same_port() {
        let net = LoopbackNet::claim().unwrap();
        let (one, two) = (net.allocate().unwrap(), net.allocate().unwrap());
        assert_ne!(one, two);
        let mut first = net.bind(SocketAddr::new(one, 2379)).unwrap();
        let _second = net.bind(SocketAddr::new(two, 2379)).unwrap();
        let dialled = net.connect(Some(two), SocketAddr::new(one, 2379)).await.unwrap();
        let accepted = first.accept().await.unwrap();
        assert_eq!(accepted.peer, dialled.local);
        assert_eq!(accepted.peer.ip(), two, "a server sees which pod dials");
        net.release(one);
        let other = LoopbackNet::claim().unwrap();
        assert_ne!(other.subnet, net.subnet);
    }
}
