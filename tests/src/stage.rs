//! Where stories about runs take place: a world of the sandbox on its own API server or on a real one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use journal::{Event, Moment, Store, Tripwire};
use runner::catalog::Workflow;
use runner::error::Failure;
use runner::events::Ending;
use runner::exit_code::ExitCode;
use runner::manifest::Given;
use runner::plan::Plan;
use runner::script;
use sandbox::world::World;
use stdlib::PrimError;
use stdlib::world::Disk;

/// A world, and runs upon it.
#[allow(async_fn_in_trait, reason = "only tests use it")]
pub trait Stage {
    /// The world.
    fn world(&self) -> &World;
    /// How long it may take until the world is steady.
    fn patience(&self) -> Duration;
    /// Where the PKI folder lies, and runs.
    fn disk(&self) -> Arc<dyn Disk>;
    /// The PKI folder.
    fn folder(&self) -> PathBuf;
    /// The runs.
    fn store(&self) -> Store;
    /// A file of the PKI folder.
    fn pki(&self, name: &str) -> Vec<u8> {
        self.disk().read(&self.folder().join(name)).unwrap()
    }
    /// Runs a workflow as far as it goes; an error where it is refused beforehand.
    async fn forward(&self, name: &str, set: &[(&str, &str)]) -> Result<Ending, Failure>;
    /// Whether phases that would break a link are refused from now on.
    fn set_forecast(&mut self, on: bool);
    /// Runs a workflow that nobody ships as far as it goes.
    async fn tries(&self, workflow: &Workflow) -> Ending;
    /// Time passes for whoever waits in a run: the sandbox's as a whole, beside a real server only the run's own.
    async fn pass(&self, while_: Duration);
    /// Runs a workflow until the tripwire, where its process dies.
    async fn dies(&self, name: &str, set: &[(&str, &str)], tripwire: Arc<dyn Tripwire>) -> Ending;
    /// The same at this record.
    async fn dies_at(&self, name: &str, set: &[(&str, &str)], record: u64) -> Ending {
        self.dies(name, set, Arc::new(AtRecord(record))).await
    }
    /// Goes on with a run.
    async fn resumes(&self, run: &str) -> Ending;
    /// Goes on with the newest run.
    async fn resume(&self) -> Ending {
        let newest = self.store().list().unwrap().pop().unwrap();
        self.resumes(newest.as_str()).await
    }
    /// Takes the newest run back.
    async fn back(&self) -> Ending;
}

/// Stops as soon as this record is on disk.
#[derive(Debug)]
pub struct AtRecord(pub u64);

impl Tripwire for AtRecord {
    fn stops(&self, seq: u64, _: &Event, moment: Moment) -> bool {
        seq == self.0 && moment == Moment::AfterSync
    }
}

/// The plan of a workflow, or what somebody who would begin it is told.
///
/// # Errors
/// The script is refused, with the exit code that the program has for it.
pub async fn plan(workflow: &Workflow, given: &Given, eyes: &stdlib::World) -> Result<Plan, Failure> {
    let mut given = given.clone();
    given.set.retain(|(name, _)| {
        !OF_STAGES.contains(&name.as_str()) || workflow.manifest.params.get(name).is_some()
    });
    let params = workflow.manifest.resolve(&given, &*eyes.secrets).unwrap();
    let input = script::Input {
        workflow: &workflow.name,
        sources: &workflow.sources,
        manifest: &workflow.manifest,
        params: &params,
        world: eyes,
        registry: stdlib::registry(),
    };
    script::evaluate(&input).await.map_err(|findings| {
        let first = findings.iter().find(|finding| finding.is_error()).unwrap();
        let exit = first
            .failure
            .map_or(ExitCode::CheckFailed, |code| ExitCode::before_start(&PrimError::new(code, "")));
        let text = findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        Failure { hint: first.hint.clone(), ..Failure::new(exit, text) }
    })
}

/// Parameters that a stage gives to every workflow which has them.
const OF_STAGES: [&str; 3] = ["pki", "sql_pki", "login_secret"];
