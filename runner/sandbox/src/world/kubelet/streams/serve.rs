//! The kubelet's own HTTPS endpoint, to which a real API server proxies what its clients want of pods.

use std::io;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::logs::{self, Asked};
use crate::api::answers::Body;
use crate::api::request::Query;
use crate::api::streams::{Command, Door, Wanted, port_of};
use crate::websocket::refuse;
use crate::world::ctx::Ctx;

/// As kubelets of old speak it: the end of the input cannot be told.
const PROTOCOLS: &[&str] = &["v4.channel.k8s.io"];

/// Serves until it is dropped, and all connections with it. `tls` says whom it lets in.
pub(crate) async fn serve(listener: TcpListener, tls: Arc<rustls::ServerConfig>, ctx: Arc<Ctx>) {
    let acceptor = TlsAcceptor::from(tls);
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (acceptor, ctx) = (acceptor.clone(), Arc::clone(&ctx));
                connections.spawn(async move {
                    if let Err(error) = connection(stream, acceptor, ctx).await {
                        tracing::debug!(%error, "a connection to the kubelet ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the kubelet accepts nobody");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, ctx: Arc<Ctx>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(stream).await?;
    let service = service_fn(move |request| {
        let ctx = Arc::clone(&ctx);
        async move { Ok::<_, io::Error>(answer(&ctx, request)) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    served.await.map_err(io::Error::other)
}

fn answer(ctx: &Arc<Ctx>, request: Request<Incoming>) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let path = parts.uri.path().to_owned();
    let path: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (namespace, pod, door) = match path.as_slice() {
        // A kubelet reads the query's `port`; API servers give it `ports` as well.
        ["portForward", namespace, pod] => match port_of(&query) {
            Some(port) => (namespace, pod, Door::Port(port)),
            None => return refuse(400, "query parameter \"port\" is required"),
        },
        ["exec", namespace, pod, container] => {
            (namespace, pod, Door::Container(Command::of(container, &query)))
        }
        ["containerLogs", namespace, pod, container] => {
            let query = Query::parse(&query);
            let lines = query.get("tailLines").and_then(|lines| lines.parse().ok());
            let asked = Asked { namespace, pod, container, previous: query.flag("previous"), lines };
            return logs::answer(ctx, &asked);
        }
        _ => return refuse(404, "404 page not found"),
    };
    let wanted = Wanted { namespace: (*namespace).to_owned(), pod: (*pod).to_owned(), door };
    super::answer(ctx, wanted, PROTOCOLS, Request::from_parts(parts, ()))
}
