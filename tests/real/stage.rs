//! The bench as a stage of stories.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use journal::{NoTripwire, Store, Tripwire, Why};
use runner::catalog::Workflow;
use runner::error::Failure;
use runner::events::Ending;
use sandbox::world::World;
use stdlib::files::SystemDisk;
use stdlib::world::Disk;
use tests::stage::Stage;

use crate::bench::Bench;

impl Stage for Bench {
    fn world(&self) -> &World {
        &self.world
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(300)
    }

    fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(SystemDisk)
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("pki")
    }

    fn store(&self) -> Store {
        Bench::store(self)
    }

    async fn forward(&self, name: &str, set: &[(&str, &str)]) -> Result<Ending, Failure> {
        self.run(name, set, Arc::new(NoTripwire)).await
    }

    fn set_forecast(&mut self, on: bool) {
        self.forecast = on;
    }

    async fn tries(&self, workflow: &Workflow) -> Ending {
        self.begin(workflow, &[], &self.world.client(), Arc::new(NoTripwire)).await.unwrap()
    }

    async fn pass(&self, while_: Duration) {
        self.clock.turn(while_);
    }

    async fn dies(&self, name: &str, set: &[(&str, &str)], tripwire: Arc<dyn Tripwire>) -> Ending {
        self.run(name, set, tripwire).await.unwrap()
    }

    async fn resumes(&self, run: &str) -> Ending {
        self.open_run(run, &self.world.client(), Why::Resume).resume().await
    }

    async fn back(&self) -> Ending {
        self.open(Why::Rollback).back("test").await
    }
}
