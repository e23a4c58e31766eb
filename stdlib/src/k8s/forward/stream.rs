//! A forwarded connection as a stream of bytes: two channels in one WebSocket, as the kubelet speaks them, the data and
//! the errors of one port.
//!
//! How it ends is told apart: what was closed at the pod's end, what the kubelet could not do, what broke on the way. None
//! of them is a word of the server's, so none can be taken for its judgement.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use futures::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::{Error, Message};

const DATA: u8 = 0;
const ERROR: u8 = 1;
/// The most that one message carries.
const MOST: usize = 64 * 1024;
/// The most that is kept of what a kubelet says.
const WORDS: usize = 300;

/// One port of one pod.
pub(super) struct Forwarded<W> {
    web: W,
    port: u16,
    /// For errors: `tidb/basic-pd-0:2379`.
    title: String,
    /// What came and was not read yet.
    rest: BytesMut,
    /// Whether the two channels have named their port, as they do first.
    named: [bool; 2],
    ended: Option<(io::ErrorKind, String)>,
}

impl<W> Forwarded<W> {
    pub(super) fn new(web: W, port: u16, title: String) -> Self {
        Self { web, port, title, rest: BytesMut::new(), named: [false; 2], ended: None }
    }

    fn end(&mut self, kind: io::ErrorKind, why: String) -> io::Error {
        let (kind, why) = self.ended.get_or_insert((kind, why));
        io::Error::new(*kind, why.clone())
    }

    fn cut(&mut self, why: &str) -> io::Error {
        let text = format!("the port-forward to {} was cut off: {why}", self.title);
        self.end(io::ErrorKind::ConnectionAborted, text)
    }

    fn closed(&mut self) -> io::Error {
        let text = format!("the port-forward to {} was closed at the pod's end", self.title);
        self.end(io::ErrorKind::UnexpectedEof, text)
    }

    /// What a message brings: bytes of the server, or the end.
    fn take(&mut self, message: Message) -> Result<(), io::Error> {
        let mut bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Close(_) => return Err(self.closed()),
            Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => return Ok(()),
        };
        let Some(channel) = bytes.first().copied() else { return Ok(()) };
        let _ = bytes.split_to(1);
        let Some(named) = self.named.get_mut(usize::from(channel)) else {
            return Err(self.cut(&format!("something came on channel {channel}, which was not asked for")));
        };
        if !std::mem::replace(named, true) {
            return if *bytes == self.port.to_le_bytes() {
                Ok(())
            } else {
                Err(self.cut("its first message names another port"))
            };
        }
        match channel {
            DATA => self.rest.extend_from_slice(&bytes),
            ERROR if !bytes.is_empty() => return Err(self.failed(&bytes)),
            _ => {}
        }
        Ok(())
    }

    /// The kubelet says why the port cannot be used.
    fn failed(&mut self, words: &[u8]) -> io::Error {
        let words = String::from_utf8_lossy(words);
        let words: String = words.trim().chars().take(WORDS).collect();
        let kind =
            if words.contains("refused") { io::ErrorKind::ConnectionRefused } else { io::ErrorKind::Other };
        self.end(kind, format!("the port-forward to {} failed: {words}", self.title))
    }
}

impl<W> Forwarded<W>
where
    W: Stream<Item = Result<Message, Error>> + Unpin,
{
    /// Takes the next message in.
    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match ready!(Pin::new(&mut self.web).poll_next(cx)) {
            Some(Ok(message)) => self.take(message),
            Some(Err(error)) => Err(self.cut(&error.to_string())),
            None => Err(self.cut("the connection to the API server has ended")),
        })
    }

    /// Why nothing can be written any more: as whoever ended it has said, if it was said. What came before stays to be read.
    fn why_not(&mut self, cx: &mut Context<'_>, error: &Error) -> io::Error {
        loop {
            if let Some((kind, why)) = &self.ended {
                return io::Error::new(*kind, why.clone());
            }
            if self.poll_take(cx).is_pending() {
                let text = format!("the port-forward to {} was cut off: {error}", self.title);
                return io::Error::new(io::ErrorKind::ConnectionAborted, text);
            }
        }
    }
}

impl<W> AsyncRead for Forwarded<W>
where
    W: Stream<Item = Result<Message, Error>> + Unpin,
{
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if !self.rest.is_empty() {
                let most = self.rest.len().min(buffer.remaining());
                let now = self.rest.split_to(most);
                buffer.put_slice(&now);
                return Poll::Ready(Ok(()));
            }
            if let Some((kind, why)) = &self.ended {
                return Poll::Ready(Err(io::Error::new(*kind, why.clone())));
            }
            // What ended it is told when all that came before has been read.
            let _ = ready!(self.poll_take(cx));
        }
    }
}

impl<W> AsyncWrite for Forwarded<W>
where
    W: Sink<Message, Error = Error> + Stream<Item = Result<Message, Error>> + Unpin,
{
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some((kind, why)) = &self.ended {
            return Poll::Ready(Err(io::Error::new(*kind, why.clone())));
        }
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if let Err(error) = ready!(Pin::new(&mut self.web).poll_ready(cx)) {
            return Poll::Ready(Err(self.why_not(cx, &error)));
        }
        let part = bytes.get(..MOST).unwrap_or(bytes);
        let mut message = BytesMut::with_capacity(part.len() + 1);
        message.extend_from_slice(&[DATA]);
        message.extend_from_slice(part);
        match Pin::new(&mut self.web).start_send(Message::Binary(message.freeze())) {
            Ok(()) => Poll::Ready(Ok(part.len())),
            Err(error) => Poll::Ready(Err(self.why_not(cx, &error))),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.web).poll_flush(cx)) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(self.why_not(cx, &error))),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.web).poll_close(cx)) {
            Ok(()) | Err(Error::ConnectionClosed | Error::AlreadyClosed) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(self.why_not(cx, &error))),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures::StreamExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;

    type Web = WebSocketStream<tokio::io::DuplexStream>;

    async fn ends() -> (Forwarded<Web>, Web) {
        let (near, far) = tokio::io::duplex(1 << 16);
        let near = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        let far = WebSocketStream::from_raw_socket(far, Role::Server, None).await;
        (Forwarded::new(near, 2379, "tidb/basic-pd-0:2379".into()), far)
    }

    async fn says(far: &mut Web, bytes: &[u8]) {
        use futures::SinkExt as _;
        far.send(Message::Binary(bytes.to_vec().into())).await.unwrap();
    }

    /// Both channels name their port: 2379, little end first.
    async fn named(far: &mut Web) {
        says(far, &[0, 0x4b, 0x09]).await;
        says(far, &[1, 0x4b, 0x09]).await;
    }

    async fn read(near: &mut Forwarded<Web>) -> io::Result<Vec<u8>> {
        let mut buffer = [0; 64];
        let read = near.read(&mut buffer).await?;
        Ok(buffer[..read].to_vec())
    }

    #[tokio::test]
    async fn bytes_go_through_both_ways() {
        let (mut near, mut far) = ends().await;
        named(&mut far).await;
        near.write_all(b"hello").await.unwrap();
        near.flush().await.unwrap();
        assert_eq!(far.next().await.unwrap().unwrap().into_data()[..], *b"\0hello");
        says(&mut far, b"\0world").await;
        assert_eq!(read(&mut near).await.unwrap(), b"world");
    }

    #[tokio::test]
    async fn each_end_is_told_for_what_it_is() {
        // Closed at the pod's end, after its last bytes.
        let (mut near, mut far) = ends().await;
        named(&mut far).await;
        says(&mut far, b"\0bye").await;
        far.close(None).await.unwrap();
        assert_eq!(read(&mut near).await.unwrap(), b"bye");
        let closed = read(&mut near).await.unwrap_err();
        assert_eq!(closed.kind(), io::ErrorKind::UnexpectedEof);
        assert!(closed.to_string().contains("tidb/basic-pd-0:2379 was closed at the pod's end"), "{closed}");

        // Killed on the way: there was no goodbye.
        let (mut near, mut far) = ends().await;
        named(&mut far).await;
        drop(far);
        let cut = read(&mut near).await.unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::ConnectionAborted);
        assert!(cut.to_string().contains("tidb/basic-pd-0:2379 was cut off"), "{cut}");
        // And it stays so, whoever asks.
        assert_eq!(near.write_all(b"x").await.unwrap_err().to_string(), cut.to_string());

        // Nobody listens there.
        let (mut near, mut far) = ends().await;
        named(&mut far).await;
        says(&mut far, b"\x01error forwarding port 2379: connect: connection refused").await;
        let refused = read(&mut near).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert!(refused.to_string().contains("failed: error forwarding port 2379"), "{refused}");
    }

    #[tokio::test]
    async fn who_writes_too_late_is_told_why_and_can_still_read_what_came() {
        let (mut near, mut far) = ends().await;
        named(&mut far).await;
        says(&mut far, b"\0alert").await;
        says(&mut far, b"\x01no such port").await;
        drop(far);
        let error = near.write_all(b"question").await.and(near.flush().await).unwrap_err();
        assert!(error.to_string().contains("failed: no such port"), "{error}");
        assert_eq!(read(&mut near).await.unwrap(), b"alert");
        assert!(read(&mut near).await.unwrap_err().to_string().contains("failed: no such port"));
    }

    #[tokio::test]
    async fn another_port_than_the_one_asked_for_is_nobodys_answer() {
        let (mut near, mut far) = ends().await;
        says(&mut far, &[0, 1, 0]).await;
        assert!(read(&mut near).await.unwrap_err().to_string().contains("names another port"));
        let (mut near, mut far) = ends().await;
        says(&mut far, &[7, 1, 0]).await;
        assert!(read(&mut near).await.unwrap_err().to_string().contains("channel 7"));
    }
}
