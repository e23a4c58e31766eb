//! The key that signs this machine's records.

use std::sync::Arc;

use journal::{Signer, Tools};
use stdlib::World;
use stdlib::files::SystemDisk;

use super::{Context, records, session};
use crate::error::Failure;

/// The signer of this state folder, made once.
pub(crate) fn signer(context: &Context) -> Result<Signer, Failure> {
    let name = format!("rollover-{}", session::actor().host);
    Signer::load_or_create(&SystemDisk, &context.paths.state.join("keys"), &name).map_err(records::failure)
}

/// What the journal needs beside its records.
pub(crate) fn tools(context: &Context, world: &World) -> Result<Tools, Failure> {
    Ok(Tools::new(world.clock.clone(), Arc::new(signer(context)?)))
}
