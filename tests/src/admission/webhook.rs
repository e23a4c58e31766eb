//! A validating webhook of the test's own, over HTTPS, and what tells the API server of it.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::ServerConfig;
use sandbox::world::kube::{Kind, Kube, SECRETS, kind};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::{Denied, Policy, WEBHOOK, WORDS};

const CONFIGURATIONS: Kind = kind(
    "admissionregistration.k8s.io/v1",
    "ValidatingWebhookConfiguration",
    "validatingwebhookconfigurations",
    false,
);
/// What is denied until the API server is seen to ask.
const PROBE: &str = "is-it-asked";

/// It, at work.
pub struct Webhook {
    denied: Arc<Mutex<Option<Denied>>>,
    serves: JoinHandle<()>,
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.serves.abort();
    }
}

impl Webhook {
    /// Serves one with this identity, and waits until the API server asks it before it writes Secrets and ConfigMaps.
    /// `ca` is the PEM of who has signed the identity.
    ///
    /// # Errors
    /// No port is free, or the server does not take it.
    pub async fn serve(kube: &Kube, tls: Arc<ServerConfig>, ca: &[u8]) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("https://127.0.0.1:{}/judge", listener.local_addr()?.port());
        let denied = Arc::<Mutex<Option<Denied>>>::default();
        let judges = Arc::clone(&denied);
        let serves = tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(tls);
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, denied) = (acceptor.clone(), Arc::clone(&judges));
                // A connection that breaks is asked again on another.
                tokio::spawn(async move {
                    let _ = answers(stream, acceptor, &denied).await;
                });
            }
        });
        let webhook = Self { denied, serves };
        let rule = json!({ "operations": ["CREATE", "UPDATE"], "apiGroups": [""], "apiVersions": ["v1"],
            "resources": ["secrets", "configmaps"] });
        let configuration = json!({
            "metadata": { "name": "policy" },
            "webhooks": [{
                "name": WEBHOOK, "clientConfig": { "url": url, "caBundle": STANDARD.encode(ca) }, "rules": [rule],
                "failurePolicy": "Fail", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            }],
        });
        kube.create(CONFIGURATIONS, "", configuration).await.map_err(io::Error::other)?;
        // It takes a moment until every part of the server knows it.
        webhook.denies(Denied { resource: "secrets", name: PROBE, code: 403, times: None }).await;
        let probe = json!({ "metadata": { "name": PROBE } });
        for _ in 0..100 {
            match kube.create(SECRETS, "default", probe.clone()).await {
                Err(kube::Error::Api(said)) if said.message.contains(WEBHOOK) => {
                    webhook.allows().await;
                    return Ok(webhook);
                }
                _ => tokio::time::sleep(Duration::from_millis(200)).await,
            }
            if let Ok(Some(made)) = kube.get(SECRETS, "default", PROBE).await {
                let uid = sandbox::world::json::uid(&made).to_owned();
                let _ = kube.delete(SECRETS, ("default", PROBE), &uid, None).await;
            }
        }
        Err(io::Error::other("the API server never asks the webhook"))
    }
}

impl Policy for Webhook {
    async fn denies(&self, denied: Denied) {
        *self.denied.lock().unwrap() = Some(denied);
    }
    async fn allows(&self) {
        *self.denied.lock().unwrap() = None;
    }
}

/// Answers the questions of one connection, one after the other.
async fn answers(stream: TcpStream, acceptor: TlsAcceptor, denied: &Mutex<Option<Denied>>) -> io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let mut held = Vec::new();
    loop {
        let Some((length, body)) = head(&held) else {
            if stream.read_buf(&mut held).await? == 0 {
                return Ok(());
            }
            continue;
        };
        while held.len() < body + length {
            if stream.read_buf(&mut held).await? == 0 {
                return Ok(());
            }
        }
        let rest = held.split_off(body + length);
        let review: Value = serde_json::from_slice(held.get(body..).unwrap_or_default())?;
        let answer = judged(&review["request"], denied).to_string();
        let text = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{answer}",
            answer.len()
        );
        stream.write_all(text.as_bytes()).await?;
        stream.flush().await?;
        held = rest;
    }
}

/// How long a request's body is, and where it begins, once its head is there.
fn head(held: &[u8]) -> Option<(usize, usize)> {
    let end = held.windows(4).position(|four| four == b"\r\n\r\n")?;
    let text = String::from_utf8_lossy(held.get(..end)?).to_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:"))?;
    Some((length.trim().parse().ok()?, end + 4))
}

fn judged(request: &Value, denied: &Mutex<Option<Denied>>) -> Value {
    let is = |one: &Denied| request["resource"]["resource"] == one.resource && request["name"] == one.name;
    let mut denied = denied.lock().unwrap();
    let left = denied.as_ref().is_some_and(|one| one.times != Some(0));
    let response = match denied.as_mut().filter(|one| left && is(one)) {
        None => json!({ "uid": request["uid"], "allowed": true }),
        Some(one) => {
            one.times = one.times.map(|times| times - 1);
            json!({ "uid": request["uid"], "allowed": false, "status": { "code": one.code, "message": WORDS } })
        }
    };
    json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response })
}
