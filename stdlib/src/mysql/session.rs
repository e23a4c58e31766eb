//! A session with a MySQL server: greeting, upgrade to TLS, login, statements.
//!
//! Packets and logins are `mysql_common`'s, the half of `mysql_async` that does no IO: connections here are dialled through
//! [`crate::world::Net`], and judged as all others are.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use mysql_common::auth::plugins::mysql_native_password::MysqlNativePassword;
use mysql_common::auth::plugins::{AuthProc, ChallengeResponsePlugin as _, Context};
use mysql_common::constants::CapabilityFlags;
use mysql_common::io::ParseBuf;
use mysql_common::packets::{AuthPlugin, AuthSwitchRequest, ErrPacket, HandshakePacket, HandshakeResponse};
use mysql_common::proto::MySerialize as _;
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

use crate::secret::Secret;
use crate::tls::probe::{SILENCE, dial};
use crate::tls::{TlsFailure, Wait, handshake_client, mysql};
use crate::trust::Certs;
use crate::world::{Stream, World};

/// The largest answer that is read, and the most rows: what we ask has a few.
const MAX_PACKET: usize = 1 << 20;
const MAX_ROWS: usize = 1_000;
const QUERY: u8 = 0x03;
const QUIT: u8 = 0x01;

/// Where a server is.
#[derive(Debug, Clone, Copy)]
pub struct Address<'a> {
    /// DNS name or address to dial.
    pub host: &'a str,
    /// Port.
    pub port: u16,
    /// The name to ask for and to judge by.
    pub name: &'a str,
}

/// Who logs in.
#[derive(Debug, Clone)]
pub struct Login {
    /// The account.
    pub user: String,
    /// Its password; empty for none.
    pub password: Secret,
}

/// Why there is no session, or no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Nobody answered, or one end refused the other's certificate.
    Tls(TlsFailure),
    /// The server says no.
    Server {
        /// MySQL's number for it, e.g. 1045.
        code: u16,
        /// In the server's words.
        message: String,
    },
    /// Something that is no MySQL, or a login that is not known here.
    Protocol(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls(failure) => failure.fmt(f),
            Self::Server { code, message } => write!(f, "{message} (error {code})"),
            Self::Protocol(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Failure {}

impl From<TlsFailure> for Failure {
    fn from(failure: TlsFailure) -> Self {
        Self::Tls(failure)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Tls(error.into())
    }
}

/// What came of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// It was done.
    Done,
    /// It gave rows; their cells as text, `None` for null.
    Rows(Vec<Vec<Option<String>>>),
}

/// A session, logged in.
pub struct Session {
    stream: TlsStream<Box<dyn Stream>>,
    sequence: u8,
    chain: Certs,
    version: String,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({})", self.version)
    }
}

/// What a login may ask about its surroundings.
struct Surroundings<'a> {
    password: &'a [u8],
    nonce: &'a [u8],
}

impl Context for &Surroundings<'_> {
    fn pass(&self) -> &[u8] {
        self.password
    }
    fn is_ipc_transport(&self) -> bool {
        false
    }
    fn is_tls_transport(&self) -> bool {
        true
    }
    fn scramble(&self) -> &[u8] {
        self.nonce
    }
    fn server_key_pem(&self) -> Option<&[u8]> {
        None
    }
}

impl Session {
    /// Dials, upgrades to TLS and logs in, each within a deadline. The password is not sent before the server's
    /// certificate was accepted.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn open(
        world: &World,
        address: Address<'_>,
        config: Arc<ClientConfig>,
        login: &Login,
        within: Duration,
    ) -> Result<Self, Failure> {
        let opened = Self::open_once(world, address, Arc::clone(&config), login, within).await;
        let Err(Failure::Tls(failure)) = &opened else { return opened };
        if !failure.may_hide_an_alert() {
            return opened;
        }
        // In TLS 1.3 a server judges its client while that one already writes; its alert is lost where the line breaks.
        let clock = world.clock.as_ref();
        let mut stream = dial(world, address.host, address.port, within).await?;
        mysql::upgrade(&mut stream, within, clock).await?;
        let wait = Wait::DataOrSilence(SILENCE);
        match handshake_client(stream, config, address.name, wait, within, clock).await {
            Err(refused) if refused.is_refusal() => Err(refused.into()),
            _ => opened,
        }
    }

    async fn open_once(
        world: &World,
        address: Address<'_>,
        config: Arc<ClientConfig>,
        login: &Login,
        within: Duration,
    ) -> Result<Self, Failure> {
        let mut stream = dial(world, address.host, address.port, within).await?;
        let greeting = mysql::upgrade(&mut stream, within, world.clock.as_ref()).await?;
        let joined = async {
            let name = crate::tls::server_name(address.name)?;
            let stream = TlsConnector::from(config).connect(name, stream).await?;
            let chain = stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
            // The greeting and the request for TLS were the packets 0 and 1.
            let mut session = Self { stream, sequence: 2, chain: Certs(chain), version: greeting.version };
            session.log_in(&greeting.packet, login).await?;
            Ok(session)
        };
        in_time(world, within, joined).await
    }

    async fn log_in(&mut self, greeting: &[u8], login: &Login) -> Result<(), Failure> {
        let greeting = handshake(greeting).map_err(|error| no_mysql(&error))?;
        let mut nonce = greeting.nonce();
        let offered = greeting.auth_plugin().unwrap_or(AuthPlugin::MysqlNativePassword);
        let (mut procedure, plugin) = match offered.init() {
            Ok(procedure) => (procedure, offered),
            // The server asks for another one where the account has another one.
            Err(_) => (
                AuthProc::MysqlNativePassword(MysqlNativePassword::default()),
                AuthPlugin::MysqlNativePassword,
            ),
        };
        let capabilities = CapabilityFlags::from_bits_truncate(mysql::CAPABILITIES);
        let mut answer = {
            let surroundings = Surroundings { password: login.password.expose(), nonce: &nonce };
            procedure.run(&surroundings, &nonce).map_err(|error| unknown_login(&error))?
        };
        let response = HandshakeResponse::new(
            answer.data().map(<[u8]>::to_vec),
            (8, 0, 11),
            Some(login.user.as_bytes()),
            None::<&[u8]>,
            Some(plugin.borrow()),
            capabilities,
            None,
            mysql::MAX_PACKET,
        );
        let mut packet = Zeroizing::new(Vec::new());
        response.serialize(&mut packet);
        self.write(&packet).await?;
        loop {
            let packet = self.read().await?;
            let challenge = match packet.split_first() {
                Some((0x00, _)) => return Ok(()),
                Some((0xff, _)) => return Err(said_no(&packet)),
                Some((0x01, challenge)) => challenge.to_vec(),
                Some((0xfe, rest)) if !rest.is_empty() => {
                    let switch: AuthSwitchRequest<'_> =
                        ParseBuf(&packet).parse(()).map_err(|error| no_mysql(&error))?;
                    let plugin = switch.auth_plugin();
                    procedure = plugin.init().map_err(|error| unknown_login(&error))?;
                    nonce = switch.plugin_data().to_vec();
                    nonce.clone()
                }
                _ => return Err(Failure::Protocol("the server answers a login with something else".into())),
            };
            let surroundings = Surroundings { password: login.password.expose(), nonce: &nonce };
            answer = procedure.run(&surroundings, &challenge).map_err(|error| unknown_login(&error))?;
            if let Some(data) = answer.data() {
                let data = Zeroizing::new(data.to_vec());
                self.write(&data).await?;
            }
        }
    }

    /// What the server presented, leaf first.
    pub fn chain(&self) -> &Certs {
        &self.chain
    }

    /// What the server says that it is.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Runs one statement.
    ///
    /// # Errors
    /// The server says no, or the connection breaks or takes too long.
    pub async fn run(&mut self, world: &World, statement: &str, within: Duration) -> Result<Reply, Failure> {
        let packet = [&[QUERY], statement.as_bytes()].concat();
        let answered = async {
            self.sequence = 0;
            self.write(&packet).await?;
            self.reply().await
        };
        in_time(world, within, answered).await
    }

    async fn reply(&mut self) -> Result<Reply, Failure> {
        let first = self.read().await?;
        match first.first() {
            Some(0x00) => return Ok(Reply::Done),
            Some(0xff) => return Err(said_no(&first)),
            Some(0xfb) | None => {
                return Err(Failure::Protocol("the server answers with something else".into()));
            }
            Some(_) => {}
        }
        // How many columns, each described in a packet, up to an end packet; then the rows, up to another.
        let mut ended = false;
        let mut rows = Vec::new();
        loop {
            let packet = self.read().await?;
            match packet.first() {
                Some(0xff) => return Err(said_no(&packet)),
                Some(0xfe) if packet.len() < 9 && ended => return Ok(Reply::Rows(rows)),
                Some(0xfe) if packet.len() < 9 => ended = true,
                _ if ended && rows.len() == MAX_ROWS => {
                    return Err(Failure::Protocol("the server answers with too many rows".into()));
                }
                _ if ended => rows.push(cells(&packet)?),
                _ => {}
            }
        }
    }

    /// Says goodbye; whether it arrives changes nothing.
    pub async fn close(mut self) {
        self.sequence = 0;
        let _ = self.write(&[QUIT]).await;
        let _ = self.stream.shutdown().await;
    }

    async fn write(&mut self, packet: &[u8]) -> Result<(), Failure> {
        let length = u32::try_from(packet.len()).ok().filter(|length| *length < 1 << 24);
        let [low, middle, high, _] =
            length.ok_or_else(|| Failure::Protocol("a packet is too large".into()))?.to_le_bytes();
        let mut framed = Zeroizing::new(vec![low, middle, high, self.sequence]);
        framed.extend_from_slice(packet);
        self.sequence = self.sequence.wrapping_add(1);
        self.stream.write_all(&framed).await?;
        self.stream.flush().await?;
        Ok(())
    }

    async fn read(&mut self) -> Result<Vec<u8>, Failure> {
        let mut head = [0_u8; 4];
        self.stream.read_exact(&mut head).await?;
        let [low, middle, high, sequence] = head;
        let length = usize::from(low) | usize::from(middle) << 8 | usize::from(high) << 16;
        if length > MAX_PACKET || sequence != self.sequence {
            return Err(Failure::Protocol("the server's packets are out of order or too large".into()));
        }
        self.sequence = sequence.wrapping_add(1);
        let mut packet = vec![0_u8; length];
        self.stream.read_exact(&mut packet).await?;
        Ok(packet)
    }
}

async fn in_time<T>(
    world: &World,
    within: Duration,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        done = work => done,
        () = world.clock.sleep(within) => Err(Failure::Tls(TlsFailure::Io {
            kind: io::ErrorKind::TimedOut,
            text: "the server does not answer in time".into(),
        })),
    }
}

/// Reads a greeting (protocol version 10). A length of the nonce beyond what any server has is refused here: the crate
/// subtracts from it as a signed byte.
fn handshake(packet: &[u8]) -> io::Result<HandshakePacket<'_>> {
    // After the version: thread 4, nonce 8, filler 1, capabilities 2, collation 1, status 2, capabilities 2.
    const NONCE_LENGTH: usize = 20;
    let version = packet.iter().skip(1).position(|byte| *byte == 0).map(|length| length + 2);
    let length = version.and_then(|end| packet.get(end + NONCE_LENGTH));
    if let Some(length) = length.filter(|length| **length > 127) {
        let text = format!("its greeting announces a nonce of {length} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    ParseBuf(packet).parse(())
}

fn no_mysql(error: &io::Error) -> Failure {
    Failure::Protocol(format!("this is no MySQL server: {error}"))
}

fn unknown_login(error: &dyn fmt::Display) -> Failure {
    Failure::Protocol(format!("this account logs in by a way that is not known here: {error}"))
}

fn said_no(packet: &[u8]) -> Failure {
    let capabilities = CapabilityFlags::from_bits_truncate(mysql::CAPABILITIES);
    match ParseBuf(packet).parse::<ErrPacket<'_>>(capabilities) {
        Ok(ErrPacket::Error(error)) => {
            let message = error.message_str().escape_debug().to_string();
            Failure::Server { code: error.error_code(), message }
        }
        _ => Failure::Protocol("the server says no in words that cannot be read".into()),
    }
}

/// The cells of a row as text.
fn cells(packet: &[u8]) -> Result<Vec<Option<String>>, Failure> {
    let mut rest = ParseBuf(packet);
    let mut cells = Vec::new();
    while let Some(first) = rest.0.first() {
        if *first == 0xfb {
            rest.skip(1);
            cells.push(None);
            continue;
        }
        let text = rest
            .checked_eat_lenenc_str()
            .ok_or_else(|| Failure::Protocol("the server sends a row that is cut short".into()))?;
        cells.push(Some(String::from_utf8_lossy(text).into_owned()));
    }
    Ok(cells)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_refusals_are_read() {
        let row = [&[4][..], b"name", &[0xfb], &[1], b"x"].concat();
        assert_eq!(cells(&row).unwrap(), [Some("name".to_owned()), None, Some("x".to_owned())]);
        assert!(cells(&[9, b'x']).is_err());
        let refused = [&[0xff, 0xcb, 0x04][..], b"#42000Access denied"].concat();
        assert_eq!(said_no(&refused), Failure::Server { code: 1227, message: "Access denied".into() });
        assert!(matches!(said_no(&[0xff, 1]), Failure::Protocol(_)));
    }

    #[test]
    fn a_greeting_with_a_nonce_that_nobody_has_is_refused() {
        let greeting = |length: u8| {
            let mut packet = b"\x0a8.0\0".to_vec();
            packet.extend([0; 20]);
            packet.push(length);
            packet.extend([0; 10 + 13]);
            packet[18..20].copy_from_slice(&[0xff, 0xff]);
            packet
        };
        assert!(handshake(&greeting(21)).is_ok());
        for length in 128..=255 {
            let error = handshake(&greeting(length)).unwrap_err();
            assert!(error.to_string().contains(&format!("a nonce of {length} bytes")), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_packet_is_read_without_panic(packet: Vec<u8>) {
            let _ = cells(&packet);
            let _ = said_no(&packet);
            let _ = handshake(&packet);
            let _ = ParseBuf(&packet).parse::<AuthSwitchRequest<'_>>(());
        }
    }
}
