//! Where stories about runs take place: a world of the sandbox on its own API server or on a real one.

use std::time::Duration;

use runner::events::Ending;
use sandbox::world::World;

/// A world, and runs upon it.
#[allow(async_fn_in_trait, reason = "only tests use it")]
pub trait Stage {
    /// The world.
    fn world(&self) -> &World;
    /// How long it may take until the world is steady.
    fn patience(&self) -> Duration;
    /// A file of the PKI folder.
    fn pki(&self, name: &str) -> Vec<u8>;
    /// Runs a workflow as far as it goes; an error where it is refused beforehand.
    async fn forward(&self, name: &str, set: &[(&str, &str)]) -> Result<Ending, String>;
    /// Runs a workflow until this record, where its process dies.
    async fn dies_at(&self, name: &str, set: &[(&str, &str)], record: u64) -> Ending;
    /// Goes on with the newest run.
    async fn resume(&self) -> Ending;
    /// Takes the newest run back.
    async fn back(&self) -> Ending;
}
