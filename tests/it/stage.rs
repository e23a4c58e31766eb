//! The lab as a stage of stories.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use journal::{NoTripwire, Store, Tripwire, Why};
use runner::catalog::Workflow;
use runner::error::Failure;
use runner::events::Ending;
use sandbox::world::World;
use stdlib::world::Disk;
use tests::stage::Stage;

use crate::lab::{Lab, PKI};

/// Where the files of the MySQL side lie.
pub(crate) const SQL_PKI: &str = "/srv/sql-pki";

/// What of these a workflow may need here, before what a story says.
pub(crate) fn with<'a>(set: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [("sql_pki", SQL_PKI), ("login_secret", "basic-tidb-root")]
        .into_iter()
        .chain(set.iter().copied())
        .collect()
}

impl Stage for Lab {
    fn world(&self) -> &World {
        &self.world
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(3600)
    }

    fn disk(&self) -> Arc<dyn Disk> {
        self.disk.clone()
    }

    fn folder(&self) -> PathBuf {
        Path::new(PKI).to_owned()
    }

    fn store(&self) -> Store {
        Lab::store(self)
    }

    async fn forward(&self, name: &str, set: &[(&str, &str)]) -> Result<Ending, Failure> {
        self.run(&self.workflow(name), &with(set), Arc::new(NoTripwire)).await
    }

    fn set_forecast(&mut self, on: bool) {
        self.forecast = on;
    }

    async fn tries(&self, workflow: &Workflow) -> Ending {
        self.run(workflow, &[], Arc::new(NoTripwire)).await.unwrap()
    }

    async fn pass(&self, while_: Duration) {
        tokio::time::sleep(while_).await;
    }

    async fn dies(&self, name: &str, set: &[(&str, &str)], tripwire: Arc<dyn Tripwire>) -> Ending {
        let ending = self.run(&self.workflow(name), &with(set), tripwire).await.unwrap();
        self.die();
        ending
    }

    async fn resumes(&self, run: &str) -> Ending {
        self.open_run(run, Why::Resume, None).unwrap().resume().await
    }

    async fn back(&self) -> Ending {
        self.open(Why::Rollback).unwrap().back("test").await
    }
}
