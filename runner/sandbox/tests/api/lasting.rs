//! A client that outlives its kubeconfig, while the server's CA is replaced and its tokens change.

use std::net::SocketAddr;
use std::sync::Arc;

use sandbox::api::{Options, Server, kubeconfig};
use stdlib::error::Code;
use stdlib::k8s::client::Objects;
use stdlib::k8s::connect::{Way, connect};
use stdlib::k8s::object::Ref;
use stdlib::world::{SystemClock, World};

use crate::https::tls;

/// The same server, behind a certificate of this CA.
struct Serving(tokio::task::JoinHandle<std::io::Result<()>>);

impl Serving {
    fn at(server: &Arc<Server>, address: SocketAddr, tls: Arc<rustls::ServerConfig>) -> (Self, SocketAddr) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        let listener = socket.listen(64).unwrap();
        let address = listener.local_addr().unwrap();
        (Self(tokio::spawn(server.clone().serve(listener, tls))), address)
    }

    async fn stop(self) {
        self.0.abort();
        let _ = self.0.await;
    }
}

#[tokio::test]
async fn a_replaced_ca_and_a_new_token_are_read_from_the_kubeconfig_and_the_old_ca_stays_trusted() {
    let server = Server::new(Options::new(Arc::new(SystemClock)));
    server.add_token("first", "operator");
    let ((old_tls, old_ca), (new_tls, new_ca)) = (tls(), tls());
    let (serving, address) = Serving::at(&server, "127.0.0.1:0".parse().unwrap(), old_tls.clone());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kubeconfig");
    let says =
        |ca: &str, token: &str| std::fs::write(&file, kubeconfig(address, ca, token, "default")).unwrap();
    says(&old_ca, "first");
    let client = connect(Way { kubeconfig: Some(file.clone()), context: None }).await.unwrap();
    let world = World::system(Some(client), "/".into());
    let objects = Objects::of(&world).unwrap();
    let namespace = Ref::new("v1", "Namespace", "", "default");
    objects.get(&namespace).await.unwrap();

    // The server's CA is replaced and the kubeconfig is not: that is told, and not tried for ever.
    serving.stop().await;
    let (serving, _) = Serving::at(&server, address, new_tls);
    let error = objects.get(&namespace).await.unwrap_err();
    assert_eq!(error.code, Code::Unavailable);
    assert!(error.message.contains("certificate"), "{error}");
    assert!(error.hint.as_deref().is_some_and(|hint| hint.contains("certificate-authority-data")), "{error}");
    std::fs::write(&file, "no kubeconfig").unwrap();
    let error = objects.get(&namespace).await.unwrap_err();
    assert!(error.message.contains("the kubeconfig was read anew, and cannot be used"), "{error}");

    // Once it is, the same client goes on.
    says(&new_ca, "first");
    objects.get(&namespace).await.unwrap();

    // Behind a balancer, another server may still have the old certificate.
    serving.stop().await;
    let (serving, _) = Serving::at(&server, address, old_tls);
    objects.get(&namespace).await.unwrap();

    // A token that is no longer known is looked for in the kubeconfig too.
    says(&old_ca, "second");
    server.add_token("second", "operator");
    server.remove_token("first");
    objects.get(&namespace).await.unwrap();
    says(&old_ca, "third");
    server.remove_token("second");
    let error = objects.get(&namespace).await.unwrap_err();
    assert_eq!(error.code, Code::Forbidden, "{error}");
    serving.stop().await;
}
