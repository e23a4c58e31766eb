//! The servers of a component, one by one: logging in, and what a refusal means.

use std::sync::Arc;
use std::time::Duration;

use super::session::{Address, Failure, Login, Session};
use crate::error::{Code, PrimError};
use crate::tidb::probe::{self, Endpoint};
use crate::tls::TlsFailure;
use crate::tls::config::{Identity, Trust, always, client};
use crate::trust::{Certs, Verifier};
use crate::world::World;

/// How long dialling, the login and a statement may take, each.
pub(super) const WITHIN: Duration = Duration::from_secs(10);
/// How long a server that does not answer is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
/// MySQL's numbers for a login and for a statement that the account may not do.
const NO_LOGIN: [u16; 3] = [1045, 1698, 3118];
const NO_RIGHT: [u16; 4] = [1227, 1142, 1044, 8121];

/// Logs in as this account, presenting this certificate and trusting these anchors.
pub(super) async fn open(
    world: &World,
    endpoint: &Endpoint,
    identity: &Identity,
    anchors: &Arc<Certs>,
    login: &Login,
) -> Result<Session, Failure> {
    let trust = Trust { verifier: Verifier::Go, anchors: Arc::clone(anchors), allowed_cn: Vec::new() };
    let config = client(Some(always(identity.clone())), trust, Arc::clone(&world.clock), &[])
        .map_err(|error| Failure::Protocol(error.message))?;
    let address = Address { host: &endpoint.host, port: endpoint.port, name: endpoint.name() };
    Session::open(world, address, config, login, WITHIN).await
}

/// The anchors of the clients' Secret.
pub(super) fn anchors(list: &[crate::cert::Certificate]) -> Arc<Certs> {
    Arc::new(probe::certs(list))
}

/// What a failure is, where waiting does not help; `None` where it may.
pub(super) fn hopeless(failure: &Failure, pod: &str, login: &Login) -> Option<PrimError> {
    let user = &login.user;
    match failure {
        Failure::Tls(failure) => failure.forbidden(pod),
        Failure::Server { code, message } if NO_LOGIN.contains(code) => Some(
            PrimError::new(Code::Forbidden, format!("it refuses the login of `{user}`: {message} (error {code})"))
                .on(pod)
                .hint("name the account with `--set user=…` and the Secret with its password with `--set login_secret=…`; an account with REQUIRE X509, SUBJECT or ISSUER also needs the certificate of the clients' Secret to fit"),
        ),
        Failure::Server { code, message } if NO_RIGHT.contains(code) => {
            Some(not_allowed(pod, user, &format!("{message} (error {code})")))
        }
        // Too many connections, a server that just starts.
        Failure::Server { .. } => None,
        Failure::Protocol(text) => Some(PrimError::invalid(text.clone()).on(pod)),
    }
}

/// That an account may log in and may not do what it must.
pub(super) fn not_allowed(pod: &str, user: &str, found: &str) -> PrimError {
    PrimError::new(Code::Forbidden, format!("`{user}` may not have it load its certificate again"))
        .on(pod)
        .expected("the privilege SUPER on *.*", found)
        .hint(format!(
            "`GRANT SUPER ON *.* TO '{user}'@'%'` (MySQL 8: `CONNECTION_ADMIN`), or restart the servers instead: `--set reload=restart`"
        ))
}

/// What is said of a server that cannot be logged in to.
pub(super) fn unreached(world: &World, failure: &Failure, pod: &str) -> PrimError {
    let error = PrimError::new(Code::Unproved, failure.to_string()).on(pod);
    match failure {
        Failure::Tls(TlsFailure::Rejected(_)) => error.hint(
            "the clients' Secret does not trust what the server presents, so no password was sent; look at `ca.crt` of both Secrets",
        ),
        Failure::Tls(TlsFailure::RefusedBy(_)) => {
            error.hint("the server does not trust the certificate in the clients' Secret; look at `ca.crt` of the servers' Secret")
        }
        _ => error.hint(world.net.unreached()),
    }
}
