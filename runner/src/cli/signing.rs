//! The key that signs this machine's records.

use std::path::Path;
use std::sync::Arc;

use journal::{Signer, Tools, VerifierKey};
use stdlib::World;
use stdlib::files::SystemDisk;
use stdlib::world::Disk as _;

use super::{Context, records, session};
use crate::error::Failure;
use crate::exit_code::ExitCode;

/// The signer of this state folder, made once.
pub(crate) fn signer(context: &Context) -> Result<Signer, Failure> {
    let name = format!("rollover-{}", session::actor().host);
    Signer::load_or_create(&SystemDisk, &context.paths.state.join("keys"), &name).map_err(records::failure)
}

/// The public key of this state folder; none where nothing has been signed here yet. Makes no key: to verify changes
/// nothing.
pub(crate) fn public(context: &Context) -> Result<Option<VerifierKey>, Failure> {
    let path = context.paths.state.join("keys/signing.vkey");
    if !path.exists() {
        return Ok(None);
    }
    read_public(&path).map(Some)
}

/// A public key from a file.
pub(crate) fn read_public(path: &Path) -> Result<VerifierKey, Failure> {
    let bytes = SystemDisk.read(path).map_err(|error| {
        Failure::new(ExitCode::Parameter, format!("cannot read the key: {error}"))
            .on(path.display().to_string())
    })?;
    parse_public(&String::from_utf8_lossy(&bytes)).map_err(|failure| failure.on(path.display().to_string()))
}

/// A public key from its text.
pub(crate) fn parse_public(text: &str) -> Result<VerifierKey, Failure> {
    text.trim().parse().map_err(|error| {
        Failure::new(ExitCode::Parameter, format!("this is no public key: {error}"))
            .hint("a public key reads NAME+HASH+BASE64; it is `keys/signing.vkey` in the state folder of whoever ran the workflow")
    })
}

/// What the journal needs beside its records.
pub(crate) fn tools(context: &Context, world: &World) -> Result<Tools, Failure> {
    Ok(Tools::new(world.clock.clone(), Arc::new(signer(context)?)))
}
