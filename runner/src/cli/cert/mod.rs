//! `rollover cert`: certificates, keys and bundles for a person at a terminal. What it does is what scripts do with the
//! primitives of the namespaces `cert`, `ca`, `bundle`, `cfssl`, `pem` and `tls`.

pub mod args;
mod ask;
mod bundle;
mod files;
mod folder;
mod inspect;
mod lines;
mod make;
mod pem;
mod probe;
mod rotation;
mod show;
mod source;

use args::Cert;
use stdlib::World;

use super::Context;
use crate::error::Failure;
use crate::exit_code::ExitCode;

/// Does what the arguments say.
pub(crate) async fn cert(context: &Context, command: Cert) -> Result<ExitCode, Failure> {
    match command {
        Cert::Inspect(args) => inspect::inspect(context, &args).await,
        Cert::Verify(args) => ask::verify(context, &args),
        Cert::Key(args) => make::key(context, &args),
        Cert::Csr(args) => make::csr(context, &args),
        Cert::Ca(args) => make::ca(context, &args),
        Cert::CaRequest(args) => make::ca_request(&args),
        Cert::Sign(args) => make::sign(context, &args),
        Cert::Renew(args) => make::renew(context, &args),
        Cert::CrossSign(args) => make::cross_sign(context, &args),
        Cert::Reissue(args) => make::reissue(context, &args),
        Cert::Bundle(command) => bundle::bundle(context, command).await,
        Cert::Pem(command) => pem::pem(context, command),
        Cert::Folder(args) => folder::folder(context, &args),
        Cert::Successor(args) => rotation::successor(context, &args).await,
        Cert::Leaf(args) => rotation::leaf(context, &args).await,
        Cert::Install(args) => rotation::install(context, &args).await,
        Cert::Probe(args) => probe::probe(context, &args).await,
    }
}

/// This machine, without a cluster.
fn here() -> World {
    World::system(None, std::env::current_dir().unwrap_or_default())
}

/// The time now.
fn now() -> time::OffsetDateTime {
    here().clock.now()
}
