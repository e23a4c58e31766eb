//! The way in over the network: HTTPS with bearer tokens.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::answers::{Body, failure};
use super::error::ApiError;
use super::server::Server;

/// What the real server takes at most.
const LIMIT: usize = 3 * 1024 * 1024;

impl Server {
    /// Serves HTTPS until the future is dropped; that also ends every connection. HTTP/2 is spoken where `tls` offers
    /// `h2` by ALPN and the client takes it. Tokens are those of [`Server::add_token`].
    ///
    /// # Errors
    /// The listener fails.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        tls: Arc<rustls::ServerConfig>,
    ) -> io::Result<()> {
        let acceptor = TlsAcceptor::from(tls);
        let mut connections = JoinSet::new();
        loop {
            let (stream, peer) = listener.accept().await?;
            while connections.try_join_next().is_some() {}
            let (server, acceptor) = (self.clone(), acceptor.clone());
            connections.spawn(async move {
                if let Err(error) = server.connection(stream, acceptor).await {
                    tracing::debug!(%peer, %error, "connection ended");
                }
            });
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, acceptor: TlsAcceptor) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let stream = acceptor.accept(stream).await?;
        let two = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let service = service_fn(move |request| {
            let server = self.clone();
            async move { server.authenticated(request).await }
        });
        let io = TokioIo::new(stream);
        let ended = if two {
            hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await
        } else {
            hyper::server::conn::http1::Builder::new().serve_connection(io, service).with_upgrades().await
        };
        ended.map_err(io::Error::other)
    }

    async fn authenticated(self: Arc<Self>, request: Request<Incoming>) -> io::Result<Response<Body>> {
        let Some(user) = bearer(request.headers()).and_then(|token| self.user_of(token)) else {
            return Ok(failure(&ApiError::new(401, "Unauthorized", "Unauthorized")));
        };
        let (parts, body) = request.into_parts();
        let body: Bytes = match Limited::new(body, LIMIT).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                let message = format!("Request entity too large: limit is {LIMIT}");
                return Ok(failure(&ApiError::new(413, "RequestEntityTooLarge", message)));
            }
            Err(error) => return Err(io::Error::other(error)),
        };
        self.handle(&user, Request::from_parts(parts, body)).await
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// A kubeconfig for a served API.
pub fn kubeconfig(address: SocketAddr, ca_pem: &str, token: &str, namespace: &str) -> String {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "sandbox", "cluster": {
            "server": format!("https://{address}"),
            "certificate-authority-data": base64::engine::general_purpose::STANDARD.encode(ca_pem),
        }}],
        "users": [{"name": "sandbox", "user": {"token": token}}],
        "contexts": [{"name": "sandbox", "context": {"cluster": "sandbox", "user": "sandbox", "namespace": namespace}}],
        "current-context": "sandbox",
    });
    serde_yaml::to_string(&config).unwrap_or_default()
}
