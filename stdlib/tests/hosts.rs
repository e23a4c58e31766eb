//! One contract for every host: what the port promises, held by this machine and by a real `sshd`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, clippy::print_stderr)]

#[path = "hosts/contract.rs"]
mod contract;
#[path = "hosts/refusals.rs"]
mod refusals;
#[path = "hosts/sshd.rs"]
mod sshd;

use std::sync::Arc;

use stdlib::host::{Host, Local, Pool, Posix};

#[tokio::test]
async fn this_machine_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let host: Arc<dyn Host> =
        Arc::new(Posix::new("here", folder.path().join("state").to_str().unwrap(), None, Local));
    contract::holds(host.as_ref(), folder.path()).await;
}

#[tokio::test]
async fn a_host_over_openssh_keeps_the_contract() {
    let Some(server) = sshd::Sshd::start() else { return };
    let pool = Pool::default();
    let host = pool.host(&server.entry("m1")).unwrap();
    contract::holds(host.as_ref(), server.folder()).await;
}
