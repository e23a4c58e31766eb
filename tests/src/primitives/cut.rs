//! Watches that are cut off on the way from a real server.

use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};

use futures::channel::oneshot::{Receiver, Sender, channel};
use http::Response;
use http_body::Frame;
use kube::client::Body;
use tower::BoxError;

use super::real::broken;

/// The watches that are open, by namespace.
#[derive(Default)]
pub(super) struct Watches(Mutex<Vec<(String, Sender<bool>)>>);

impl Watches {
    /// An answer that ends once the watches of its namespace are dropped.
    pub(super) fn held(&self, ns: &str, answer: Response<Body>) -> Response<Answer> {
        let (sender, cut) = channel();
        self.0.lock().unwrap().push((ns.into(), sender));
        answer.map(|body| Answer { body, cut: Some(cut) })
    }

    /// Ends the watches of a namespace; `abort` breaks the connection instead of closing it. Returns how many.
    pub(super) fn drop_all(&self, ns: &str, abort: bool) -> usize {
        let mut all = self.0.lock().unwrap();
        let (theirs, others) = all.drain(..).partition(|(of, _)| of == ns);
        *all = others;
        let theirs: Vec<(String, Sender<bool>)> = theirs;
        theirs.into_iter().filter_map(|(_, sender)| sender.send(abort).ok()).count()
    }
}

/// An answer, and when it is cut.
pub(super) struct Answer {
    body: Body,
    cut: Option<Receiver<bool>>,
}

impl From<Body> for Answer {
    fn from(body: Body) -> Self {
        Self { body, cut: None }
    }
}

impl http_body::Body for Answer {
    type Data = <Body as http_body::Body>::Data;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, BoxError>>> {
        if let Some(cut) = &mut self.cut
            && let Poll::Ready(Ok(abort)) = Pin::new(cut).poll(cx)
        {
            *self = Self::from(Body::empty());
            return Poll::Ready(abort.then(|| Err(broken())));
        }
        Pin::new(&mut self.body).poll_frame(cx).map_err(Into::into)
    }
}
