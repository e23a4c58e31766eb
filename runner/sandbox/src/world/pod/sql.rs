//! TiDB's port for MySQL clients: greeting, upgrade to TLS, login, and the few statements that a rotation uses.
//!
//! Certificate, key and authorities are loaded together, at the start and by `ALTER INSTANCE RELOAD TLS`; where they do not
//! fit, the former ones stay. A client that shows a certificate is judged, one that shows none is not.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use mysql_common::auth::plugins::mysql_native_password::scramble_native;
use mysql_common::constants::{CapabilityFlags, StatusFlags};
use mysql_common::io::ParseBuf;
use mysql_common::packets::{
    AuthMoreData, AuthSwitchRequest, ErrPacket, HandshakePacket, HandshakeResponse, ServerError, SqlState,
};
use mysql_common::proto::MySerialize;
use stdlib::world::Stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use super::party::Party;
use super::serve::{IDLE, accept, ours};
use crate::world::ctx::Ctx;
use crate::world::directory::Endpoint;
use crate::world::net::{Connection, Listener};
use crate::world::volume::Volume;

/// What it says that it is.
const VERSION: &str = "8.0.11-TiDB-v8.5.0";
const MOST: usize = 64 * 1024;
/// Without a password and without rights, for those who only want to know whether the link holds.
pub(crate) const GUEST: &str = "app";
/// May do everything.
const ROOT: &str = "root";
const NATIVE: &[u8] = b"mysql_native_password";
const CACHING: &[u8] = b"caching_sha2_password";

/// The MySQL side of one TiDB process.
pub struct SqlSide {
    volume: Volume,
    label: String,
    loaded: Mutex<Arc<Party>>,
    password: String,
}

impl SqlSide {
    /// A process that starts now.
    ///
    /// # Errors
    /// Its files are missing or malformed.
    pub(crate) fn start(label: String, volume: Volume, password: String) -> Result<Self, String> {
        let party = Arc::new(Party::sql(label.clone(), volume.clone())?);
        Ok(Self { volume, label, loaded: Mutex::new(party), password })
    }

    /// What it has loaded.
    pub fn party(&self) -> Arc<Party> {
        Arc::clone(&self.loaded.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Loads the files anew, or keeps what it has.
    fn reload(&self, ctx: &Ctx) -> Result<(), String> {
        let fresh = Party::sql(self.label.clone(), self.volume.clone())?;
        let leaf = fresh.leaf()?;
        ctx.configs.sql_server(&fresh, &leaf, &ctx.clock)?;
        *self.loaded.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
        ctx.bell.ring();
        Ok(())
    }
}

/// Serves until it is dropped, and all its connections with it.
pub(crate) async fn serve(
    ctx: Arc<Ctx>,
    endpoint: Arc<Endpoint>,
    side: Arc<SqlSide>,
    mut listener: Box<dyn Listener>,
) {
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok(connection) => {
                let (ctx, endpoint, side) = (Arc::clone(&ctx), Arc::clone(&endpoint), Arc::clone(&side));
                connections.spawn(async move {
                    // Whoever goes away early, or speaks something else, is of no interest.
                    let _ = tokio::time::timeout(IDLE * 6, one(&ctx, &endpoint, &side, connection)).await;
                });
            }
            Err(e) => {
                tracing::warn!("{}: accept: {e}", side.label);
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn one(ctx: &Ctx, endpoint: &Endpoint, side: &SqlSide, connection: Connection) -> io::Result<()> {
    let peer = connection.peer;
    let nonce = ctx.dice(&format!("nonce/{}/{peer}", endpoint.pod)).hex(10).into_bytes();
    let mut plain = Packets { stream: connection.stream, sequence: 0 };
    plain.send(&greeting(&nonce)).await?;
    let request = plain.receive().await?;
    if request.len() != 32 {
        return plain.refuse(1105, "connections without TLS are not wanted here").await;
    }
    let party = side.party();
    let config = party.leaf().and_then(|leaf| ctx.configs.sql_server(&party, &leaf, &ctx.clock));
    let Some(stream) = accept(ctx, peer, config, plain.stream).await else { return Ok(()) };
    if !ours(ctx, peer) {
        ctx.counters.outside(true);
    }
    let mut packets = Packets { stream, sequence: plain.sequence };
    let packet = packets.receive().await?;
    let response: HandshakeResponse<'_> = ParseBuf(&packet).parse(())?;
    let user = String::from_utf8_lossy(response.user()).into_owned();
    let known = match user.as_str() {
        ROOT => packets.full_login(&nonce, &side.password).await?,
        GUEST => response.scramble_buf() == scramble_native(&nonce, b"").map_or(Vec::new(), |s| s.to_vec()),
        _ => false,
    };
    if !known {
        let text = format!("Access denied for user '{user}'@'{}' (using password: YES)", peer.ip());
        return packets.refuse(1045, &text).await;
    }
    packets.send(OK).await?;
    loop {
        packets.sequence = 0;
        let packet = packets.receive().await?;
        let Some((3, statement)) = packet.split_first().map(|(kind, rest)| (*kind, rest)) else {
            return Ok(());
        };
        let statement = String::from_utf8_lossy(statement).into_owned();
        packets.answer(ctx, side, &user, statement.trim()).await?;
    }
}

/// An `OK` packet: nothing changed, autocommit, no warnings.
const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];
/// The end of columns, and of rows.
const EOF: &[u8] = &[0xfe, 0, 0, 2, 0];

fn greeting(nonce: &[u8]) -> Vec<u8> {
    let (first, second) = nonce.split_at(8);
    let mut scramble = [0; 8];
    scramble.copy_from_slice(first);
    let capabilities = CapabilityFlags::CLIENT_PROTOCOL_41
        | CapabilityFlags::CLIENT_SSL
        | CapabilityFlags::CLIENT_SECURE_CONNECTION
        | CapabilityFlags::CLIENT_PLUGIN_AUTH;
    let packet = HandshakePacket::new(
        10,
        VERSION.as_bytes(),
        7,
        scramble,
        Some([second, &[0]].concat()),
        capabilities,
        45,
        StatusFlags::SERVER_STATUS_AUTOCOMMIT,
        Some(NATIVE),
    );
    serialized(&packet)
}

fn serialized(packet: &impl MySerialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.serialize(&mut bytes);
    bytes
}

struct Packets<S> {
    stream: S,
    sequence: u8,
}

impl<S: Stream> Packets<S> {
    async fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        let length = u32::try_from(packet.len()).unwrap_or(u32::MAX);
        let [low, middle, high, _] = length.to_le_bytes();
        let framed = [&[low, middle, high, self.sequence][..], packet].concat();
        self.sequence = self.sequence.wrapping_add(1);
        self.stream.write_all(&framed).await?;
        self.stream.flush().await
    }

    async fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut head = [0; 4];
        self.stream.read_exact(&mut head).await?;
        let [low, middle, high, sequence] = head;
        let length = usize::from(low) | usize::from(middle) << 8 | usize::from(high) << 16;
        if length > MOST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.sequence = sequence.wrapping_add(1);
        let mut packet = vec![0; length];
        self.stream.read_exact(&mut packet).await?;
        Ok(packet)
    }

    async fn refuse(&mut self, code: u16, text: &str) -> io::Result<()> {
        let state = if code == 1227 { *b"42000" } else { *b"HY000" };
        let error = ServerError::new(code, Some(SqlState::new(state)), text.as_bytes());
        self.send(&serialized(&ErrPacket::Error(error))).await
    }

    /// As MySQL 8 logs in an account whose password it has not cached: another plugin, and the password over TLS.
    async fn full_login(&mut self, nonce: &[u8], password: &str) -> io::Result<bool> {
        let nonce = [nonce, &[0]].concat();
        self.send(&serialized(&AuthSwitchRequest::new(CACHING, nonce))).await?;
        if self.receive().await?.is_empty() {
            return Ok(password.is_empty());
        }
        self.send(&serialized(&AuthMoreData::new(&[4_u8][..]))).await?;
        let given = self.receive().await?;
        Ok(given.strip_suffix(&[0]) == Some(password.as_bytes()))
    }

    async fn answer(&mut self, ctx: &Ctx, side: &SqlSide, user: &str, statement: &str) -> io::Result<()> {
        let root = user == ROOT;
        match statement {
            "ALTER INSTANCE RELOAD TLS" if root => match side.reload(ctx) {
                Ok(()) => self.send(OK).await,
                Err(why) => self.refuse(1105, &why).await,
            },
            "ALTER INSTANCE RELOAD TLS" => {
                let text =
                    "Access denied; you need (at least one of) the SUPER privilege(s) for this operation";
                self.refuse(1227, text).await
            }
            "SHOW GRANTS" => {
                let grant = if root {
                    "GRANT ALL PRIVILEGES ON *.* TO 'root'@'%' WITH GRANT OPTION".to_owned()
                } else {
                    format!("GRANT USAGE ON *.* TO '{user}'@'%'")
                };
                self.rows(&[&format!("Grants for {user}@%")], &[&grant]).await
            }
            "SHOW STATUS LIKE 'Ssl_server_not_after'" => {
                let party = side.party();
                let leaf = party.leaf().ok().and_then(|leaf| leaf.chain.0.first().cloned());
                let until = leaf
                    .and_then(|der| stdlib::cert::Certificate::from_der(der.to_vec()).ok())
                    .map(|certificate| certificate.not_after().to_string())
                    .unwrap_or_default();
                self.rows(&["Variable_name", "Value"], &["Ssl_server_not_after", &until]).await
            }
            _ => self.refuse(1064, "You have an error in your SQL syntax").await,
        }
    }

    /// One row of texts.
    async fn rows(&mut self, columns: &[&str], cells: &[&str]) -> io::Result<()> {
        use mysql_common::constants::ColumnType;
        use mysql_common::packets::Column;
        let count = u8::try_from(columns.len()).unwrap_or(u8::MAX);
        self.send(&[count]).await?;
        for name in columns {
            let column = Column::new(ColumnType::MYSQL_TYPE_VAR_STRING).with_name(name.as_bytes());
            self.send(&serialized(&column)).await?;
        }
        self.send(EOF).await?;
        let mut row = Vec::new();
        for cell in cells {
            row.push(u8::try_from(cell.len()).unwrap_or(u8::MAX));
            row.extend(cell.as_bytes());
        }
        self.send(&row).await?;
        self.send(EOF).await
    }
}

/// What a guest says after the upgrade, as framed bytes: a login without a password, then a goodbye.
pub(crate) fn guests_login() -> Vec<u8> {
    let capabilities = CapabilityFlags::CLIENT_PROTOCOL_41
        | CapabilityFlags::CLIENT_SSL
        | CapabilityFlags::CLIENT_SECURE_CONNECTION;
    let plugin = mysql_common::packets::AuthPlugin::MysqlNativePassword;
    let response = HandshakeResponse::new(
        None::<&[u8]>,
        (8, 0, 11),
        Some(GUEST.as_bytes()),
        None::<&[u8]>,
        Some(plugin),
        capabilities,
        None,
        1 << 24,
    );
    let login = serialized(&response);
    let length = u8::try_from(login.len()).unwrap_or(u8::MAX);
    [&[length, 0, 0, 2][..], &login, &[1, 0, 0, 0, 1]].concat()
}
