use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ListParams, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use sandbox::api::{Options, Server, kubeconfig};
use serde_json::json;
use stdlib::world::SystemClock;

use crate::support::{object, refusal};

/// A server certificate for loopback under a CA of its own: configuration, CA as PEM.
pub(crate) fn tls() -> (Arc<rustls::ServerConfig>, String) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_cert = ca.self_signed(&ca_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &Issuer::from_params(&ca, &ca_key)).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key.serialize_der().try_into().unwrap())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (Arc::new(config), ca_cert.pem())
}

async fn client(text: &str) -> Client {
    let config = Kubeconfig::from_yaml(text).unwrap();
    Client::try_from(Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap())
        .unwrap()
}

#[tokio::test]
async fn the_same_server_over_https() {
    use futures::{StreamExt as _, TryStreamExt as _};
    let server = Server::new(Options::new(Arc::new(SystemClock)));
    server.add_token("t0ken", "operator");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tls, ca) = tls();
    let serving = tokio::spawn(server.clone().serve(listener, tls));

    let good = client(&kubeconfig(address, &ca, "t0ken", "default")).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(good.clone());
    maps.create(&PostParams::default(), &object(json!({"metadata": {"name": "m"}}))).await.unwrap();
    let list = maps.list(&ListParams::default()).await.unwrap();
    let mut events =
        maps.watch(&WatchParams::default(), &list.metadata.resource_version.unwrap()).await.unwrap().boxed();
    let inside: Api<ConfigMap> = Api::namespaced(server.client("kubelet"), "default");
    inside.create(&PostParams::default(), &object(json!({"metadata": {"name": "n"}}))).await.unwrap();
    assert!(
        matches!(events.try_next().await.unwrap().unwrap(), WatchEvent::Added(map) if map.metadata.name.as_deref() == Some("n"))
    );

    let bad: Api<ConfigMap> =
        Api::default_namespaced(client(&kubeconfig(address, &ca, "wrong", "default")).await);
    assert_eq!(refusal(bad.get("m").await).code, 401);
    serving.abort();
}
