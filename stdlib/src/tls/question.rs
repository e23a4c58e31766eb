//! A question that any server of a protocol answers, so that its judgement of a client need not be read out of silence.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use super::handshake::{Handshake, TlsFailure, Wait, handshake_client, shake};
use crate::world::{Clock, Stream};

/// What a client of HTTP/2 begins with, and an empty frame of settings, which must be answered (RFC 9113, 3.4).
const HTTP_2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// Asks for nothing but a sign of life (RFC 9110, 9.3.7).
const HTTP_1: &[u8] =
    b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// What to ask of a server that agreed to speak this protocol; nothing where none was agreed on.
pub(super) fn question(alpn: Option<&[u8]>) -> Option<&'static [u8]> {
    match alpn? {
        b"h2" => Some(HTTP_2),
        b"http/1.1" => Some(HTTP_1),
        _ => None,
    }
}

/// The protocols that there is a question for, to be offered to a server that is to be asked.
pub const ASKED: &[&[u8]] = &[b"h2", b"http/1.1"];

/// Shakes hands with a server and asks it, so that who accepts is known at once; from one that answers nothing `wait`
/// counts. `dial` makes a new connection: a second one is made where the first broke before it was judged, or where the
/// server speaks none of the protocols that were offered.
///
/// # Errors
/// Why there is no accepted connection.
pub async fn handshake_asking<Dialled>(
    dial: impl Fn() -> Dialled,
    config: Arc<ClientConfig>,
    name: &str,
    wait: Wait,
    within: Duration,
    clock: &dyn Clock,
) -> Result<Handshake, TlsFailure>
where
    Dialled: Future<Output = Result<Box<dyn Stream>, TlsFailure>>,
{
    match shake(dial().await?, Arc::clone(&config), name, wait, true, within, clock).await {
        Err(failure) if failure.may_hide_an_alert() => {
            handshake_client(dial().await?, config, name, wait, within, clock).await
        }
        Err(failure) if failure.is_about_the_protocol() => {
            let mut offering_none = ClientConfig::clone(&config);
            offering_none.alpn_protocols.clear();
            handshake_client(dial().await?, Arc::new(offering_none), name, wait, within, clock).await
        }
        shaken => shaken,
    }
}
