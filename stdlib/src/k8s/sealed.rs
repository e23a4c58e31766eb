//! Sealed copies of parts of objects as JSON: what an effect keeps for its undo.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::PrimError;
use crate::gate::RecordedEffect;
use crate::secret::Secret;
use crate::world::World;

use super::object::Ref;

/// Seals a part.
pub(crate) fn seal(world: &World, part: &impl Serialize) -> Result<Secret, PrimError> {
    let bytes = serde_json::to_vec(part).map_err(|error| PrimError::internal(error.to_string()))?;
    let fingerprint = world.secrets.keyed_digest(&bytes);
    Ok(Secret::new(bytes, fingerprint))
}

/// Opens what [`seal`] made for an effect on this object.
pub(crate) fn open<T: DeserializeOwned>(object: &Ref, effect: &RecordedEffect) -> Result<T, PrimError> {
    let copy = effect.backup.as_ref().and_then(|backup| serde_json::from_slice(backup.expose()).ok());
    copy.ok_or_else(|| PrimError::internal("the sealed copy cannot be read").on(object.to_string()))
}
