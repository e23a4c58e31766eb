//! The way in from the same process: a tower service under `kube::Client`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tower::{BoxError, Service};

use super::answers::Body;
use super::server::{Server, locked};

/// Hands requests of one user to the server, without a socket.
#[derive(Clone)]
struct InProcess {
    server: Arc<Server>,
    user: Arc<str>,
}

impl Service<Request<kube::client::Body>> for InProcess {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await?;
            if crate::websocket::is_asked(&parts.headers) {
                return this.upgraded(Request::from_parts(parts, Full::new(body))).await;
            }
            Ok(this.server.handle(&this.user, Request::from_parts(parts, body)).await?)
        })
    }
}

impl InProcess {
    /// Only a connection can be upgraded, so there is one, in memory.
    async fn upgraded(self, request: Request<Full<Bytes>>) -> Result<Response<Body>, BoxError> {
        let (near, far) = tokio::io::duplex(64 * 1024);
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let this = self.clone();
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
                    this.server.handle(&this.user, Request::from_parts(parts, body)).await
                }
            });
            let served =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service);
            if let Err(error) = served.with_upgrades().await {
                tracing::debug!(%error, "a connection in memory ended");
            }
        });
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await?;
        tokio::spawn(connection.with_upgrades());
        let response = sender.send_request(request).await?;
        Ok(response.map(|body| body.map_err(std::io::Error::other).boxed_unsync()))
    }
}

impl Server {
    /// A client in this process that acts as the given user; the user is an administrator unless
    /// [`Server::set_rules`] says otherwise. Must be called within a tokio runtime.
    pub fn client(self: &Arc<Self>, user: &str) -> kube::Client {
        kube::Client::new(InProcess { server: self.clone(), user: user.into() }, "default")
    }

    /// Lets a bearer token in as a user.
    pub fn add_token(&self, token: &str, user: &str) {
        locked(&self.tokens).insert(token.into(), user.into());
    }

    /// Lets it in no more.
    pub fn remove_token(&self, token: &str) {
        locked(&self.tokens).remove(token);
    }

    pub(crate) fn user_of(&self, token: &str) -> Option<String> {
        locked(&self.tokens).get(token).cloned()
    }
}
