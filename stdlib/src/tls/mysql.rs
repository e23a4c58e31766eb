//! The way into TLS on a MySQL port: the server greets in clear, the client asks for TLS, and only then the handshake
//! begins. Nothing is sent that would log anybody in.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::TlsFailure;
use crate::world::{Clock, Stream};

/// Capabilities that matter here, as the protocol numbers them.
const PROTOCOL_41: u32 = 0x0000_0200;
const SSL: u32 = 0x0000_0800;
const SECURE_CONNECTION: u32 = 0x0000_8000;
const PLUGIN_AUTH: u32 = 0x0008_0000;
/// What we say that we can.
pub(crate) const CAPABILITIES: u32 = PROTOCOL_41 | SSL | SECURE_CONNECTION | PLUGIN_AUTH;
/// The largest packet that we say we would take.
pub(crate) const MAX_PACKET: u32 = 1 << 24;
/// `utf8mb4_general_ci`.
const CHARSET: u8 = 45;
/// A greeting has about a hundred bytes; an error message some hundreds.
const MAX_GREETING: usize = 4096;

/// What a MySQL server says of itself before TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// Its version, as `8.0.11-TiDB-v7.5.1`.
    pub version: String,
    /// All of the packet: whoever logs in needs the challenge in it.
    pub(crate) packet: Vec<u8>,
}

/// Reads the greeting and asks for TLS; the handshake may then begin on the same stream.
///
/// # Errors
/// Nobody greets within this time, the server is no MySQL server, refuses us at once, or has no TLS.
pub async fn upgrade(
    stream: &mut Box<dyn Stream>,
    within: Duration,
    clock: &dyn Clock,
) -> Result<Greeting, TlsFailure> {
    tokio::select! {
        greeted = exchange(stream) => greeted,
        () = clock.sleep(within) => Err(TlsFailure::Io {
            kind: io::ErrorKind::TimedOut,
            text: "the server does not greet as a MySQL server does; is it a TLS port?".into(),
        }),
    }
}

async fn exchange(stream: &mut Box<dyn Stream>) -> Result<Greeting, TlsFailure> {
    let mut head = [0_u8; 4];
    stream.read_exact(&mut head).await.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            TlsFailure::Io { kind: error.kind(), text: "closed by the server before it greeted".into() }
        }
        _ => error.into(),
    })?;
    let [low, middle, high, sequence] = head;
    let length = usize::from(low) | usize::from(middle) << 8 | usize::from(high) << 16;
    if length == 0 || length > MAX_GREETING || sequence != 0 {
        return Err(no_mysql("the first packet is no greeting"));
    }
    let mut body = vec![0_u8; length];
    stream.read_exact(&mut body).await?;
    let greeting = Greeting { version: parse(&body)?, packet: body };
    stream.write_all(&request()).await?;
    stream.flush().await?;
    Ok(greeting)
}

fn no_mysql(why: &str) -> TlsFailure {
    TlsFailure::Protocol(format!("this is no MySQL server: {why}"))
}

/// The version in the server's first packet (`HandshakeV10`, or an error packet).
fn parse(body: &[u8]) -> Result<String, TlsFailure> {
    let (kind, rest) = body.split_first().ok_or_else(|| no_mysql("an empty packet"))?;
    if *kind == 0xff {
        let code = rest.get(..2).and_then(|code| code.try_into().ok()).map_or(0, u16::from_le_bytes);
        let text = String::from_utf8_lossy(rest.get(2..).unwrap_or_default());
        // A server that knows the client already puts `#` and a state before the text.
        let text = text.strip_prefix('#').and_then(|text| text.get(5..)).unwrap_or(&text);
        return Err(TlsFailure::Protocol(format!(
            "the MySQL server refuses: {} (error {code})",
            text.escape_debug()
        )));
    }
    if *kind != 10 {
        return Err(no_mysql("it does not speak protocol version 10"));
    }
    let end = rest.iter().position(|byte| *byte == 0).ok_or_else(|| no_mysql("its version has no end"))?;
    let version = String::from_utf8_lossy(rest.get(..end).unwrap_or_default()).escape_debug().to_string();
    // MariaDB writes this before its version, for clients that know none above 5.
    let version = match version.strip_prefix("5.5.5-") {
        Some(rest) if rest.contains("MariaDB") => rest.to_owned(),
        _ => version,
    };
    // After the version: connection id (4), first part of the challenge (8), a zero (1), capabilities (2).
    let at = end + 1 + 4 + 8 + 1;
    let low = rest.get(at..at + 2).and_then(|flags| flags.try_into().ok()).map(u16::from_le_bytes);
    let capabilities = u32::from(low.ok_or_else(|| no_mysql("its greeting is cut short"))?);
    if capabilities & SSL == 0 {
        return Err(TlsFailure::Protocol(format!("the MySQL server (version {version}) has no TLS")));
    }
    Ok(version)
}

/// `SSLRequest`: the packet that asks for TLS.
fn request() -> Vec<u8> {
    let mut packet = vec![32, 0, 0, 1];
    packet.extend(CAPABILITIES.to_le_bytes());
    packet.extend(MAX_PACKET.to_le_bytes());
    packet.push(CHARSET);
    packet.extend([0; 23]);
    packet
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    /// The greeting of a server of this version with these capabilities.
    fn greeting(version: &str, capabilities: u16) -> Vec<u8> {
        let mut body = vec![10];
        body.extend(version.as_bytes());
        body.extend([0, 7, 0, 0, 0]);
        body.extend([b'x'; 8]);
        body.push(0);
        body.extend(capabilities.to_le_bytes());
        body.extend([45, 2, 0, 0, 0, 21]);
        body
    }

    #[test]
    fn a_greeting_tells_version_and_whether_there_is_tls() {
        let version = "8.0.11-TiDB-v7.5.1";
        assert_eq!(parse(&greeting(version, 0xffff)).unwrap(), version);
        let maria = parse(&greeting("5.5.5-10.11.19-MariaDB-0+deb12u1", 0xffff)).unwrap();
        assert_eq!(maria, "10.11.19-MariaDB-0+deb12u1");
        let told = parse(&greeting(version, 0x0200)).unwrap_err().to_string();
        assert_eq!(told, "no common TLS: the MySQL server (version 8.0.11-TiDB-v7.5.1) has no TLS");
    }

    #[test]
    fn what_is_no_greeting_is_told_apart() {
        let refused = [&[0xff, 0x10, 0x04][..], b"Too many connections"].concat();
        assert!(
            parse(&refused).unwrap_err().to_string().contains("refuses: Too many connections (error 1040)")
        );
        let blocked = [&[0xff, 0x69, 0x04][..], b"#HY000Host is blocked"].concat();
        assert!(parse(&blocked).unwrap_err().to_string().contains("refuses: Host is blocked"));
        for bad in [&b""[..], &[9, 0], &[10, b'x'], &[10, b'8', 0, 1, 2]] {
            assert!(parse(bad).unwrap_err().to_string().contains("this is no MySQL server"), "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_packet_is_read_without_panic(body: Vec<u8>, first in 0_usize..3) {
            let kinds: [&[u8]; 3] = [&[], &[10], &[0xff]];
            let _ = parse(&[kinds[first], &body].concat());
        }
    }

    #[test]
    fn the_request_has_the_length_that_it_names() {
        let packet = request();
        assert_eq!((packet.len(), packet[0], packet[3]), (36, 32, 1));
    }
}
