//! A client over one stream that is there already, and why that broke.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use etcd_client::{Channel, Client, Error};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::Status;

/// A client of the member at the other end of one stream. It has no other: once the stream has ended every question fails.
#[derive(Clone)]
pub struct Line {
    client: Client,
    broke: Broke,
}

/// Why a stream broke, once it did. What the client hears of that is that its question was cancelled.
type Broke = Arc<Mutex<Option<io::Error>>>;

fn held(broke: &Broke) -> MutexGuard<'_, Option<io::Error>> {
    broke.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Line {
    /// Begins HTTP/2 on a stream; `authority` is the server's `host:port`.
    ///
    /// # Errors
    /// The stream has ended, or `authority` is none.
    pub async fn over<S>(stream: S, authority: &str) -> io::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let broke = Broke::default();
        let mut once = Some(TokioIo::new(Watched { stream, broke: Arc::clone(&broke), unsent: None }));
        let connector = tower::service_fn(move |_: http::Uri| {
            let stream = once.take().ok_or(io::ErrorKind::NotConnected);
            std::future::ready(stream.map_err(io::Error::from))
        });
        let client = async {
            let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{authority}"))?;
            let channel = endpoint.connect_with_connector(connector).await?;
            Client::from_channel(Channel::Tonic(channel), None).await
        };
        match client.await {
            Ok(client) => Ok(Self { client, broke }),
            Err(error) => Err(held(&broke).take().unwrap_or_else(|| io::Error::other(error))),
        }
    }

    /// What asks; its questions are for [`Self::ask`].
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The answer to a question of [`Self::client`], which may be a refusal.
    ///
    /// # Errors
    /// Why the line broke.
    pub async fn ask<T>(
        &self,
        question: impl Future<Output = Result<T, Error>>,
    ) -> io::Result<Result<T, Status>> {
        match question.await {
            Ok(answer) => Ok(Ok(answer)),
            // One with a source was made on this side, of what became of the line.
            Err(Error::GRpcStatus(status)) if std::error::Error::source(&status).is_none() => Ok(Err(status)),
            Err(error) => Err(held(&self.broke).take().unwrap_or_else(|| io::Error::other(error))),
        }
    }
}

/// Everything that an error says, causes included, each once.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}

/// A stream that remembers why it broke.
struct Watched<S> {
    stream: S,
    broke: Broke,
    /// That something could not be written, until what the other end said before is read.
    unsent: Option<io::Error>,
}

impl<S: AsyncRead + Unpin> Watched<S> {
    fn heard(&self, error: io::Error) -> io::Error {
        let kind = error.kind();
        held(&self.broke).get_or_insert(error);
        kind.into()
    }

    /// Why nothing can be written any more. A server that refuses a client says why and closes: who writes to it then is
    /// told that the line is broken, and what the server said waits to be read.
    fn last_word(&mut self, cx: &mut Context<'_>, unsent: io::Error) -> Poll<io::Error> {
        let mut buffer = [0; 1024];
        loop {
            let mut rest = ReadBuf::new(&mut buffer);
            match Pin::new(&mut self.stream).poll_read(cx, &mut rest) {
                Poll::Ready(Ok(())) if !rest.filled().is_empty() => {}
                Poll::Ready(Ok(())) => return Poll::Ready(self.heard(unsent)),
                Poll::Ready(Err(said)) => return Poll::Ready(self.heard(said)),
                Poll::Pending => {
                    self.unsent = Some(unsent);
                    return Poll::Pending;
                }
            }
        }
    }

    fn writes<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(&mut S, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let unsent = match self.unsent.take() {
            Some(unsent) => unsent,
            None => match ready!(write(&mut self.stream, cx)) {
                Ok(done) => return Poll::Ready(Ok(done)),
                Err(error) => error,
            },
        };
        self.last_word(cx, unsent).map(Err)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let outcome = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        Poll::Ready(outcome.map_err(|error| self.heard(error)))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writes(cx, |stream, cx| Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writes(cx, |stream, cx| Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A stream on which nothing can be written, and of which the last word comes a moment later.
    struct Closed {
        late: bool,
        says: Option<&'static str>,
    }

    impl AsyncRead for Closed {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if std::mem::take(&mut self.late) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(self.says.map_or(Ok(()), |said| Err(io::Error::other(said))))
        }
    }

    impl AsyncWrite for Closed {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn who_cannot_write_tells_what_the_other_end_said_last() {
        for late in [false, true] {
            for (says, told) in [(Some("alert: unknown CA"), "alert: unknown CA"), (None, "broken pipe")] {
                let told_by = match Line::over(Closed { late, says }, "10.0.0.1:2379").await {
                    Ok(line) => line.ask(line.client().status()).await.err().unwrap(),
                    Err(error) => error,
                };
                assert_eq!(told_by.to_string(), told, "late: {late}");
            }
        }
    }

    #[tokio::test]
    async fn a_line_that_has_ended_is_not_dialled_again() {
        let (ours, theirs) = tokio::io::duplex(1024);
        let line = Line::over(ours, "10.0.0.1:2379").await.unwrap();
        drop(theirs);
        line.ask(line.client().status()).await.unwrap_err();
        line.ask(line.client().status()).await.unwrap_err();
        assert!(Line::over(tokio::io::duplex(8).0, "no authority at all").await.is_err());
    }
}
