//! A question that any server of a protocol answers, so that its judgement of a client need not be read out of silence.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use super::handshake::{Handshake, TlsFailure, Wait, handshake_client};
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

/// Shakes hands with a server and asks it, so that who accepts is known at once; one that answers nothing must refuse
/// within `silence`. `dial` makes a new connection; a second one is made where the first broke before it was judged.
///
/// # Errors
/// Why there is no accepted connection.
pub async fn handshake_asking<Dialled>(
    dial: impl Fn() -> Dialled,
    config: Arc<ClientConfig>,
    name: &str,
    silence: Duration,
    within: Duration,
    clock: &dyn Clock,
) -> Result<Handshake, TlsFailure>
where
    Dialled: Future<Output = Result<Box<dyn Stream>, TlsFailure>>,
{
    let wait = Wait::AnswerOrSilence(silence);
    let shaken = handshake_client(dial().await?, Arc::clone(&config), name, wait, within, clock).await;
    if !shaken.as_ref().is_err_and(TlsFailure::may_hide_an_alert) {
        return shaken;
    }
    handshake_client(dial().await?, config, name, Wait::DataOrSilence(silence), within, clock).await
}
