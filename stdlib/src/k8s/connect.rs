//! A client that outlives its kubeconfig. Where the server's certificate is not trusted any more, or the server does not
//! take ours, the kubeconfig is read anew and the request sent once more: what was trusted before stays trusted for as
//! long as the process lives, so that a cluster whose own CA is being replaced does not cut us off half-way.

use std::path::PathBuf;
use std::sync::Arc;

use http::{Request, Response, StatusCode};
use kube::client::Body;
use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::sync::RwLock;
use tower::BoxError;

/// Where a kubelet puts the account of a pod.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// How a cluster is reached.
#[derive(Debug, Clone, Default)]
pub struct Way {
    /// The kubeconfig; nothing for `KUBECONFIG`, `~/.kube/config`, or the Pod's own account.
    pub kubeconfig: Option<PathBuf>,
    /// The context; nothing for the current one.
    pub context: Option<String>,
}

impl Way {
    async fn config(&self) -> Result<Config, String> {
        let mut config = self.read().await?;
        // Whoever sends again has to ask first whether the run still holds its target, which a layer below cannot.
        config.default_retry = false;
        Ok(config)
    }

    async fn read(&self) -> Result<Config, String> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        match &self.kubeconfig {
            Some(path) => {
                let text = Kubeconfig::read_from(path).map_err(|error| chain(&error))?;
                Config::from_custom_kubeconfig(text, &options).await.map_err(|error| chain(&error))
            }
            None if self.context.is_some() => {
                Config::from_kubeconfig(&options).await.map_err(|error| chain(&error))
            }
            None => match Config::from_kubeconfig(&options).await {
                Ok(config) => Ok(config),
                Err(kubeconfig) => Config::incluster().map_err(|pod| neither(&kubeconfig, &pod)),
            },
        }
    }
}

/// Why there is neither a kubeconfig nor the account of a pod.
fn neither(kubeconfig: &dyn std::error::Error, pod: &InClusterError) -> String {
    let pod = match pod {
        InClusterError::ReadEnvironmentVariable(_) => {
            "and this is no pod: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set".to_owned()
        }
        other => format!("and the account of the pod in {ACCOUNT} cannot be used: {}", chain(other)),
    };
    format!("{}, {pod}", chain(kubeconfig))
}

/// What is in use now, and how often that was replaced.
struct Current {
    client: Client,
    anchors: Option<Vec<Vec<u8>>>,
    generation: u64,
}

struct Lasting {
    way: Way,
    current: RwLock<Current>,
}

/// A client of the cluster at the end of the way.
///
/// # Errors
/// Why the kubeconfig cannot be used, with its causes.
pub async fn connect(way: Way) -> Result<Client, String> {
    let config = way.config().await?;
    let (namespace, anchors) = (config.default_namespace.clone(), config.root_cert.clone());
    let client = Client::try_from(config).map_err(|error| chain(&error))?;
    let current = RwLock::new(Current { client, anchors, generation: 0 });
    let lasting = Arc::new(Lasting { way, current });
    let service = tower::service_fn(move |request: Request<Body>| {
        let lasting = Arc::clone(&lasting);
        async move { lasting.send(request).await }
    });
    Ok(Client::new(service, namespace))
}

impl Lasting {
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await?;
        let again = || Request::from_parts(parts.clone(), Body::from(body.clone()));
        let (client, generation) = {
            let current = self.current.read().await;
            (current.client.clone(), current.generation)
        };
        let answer = client.send(again()).await;
        let estranged = match &answer {
            Ok(response) => response.status() == StatusCode::UNAUTHORIZED,
            Err(error) => speaks_of_certificates(error),
        };
        if !estranged {
            return answer.map_err(Into::into);
        }
        match (self.renewed(generation).await, answer) {
            (Ok(client), _) => client.send(again()).await.map_err(Into::into),
            (Err(why), Err(error)) => {
                let text = chain(&error);
                Err(format!("{text}; the kubeconfig was read anew, and cannot be used: {why}").into())
            }
            (Err(why), Ok(refused)) => {
                tracing::warn!(why, "the kubeconfig was read anew, and cannot be used");
                Ok(refused)
            }
        }
    }

    /// A client by the kubeconfig as it is now, unless another request has made one meanwhile.
    async fn renewed(&self, stale: u64) -> Result<Client, String> {
        let mut current = self.current.write().await;
        if current.generation != stale {
            return Ok(current.client.clone());
        }
        let mut config = self.way.config().await?;
        if let (Some(anchors), Some(known)) = (&mut config.root_cert, &current.anchors) {
            let kept: Vec<Vec<u8>> = known.iter().filter(|der| !anchors.contains(der)).cloned().collect();
            anchors.extend(kept);
        }
        let anchors = config.root_cert.clone();
        let client = Client::try_from(config).map_err(|error| chain(&error))?;
        *current = Current { client: client.clone(), anchors, generation: stale + 1 };
        Ok(client)
    }
}

/// Whether the handshake failed over a certificate: the server's, or ours.
fn speaks_of_certificates(error: &kube::Error) -> bool {
    let text = chain(error);
    text.contains("certificate") || text.contains("received fatal alert")
}

/// An error with its causes, each said once.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
