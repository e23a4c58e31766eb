//! Two processes on one cluster. The first is stopped (as by SIGSTOP) at a request of its own until its Lease has ended; a
//! second one may not begin a rotation, but takes the run over with a copy of its folder, to the end or back. The first,
//! thawed, can write nothing more.
//!
//! A stopped process is a future that nobody polls. It stands before a write is sent, which is then carried out late, or
//! after the answer. The bounded tier stops at some writes, `ROLLOVER_TEST_TIER=all` at every one in each way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::{Method, Request, Response};
use journal::{NoTripwire, Store, Why};
use kube::Client;
use kube::client::Body;
use runner::engine::{Begin, LeaseLock, Options, Run};
use runner::error::Failure;
use runner::events::EndState;
use runner::exit_code::ExitCode;
use stdlib::files::SimDisk;
use stdlib::world::Disk;
use tokio::sync::Notify;

use crate::lab::{Lab, STATE, virtual_time};
use tests::hands::Hands;

const WORKFLOW: &str = "tidb/cfssl-components";
/// Before it holds the Lease (the first write) and has set its mark (the second), a process has nothing to lose.
const TAKING: u64 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// The write is not sent yet.
    Before,
    /// Its answer is not read yet.
    After,
}

/// Stops one write of a client, and counts those that the server accepts afterwards.
struct Ice {
    at: u64,
    side: Side,
    writes: AtomicU64,
    reached: Notify,
    thaws: Notify,
    thawed: AtomicBool,
    accepted: AtomicU64,
}

impl Ice {
    fn at(at: u64, side: Side) -> Arc<Self> {
        Arc::new(Self {
            at,
            side,
            writes: AtomicU64::new(0),
            reached: Notify::new(),
            thaws: Notify::new(),
            thawed: AtomicBool::new(false),
            accepted: AtomicU64::new(0),
        })
    }

    /// A client whose requests pass here.
    fn around(self: &Arc<Self>, client: Client) -> Client {
        let ice = self.clone();
        let pass = move |request| ice.clone().pass(client.clone(), request);
        Client::new(tower::service_fn(pass), "default")
    }

    async fn pass(
        self: Arc<Self>,
        client: Client,
        request: Request<Body>,
    ) -> Result<Response<Body>, kube::Error> {
        if request.method() == Method::GET {
            return client.send(request).await;
        }
        let stops = self.writes.fetch_add(1, Ordering::SeqCst) + 1 == self.at;
        // On its way it is nobody's to call back, even where the process has lost patience by then.
        let sent = tokio::spawn(async move {
            if stops && self.side == Side::Before {
                self.stand().await;
            }
            let answer = client.send(request).await?;
            if self.thawed.load(Ordering::SeqCst) && answer.status().is_success() {
                self.accepted.fetch_add(1, Ordering::SeqCst);
            }
            if stops && self.side == Side::After {
                self.stand().await;
            }
            Ok(answer)
        });
        sent.await.unwrap()
    }

    async fn stand(&self) {
        self.reached.notify_one();
        self.thaws.notified().await;
    }

    fn thaw(&self) {
        self.thawed.store(true, Ordering::SeqCst);
        self.thaws.notify_one();
    }
}

/// Another machine, to which the folder of the runs was copied.
struct Other<'a> {
    lab: &'a Lab,
    disk: Arc<SimDisk>,
}

impl<'a> Other<'a> {
    fn with_a_copy(lab: &'a Lab) -> Self {
        let disk = Arc::new(SimDisk::new());
        for (path, bytes) in lab.disk.files() {
            disk.make_dir(path.parent().unwrap(), 0o700).unwrap();
            disk.write_atomic(&path, &bytes, 0o600).unwrap();
        }
        Self { lab, disk }
    }

    fn eyes(&self) -> stdlib::World {
        stdlib::World { disk: self.disk.clone(), ..self.lab.eyes() }
    }

    fn options(&self) -> Options {
        let lock = LeaseLock { world: self.eyes(), host: "other".into(), user: "somebody".into() };
        Options { lock: Arc::new(lock), ..self.lab.options() }
    }

    fn store(&self) -> Store {
        Store::new(self.disk.clone(), STATE.as_ref())
    }

    /// Why a rotation of its own may not begin.
    async fn is_refused(&self) -> Failure {
        match begin(self.lab, self.eyes(), &self.store(), self.options()).await {
            // The cluster cannot even be planned for: it is just being restarted.
            Err(failure) => failure,
            Ok(run) => {
                let ending = run.forward().await;
                assert_eq!(ending.state, EndState::Refused, "{:?}", ending.failure);
                ending.failure.unwrap()
            }
        }
    }

    fn opens(&self, run: &str, why: Why) -> Result<Run, Failure> {
        let tools = self.lab.tools(Arc::new(NoTripwire));
        Run::open(run, &self.lab.actor(), why, self.eyes(), &self.store(), tools, self.options())
    }
}

async fn begin(lab: &Lab, eyes: stdlib::World, store: &Store, options: Options) -> Result<Run, Failure> {
    let workflow = lab.workflow(WORKFLOW);
    let plan = lab.plan_with(&workflow, &[], &eyes).await?;
    let begin = Begin { plan, sources: workflow.pinned(), reach: None, actor: lab.actor() };
    Run::start(begin, eyes, store, lab.tools(Arc::new(NoTripwire)), options)
}

/// The first process; all that it asks of the cluster passes the ice.
async fn first(lab: &Lab, ice: &Arc<Ice>) -> Run {
    let eyes = stdlib::World { cluster: Some(ice.around(lab.world.client())), ..lab.eyes() };
    let lock = LeaseLock { world: eyes.clone(), host: "lab".into(), user: "tester".into() };
    let options = Options { lock: Arc::new(lock), ..lab.options() };
    begin(lab, eyes, &lab.store(), options).await.unwrap()
}

/// Whether there was such a write.
async fn frozen_at(at: u64, side: Side, why: Why) -> bool {
    let what = format!("stopped at write {at}, {side:?}, {why:?}");
    let lab = Lab::new(1).await;
    let ice = Ice::at(at, side);
    let first = first(&lab, &ice).await;
    let id = first.id().to_owned();
    let mut forward = Box::pin(first.forward());
    tokio::select! {
        () = ice.reached.notified() => {}
        ending = &mut forward => {
            assert_eq!(ending.state, EndState::Done, "{what}: {:?}", ending.failure);
            return false;
        }
    }
    // Nobody polls it: it stands.
    let other = Other::with_a_copy(&lab);
    let early = other.opens(&id, why).unwrap().resume().await;
    assert_eq!(early.exit, ExitCode::TargetLocked, "{what}: its Lease has not ended: {:?}", early.failure);
    tokio::time::sleep(Duration::from_secs(60)).await;

    if at > TAKING {
        let refused = other.is_refused().await;
        assert_eq!(refused.exit, ExitCode::TargetLocked, "{what}: {refused}");
        let told = refused.to_string();
        let step = if at > TAKING + 1 { "at step `" } else { "before its first step" };
        for word in [id.as_str(), "tester@lab", "since", step] {
            assert!(told.contains(word), "{what}: `{word}` is not told: {told}");
        }
    }
    let run = other.opens(&id, why).unwrap();
    let ended = match why {
        Why::Rollback => run.back("the first hangs").await,
        _ => run.resume().await,
    };
    let expected = if why == Why::Rollback { EndState::RolledBack } else { EndState::Done };
    assert_eq!(ended.state, expected, "{what}: {:?}", ended.failure);
    let (secrets, folder, spec) = lab.all().await;

    ice.thaw();
    let late = forward.await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    // A record that was closed before is not opened again.
    let over = late.state == EndState::Done;
    assert!(over || late.exit == ExitCode::TargetLocked, "{what}: {:?} {:?}", late.state, late.failure);
    assert_eq!(ice.accepted.load(Ordering::SeqCst), 0, "{what}: the first wrote all the same");
    let after = lab.all().await;
    assert!(after == (secrets, folder, spec), "{what}: something changed");
    assert!(stdlib::lease::mark(&lab.eyes(), &cluster()).await.unwrap().is_none(), "{what}: no mark is left");
    assert_eq!(lab.world.counters().refused, 0, "{what}: {:?}", lab.world.counters().refusals);
    true
}

fn cluster() -> stdlib::k8s::object::Ref {
    stdlib::k8s::object::Ref::new("pingcap.com/v1alpha1", "TidbCluster", "tidb", "basic")
}

fn each(test: u64, side: Side, why: Why) {
    let all = std::env::var("ROLLOVER_TEST_TIER").is_ok_and(|tier| tier == "all");
    // At writes that belong to Secrets and to restarts, in other places in each test; or everywhere.
    let points: Box<dyn Iterator<Item = u64>> =
        if all { Box::new(TAKING..) } else { Box::new([6 + test, 12 + 9 * test].into_iter()) };
    for at in points {
        if !virtual_time(frozen_at(at, side, why)) {
            assert!(at > 40, "the run made {at} writes only");
            return;
        }
    }
}

#[test]
fn a_write_that_was_about_to_be_sent_comes_late_when_the_run_went_on_elsewhere() {
    each(0, Side::Before, Why::Resume);
}

#[test]
fn a_write_that_was_about_to_be_sent_comes_late_when_the_run_went_back_elsewhere() {
    each(1, Side::Before, Why::Rollback);
}

#[test]
fn a_process_that_slept_over_an_answer_writes_no_more_when_the_run_went_on_elsewhere() {
    each(2, Side::After, Why::Resume);
}

#[test]
fn a_process_that_slept_over_an_answer_writes_no_more_when_the_run_went_back_elsewhere() {
    each(3, Side::After, Why::Rollback);
}
